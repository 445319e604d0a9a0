"""What lists show of a payload, kept small beside its manifest, and an index of them all.

payloads/<payload_id>/summary.json    written when it is closed; goes when it is deleted. It tells of the patient.

Payload ids are hashes, so that neither a folder nor a bucket lists payloads by age. The index reads of each payload one
small object once in the life of a process, and afterwards only those that are new: a closed payload does not change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_monai.errors import PayloadNotFound, StoreError
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import undamaged
from airflow_monai.store.payloads import (
    left_of,
    load_payload,
    load_series_tags,
    payload_ids,
    payload_key,
    summary_key,
)
from airflow_monai.types import PatientDetails, Payload, SeriesTags

_ACCESSION_NUMBER = "00080050"
_READERS = 16
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Summary:
    """A payload in a list.

    :param moment: when it was closed, else opened; ISO 8601.
    :param is_open: images may still join it.
    :param is_deleted: it is gone; nothing of the patient is known any more.
    """

    payload_id: str
    moment: str
    called_aet: str = ""
    calling_aets: tuple[str, ...] = ()
    images: int = 0
    study_instance_uid: str = ""
    series: tuple[str, ...] = ()
    accession_number: str = ""
    patient: PatientDetails = field(default_factory=PatientDetails)
    is_open: bool = False
    is_deleted: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Summary:
        known = dict(data)
        known["calling_aets"], known["series"] = tuple(known["calling_aets"]), tuple(known["series"])
        known["patient"] = PatientDetails(**known["patient"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class PatientFilter:
    """Parts of what a payload says of its patient, whatever their case; empty for all."""

    patient_id: str = ""
    patient_name: str = ""
    accession_number: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.patient_id or self.patient_name or self.accession_number)

    def takes(self, summary: Summary) -> bool:
        said = (
            (self.patient_id, summary.patient.id),
            (self.patient_name, summary.patient.name),
            (self.accession_number, summary.accession_number),
        )
        return all(part.casefold() in (value or "").casefold() for part, value in said)


def summary_of(payload: Payload, tags: SeriesTags) -> Summary:
    """The summary of a closed payload."""
    numbers = (value for series in tags.values() for value in series.get(_ACCESSION_NUMBER, ()) if value)
    return Summary(
        payload_id=payload.payload_id,
        moment=payload.closed,
        called_aet=payload.called_aet,
        calling_aets=payload.calling_aets,
        images=len(payload.files),
        study_instance_uid=payload.study_instance_uid,
        series=tuple(sorted({file.series_instance_uid for file in payload.files})),
        accession_number=str(next(numbers, "")),
        patient=payload.patient,
    )


def read_summary(store: Store, payload_id: str) -> Summary | None:
    """The summary as it is now; None for what is no payload (yet).

    :raises DamagedObject: when nobody can say any more.
    """
    try:
        return _closed(store, payload_id) or _deleted(store, payload_id) or _open(store, payload_id)
    except PayloadNotFound:
        return None


def _closed(store: Store, payload_id: str) -> Summary | None:
    key = summary_key(payload_id)
    if store.exists(key):
        try:
            return store.read_as(key, Summary.from_dict)
        except StoreError:
            pass  # a power cut took it, or it was deleted a moment ago
    try:
        return summary_of(load_payload(store, payload_id), load_series_tags(store, payload_id))
    except PayloadNotFound:
        return None


def _deleted(store: Store, payload_id: str) -> Summary | None:
    left = left_of(store, payload_id)
    if not left:
        return None
    return Summary(
        payload_id,
        str(left.get("closed", "")),
        str(left.get("called_aet", "")),
        tuple(left.get("calling_aets", ())),
        int(left.get("images", 0)),
        is_deleted=True,
    )


def _open(store: Store, payload_id: str) -> Summary | None:
    key = payload_key(payload_id, "open.json")
    if not store.exists(key):
        return None
    told = store.read_dict(key)
    return Summary(payload_id, str(told.get("opened", "")), str(told.get("called_aet", "")), is_open=True)


class PayloadIndex:
    """All payloads of a store by age. Safe for threads.

    :param kept: so many are known; of a store with more the others are not listed.
    """

    def __init__(self, store: Store, kept: int = 200_000):
        self._store = store
        self._kept = kept
        self._known: dict[str, Summary] = {}
        self._lock = threading.Lock()

    def find(self, takes: Callable[[Summary], bool] = lambda _: True) -> list[Summary]:
        """Those that are taken: open ones, then the newest first."""
        with self._lock:
            self._refresh()
            found = [summary for summary in self._known.values() if takes(summary)]
        return sorted(found, key=lambda item: (item.is_open, item.moment, item.payload_id), reverse=True)

    def now(self, summaries: Iterable[Summary]) -> list[Summary]:
        """The same payloads, those that have been deleted since without what was known of them."""
        found = []
        for summary in summaries:
            gone = None if summary.is_deleted or summary.is_open else _deleted(self._store, summary.payload_id)
            if gone:
                with self._lock:
                    self._known[summary.payload_id] = gone
            found.append(gone or summary)
        return found

    def _refresh(self) -> None:
        ids = []
        for payload_id in payload_ids(self._store):
            ids.append(payload_id)
            if len(ids) == self._kept:
                break
        self._known = {payload_id: self._known[payload_id] for payload_id in ids if payload_id in self._known}
        new = [payload_id for payload_id in ids if payload_id not in self._known or self._known[payload_id].is_open]
        for summary in self._read(new):
            self._known[summary.payload_id] = summary

    def _read(self, ids: list[str]) -> Iterable[Summary]:
        if self._store.local_path("payloads") is not None:
            yield from undamaged(ids, lambda payload_id: read_summary(self._store, payload_id))
            return

        def read(payload_id: str) -> list[Summary]:
            return list(undamaged((payload_id,), lambda one: read_summary(self._store, one)))

        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(ids), _AT_ONCE):
                part = ids[start : start + _AT_ONCE]
                for found in pool.map(read, part):
                    yield from found
