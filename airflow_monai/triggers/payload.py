"""Waits in the triggerer for a payload to arrive."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from airflow_monai.errors import PayloadNotFound
from airflow_monai.store.payloads import load_payload, manifest_key, payload_ids
from airflow_monai.triggers.watch import StoreWatchTrigger, site_store

if TYPE_CHECKING:
    from airflow_monai.store.base import Store
    from airflow_monai.types import Payload


class PayloadTrigger(StoreWatchTrigger):
    """Fires with the payload's id when a payload has arrived.

    :param ae_title: called AE title of the payload.
    :param since: ISO 8601 time with offset; only a payload that was complete after it counts.
    :param study_instance_uid: only this study; empty for any.
    :param poll_interval: seconds between two looks at the store.
    """

    arguments = ("ae_title", "since", "study_instance_uid")

    def __init__(self, *, ae_title: str, since: str, study_instance_uid: str = "", poll_interval: float = 2.0):
        super().__init__(poll_interval=poll_interval)
        self.ae_title = ae_title
        self.since = since
        self.study_instance_uid = study_instance_uid
        self._known: set[str] = set()  # complete payloads that are not the one; they never change

    def find(self) -> str | None:
        """Id of the payload that arrived first, None when none has.

        The first look reads the manifests of the payloads that are there, later ones only those of new payloads.
        """
        store = site_store()
        since = datetime.fromisoformat(self.since)
        arrived = []
        for payload_id in payload_ids(store):
            if payload_id in self._known or _older(store, payload_id, since):
                continue
            try:
                payload = load_payload(store, payload_id)
            except PayloadNotFound:
                continue  # still being received
            if self._wanted(payload, since):
                arrived.append((payload.closed, payload_id))
            else:
                self._known.add(payload_id)
        return min(arrived)[1] if arrived else None

    def _wanted(self, payload: Payload, since: datetime) -> bool:
        return (
            payload.called_aet == self.ae_title
            and (not self.study_instance_uid or self.study_instance_uid in payload.studies)
            and datetime.fromisoformat(payload.closed) > since
        )


def _older(store: Store, payload_id: str, since: datetime) -> bool:
    """Whether the manifest was written long before ``since``, where a look at the file tells so without reading it."""
    try:
        path = store.local_path(manifest_key(payload_id))
        return path is not None and path.stat().st_mtime < since.timestamp() - 60
    except (FileNotFoundError, PayloadNotFound):  # still being received, or no payload at all
        return True
