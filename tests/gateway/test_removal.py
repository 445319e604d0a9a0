"""Deleting payloads: a gateway that is killed in the middle, and the next one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.batches.selection import select
from airflow_monai.errors import StoreError
from airflow_monai.gateway.removal import Remover
from airflow_monai.hooks.airflow_api import AirflowApi, RunNotCreated
from airflow_monai.intake.events import EventLog
from airflow_monai.intake.starting import NotStarted, Starter
from airflow_monai.specs.compile import plan_of
from airflow_monai.specs.plan import Selection
from airflow_monai.specs.reading import load_text
from airflow_monai.store.deletion import DeletionState, deletion_of, doomed, request_deletion
from airflow_monai.store.local import LocalStore
from tests.gateway.standin import StandInAirflow
from tests.store.test_deletion import NAME, closed, texts

WORKFLOW = """
name: look
version: "1"
informatics_gateway: {ae_title: CTLUNG}
tasks:
  - {id: route, type: router, task_destinations: []}
"""
KILLED = """
import os, signal, sys
from airflow_monai.intake.events import EventLog
from airflow_monai.gateway.removal import Remover
from airflow_monai.store.local import LocalStore
LocalStore.delete_tree = lambda self, prefix: os.kill(os.getpid(), signal.SIGKILL)
Remover(LocalStore(sys.argv[1]), EventLog(None), lambda payload_id: False).remove(sys.argv[2])
"""


def test_what_a_killed_gateway_began_the_next_one_ends(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    payload_id = closed(store).payload_id
    request_deletion(store, payload_id, "anna", "by mistake")
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.root), payload_id])
    assert done.returncode == -signal.SIGKILL
    assert store.exists(f"payloads/{payload_id}/dcm") and deletion_of(store, payload_id).by == "anna"
    remover = Remover(store, EventLog(tmp_path / "events"), lambda payload_id: False)
    remover.start()
    try:
        end = time.monotonic() + 60
        while doomed(store) and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        remover.stop(60)
    told = deletion_of(store, payload_id)
    assert (told.state, told.by, told.images) == (DeletionState.YES, "anna", 2)
    assert NAME not in texts(store, payload_id)
    assert (tmp_path / "events").read_text().count("payload-deleted") == 1
    assert not list((tmp_path / "store" / "gateways").iterdir())


def test_nothing_goes_while_airflow_does_not_say_what_runs(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    payload_id = closed(store).payload_id
    request_deletion(store, payload_id, "anna")

    def unreachable(payload_id: str) -> bool:
        raise RunNotCreated("Airflow's API server cannot be reached")

    events = tmp_path / "events"
    remover = Remover(store, EventLog(events), unreachable)
    assert not remover.remove(payload_id) and not remover.remove(payload_id)
    assert deletion_of(store, payload_id).state is DeletionState.FAILED
    assert store.exists(f"payloads/{payload_id}/payload.json")
    assert events.read_text().count("deletion-waiting") == 1


def test_a_store_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    payload_id = closed(store).payload_id
    request_deletion(store, payload_id, "anna")
    remover = Remover(store, EventLog(None), lambda payload_id: False)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete_tree", lambda *_: (_ for _ in ()).throw(StoreError("the disk says no")))
        assert not remover.remove(payload_id)
    assert deletion_of(store, payload_id).error == "the disk says no"
    assert remover.remove(payload_id) and deletion_of(store, payload_id).state is DeletionState.YES


def test_airflow_is_asked_which_runs_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in that answers as Airflow does; tests/e2e asks the real one."""
    airflow = StandInAirflow()
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_AIRFLOW", airflow.connection)
    api = AirflowApi("monai_airflow")
    try:
        airflow.down = True
        with pytest.raises(RunNotCreated):
            api.is_worked_on("6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21")
    finally:
        airflow.stop()


def test_nothing_is_started_on_what_is_being_deleted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    payload_id = closed(store).payload_id
    request_deletion(store, payload_id, "anna")
    nothing: Any = None  # it is not asked: neither Airflow nor the workflows
    with pytest.raises(NotStarted, match="is being deleted"):
        Starter(store, nothing, nothing, nothing, None).start(payload_id, "look")
    plan = plan_of(load_text(WORKFLOW, "look.yaml"))
    assert select(store, plan, Selection(), datetime.now(timezone.utc)).verdicts == ()
