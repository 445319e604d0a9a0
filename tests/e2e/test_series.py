"""Tasks that run once for each series of a study: each its own way, joined again; and one bad series of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_monai.local.stack import LocalStack
from airflow_monai.store.payloads import load_payload, load_series_tags, series_of
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskStatus
from tests.e2e.helpers import (
    Auditor,
    Maps,
    Study,
    add_workflows,
    export,
    make_study,
    send,
    store_of,
    wait_for_runs,
    work,
    workflow,
)

FIRST = "{{ context.dicom.series.all('0020','0011') }} == '1'"
SECOND = "{{ context.dicom.series.all('0020','0011') }} == '2'"
EACH = {"for_each": "series"}
GOES_ON = {"on_failure": "continue"}


def split(maps: Maps) -> dict[str, Any]:
    """A result for each series; the first series goes another way, which joins again; then one export of all."""
    end = [
        {"name": "good", "conditions": ["{{ context.executions.work.all.result.volume_ml }} == '1234'"]},
        {"name": "bad", "conditions": ["{{ context.executions.work.any.status }} != 'Succeeded'"]},
    ]
    return workflow(
        "series-split",
        "SPLIT",
        work(
            maps.reference(), {"name": "look", "conditions": [FIRST]}, {"name": "both", "conditions": [SECOND]}, **EACH
        ),
        {"id": "look", "type": "router", **EACH, "task_destinations": [{"name": "both"}]},
        {"id": "both", "type": "router", **EACH, "task_destinations": [{"name": "send"}]},
        export(destinations=["AUDIT"], task_destinations=end),
        {"id": "good", "type": "router"},
        {"id": "bad", "type": "router"},
    )


def one_bad(maps: Maps, name: str, aet: str, **sending: Any) -> dict[str, Any]:
    """The second series goes to a MAP that fails."""
    ways = [{"name": "work", "conditions": [FIRST]}, {"name": "broken", "conditions": [SECOND]}]
    broken = {**work(maps.reference("exit7"), {"name": "send"}, retries=0, **EACH), "id": "broken"}
    return workflow(
        name,
        aet,
        {"id": "pick", "type": "router", **EACH, "task_destinations": ways},
        work(maps.reference(), {"name": "send"}, **EACH),
        broken,
        export(destinations=["AUDIT"], **sending),
    )


@pytest.fixture(scope="module")
def studies(stack: LocalStack, maps: Maps, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    """A study of two series sent to each workflow, whose run has ended; by DAG id."""
    stops, goes_on = one_bad(maps, "series-stop", "STOPS"), one_bad(maps, "series-go-on", "GOESON", **GOES_ON)
    specs = [split(maps), stops, goes_on]
    add_workflows(stack, *specs)
    folder: Path = tmp_path_factory.mktemp("series")
    sent = {
        spec["name"]: make_study(folder, spec["informatics_gateway"]["ae_title"], slices=2, series=2) for spec in specs
    }
    send(stack, *sent.values())
    for dag_id in sent:
        wait_for_runs(stack, dag_id, 1, seconds=400)
    return sent


def states(stack: LocalStack, dag_id: str, study: Study) -> dict[str, Any]:
    """State of each task; of one that ran for each series, by Series Number. Every one has run at most once."""
    store = store_of(stack)
    uids = series_of(load_payload(store, study.payload_id))
    tags = load_series_tags(store, study.payload_id)
    number = {index: int(tags[uid]["00200011"][0]) for index, uid in enumerate(uids)}
    found: dict[str, Any] = {}
    for ti in stack.task_instances(dag_id, study.run_id):
        assert ti["try_number"] <= 1, ti
        if ti["map_index"] < 0:
            found[ti["task_id"]] = ti["state"]
        else:
            found.setdefault(ti["task_id"], {})[number[ti["map_index"]]] = ti["state"]
    return found


def test_each_series_goes_its_own_way_and_all_are_joined(
    stack: LocalStack, auditor: Auditor, studies: dict[str, Study]
) -> None:
    study = studies["series-split"]
    (run,) = stack.runs("series-split")
    found = states(stack, "series-split", study)
    assert found == {
        "work.series": "success",
        "work": {1: "success", 2: "success"},
        "work.to.look": {1: "success", 2: "skipped"},
        "work.to.both": {1: "skipped", 2: "success"},
        "look": {1: "success", 2: "skipped"},
        "look.to.both": {1: "success", 2: "skipped"},
        "both.join": {1: "success", 2: "success"},
        "both": {1: "success", 2: "success"},
        "both.to.send": {1: "success", 2: "success"},
        "send": "success",
        "send.to.good": "success",
        "good": "success",
        "send.to.bad": "skipped",
        "bad": "skipped",
    }
    assert run["state"] == "success"

    store = store_of(stack)
    records = RunFolder(store, study.payload_id, "series-split", study.run_id).records("work")
    assert [(record.map_index, record.result["volume_ml"]) for record in records] == [(0, 1234), (1, 1234)]
    assert len({record.execution_id for record in records}) == 2
    made = [key for record in records for key in record.artifacts["result"]]
    assert len(made) == 2
    delivered = auditor.results_of(study.uid)
    assert len(delivered) == 2 and auditor.results([study]) == {study.uid: 2}, "each result exactly once"

    names = {
        ti["rendered_map_index"] for ti in stack.task_instances("series-split", study.run_id) if ti["task_id"] == "work"
    }
    assert names == {"series 1 of 2, CT", "series 2 of 2, CT"}


def test_one_bad_series_stops_the_join(stack: LocalStack, auditor: Auditor, studies: dict[str, Study]) -> None:
    study = studies["series-stop"]
    (run,) = stack.runs("series-stop")
    found = states(stack, "series-stop", study)
    assert found["work"] == {1: "success", 2: "skipped"}
    assert found["broken"] == {1: "skipped", 2: "failed"}
    assert (found["send"], run["state"]) == ("upstream_failed", "failed")
    assert auditor.results_of(study.uid) == []


def test_what_goes_on_runs_with_the_good_series_and_the_run_fails(
    stack: LocalStack, auditor: Auditor, studies: dict[str, Study]
) -> None:
    study = studies["series-go-on"]
    (run,) = stack.runs("series-go-on")
    found = states(stack, "series-go-on", study)
    assert found["broken"] == {1: "skipped", 2: "failed"}
    assert found["broken.to.send"] == {1: "skipped", 2: "upstream_failed"}
    assert (found["send.join"], found["send"]) == ("success", "success")
    assert (found["workflow.verdict"], run["state"]) == ("upstream_failed", "failed")
    assert auditor.results([study]) == {study.uid: 1}
    records = RunFolder(store_of(stack), study.payload_id, "series-go-on", study.run_id).records("broken")
    assert [record.status for record in records] == [TaskStatus.FAILED]
