"""How received instances become payloads: the protocol that any number of gateways may follow on one store.

A payload goes through these states, each made by a conditional create, so that two gateways always agree:

    pending/<payload_id>                    somebody has to see this payload through; removed when all is announced
    payloads/<payload_id>/open.json         takes instances of one study (series, patient) sent to one AE title
                         /calling/<aet>     who sent some, one object each
                         /dcm/...           the instances, each durable before its sender hears success
                         /duplicates.jsonl  instances that came again
                         /whole.json        who brought the instances says that these are all
                         /arriving.json     the gateway at which one more is just coming in
                         /closing.json      takes none any more
                         /listing.json      which instances belong to it, for good
                         /tags.json         what its headers say, by series
                         /payload.json      its manifest

A receiver links its file into the payload and looks *then* whether ``closing.json`` is there. If not, the closer, who
lists the files after creating it, sees the file. If so, ``listing.json`` tells whether the file was seen; if not, it
moves into the next payload of the study. That payload is entered only when the listing of the one before exists, so an
instance is never in two.

What the images of a payload have in common is its group, by default a study; ``open.json`` says it. Where the grouping
of an AE title is changed, payloads that are open go on taking what they were opened for, and an instance that another
grouping has put away before is known.

A payload that holds late images together with all that came before is made of closed ones: its ``open.json`` names
them, all else follows from that.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_monai.errors import DamagedObject, StoreError
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.damaged import tell_once
from airflow_monai.store.deletion import is_doomed
from airflow_monai.store.describe import describe
from airflow_monai.store.groups import Group, Groups, member_id, opened_payload, whole_id
from airflow_monai.store.part10 import Identity
from airflow_monai.store.payloads import deleted_key, load_payload, manifest_key, payload_key, summary_key, tags_key
from airflow_monai.store.shapes import moment
from airflow_monai.store.summaries import summary_of
from airflow_monai.types import Payload

PENDING = "pending"
_REMEMBERED_GROUPS = 2048
_REMEMBERED_INSTANCES = 400_000
"""About half a kilobyte each. The groups that nothing came for lately are forgotten, and read from the disk again."""
ASK_SECONDS = 1.0
"""How often it is asked whether a payload takes images, where that is a request to a bucket."""


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
    """Where an instance went. ``identical`` is None for a new one, else whether it equals the one that was there.

    :param fell_back: it opened a payload of its study, because it does not say whose it is.
    """

    payload_id: str
    duplicate: bool
    identical: bool | None = None
    fell_back: bool = False


class CloseReason(str, Enum):
    """Why a payload takes no more instances."""

    QUIET = "quiet"  # none came for its quiet time
    ASSOCIATION_END = "association-end"  # its sender had ended the association, and none came for a shorter time
    WHOLE = "whole"  # who brought them said that they were all
    OPEN_TOO_LONG = "open-too-long"  # they went on coming for as long as a payload may be open


@dataclass(frozen=True, slots=True)
class OpenPayload:
    """A payload on its way, as the disk knows it.

    :param images: and ``last_received`` count only as long as it is open.
    :param last_received: when its newest instance was written, seconds since the epoch; None when it has none.
    :param group: key of its group, as :mod:`airflow_monai.store.groups` has it.
    :param opened: when its first instance came, ISO 8601.
    :param whole: who brought the instances has said that these are all, and none has come since.
    """

    payload_id: str
    grouping: Grouping
    group: str
    called_aet: str
    images: int
    last_received: float | None
    closing: bool
    opened: str = ""
    whole: bool = False


@dataclass
class _Known:
    """What this process knows of a group at an AE title: a cache, built from the disk on first touch.

    :param kin: Series Instance UID and patient of an instance -> groups that it was in under another grouping.
    :param open_until: by the monotonic clock; so long nobody asks whether its payload is closing before an image is put
        into it. It is asked afterwards in any case.
    """

    group: Group
    sequence: int = 0
    places: dict[str, tuple[str, str]] = field(default_factory=dict)  # SOP Instance UID -> its payload, path there
    known: set[str] = field(default_factory=set)  # payload ids with calling AE titles that are written down
    kin: dict[tuple[str, ...], tuple[_Known, ...]] = field(default_factory=dict)
    open_until: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Intake:
    """Takes instances into payloads, and closes these. Safe for any number of threads, processes and hosts."""

    def __init__(self, store: Store):
        self.store = store
        self.groups = Groups(store)
        self._groups: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._groupings: dict[str, Grouping] = {}
        self._lock = threading.Lock()
        self._closing: dict[str, tuple[threading.Lock, int]] = {}
        self._trusted = 0.0 if store.local_path(PENDING) else ASK_SECONDS

    def add(self, instance: Instance, file: Path, grouping: Grouping = Grouping.STUDY) -> Placed:
        """Take over a received file; when this returns, it is durable and will be in exactly one payload.

        :param file: complete; below ``store.spool()`` this costs no copy. The caller removes it.
        :param grouping: what its AE title's images are grouped by now.
        :raises StoreError: when it cannot be stored; then nothing of it is in any payload.
        """
        own = self._known(instance, grouping)
        sop = instance.identity.sop
        while True:
            known, payload_id, sequence, place = self._aim(instance, own)
            here = payload_id, instance.path
            if place is not None and place != here:  # an earlier payload has it, or this one in another series
                if not is_doomed(self.store, place[0]):
                    return self._duplicate(*place, instance, file)
                known.places[sop] = here  # it was deleted, and is new again: whoever sends it wants it
            sender = f"{payload_id}/{instance.calling_aet}"
            is_first = sender not in known.known
            opened = is_first and self._open(payload_id, sequence, instance, known)
            key = payload_key(payload_id, instance.path)
            try:
                created = self.store.create_from(key, file)
            except BaseException:
                known.known.discard(sender)  # it may be dropped before the next one comes, see drop_empty
                raise
            if is_first and not self.store.exists(f"{PENDING}/{payload_id}"):
                self._open(payload_id, sequence, instance, known)  # it was just being dropped
            if not self._is_closing(payload_id) or instance.path in self._listed(payload_id):
                known.places.setdefault(sop, here)
                if not created:
                    return self._duplicate(*here, instance, file)
                return Placed(payload_id, False, fell_back=opened and known.group.fell_back)
            self.store.delete(key)  # it came too late; nobody will ever list it
            known.open_until = 0.0

    def _known(self, instance: Instance, grouping: Grouping) -> _Known:
        group = self.groups.of(instance.identity, grouping)
        called = instance.called_aet
        with self._lock:
            if self._groupings.setdefault(called, grouping) is not grouping:
                # nothing is known any more of how the groups of before and those of now hang together
                self._groupings[called] = grouping
                for key in [key for key in self._groups if key[0] == called]:
                    del self._groups[key]
            key = called, group.key
            if key not in self._groups:
                self._forget_oldest()
            known = self._groups.setdefault(key, _Known(group))
            self._groups.move_to_end(key)
            return known

    def _forget_oldest(self) -> None:
        """Make room for one group more."""
        remembered = sum(len(known.places) for known in self._groups.values())
        while self._groups and (len(self._groups) >= _REMEMBERED_GROUPS or remembered > _REMEMBERED_INSTANCES):
            remembered -= len(self._groups.popitem(last=False)[1].places)

    def _aim(self, instance: Instance, own: _Known) -> tuple[_Known, str, int, tuple[str, str] | None]:
        """Group, id and sequence of the payload that an instance goes into, and where it is already."""
        called, sop = instance.called_aet, instance.identity.sop
        payload_id, sequence = self._current(own, called)
        aim, place = (own, payload_id, sequence), own.places.get(sop)
        for known in self._kin(instance, own):
            payload_id, sequence = self._current(known, called)
            if self.store.exists(payload_key(payload_id, "open.json")):
                aim = known, payload_id, sequence
            place = place or known.places.get(sop)
        return *aim, place

    def _kin(self, instance: Instance, own: _Known) -> tuple[_Known, ...]:
        """Groups of other groupings that have payloads which the instance belongs to: hardly ever any."""
        identity = instance.identity
        key = identity.study, identity.series, identity.issuer, identity.patient_id
        if key not in own.kin:
            own.kin[key] = tuple(
                _Known(other)
                for other in self.groups.others(identity, own.group)
                if self.store.exists(payload_key(member_id(other.key, instance.called_aet, 0), "open.json"))
            )
        return own.kin[key]

    def _current(self, known: _Known, called_aet: str) -> tuple[str, int]:
        """The group's first payload that is not closing, with its sequence; the instances of those before are known."""
        with known.lock:
            while True:
                payload_id = member_id(known.group.key, called_aet, known.sequence)
                if time.monotonic() < known.open_until:
                    return payload_id, known.sequence
                if not self._is_closing(payload_id):
                    known.open_until = time.monotonic() + self._trusted
                    return payload_id, known.sequence
                self._learn(known, payload_id)
                known.sequence += 1
                known.known.clear()

    def _learn(self, known: _Known, payload_id: str) -> None:
        """The instances of a closed payload are known; those of one that was deleted are not."""
        if is_doomed(self.store, payload_id):
            return
        gone: dict[str, bool] = {}
        for path in self._listed(payload_id):
            sop = Path(path).stem
            earlier = known.places.setdefault(sop, (payload_id, path))[0]
            if earlier != payload_id:
                if earlier not in gone:
                    gone[earlier] = is_doomed(self.store, earlier)
                if gone[earlier]:
                    known.places[sop] = payload_id, path

    def _open(self, payload_id: str, sequence: int, instance: Instance, known: _Known) -> bool:
        """Make sure that the payload takes instances of this sender; whether this opened it."""
        now = _now()
        opened = {
            "study_instance_uid": instance.identity.study,
            "called_aet": instance.called_aet,
            "sequence": sequence,
            "opened": now,
            "grouping": known.group.grouping.value,
            "group": known.group.key,
        }
        calling = payload_key(payload_id, "calling", safe_name(instance.calling_aet))
        self.store.create_json(f"{PENDING}/{payload_id}", {"since": now})  # first: what is open is somebody's duty
        created = self.store.create_json(payload_key(payload_id, "open.json"), opened)
        self.store.create_json(calling, instance.calling_aet)
        known.known.add(f"{payload_id}/{instance.calling_aet}")
        return created

    def _duplicate(self, payload_id: str, path: str, instance: Instance, file: Path) -> Placed:
        """Note it beside the one at ``path``, which was there first."""
        identical = self.store.same(payload_key(payload_id, path), file)  # False also where it is not kept any more
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

    def drop_empty(self, payload_id: str, seconds: float) -> bool:
        """Forget a payload that has been pending for so long and has no instance; whether that was done.

        A receiver that died between opening it and storing its first instance, or could not store it, leaves one.
        """
        pending, key = f"{PENDING}/{payload_id}", payload_key(payload_id, "open.json")
        try:
            since = self.store.read_as(pending, lambda data: moment(data["since"]))
        except DamagedObject as error:
            tell_once(str(error))
            return False
        except StoreError:  # somebody else has just done so
            return False
        state = self.look(payload_id)
        if time.time() - since.timestamp() < seconds or (state and (state.closing or state.images)):
            return False
        opened = self.store.read_dict(key) if state else None
        for name in (key, pending):  # in this order: what is open is somebody's duty
            self.store.delete(name)
        if opened and self._files(payload_id):
            # one came just now. Its receiver looks after it has stored it, we after we have deleted: one of us sees it
            self.store.create_json(pending, {"since": _now()})
            self.store.create_json(key, {**opened, "opened": _now()})
            return False
        return True

    def look(self, payload_id: str) -> OpenPayload | None:
        """How far a pending payload is; None when its first receiver has not opened it yet."""
        if not self.store.exists(payload_key(payload_id, "open.json")):
            return None
        opened = self._opened(payload_id)
        closing = bool(opened["includes"]) or self._is_closing(payload_id)
        files = {} if closing else self._files(payload_id)
        return OpenPayload(
            payload_id=payload_id,
            grouping=Grouping(opened["grouping"]),
            group=opened["group"],
            called_aet=opened["called_aet"],
            images=len(files),
            last_received=max((modified for _, modified in files.values()), default=None),
            closing=closing,
            opened=str(opened.get("opened", "")),
            whole=not closing and self._told_whole(payload_id) >= len(files) > 0,
        )

    def tell_whole(self, payload_id: str) -> bool:
        """Note that the instances which are in the payload now are all that it waits for; False when it is closing.

        It is no more than a hint: an instance that comes nevertheless still joins it as long as it is open, and then
        it waits on as if nothing had been said.
        """
        if self._is_closing(payload_id):
            return False
        self.store.write_json(payload_key(payload_id, "whole.json"), {"images": len(self._files(payload_id))})
        return True

    def note_arriving(self, payload_id: str, who: str) -> None:
        """Tell other gateways that an image for the payload is just coming in.

        :param who: the gateway that says so.
        """
        self.store.write_json(payload_key(payload_id, "arriving.json"), [who, time.time()], durable=False)

    def arriving_note(self, payload_id: str) -> tuple[str, float] | None:
        """Who said so last, and when by that one's clock."""
        key = payload_key(payload_id, "arriving.json")
        if not self.store.exists(key):
            return None
        try:
            return self.store.read_as(key, lambda note: (str(note[0]), float(note[1])))
        except DamagedObject:  # empty after a power cut; it is written anew each few seconds
            return None

    def _told_whole(self, payload_id: str) -> int:
        """Of how many instances it was said that they are all."""
        key = payload_key(payload_id, "whole.json")
        try:
            return self.store.read_as(key, lambda note: int(note["images"])) if self.store.exists(key) else 0
        except DamagedObject as error:  # it is no more than a hint
            tell_once(str(error))
            return 0

    def _opened(self, payload_id: str) -> dict[str, Any]:
        return opened_payload(self.store, payload_id)

    def gather(self, late: Payload) -> str:
        """Begin the payload that holds late images together with all that came before them, and return its id.

        Whoever calls it, however often: it is one payload. It is pending then, and made by :meth:`close`.

        :param late: closed, as are all before it.
        """
        opened = self._opened(late.payload_id)
        key, called, sequence = opened["group"], opened["called_aet"], opened["sequence"]
        whole, now = whole_id(key, called, sequence), _now()
        members = [member_id(key, called, number) for number in range(sequence + 1)]
        first = self._opened(members[0])
        self.store.create_json(f"{PENDING}/{whole}", {"since": now})  # before it is asked what is being deleted
        includes = [member for member in members if not is_doomed(self.store, member)]
        self.store.create_json(
            payload_key(whole, "open.json"),
            {**first, "sequence": sequence, "opened": now, "includes": includes},
        )
        return whole

    def _files(self, payload_id: str) -> dict[str, tuple[int, float]]:
        """Path below the payload -> size and time of writing."""
        folder = payload_key(payload_id)
        return {
            entry.key.removeprefix(f"{folder}/"): (entry.size, entry.modified)
            for entry in self.store.entries(f"{folder}/dcm")  # without a late one, just moved to the next payload
        }

    def close(self, payload_id: str, reason: CloseReason = CloseReason.QUIET) -> Payload:
        """Close the payload, or go on where another closer stopped, and return its manifest.

        Whoever calls it, however often: the result is the same.

        :param reason: for those who ask why.
        """
        with self._one_closer(payload_id):
            if not self.store.exists(manifest_key(payload_id)) and not self._is_deleted(payload_id):
                self.store.create_json(
                    payload_key(payload_id, "closing.json"), {"time": _now(), "reason": reason.value}
                )
                listing = self._listing(payload_id)
                if includes := self._opened(payload_id)["includes"]:
                    self._bring(payload_id, includes)
                self._describe(payload_id, listing)
            return load_payload(self.store, payload_id)

    def _is_deleted(self, payload_id: str) -> bool:
        return self.store.exists(deleted_key(payload_id))

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
            includes = self._opened(payload_id)["includes"]
            self.store.create_json(key, self._joined(includes) if includes else self._found(payload_id))
        return self.store.read_as(key, _listed)

    def _found(self, payload_id: str) -> dict[str, Any]:
        files = _first_of_each_instance(self._files(payload_id))
        times = [modified for _, modified in files.values()] or [datetime.now(timezone.utc).timestamp()]
        calling = payload_key(payload_id, "calling")
        return {
            "files": {path: size for path, (size, _) in files.items()},
            "calling_aets": [self.store.read_as(f"{calling}/{name}", _text) for name in self.store.children(calling)],
            "received_first": _iso(min(times)),
            "received_last": _iso(max(times)),
            "closed": _now(),
        }

    def _joined(self, includes: Iterable[str]) -> dict[str, Any]:
        """The listing of a payload that is made of closed ones."""
        listings = [self._listing(payload_id) for payload_id in includes]
        return {
            "files": {path: size for listing in listings for path, size in listing["files"].items()},
            "calling_aets": sorted({caller for listing in listings for caller in listing["calling_aets"]}),
            "received_first": min(listing["received_first"] for listing in listings),
            "received_last": max(listing["received_last"] for listing in listings),
            "closed": _now(),
        }

    def _bring(self, payload_id: str, includes: Iterable[str]) -> None:
        """Bring in the files of the payloads that this one is made of."""
        for source in includes:
            self.store.share(
                (payload_key(source, path), payload_key(payload_id, path)) for path in self._listing(source)["files"]
            )

    def _describe(self, payload_id: str, listing: dict[str, Any]) -> None:
        """Make tags and manifest. Both follow from the listing alone, so that two closers write the same."""
        opened = self._opened(payload_id)
        sequence, includes = opened["sequence"], tuple(opened["includes"])
        is_late = sequence > 0 and not includes
        description = describe(self.store, payload_key(payload_id), listing["files"])
        self.store.write_json(tags_key(payload_id), description.tags)
        manifest = Payload(
            payload_id=payload_id,
            study_instance_uid=opened["study_instance_uid"],
            called_aet=opened["called_aet"],
            calling_aets=tuple(sorted(listing["calling_aets"])),
            sequence=sequence,
            files=description.files,
            received_first=listing["received_first"],
            received_last=listing["received_last"],
            closed=listing["closed"],
            patient=description.patient,
            grouping=opened["grouping"],
            follows=member_id(opened["group"], opened["called_aet"], sequence - 1) if is_late else None,
            includes=includes,
        )
        summary = summary_of(manifest, description.tags)
        self.store.write_json(summary_key(payload_id), summary.to_dict(), durable=False)  # the manifest has it all
        self.store.create_json(manifest_key(payload_id), manifest.to_dict())


def _listed(data: Mapping[str, Any]) -> dict[str, Any]:
    texts = (data["received_first"], data["received_last"], data["closed"], *data["calling_aets"])
    if not all(isinstance(text, str) for text in texts) or not isinstance(data["files"], dict):
        raise TypeError("a value has another type than it should")
    return dict(data)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it is no text")
    return value


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
