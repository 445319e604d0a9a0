"""Deleting a payload that a run takes up at that very moment."""

from __future__ import annotations

from pathlib import Path

from airflow_monai.gateway.removal import Remover
from airflow_monai.intake.events import EventLog
from airflow_monai.store.deletion import DeletionState, deletion_of, request_deletion
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import dicom_key
from tests.store.test_deletion import NAME, closed, texts


def test_a_run_that_begins_between_the_look_and_the_deletion_is_waited_for(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    payload_id = closed(store).payload_id
    request_deletion(store, payload_id, "anna")
    answers = [False, True, True, False, False]
    remover = Remover(store, EventLog(tmp_path / "events"), lambda _: answers.pop(0))
    assert not remover.remove(payload_id)  # nothing worked on it, then something did
    assert not remover.remove(payload_id)  # it still does
    assert list(store.list(dicom_key(payload_id))), "what it works on"
    assert deletion_of(store, payload_id).state is DeletionState.IN_PROGRESS
    assert remover.remove(payload_id) and answers == []
    assert deletion_of(store, payload_id).state is DeletionState.YES
    assert NAME not in texts(store, payload_id)
    assert "deletion-waiting" not in (tmp_path / "events").read_text()
