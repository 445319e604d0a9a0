"""How received instances become payloads: the protocol that any number of gateways may follow on one store.

A payload goes through these states, each made by a conditional create, so that two gateways always agree:

    pending/<payload_id>                    somebody has to see this payload through; removed when all is announced
    payloads/<payload_id>/open.json         takes instances of one study sent to one AE title
                         /calling/<aet>     who sent some, one object each
                         /dcm/...           the instances, each durable before its sender hears success
                         /duplicates.jsonl  instances that came again
                         /closing.json      takes none any more
                         /listing.json      which instances belong to it, for good
                         /tags.json         what its headers say, by series
                         /payload.json      its manifest

A receiver links its file into the payload and looks *then* whether ``closing.json`` is there. If not, the closer, who
lists the files after creating it, sees the file. If so, ``listing.json`` tells whether the file was seen; if not, it
moves into the next payload of the study. That payload is entered only when the listing of the one before exists, so an
instance is never in two.
"""

from __future__ import annotations

import filecmp
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_monai.errors import StoreError
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.describe import describe
from airflow_monai.store.part10 import Identity
from airflow_monai.store.payloads import load_payload, manifest_key, payload_id_of, payload_key, tags_key
from airflow_monai.types import Payload

PENDING = "pending"
_REMEMBERED_STUDIES = 2048


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as it was received."""

    identity: Identity
    called_aet: str
    calling_aet: str

    @property
    def path(self) -> str:
        """Where it lies below its payload."""
        return f"dcm/{self.identity.study}/{self.identity.series}/{self.identity.sop}.dcm"


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an instance went. ``identical`` is None for a new one, else whether it equals the one that was there."""

    payload_id: str
    duplicate: bool
    identical: bool | None = None


@dataclass(frozen=True, slots=True)
class OpenPayload:
    """A payload on its way, as the disk knows it.

    :param images: and ``last_received`` count only as long as it is open.
    :param last_received: when its newest instance was written, seconds since the epoch; None when it has none.
    """

    payload_id: str
    study_instance_uid: str
    called_aet: str
    images: int
    last_received: float | None
    closing: bool


@dataclass
class _Study:
    """What this process knows of a study at an AE title: a cache, built from the disk on first touch."""

    sequence: int = 0
    places: dict[str, tuple[str, str]] = field(default_factory=dict)  # SOP Instance UID -> its payload, path there
    known: set[str] = field(default_factory=set)  # payload ids with calling AE titles that are written down
    lock: threading.Lock = field(default_factory=threading.Lock)


