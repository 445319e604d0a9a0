"""kill -9 of one part after the other in the middle of its work: what was begun ends well, and once.

The workers are killed first; while Airflow's heartbeat time-out runs, the other parts have their turn.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from airflow_monai.local.processes import wait_until
from airflow_monai.local.stack import LocalStack
from tests.conftest import PARTS, require
from tests.e2e.conftest import HEARTBEAT_TIMEOUT
from tests.e2e.helpers import (
    Auditor,
    ContainerStarts,
    Maps,
    Study,
    add_workflows,
    application_log,
    containers,
    export,
    make_study,
    payloads_of,
    record,
    send,
    storescu,
    wait_for_application,
    wait_for_runs,
    wait_for_state,
    work,
    workflow,
)

SHORT, LONG = "12", "150"
"""Seconds that an application takes: ended, or still running, when Airflow starts the task's next try."""

BY_HAND = """
from datetime import timedelta

from airflow.sdk import DAG
from airflow_monai.operators.export import ExportOperator
from airflow_monai.operators.map import MapOperator

with DAG("crash-process", schedule=None, is_paused_upon_creation=False):
    result = [{{"name": "result", "value": "{{{{ context.executions.work.artifacts.result }}}}"}}]
    work = MapOperator(
        task_id="work", map="{reference}", runner="process", outputs=[{{"name": "result", "type": "OT"}}],
        retries=1, retry_delay=timedelta(seconds=5),
    )
    work >> ExportOperator(task_id="send", destinations=["AUDIT"], inputs=result)
"""
ALWAYS = "{{ context.dicom.series.any('0008','0060') }} == 'CT'"


@dataclass(frozen=True)
class Crash:
    """A run whose worker was killed in the middle of its application.

    :param container: id of the container that ran then, None for a process.
    :param task_process: what the worker had started, and left behind.
    """

    dag_id: str
    study: Study
    container: str | None
    task_process: psutil.Process


@pytest.fixture(scope="module", autouse=True)
def workflows(stack: LocalStack, maps: Maps) -> None:
    assert stack.options.dags is not None
    by_hand = BY_HAND.format(reference=maps.reference("ok", LONG, runner="process"))
    (stack.options.dags / "crash_process.py").write_text(by_hand)
    route = {"id": "route", "type": "router", "task_destinations": [{"name": "work", "conditions": [ALWAYS]}]}
    add_workflows(
        stack,
        workflow("crash-harvested", "CRASH_H", work(maps.reference("ok", SHORT)), export()),
        workflow("crash-reattached", "CRASH_R", work(maps.reference("ok", LONG)), export()),
        workflow("crash-gateway", "CRASH_G", work(maps.reference()), export(), quiet=15),
        workflow("crash-triggerer", "CRASH_T", route, work(maps.reference()), export()),
        workflow("crash-scheduler", "CRASH_S", work(maps.reference("ok", SHORT)), export()),
    )
    stack.wait_for_dag("crash-process")


@pytest.fixture(scope="module")
def started(maps: Maps) -> Iterator[ContainerStarts]:
    """All containers that are started."""
    require("docker")
    assert maps.runner == "docker"
    with ContainerStarts() as listening:
        yield listening


@pytest.fixture(scope="module")
def crashes(
    stack: LocalStack, started: ContainerStarts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Crash]]:
    """Three runs whose workers were killed; the task process of the second is stopped, so that it stays an orphan."""
    folder = tmp_path_factory.mktemp("crash")
    studies = {
        "crash-harvested": make_study(folder, "CRASH_H"),
        "crash-reattached": make_study(folder, "CRASH_R"),
    }
    found = {dag_id: crash(stack, dag_id, study) for dag_id, study in studies.items()}
    found["crash-process"] = crash(stack, "crash-process", studies["crash-harvested"], by_hand=True)
    try:
        yield found
    finally:
        for item in found.values():
            with contextlib.suppress(psutil.Error):
                item.task_process.kill()


@pytest.fixture
def workers_first(request: pytest.FixtureRequest) -> None:
    """Begin with the workers where they can be killed, so that waiting for the time-out costs nothing."""
    if PARTS["docker"]() is None:
        request.getfixturevalue("crashes")


