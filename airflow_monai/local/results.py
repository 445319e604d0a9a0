"""What a workflow instance left in the store of a local stack: its results and where they were delivered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.store import open_store
from airflow_monai.store.payloads import dicom_key, payload_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord


@dataclass(frozen=True, slots=True)
class RunResults:
    """The results of one run.

    :param store: folder of the store.
    """

    store: Path
    payload_id: str
    dag_id: str
    run_id: str

    def record(self, task_id: str) -> TaskRecord | None:
        return RunFolder(open_store(str(self.store)), self.payload_id, self.dag_id, self.run_id).record(task_id)

    def artifact(self, task_id: str, name: str) -> list[Path]:
        """Files of an artifact, none when the task has not made it."""
        record = self.record(task_id)
        return [self.store / key for key in (record.artifacts.get(name, ()) if record else ())]

    def images(self) -> Path:
        """Folder of the images as they were received."""
        return self.store / dicom_key(self.payload_id)

    def exported(self) -> Iterator[dict[str, Any]]:
        """Every delivery of this payload: sink, SOPInstanceUID, status."""
        store = open_store(str(self.store))
        for sink in store.children(payload_key(self.payload_id, "exports")):
            for identity, entry in Ledger(store, self.payload_id, sink).entries():
                uid = self._uid(identity, entry.digest)
                yield {"sink": sink, "SOPInstanceUID": uid, "status": entry.state.value}

    def _uid(self, identity: str, digest: str | None) -> str:
        """A DICOM node's entry is named by the SOP Instance UID; a folder's file is found by its content."""
        return self._uids_by_digest().get(digest or "", identity)

    def _uids_by_digest(self) -> dict[str, str]:
        import hashlib

        from pydicom import dcmread

        runs = self.store / payload_key(self.payload_id, "workflows")
        found = {}
        for path in runs.rglob("*.dcm"):
            uid = str(dcmread(path, stop_before_pixels=True).get("SOPInstanceUID") or "")
            found[hashlib.sha256(path.read_bytes()).hexdigest()] = uid
        return found
