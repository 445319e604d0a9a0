"""Workflow files and runs as people handle them while Airflow runs: bad files, mended ones, edits, reruns."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.local.environment import USER
from airflow_monai.local.stack import LocalStack
from tests.e2e.helpers import (
    Auditor,
    Maps,
    Study,
    add_workflows,
    clear,
    export,
    make_study,
    record,
    send,
    wait_for_runs,
    wait_for_state,
    work,
    workflow,
    write_spec,
)
from tests.specs.fixtures import FIXTURES

BAD = ("typo-in-field", "dangling-destination", "bad-condition", "duplicate-id")
IS_CT = "{{ context.dicom.series.any('0008','0060') }} == 'CT'"
IS_MR = "{{ context.dicom.series.any('0008','0060') }} == 'MR'"
VOLUME = "{{ context.executions.work.result.volume_ml }}"
SLOW = "20"
SECONDS = 90
"""Within so many seconds a saved file shows in Airflow, on a machine that hardly gets on; how many it took is told."""


def routed(name: str, aet: str, reference: str) -> dict[str, Any]:
    """A router, two gates behind it of which one opens, a MAP, an export."""
    route = {
        "id": "route",
        "type": "router",
        "task_destinations": [
            {"name": "work", "conditions": [IS_CT]},
            {"name": "archive", "conditions": [IS_MR]},
        ],
    }
    received = {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]}
    return workflow(name, aet, route, work(reference), export(), export("archive", ["ARCHIVE"], artifacts=received))


@pytest.fixture(scope="module", autouse=True)
def workflows(stack: LocalStack, maps: Maps) -> None:
    add_workflows(stack, routed("live", "LIVE", maps.reference()), edited(maps, send_above=500, archive_above=5000))


@pytest.fixture(scope="module")
def finished(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose run of ``live`` has ended well."""
    study = make_study(tmp_path_factory.mktemp("finished"), "LIVE")
    send(stack, study)
    runs = wait_for_runs(stack, "live", 1)
    assert runs[study.run_id]["state"] == "success"
    return study


def edited(maps: Maps, *, send_above: int, archive_above: int) -> dict[str, Any]:
    """The quick MAP says 1234 ml."""
    task = work(
        maps.reference("ok", SLOW),
        {"name": "send", "conditions": [f"{VOLUME} > '{send_above}'"]},
        {"name": "archive", "conditions": [f"{VOLUME} > '{archive_above}'"]},
    )
    return workflow("edited", "EDITED", task, export(), export("archive", ["ARCHIVE"]))


def import_error(stack: LocalStack, file: str) -> str | None:
    found = [error["stack_trace"] for error in stack.api.import_errors() if file in error["filename"]]
    return found[0] if found else None


def test_a_bad_file_is_one_import_error_with_its_place_and_the_others_go_on(
    stack: LocalStack, maps: Maps, auditor: Auditor, finished: Study, tmp_path: Path
) -> None:
    for name in BAD:
        write_spec(stack, (FIXTURES / "invalid" / f"{name}.yaml").read_text(), f"{name}.yaml")
    try:
        for name in BAD:
            told = stack.wait_for(partial(import_error, stack, name), seconds=SECONDS, what="the error") or ""
            problems = (FIXTURES / "invalid" / f"{name}.yaml.problems").read_text()
            for line, column, code, message, hint in re.findall(
                r"^(\d+):(\d+) error ([\w-]+): (.*)\n    (.*)$", problems, re.M
            ):
                assert f"{name}.yaml:{line}:{column}: {message} [{code}] - {hint}" in told
        assert len(stack.api.import_errors()) == len(BAD)
        study = make_study(tmp_path, "LIVE")
        send(stack, study)
        runs = wait_for_runs(stack, "live", len(stack.runs("live")) + 1)
        assert runs[study.run_id]["state"] == "success"

        saved = time.monotonic()
        write_spec(stack, workflow("mended-file", "MENDED_FILE", work(maps.reference()), export()), f"{BAD[0]}.yaml")
        stack.wait_for_dag("mended-file", seconds=SECONDS)
        print(f"a mended file is a DAG after {time.monotonic() - saved:.1f} s")
        stack.wait_for(lambda: import_error(stack, BAD[0]) is None, seconds=SECONDS, what="its error to go away")
    finally:
        for name in BAD[1:]:
            (stack.options.workflows / f"{name}.yaml").unlink()
    stack.wait_for(lambda: not stack.api.import_errors(), seconds=SECONDS, what="the errors to go with their files")