def crash(stack: LocalStack, dag_id: str, study: Study, *, by_hand: bool = False) -> Crash:
    """Start the run, wait until its application works, kill -9 its worker."""
    if by_hand:
        body = {"dag_run_id": study.run_id, "logical_date": None, "conf": {"payload_id": study.payload_id}}
        stack.api.call("POST", f"/dags/{dag_id}/dagRuns", body)
    else:
        send(stack, study)
    wait_for_application(stack, dag_id, study)
    (work,) = [ti for ti in stack.task_instances(dag_id, study.run_id) if ti["task_id"] == "work"]
    task_process = psutil.Process(work["pid"])
    worker = psutil.Process(task_process.ppid())
    assert worker.ppid() == stack.processes["scheduler"].pid
    running = None if by_hand else containers(stack, dag=dag_id)[0]
    worker.kill()
    if dag_id == "crash-reattached":
        # not before: the kernel wakes a stopped process, with a SIGHUP, when its group loses its last parent
        assert wait_until(lambda: task_process.ppid() != worker.pid, 30, every=0.0002)
        task_process.suspend()
    return Crash(dag_id, study, running, task_process)


def starts(stack: LocalStack, dag_id: str, study: Study) -> int:
    """How often the application began, by its own words."""
    return application_log(stack, dag_id, study).read_text().count("noop: mode")


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.docker
def test_a_worker_that_was_killed_leaves_its_container_to_the_next_try(
    stack: LocalStack, crashes: dict[str, Crash]
) -> None:
    """The first one: its application must still run. What becomes of it is seen below."""
    watch_the_second_try(stack, crashes["crash-reattached"])


def test_the_gateway_is_killed_in_mid_association(
    stack: LocalStack, auditor: Auditor, workers_first: None, tmp_path: Path
) -> None:
    study = make_study(tmp_path, "CRASH_G", slices=300)
    folder = stack.layout.store / "payloads" / study.payload_id / "dcm"
    # where there is little of the processor, the sender goes on last, and not to its end before it is looked at
    command = ["nice", "-n", "19", "storescu", "-v"]
    command += ["-aec", study.aet, "-aet", "CT01", "127.0.0.1", str(stack.ports.dicom)]
    sender = subprocess.Popen(
        [*command, *map(str, study.files)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "TCP_NODELAY": "1"},
    )  # fmt: skip
    assert wait_until(lambda: len(list(folder.rglob("*.dcm"))) >= 20, 120, every=0.002)
    stack.kill("gateway")
    told = sender.communicate(timeout=180)[0]
    assert sender.returncode != 0, "the sender has to hear that it failed"
    answered = answered_with_success(told, study)
    assert 0 < len(answered) < len(study.files)
    on_disk = {path.stem for path in folder.rglob("*.dcm")}
    assert answered <= on_disk, "success was answered for an image that is not there"

    stack.restart("gateway")
    assert storescu(stack, study.aet, study.files).returncode == 0
    runs = wait_for_runs(stack, "crash-gateway", 1, seconds=240)
    assert {run_id: run["state"] for run_id, run in runs.items()} == {study.run_id: "success"}
    (payload,) = payloads_of(stack, study.aet)
    assert sorted(file["sop_instance_uid"] for file in payload["files"]) == sorted(study.sop_uids)
    assert not list(folder.rglob("*.tmp")) and len(list(folder.rglob("*"))) == len(study.files) + 2
    assert auditor.results([study]) == {study.uid: 1}


def answered_with_success(told: str, study: Study) -> set[str]:
    """SOP Instance UIDs of the images for which dcmtk's sender was told success."""
    by_file = dict(zip(map(str, study.files), study.sop_uids, strict=True))
    answered, current = set(), ""
    for line in told.splitlines():
        sending = re.search(r"Sending file: (.*)$", line)
        if sending:
            current = by_file[sending[1].strip()]
        elif "Received Store Response (Success)" in line:
            answered.add(current)
    return answered


