"""A handler is registered, a study comes, and the handler hears of it: the whole way on a real Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_monai.local.environment import USER
from airflow_monai.local.stack import LocalStack
from airflow_monai.store.payloads import instance_id_of
from tests.e2e.helpers import (
    Maps,
    Task,
    add_workflows,
    clear,
    export,
    make_study,
    record,
    send,
    wait_for_runs,
    work,
    workflow,
)
from tests.notifications.receiver import Receiver

NAME = "e2e-notify"
KINDS = ["workflow.started", "task.started", "task.updated", "task.completed", "workflow.completed"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def still() -> Iterator[Receiver]:
    """One that hears when the other must not any more."""
    made = Receiver()
    yield made
    made.stop()


class Site:
    """The App Server API of the stack."""

    def __init__(self, stack: LocalStack):
        self.base = f"{stack.ui}/monai/app-server/notification-handlers"
        self.auth = (USER, stack.secrets.password)

    def call(self, method: str, path: str = "", body: Any = None) -> Any:
        answer = requests.request(method, self.base + path, json=body, auth=self.auth, timeout=60)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None


def kinds_of(receiver: Receiver, instance_id: str) -> list[str]:
    task = [
        (event, (event.get("task") or {}).get("task_id", ""))
        for event in receiver.got
        if event["workflow_instance_id"] == instance_id
    ]
    return [f"{event['event']} {name}".strip() for event, name in task if event["event"] != "task.updated"]


def test_a_handler_hears_of_a_study_and_of_a_rerun_and_nothing_once_it_is_unregistered(
    stack: LocalStack, maps: Maps, receiver: Receiver, still: Receiver, tmp_path: Path
) -> None:
    route: Task = {"id": "route", "type": "router", "task_destinations": [{"name": "work"}]}
    spec = workflow(NAME, "E2ENOTIFY", route, work(maps.reference()), export(destinations=("ARCHIVE",)))
    add_workflows(stack, spec)
    site = Site(stack)
    made = site.call("POST", "", {"url": receiver.url, "events": KINDS, "workflows": [NAME]})
    receiver.secret = made["secret"]
    assert site.call("POST", f"/{made['id']}/test")["delivered"]
    receiver.got.clear()

    study = make_study(tmp_path, "E2ENOTIFY")
    send(stack, study)
    instance_id = instance_id_of(NAME, study.run_id)
    whole = [
        "workflow.started",
        *(f"task.{what} {name}" for name in ("route", "work", "send") for what in ("started", "completed")),
        "workflow.completed",
    ]
    stack.wait_for(lambda: len(kinds_of(receiver, instance_id)) >= 8, seconds=240, what="all notifications of a study")
    assert kinds_of(receiver, instance_id) == whole
    last = receiver.got[-1]
    assert last["status"] == "Succeeded" and last["payload_id"] == study.payload_id
    work_record = record(stack, NAME, study, "work")
    assert work_record is not None
    executions = {
        event["task"]["execution_id"] for event in receiver.got if event.get("task", {}).get("task_id") == "work"
    }
    assert executions == {work_record.execution_id}

    clear(stack, NAME, study.run_id, "send")
    again = [whole[0], *whole[-3:]]
    stack.wait_for(lambda: len(kinds_of(receiver, instance_id)) >= 12, seconds=240, what="all notifications of a rerun")
    assert kinds_of(receiver, instance_id) == [*whole, *again]
    assert len(set(receiver.ids)) == len(receiver.ids), "an event was told twice, or has another's id"

    site.call("DELETE", f"/{made['id']}")
    heard = len(receiver.got)
    control = site.call("POST", "", {"url": still.url, "events": ["workflow.completed"], "workflows": [NAME]})
    still.secret = control["secret"]
    other = make_study(tmp_path, "E2ENOTIFY")
    send(stack, other)
    assert wait_for_runs(stack, NAME, 2)[other.run_id]["state"] == "success"
    stack.wait_for(lambda: still.got, seconds=120, what="a notification to another handler")
    site.call("DELETE", f"/{control['id']}")
    assert len(receiver.got) == heard
    assert not receiver.bad