def test_an_edit_does_not_change_a_run_that_is_going(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    for attempt in range(3):  # once more where the edit came too late, and then back to what it was
        ways = ("send", "archive") if attempt % 2 == 0 else ("archive", "send")
        before, digest = make_study(tmp_path, "EDITED"), digests(stack, "edited")
        send(stack, before)
        wait_for_state(stack, "edited", before.run_id, "work", "running")
        write_spec(stack, edited(maps, **{f"{ways[0]}_above": 5000, f"{ways[1]}_above": 500}))
        stack.wait_for(lambda: digests(stack, "edited") != digest, seconds=SECONDS, what="the new version")  # noqa: B023
        if stack.states("edited", before.run_id)["work"] == "running":
            break
    else:
        pytest.fail("too slow a machine: each of three edits came after the task had ended")
    after = make_study(tmp_path, "EDITED")
    send(stack, after)
    runs = wait_for_runs(stack, "edited", attempt + 2)
    taken = {
        study.run_id: {task: state for task, state in stack.states("edited", study.run_id).items() if "." not in task}
        for study in (before, after)
    }
    assert taken[before.run_id] == {"work": "success", ways[0]: "success", ways[1]: "skipped"}
    assert taken[after.run_id] == {"work": "success", ways[0]: "skipped", ways[1]: "success"}
    assert runs[before.run_id]["bundle_version"] != runs[after.run_id]["bundle_version"]


def digests(stack: LocalStack, dag_id: str) -> set[str]:
    dag = stack.api.dag(dag_id)
    assert dag is not None
    return {tag["name"] for tag in dag["tags"]}


def test_routers_gates_and_edges_have_no_process(stack: LocalStack, finished: Study) -> None:
    instances = {ti["task_id"]: ti for ti in stack.task_instances("live", finished.run_id)}
    states = {task: ti["state"] for task, ti in instances.items()}
    assert states == {
        "route": "success",
        "route.to.work": "success",
        "route.to.archive": "skipped",
        "work": "success",
        "work.to.send": "success",
        "send": "success",
        "archive": "skipped",
    }
    had_process = {task for task, ti in instances.items() if ti["pid"] or ti["hostname"]}
    assert had_process == {"work", "send"}


def test_a_run_can_be_started_by_hand(stack: LocalStack, auditor: Auditor, finished: Study) -> None:
    already, run_id = auditor.results([finished])[finished.uid], f"by-hand-{time.time()}"
    body = {"dag_run_id": run_id, "logical_date": None, "conf": {"payload_id": finished.payload_id}}
    stack.api.call("POST", "/dags/live/dagRuns", body)
    assert stack.wait_for_run("live", run_id)["state"] == "success"
    assert stack.states("live", run_id)["route.to.archive"] == "skipped"
    assert auditor.results([finished]) == {finished.uid: already + 1}


def test_clearing_makes_a_new_result_and_exporting_again_sends_only_what_is_missing(
    stack: LocalStack, auditor: Auditor, finished: Study
) -> None:
    def settled(task_id: str, tries: int) -> bool:
        (run,) = [run for run in stack.runs("live") if run["dag_run_id"] == finished.run_id]
        (ti,) = [ti for ti in stack.task_instances("live", finished.run_id) if ti["task_id"] == task_id]
        return run["state"] in ("success", "failed") and ti["try_number"] == tries and ti["state"] == "success"

    first = record(stack, "live", finished, "work")
    delivered = set(auditor.results_of(finished.uid))
    clear(stack, "live", finished.run_id, "work")
    stack.wait_for(lambda: settled("send", 2), seconds=300, what="the cleared run")
    second = record(stack, "live", finished, "work")
    assert first is not None and second is not None
    assert (first.generation, second.generation) == (1, 2)
    assert first.artifacts["result"] != second.artifacts["result"]
    assert len(set(auditor.results_of(finished.uid)) - delivered) == 1

    counts = auditor.deliveries()
    clear(stack, "live", finished.run_id, "send")
    stack.wait_for(lambda: settled("send", 3), seconds=300, what="the second export")
    assert auditor.deliveries() == counts

    words = ["payloads", "resend", finished.payload_id, "--sink", "AUDIT", "--reason", "restored", "--yes"]
    env = {**stack.env, "MONAI_USER": USER, "MONAI_PASSWORD": stack.secrets.password}
    (newest,) = set(auditor.results_of(finished.uid)) - delivered
    for number, where in ((4, []), (5, ["--url", stack.ui])):  # in the store, and by a server
        counts = auditor.deliveries()
        done = subprocess.run(
            [sys.executable, "-m", "airflow_monai", *words, *where],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0 and "runs again" in done.stdout, done.stdout + done.stderr
        stack.wait_for(
            lambda number=number: settled("send", number),  # type: ignore[misc]
            seconds=300,
            what="the export that a person wanted again",
        )
        more = auditor.deliveries() - counts
        assert more[newest] == 1
        assert set(more) <= set(auditor.results_of(finished.uid)) and set(more.values()) == {1}
        assert set(auditor.deliveries()) == set(counts), "the same objects, under their own UIDs"