def test_the_triggerer_is_killed_while_a_gate_waits(
    stack: LocalStack, auditor: Auditor, workers_first: None, tmp_path: Path
) -> None:
    study = make_study(tmp_path, "CRASH_T")
    stack.processes["triggerer"].signal(signal.SIGSTOP)
    try:
        send(stack, study)
        wait_for_state(stack, "crash-triggerer", study.run_id, "route.to.work", "deferred")
    finally:
        stack.kill("triggerer")
    stack.restart("triggerer")
    runs = wait_for_runs(stack, "crash-triggerer", 1, seconds=240)
    assert runs[study.run_id]["state"] == "success"
    assert auditor.results([study]) == {study.uid: 1}


@pytest.mark.docker
@pytest.mark.parametrize("dag_id", ["crash-harvested", "crash-reattached"])
def test_a_worker_is_killed_in_mid_container(
    stack: LocalStack, auditor: Auditor, started: ContainerStarts, crashes: dict[str, Crash], dag_id: str
) -> None:
    crash = crashes[dag_id]
    assert wait_until(lambda: gone(crash.task_process), 60), "an orphan has to end itself"
    study = crash.study
    wait_for_runs(stack, dag_id, 1, seconds=HEARTBEAT_TIMEOUT + 300)
    assert [run["state"] for run in stack.runs(dag_id)] == ["success"]
    instances = {ti["task_id"]: ti for ti in stack.task_instances(dag_id, study.run_id)}
    assert instances["work"]["try_number"] == 2
    kept = record(stack, dag_id, study, "work")
    assert kept is not None and kept.stats["reattached"] is True and kept.generation == 1
    assert started.count(dag=dag_id) == 1
    assert starts(stack, dag_id, study) == 1
    assert containers(stack, dag=dag_id) == []
    assert instances["send"]["try_number"] == 1
    if dag_id == "crash-reattached":  # the other one's study has a second result, of crash-process
        assert auditor.results([study]) == {study.uid: 1}


def watch_the_second_try(stack: LocalStack, crash: Crash) -> None:
    """Let the orphan go on when its successor follows the container: it must go without touching that."""
    orphan = crash.task_process
    assert not gone(orphan)

    def second_try() -> bool:
        (ti,) = [ti for ti in stack.task_instances(crash.dag_id, crash.study.run_id) if ti["task_id"] == "work"]
        return (ti["try_number"], ti["state"]) == (2, "running")

    stack.wait_for(second_try, seconds=HEARTBEAT_TIMEOUT + 120, what="the second try")
    time.sleep(3)
    assert containers(stack, dag=crash.dag_id) == [crash.container]
    orphan.resume()
    assert wait_until(lambda: gone(orphan), 60), "an orphan has to end itself"
    assert containers(stack, dag=crash.dag_id) == [crash.container], "the orphan touched its successor's container"


def test_a_worker_is_killed_in_mid_process(stack: LocalStack, auditor: Auditor, crashes: dict[str, Crash]) -> None:
    crash = crashes["crash-process"]
    runs = wait_for_runs(stack, "crash-process", 1, seconds=HEARTBEAT_TIMEOUT + 300)
    assert runs[crash.study.run_id]["state"] == "success"
    kept = record(stack, "crash-process", crash.study, "work")
    assert kept is not None and kept.stats["reattached"] is True and kept.try_number == 2
    assert starts(stack, "crash-process", crash.study) == 1
    assert auditor.results([crash.study]) == {crash.study.uid: 2}, "one of each of the study's two workflows"


@pytest.mark.docker
@pytest.mark.parametrize("with_workers", [False, True], ids=["alone", "with its workers"])
def test_the_scheduler_is_killed_in_mid_run(
    stack: LocalStack, auditor: Auditor, started: ContainerStarts, tmp_path: Path, with_workers: bool
) -> None:
    study = make_study(tmp_path, "CRASH_S")
    known = len(stack.runs("crash-scheduler"))
    send(stack, study)
    wait_for_application(stack, "crash-scheduler", study)
    stack.kill("scheduler", group=with_workers)
    stack.restart("scheduler")
    runs = wait_for_runs(stack, "crash-scheduler", known + 1, seconds=360)
    assert runs[study.run_id]["state"] == "success"
    assert starts(stack, "crash-scheduler", study) == 1
    assert auditor.results([study]) == {study.uid: 1}
    assert started.count(run=study.run_id) == 1
    assert containers(stack, run=study.run_id) == []
