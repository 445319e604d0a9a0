"""Studies arrive: many at once, for a paused workflow, again, mixed up, unwanted. None is lost, none is done twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest

from airflow_monai.local.stack import LocalStack
from airflow_monai.store.payloads import run_id_of
from tests.e2e.helpers import (
    Auditor,
    Maps,
    Study,
    add_workflows,
    export,
    make_studies,
    make_study,
    payloads_of,
    send,
    storescu,
    wait_for_runs,
    work,
    workflow,
    write_spec,
)

MANY, PAUSED = 50, 20
NEVER_TRUE = "{{ context.dicom.series.any('0008','0060') }} == 'MR'"


@pytest.fixture(scope="module", autouse=True)
def workflows(stack: LocalStack, maps: Maps) -> None:
    quick = maps.reference()
    add_workflows(
        stack,
        workflow("arrival", "ARRIVAL", work(quick), export()),
        workflow("paused", "PAUSED", work(quick), export()),
        workflow("mixed", "MIXED", work(quick), export()),
        workflow("only-mr", "ONLYMR", work(quick), export(), predicate=[NEVER_TRUE]),
    )


def routing(stack: LocalStack, study: Study) -> dict[str, dict[str, object]]:
    """DAG id -> decision, as soon as it is made."""
    file = stack.layout.store / "payloads" / study.payload_id / "routing.json"
    stack.wait_for(file.is_file, seconds=120, what="the routing decision")
    return {item["dag_id"]: item for item in json.loads(file.read_text())}


def assert_delivered_once(stack: LocalStack, auditor: Auditor, dag_id: str, studies: list[Study]) -> None:
    """One payload, one run in success and one result for each study, at both receivers."""
    payloads = {payload["payload_id"]: payload for payload in payloads_of(stack, studies[0].aet)}
    assert set(payloads) == {study.payload_id for study in studies}
    for study in studies:
        sent = {file["sop_instance_uid"] for file in payloads[study.payload_id]["files"]}
        assert sent == set(study.sop_uids)
    runs = stack.runs(dag_id)
    assert sorted(run["dag_run_id"] for run in runs) == sorted(study.run_id for study in studies)
    assert {run["state"] for run in runs} == {"success"}
    assert set(auditor.results(studies).values()) == {1}
    in_pacs = set(stack.pacs_instances())
    assert all(uid in in_pacs for study in studies for uid in auditor.results_of(study.uid))


def test_fifty_studies_of_four_senders_are_worked_on_once_each(
    orthanc_stack: LocalStack, auditor: Auditor, tmp_path: Path
) -> None:
    stack = orthanc_stack
    studies = make_studies(tmp_path, "ARRIVAL", MANY)
    started = time.monotonic()
    send(stack, *studies, senders=4)
    sent = time.monotonic() - started
    wait_for_runs(stack, "arrival", MANY, seconds=480)
    print(f"{MANY} studies: sent in {sent:.1f} s, all delivered after {time.monotonic() - started:.1f} s")
    assert sent < 120, "they have to come within a short time"
    assert_delivered_once(stack, auditor, "arrival", studies)
    held = stack.pacs.rest("/tools/find", {"Level": "Study", "Query": {}, "Expand": True})
    series = {item["MainDicomTags"]["StudyInstanceUID"]: item["Series"] for item in held}
    assert [len(series[study.uid]) for study in studies] == [1] * MANY


def test_the_same_study_again_starts_nothing_and_is_recorded(stack: LocalStack, tmp_path: Path) -> None:
    study = make_study(tmp_path, "MIXED")
    send(stack, study)
    wait_for_runs(stack, "mixed", 1)
    before = (len(stack.runs("mixed")), len(payloads_of(stack, "MIXED")))
    send(stack, study)

    def told() -> bool:
        events = [event for event in stack.events("duplicate-received") if event["payload_id"] == study.payload_id]
        return sum(event["count"] for event in events) == len(study.files)

    stack.wait_for(told, seconds=60, what="the duplicates to be told")
    lines = (stack.layout.store / "payloads" / study.payload_id / "duplicates.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["sop_instance_uid"] for line in lines) == sorted(study.sop_uids)
    time.sleep(4)  # quiet time, and Airflow's chance to start what must not start
    assert (len(stack.runs("mixed")), len(payloads_of(stack, "MIXED"))) == before


def test_two_studies_mixed_in_one_association_become_two_payloads_and_two_runs(
    stack: LocalStack, auditor: Auditor, tmp_path: Path
) -> None:
    one, two = make_studies(tmp_path, "MIXED", 2, slices=5)
    known = len(stack.runs("mixed"))
    done = storescu(stack, "MIXED", list(chain.from_iterable(zip(one.files, two.files, strict=True))))
    assert done.returncode == 0, done.stderr
    runs = wait_for_runs(stack, "mixed", known + 2)
    assert runs[one.run_id]["state"] == runs[two.run_id]["state"] == "success"
    payloads = {payload["payload_id"]: payload for payload in payloads_of(stack, "MIXED")}
    for study in (one, two):
        assert {file["sop_instance_uid"] for file in payloads[study.payload_id]["files"]} == set(study.sop_uids)
    assert auditor.results([one, two]) == {one.uid: 1, two.uid: 1}


def test_an_image_that_comes_late_makes_a_payload_and_a_run_of_its_own(
    stack: LocalStack, auditor: Auditor, tmp_path: Path
) -> None:
    study = make_study(tmp_path, "MIXED", slices=4)
    known = len(stack.runs("mixed"))
    assert storescu(stack, "MIXED", study.files[:3]).returncode == 0
    wait_for_runs(stack, "mixed", known + 1)
    assert storescu(stack, "MIXED", study.files).returncode == 0
    runs = wait_for_runs(stack, "mixed", known + 2)
    assert runs[f"monai__{study.payload(1)}"]["state"] == "success"
    late = json.loads((stack.layout.store / "payloads" / study.payload(1) / "payload.json").read_text())
    assert [file["sop_instance_uid"] for file in late["files"]] == [study.sop_uids[3]]
    assert auditor.results([study]) == {study.uid: 2}


def test_an_unknown_called_ae_title_is_refused(stack: LocalStack, tmp_path: Path) -> None:
    study = make_study(tmp_path, "NOBODY")
    done = storescu(stack, "NOBODY", study.files)
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stdout + done.stderr
    assert not (stack.layout.store / "payloads" / study.payload_id).exists()

    def told() -> bool:
        return any(event["called_aet"] == "NOBODY" for event in stack.events("association-rejected"))

    stack.wait_for(told, seconds=60, what="the event")


def test_a_study_that_no_workflow_wants_is_kept_with_the_reason(stack: LocalStack, tmp_path: Path) -> None:
    study = make_study(tmp_path, "ONLYMR")
    send(stack, study)
    decisions = routing(stack, study)
    assert not any(item["wanted"] for item in decisions.values())
    assert NEVER_TRUE in str(decisions["only-mr"]["reason"]) and "false" in str(decisions["only-mr"]["reason"])
    assert "MIXED" in str(decisions["mixed"]["reason"])

    def told() -> bool:
        return study.payload_id in {event["payload_id"] for event in stack.events("unrouted")}

    stack.wait_for(told, seconds=60, what="the event")
    time.sleep(2)
    assert stack.runs("only-mr") == []


def test_studies_for_a_paused_workflow_wait_and_then_all_run(
    stack: LocalStack, auditor: Auditor, tmp_path: Path
) -> None:
    studies = make_studies(tmp_path, "PAUSED", PAUSED)
    stack.api.call("PATCH", "/dags/paused", {"is_paused": True})
    try:
        send(stack, *studies, senders=4)
        runs = wait_for_runs(stack, "paused", PAUSED, "queued")
        assert set(runs) == {study.run_id for study in studies}
        time.sleep(3)
        assert {run["state"] for run in stack.runs("paused")} == {"queued"}
    finally:
        stack.api.call("PATCH", "/dags/paused", {"is_paused": False})
    wait_for_runs(stack, "paused", PAUSED, seconds=360)
    assert_delivered_once(stack, auditor, "paused", studies)


def test_series_are_grouped_and_a_late_image_reruns_its_series_as_the_folders_defaults_say(
    stack: LocalStack, tmp_path: Path
) -> None:
    folder = stack.options.workflows / "grouped"  # type: ignore[operator]
    folder.mkdir()
    (folder / "defaults.yaml").write_text("informatics_gateway: {grouping: series, late_images: rerun}\n")
    write_spec(stack, workflow("grouped", "GROUPED", {"id": "route", "type": "router"}), "grouped/grouped.yaml")
    stack.wait_for_dag("grouped", seconds=180)
    study = make_study(tmp_path, "GROUPED", slices=2, series=2)
    assert storescu(stack, "GROUPED", study.files[:3]).returncode == 0
    wait_for_runs(stack, "grouped", 2)
    assert storescu(stack, "GROUPED", study.files).returncode == 0
    runs = wait_for_runs(stack, "grouped", 3)
    assert {run["state"] for run in runs.values()} == {"success"}
    payloads = {run_id_of(payload["payload_id"]): payload for payload in payloads_of(stack, "GROUPED")}
    worked_on = [{file["sop_instance_uid"] for file in payloads[run_id]["files"]} for run_id in runs]
    first, second = set(study.sop_uids[:2]), set(study.sop_uids[2:])
    assert sorted(worked_on, key=sorted) == sorted([first, second, second & set(study.sop_uids[:3])], key=sorted)
    shown = json.dumps(stack.api.call("GET", "/dagSources/grouped"))
    assert "grouping: series, late_images: rerun" in shown, "the Code tab shows the defaults"


def test_a_folder_is_imported_and_worked_on_again_when_that_is_wanted(stack: LocalStack, tmp_path: Path) -> None:
    study = make_study(tmp_path, "ARRIVAL")

    def command(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "airflow_monai", *words], env=stack.env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = json.loads(command("import", str(study.files[0].parent), "--called", "ARRIVAL", "--announce", "--json"))
    assert told["payload_ids"] == [study.payload_id] and told["images"] == len(study.sop_uids)
    assert stack.wait_for_run("arrival", study.run_id)["state"] == "success"
    again = f"{study.run_id}__r2"
    assert f"run {again} created" in command("payloads", "start", study.payload_id, "--again")
    assert stack.wait_for_run("arrival", again)["state"] == "success"
    shown = command("payloads", "show", study.uid)
    assert f"Run arrival {again}, created" in shown and shown.count(", success") == 2
