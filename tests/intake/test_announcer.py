"""Routing is decided once, and therefore not while the workflow folder is not what it should be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from airflow_monai.engine import Job
from airflow_monai.hooks.airflow_api import DagNotThere, RunNotCreated
from airflow_monai.intake import announcer as module
from airflow_monai.intake.announcer import Announcer, routing_key
from airflow_monai.intake.events import EventLog
from airflow_monai.intake.workflows import Workflows
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import not_started_key
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
        self.airflow = _Airflow()
        self.announcer = Announcer(self.store, self.airflow, self.workflows.known, events)

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


class _Airflow:
    """Has some DAGs; told to make a run of another one it answers 404."""

    def __init__(self) -> None:
        self.dags: set[str] = set()
        self.runs: list[str] = []
        self.down = False

    def launch(self, job: Job) -> bool:
        if self.down:
            raise RunNotCreated("Airflow's API server cannot be reached")
        if job.workflow not in self.dags:
            raise DagNotThere("the DAG is not there (404)")
        self.runs.append(job.workflow)
        return True


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


@pytest.fixture
def routed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The study is for two workflows; before their runs are made the file of one is removed, its DAG too. All minutes
    of grace are over at once."""
    monkeypatch.setattr(module, "LISTENER_GRACE", 0.0)
    other = desk.good.replace("name: ct-lung", "name: ct-heart")
    assert other != desk.good
    (desk.folder / "heart.yaml").write_text(other)
    assert sorted(desk.wanted() or []) == ["ct-heart", "ct-lung"]
    desk.airflow.dags = {"ct-lung"}
    (desk.folder / "heart.yaml").unlink()
    return desk


def given_up(desk: Desk) -> bool:
    key = not_started_key(PAYLOAD.payload_id, "ct-heart")
    return desk.store.exists(key) and "neither in the workflow folder nor" in desk.store.read_json(key)["reason"]


def test_a_workflow_that_is_no_more_is_not_waited_for_for_ever(routed: Desk) -> None:
    first = routed.announcer.announce(PAYLOAD.payload_id)
    assert first is not None and not given_up(routed), "it may only be away for a moment"
    assert routed.airflow.runs == ["ct-lung"], "the other one does not wait"
    assert routed.announcer.announce(PAYLOAD.payload_id) is None
    assert given_up(routed)
    (told,) = routed.told("run-not-started")
    assert told["dag_id"] == "ct-heart" and "no DAG ct-heart" in str(told["reason"])
    routed.restart()
    assert routed.announcer.announce(PAYLOAD.payload_id) is None and routed.airflow.runs == []


def test_one_that_comes_back_in_time_gets_its_study(routed: Desk) -> None:
    assert routed.announcer.announce(PAYLOAD.payload_id) is not None
    routed.airflow.dags.add("ct-heart")
    assert routed.announcer.announce(PAYLOAD.payload_id) is None
    assert routed.airflow.runs == ["ct-lung", "ct-heart"] and not given_up(routed)


@pytest.mark.parametrize(
    "trouble", ["folder away", "a file that was never good", "the file is back", "Airflow is away"]
)
def test_what_may_only_be_away_is_waited_for(routed: Desk, trouble: str) -> None:
    if trouble == "folder away":
        routed.folder.rename(routed.folder.with_name("away"))
    elif trouble == "a file that was never good":
        (routed.folder / "new.yaml").write_text("name: [")
    elif trouble == "the file is back":
        (routed.folder / "heart.yaml").write_text(routed.good.replace("name: ct-lung", "name: ct-heart"))
    else:
        routed.airflow.down = True
    assert None not in [routed.announcer.announce(PAYLOAD.payload_id) for _ in range(5)]
    assert not given_up(routed) and not routed.told("run-not-started")


def test_minutes_of_doubt_do_not_count(routed: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert routed.announcer.announce(PAYLOAD.payload_id) is not None
    bad_file = routed.folder / "new.yaml"
    bad_file.write_text("name: [")
    assert routed.announcer.announce(PAYLOAD.payload_id) is not None
    bad_file.unlink()
    monkeypatch.setattr(module, "LISTENER_GRACE", 60.0)
    assert routed.announcer.announce(PAYLOAD.payload_id) is not None and not given_up(routed)
