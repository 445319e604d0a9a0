"""MAPs that fail, each in its own way, on a real Docker engine: the task says why, and nothing comes after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_monai.local.stack import LocalStack
from airflow_monai.types import TaskStatus
from tests.conftest import require
from tests.e2e.helpers import (
    Auditor,
    Maps,
    Study,
    add_workflows,
    containers,
    export,
    make_study,
    record,
    send,
    task_log,
    wait_for_runs,
    work,
    workflow,
)


@dataclass(frozen=True)
class Failure:
    """A way to fail.

    :param mode: NOOP_MODE; None for an image that is not there.
    :param cause: words that the message has to have.
    """

    name: str
    mode: str | None
    cause: tuple[str, ...]
    seconds: str = "0"
    task: dict[str, Any] = field(default_factory=dict)

    @property
    def dag_id(self) -> str:
        return f"fails-{self.name}"

    @property
    def aet(self) -> str:
        return f"FAIL_{self.name.upper()}"[:16]


MISSING_IMAGE = "not-built-anywhere:9.9.9"
FAILURES = (
    Failure("exit-code", "exit7", ("exit code 7",)),
    Failure("no-output", "no-output", ("mandatory", "'result'")),
    Failure("timeout", "sleep", ("time limit of 3 s",), seconds="600", task={"timeout_minutes": 0.05}),
    Failure("no-image", None, (MISSING_IMAGE, "docker pull")),
    Failure("memory", "memory", ("memory limit of 96 MiB",), seconds="60", task={"resources": {"memory": "96Mi"}}),
)


@pytest.fixture(scope="module")
def studies(stack: LocalStack, maps: Maps, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    """A study sent to each of the workflows, whose runs have ended; by DAG id.

    The tasks have the retries of the language: what an application did itself must not be tried again.
    """
    require("docker")
    specs = []
    for failure in FAILURES:
        image = maps.reference(failure.mode, failure.seconds) if failure.mode else MISSING_IMAGE
        task = work(image, {"name": "send"}, {"name": "archive", "conditions": ["'a' == 'a'"]}, **failure.task)
        specs.append(workflow(failure.dag_id, failure.aet, task, export(), export("archive", ["ARCHIVE"])))
    add_workflows(stack, *specs)
    folder = tmp_path_factory.mktemp("failures")
    sent = {failure.dag_id: make_study(folder, failure.aet) for failure in FAILURES}
    send(stack, *sent.values(), senders=2)
    for dag_id in sent:
        wait_for_runs(stack, dag_id, 1, seconds=240)
    return sent


@pytest.mark.docker
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
def test_a_map_that_fails_says_why_and_stops_its_workflow(
    stack: LocalStack, auditor: Auditor, studies: dict[str, Study], failure: Failure
) -> None:
    dag_id, study = failure.dag_id, studies[failure.dag_id]
    (run,) = stack.runs(dag_id)
    assert run["state"] == "failed"

    instances = {ti["task_id"]: ti for ti in stack.task_instances(dag_id, study.run_id)}
    assert (instances["work"]["state"], instances["work"]["try_number"]) == ("failed", 1)
    following = {task: ti["state"] for task, ti in instances.items() if task != "work"}
    assert following == dict.fromkeys(("send", "archive", "work.to.archive"), "upstream_failed")
    assert auditor.results_of(study.uid) == []
    assert not (stack.layout.archive / study.payload_id).exists()

    kept = record(stack, dag_id, study, "work")
    assert kept is not None and kept.status is TaskStatus.FAILED and kept.error_msg
    shown = task_log(stack, dag_id, study.run_id, "work")
    for words in failure.cause:
        assert words in kept.error_msg
        assert words in shown
    assert containers(stack, dag=dag_id) == []
