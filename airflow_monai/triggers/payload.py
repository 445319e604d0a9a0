"""Waits in the triggerer for a payload to arrive."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_monai.errors import PayloadNotFound
from airflow_monai.store.payloads import load_payload, manifest_key, payload_ids
from airflow_monai.store.summaries import PayloadIndex, Summary
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

        The first look reads what may be new: in a folder the times of the manifests tell, of a bucket this process
        keeps an index for all who wait. Later looks read only the manifests of new payloads.
        """
        store = site_store()
        since = datetime.fromisoformat(self.since)
        arrived = []
        for payload_id in self._candidates(store, since):
            if payload_id in self._known:
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

    def _candidates(self, store: Store, since: datetime) -> list[str]:
        """Payloads that may be the one."""
        if store.local_path("payloads") is not None:
            known = self._known
            return [one for one in payload_ids(store) if one not in known and not _older(store, one, since)]

        def may_be(summary: Summary) -> bool:
            is_there = not (summary.is_open or summary.is_deleted)
            return is_there and summary.called_aet == self.ae_title and datetime.fromisoformat(summary.moment) > since

        return [summary.payload_id for summary in _index(store).find(may_be)]

    def _wanted(self, payload: Payload, since: datetime) -> bool:
        return (
            payload.called_aet == self.ae_title
            and (not self.study_instance_uid or self.study_instance_uid in payload.studies)
            and datetime.fromisoformat(payload.closed) > since
        )


_indexes: dict[str, PayloadIndex] = {}
"""Of this process, by store: very many tasks may wait, and each would read what is known of every payload."""
_lock = threading.Lock()


def _index(store: Store) -> PayloadIndex:
    with _lock:
        return _indexes.setdefault(store.identity, PayloadIndex(store))


def _older(store: Store, payload_id: str, since: datetime) -> bool:
    """Whether the manifest was written long before ``since``, where a look at the file tells so without reading it."""
    try:
        path = store.local_path(manifest_key(payload_id))
        return path is not None and path.stat().st_mtime < since.timestamp() - 60
    except (FileNotFoundError, PayloadNotFound):  # still being received, or no payload at all
        return True
