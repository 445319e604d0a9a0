"""Routing is decided once, and therefore not while the workflow folder is not what it should be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from airflow_monai.gateway import announcer as module
from airflow_monai.gateway.announcer import Announcer, routing_key
from airflow_monai.gateway.events import EventLog
from airflow_monai.gateway.workflows import Workflows
from airflow_monai.store.local import LocalStore
from airflow_monai.types import Payload
from tests.gateway.conftest import write_workflow

PAYLOAD = Payload(
    "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21", "1.2.3", "CTLUNG", ("CT01",), 0, (), *["2026-01-02T03:04:05+00:00"] * 3
)


class Desk:
    """An announcer on a workflow folder that holds one workflow."""

    def __init__(self, folder: Path):
        self.folder = folder / "workflows"
        self.file = write_workflow(self.folder)
        self.good = self.file.read_text()
        self.store = LocalStore(folder / "store")
        self.log = folder / "events.jsonl"
        self.restart()

    def restart(self) -> None:
        """A new gateway process."""
        events = EventLog(self.log)
        self.workflows = Workflows(self.folder, 1.0, events)
        self.announcer = Announcer(self.store, _NoApi(), self.workflows.known, events)

    def wanted(self) -> list[str] | None:
        """The workflows that got the payload, None when it waits."""
        delay = self.announcer.route(PAYLOAD)
        decided = self.store.exists(routing_key(PAYLOAD.payload_id))
        assert decided == (delay is None) and (decided or 0 < delay <= 30)
        if not decided:
            return None
        return [item["workflow"] for item in self.store.read_json(routing_key(PAYLOAD.payload_id)) if item["wanted"]]

    def told(self, kind: str) -> list[dict[str, object]]:
        return [event for line in self.log.read_text().splitlines() if (event := json.loads(line))["event"] == kind]


class _NoApi:
    def create_run(self, dag_id: str, run_id: str, partition_key: str) -> bool:
        raise AssertionError("not asked")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    assert desk.workflows.knows("CTLUNG")
    return desk


def bad(text: str) -> str:
    return text.replace("type: router", "type: ruoter")


@pytest.mark.parametrize("text", ["", bad], ids=["saved half", "saved with a mistake"])
def test_a_workflow_whose_file_has_become_bad_is_used_as_it_was(desk: Desk, text: object) -> None:
    desk.file.write_text(text(desk.good) if callable(text) else "")
    assert desk.wanted() == ["ct-lung"]
    changed = desk.told("workflows-changed")[-1]
    assert changed["kept"] == [str(desk.file)] and changed["problems"] and changed["ae_titles"] == ["CTLUNG"]


def test_the_folder_that_is_away_is_used_as_it_was(desk: Desk) -> None:
    desk.folder.rename(desk.folder.with_name("away"))
    assert desk.wanted() == ["ct-lung"]


def test_a_gateway_that_never_saw_the_good_file_waits_for_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTENER_GRACE", 0.0)
    desk.file.write_text(bad(desk.good))
    desk.restart()
    assert [desk.wanted() for _ in range(5)] == [None] * 5
    (waiting,) = desk.told("payload-waiting")
    assert "ct-lung.yaml" in str(waiting["reason"])
    desk.file.write_text(desk.good)
    assert desk.wanted() == ["ct-lung"]


def test_a_gateway_started_without_its_folder_waits_for_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTENER_GRACE", 0.0)
    desk.folder.rename(desk.folder.with_name("away"))
    desk.restart()
    assert [desk.wanted() for _ in range(3)] == [None] * 3
    assert "cannot be read" in str(desk.told("payload-waiting")[0]["reason"])
    desk.folder.with_name("away").rename(desk.folder)
    assert desk.wanted() == ["ct-lung"]


def test_a_folder_that_cannot_be_read_is_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    desk.restart()
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        assert desk.wanted() is None
    assert desk.wanted() == ["ct-lung"]


def test_a_workflow_that_is_gone_is_waited_for_some_minutes(desk: Desk) -> None:
    desk.file.unlink()
    assert desk.wanted() is None
    assert "CTLUNG" in str(desk.told("payload-waiting")[0]["reason"])
    desk.file.write_text(desk.good)
    assert desk.wanted() == ["ct-lung"]


def test_a_workflow_that_stays_away_leaves_the_study_unrouted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.file.unlink()
    assert desk.wanted() is None
    monkeypatch.setattr(module, "LISTENER_GRACE", 0.0)
    assert desk.wanted() == []
    assert desk.told("unrouted")


def test_a_bad_file_does_not_hold_up_what_another_wants(desk: Desk) -> None:
    (desk.folder / "zz.yaml").write_text("name: [")
    assert desk.wanted() == ["ct-lung"]


def test_a_listener_that_does_not_want_the_study_decides_at_once(desk: Desk) -> None:
    write_workflow(desk.folder, more="  data_origins: [CT02]")
    assert desk.wanted() == []