class Intake:
    """Takes instances into payloads, and closes these. Safe for any number of threads, processes and hosts."""

    def __init__(self, store: Store):
        self.store = store
        self._studies: OrderedDict[tuple[str, str], _Study] = OrderedDict()
        self._lock = threading.Lock()
        self._closing: dict[str, tuple[threading.Lock, int]] = {}

    def add(self, instance: Instance, file: Path) -> Placed:
        """Take over a received file; when this returns, it is durable and will be in exactly one payload.

        :param file: complete; below ``store.spool()`` this costs no copy. The caller removes it.
        :raises StoreError: when it cannot be stored; then nothing of it is in any payload.
        """
        study = self._study(instance)
        while True:
            payload_id, sequence = self._current(instance, study)
            here = payload_id, instance.path
            place = study.places.get(instance.identity.sop, here)
            if place != here:  # an earlier payload has it, or this one in another series
                return self._duplicate(*place, instance, file)
            self._open(payload_id, sequence, instance, study)
            key = payload_key(payload_id, instance.path)
            created = self.store.create_from(key, file)
            if not self._is_closing(payload_id) or instance.path in self._listed(payload_id):
                study.places.setdefault(instance.identity.sop, here)
                return Placed(payload_id, False) if created else self._duplicate(*here, instance, file)
            self.store.delete(key)  # it came too late; nobody will ever list it

    def _study(self, instance: Instance) -> _Study:
        key = (instance.identity.study, instance.called_aet)
        with self._lock:
            study = self._studies.setdefault(key, _Study())
            self._studies.move_to_end(key)
            while len(self._studies) > _REMEMBERED_STUDIES:
                self._studies.popitem(last=False)
            return study

    def _current(self, instance: Instance, study: _Study) -> tuple[str, int]:
        """The study's first payload that is not closing, with its sequence; the instances of those before are known."""
        with study.lock:
            while True:
                payload_id = payload_id_of(instance.identity.study, instance.called_aet, study.sequence)
                if not self._is_closing(payload_id):
                    return payload_id, study.sequence
                for path in self._listed(payload_id):
                    study.places.setdefault(Path(path).stem, (payload_id, path))
                study.sequence += 1
                study.known.clear()

    def _open(self, payload_id: str, sequence: int, instance: Instance, study: _Study) -> None:
        known = f"{payload_id}/{instance.calling_aet}"
        if known in study.known:
            return
        identity, now = instance.identity, _now()
        opened = {
            "study_instance_uid": identity.study,
            "called_aet": instance.called_aet,
            "sequence": sequence,
            "opened": now,
        }
        calling = payload_key(payload_id, "calling", safe_name(instance.calling_aet))
        for key, value in (
            (f"{PENDING}/{payload_id}", {"since": now}),  # first: a payload that is open is always somebody's duty
            (payload_key(payload_id, "open.json"), opened),
            (calling, instance.calling_aet),
        ):
            self.store.create_json(key, value)
        study.known.add(known)

    def _duplicate(self, payload_id: str, path: str, instance: Instance, file: Path) -> Placed:
        """Note it beside the one at ``path``, which was there first."""
        identical = self._same(payload_key(payload_id, path), file)
        line = {
            "time": _now(),
            "sop_instance_uid": instance.identity.sop,
            "series_instance_uid": instance.identity.series,
            "calling_aet": instance.calling_aet,
            "size": file.stat().st_size,
            "identical": identical,
        }
        self.store.append(payload_key(payload_id, "duplicates.jsonl"), json.dumps(line).encode() + b"\n")
        return Placed(payload_id, True, identical)

    def _same(self, key: str, file: Path) -> bool:
        there = self.store.local_path(key)
        try:
            return there is not None and filecmp.cmp(there, file, shallow=False)
        except FileNotFoundError:
            return False  # the payload's files are not kept any more

    def _is_closing(self, payload_id: str) -> bool:
        return self.store.exists(payload_key(payload_id, "closing.json"))

    def _listed(self, payload_id: str) -> frozenset[str]:
        return frozenset(self._listing(payload_id)["files"])

    def pending(self) -> Iterator[str]:
        """Ids of the payloads that somebody still has to close or announce."""
        yield from self.store.children(PENDING)

    def done(self, payload_id: str) -> None:
        """Nothing is left to do for this payload."""
        self.store.delete(f"{PENDING}/{payload_id}")

    def look(self, payload_id: str) -> OpenPayload | None:
        """How far a pending payload is; None when its first receiver has not opened it yet."""
        key = payload_key(payload_id, "open.json")
        if not self.store.exists(key):
            return None
        opened = self.store.read_json(key)
        closing = self._is_closing(payload_id)
        files = {} if closing else self._files(payload_id)
        return OpenPayload(
            payload_id=payload_id,
            study_instance_uid=opened["study_instance_uid"],
            called_aet=opened["called_aet"],
            images=len(files),
            last_received=max((modified for _, modified in files.values()), default=None),
            closing=closing,
        )

    def _files(self, payload_id: str) -> dict[str, tuple[int, float]]:
        """Path below the payload -> size and time of writing."""
        folder = payload_key(payload_id)
        found = {}
        for key in self.store.list(f"{folder}/dcm"):
            path = self.store.local_path(key)
            if path is None:
                raise StoreError(f"{self.store.url} gives no file times; the gateway needs a store in a folder.")
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # a late one, just moved to the next payload
            found[key.removeprefix(f"{folder}/")] = (status.st_size, status.st_mtime)
        return found

    def close(self, payload_id: str) -> Payload:
        """Close the payload, or go on where another closer stopped, and return its manifest.

        Whoever calls it, however often: the result is the same.
        """
        with self._one_closer(payload_id):
            if not self.store.exists(manifest_key(payload_id)):
                self.store.create_json(payload_key(payload_id, "closing.json"), {"time": _now()})
                self._describe(payload_id, self._listing(payload_id))
            return load_payload(self.store, payload_id)

    def sweep(self, payload_id: str) -> int:
        """Remove files that do not belong to the payload: linked too late by a receiver that died then, so that nobody
        was told success, or a second one of an instance, from another gateway."""
        listed, swept = self._listed(payload_id), 0
        for path in self._files(payload_id):
            if path not in listed:
                self.store.delete(payload_key(payload_id, path))
                swept += 1
        return swept

    @contextmanager
    def _one_closer(self, payload_id: str) -> Iterator[None]:
        """Several closers do no harm, but the work is done once a process."""
        with self._lock:
            lock, users = self._closing.get(payload_id, (threading.Lock(), 0))
            self._closing[payload_id] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._closing.pop(payload_id)
                if users > 1:
                    self._closing[payload_id] = (lock, users - 1)

    def _listing(self, payload_id: str) -> dict[str, Any]:
        """What belongs to a closing payload; decided by the first who asks."""
        key = payload_key(payload_id, "listing.json")
        if not self.store.exists(key):
            files = _first_of_each_instance(self._files(payload_id))
            times = [modified for _, modified in files.values()] or [datetime.now(timezone.utc).timestamp()]
            calling = payload_key(payload_id, "calling")
            listing = {
                "files": {path: size for path, (size, _) in files.items()},
                "calling_aets": [self.store.read_json(f"{calling}/{name}") for name in self.store.children(calling)],
                "received_first": _iso(min(times)),
                "received_last": _iso(max(times)),
                "closed": _now(),
            }
            self.store.create_json(key, listing)
        return self.store.read_json(key)

    def _describe(self, payload_id: str, listing: dict[str, Any]) -> None:
        """Make tags and manifest. Both follow from the listing alone, so that two closers write the same."""
        opened = self.store.read_json(payload_key(payload_id, "open.json"))
        description = describe(self.store, payload_key(payload_id), listing["files"])
        self.store.write_json(tags_key(payload_id), description.tags)
        manifest = Payload(
            payload_id=payload_id,
            study_instance_uid=opened["study_instance_uid"],
            called_aet=opened["called_aet"],
            calling_aets=tuple(sorted(listing["calling_aets"])),
            sequence=opened["sequence"],
            files=description.files,
            received_first=listing["received_first"],
            received_last=listing["received_last"],
            closed=listing["closed"],
            patient=description.patient,
        )
        self.store.create_json(manifest_key(payload_id), manifest.to_dict())


def _first_of_each_instance(files: dict[str, tuple[int, float]]) -> dict[str, tuple[int, float]]:
    """Without the later files of a SOP Instance UID, which two gateways took at once for two series."""
    first: dict[str, str] = {}
    for path in sorted(files, key=lambda path: (files[path][1], path)):
        first.setdefault(Path(path).stem, path)
    kept = set(first.values())
    return {path: known for path, known in files.items() if path in kept}


def _now() -> str:
    return _iso(datetime.now(timezone.utc).timestamp())


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
