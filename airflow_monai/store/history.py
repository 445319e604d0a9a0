"""What became of a payload, gathered from what gateway and tasks left in the store. Free of patient data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from airflow_monai.errors import PayloadNotFound
from airflow_monai.store.arrival import Arrival, RunStart, arrival_of, starts_of
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.damaged import undamaged
from airflow_monai.store.deletion import Deletion, deletion_of
from airflow_monai.store.groups import member_id, opened_payload, whole_id
from airflow_monai.store.payloads import (
    DATASETS_AET,
    left_of,
    load_payload,
    manifest_key,
    not_started_key,
    payload_ids,
    payload_key,
    routing_from,
)
from airflow_monai.store.runs import CANCELED, note_name
from airflow_monai.store.waiting import Waiting, waiting_of
from airflow_monai.types import Payload, TaskRecord, TaskStatus


@dataclass(frozen=True, slots=True)
class PayloadSummary:
    """A payload in one line.

    :param state: ``open`` while images may still join it, then ``closed``, and ``deleted`` when it is gone.
    :param wanted: DAG ids of the workflows that want it; None while nobody has decided.
    :param announced: those of them whose run exists.
    :param not_started: those of them whose run will not be -> why.
    :param by_hand: DAG ids of others that a person has started on it.
    :param is_dataset: somebody has uploaded it for jobs; no workflow is to get it.
    """

    payload_id: str
    called_aet: str
    calling_aets: tuple[str, ...]
    images: int
    state: str
    closed: str | None
    wanted: tuple[str, ...] | None
    announced: tuple[str, ...]
    not_started: Mapping[str, str] = field(default_factory=dict)
    by_hand: tuple[str, ...] = ()
    is_dataset: bool = False

    @property
    def standing(self) -> str:
        """How far it is: ``open``, ``waiting`` for a run to be created, ``unrouted``, or ``started``; ``not-started``
        when that was given up for all; ``deleted`` when it is gone. A ``dataset`` without a job is just that."""
        if self.state != "closed":
            return self.state
        if self.wanted is None or set(self.wanted) - set(self.announced) - set(self.not_started):
            return "waiting"
        if not self.wanted:
            return "started" if self.by_hand else "dataset" if self.is_dataset else "unrouted"
        return "started" if self.announced else "not-started"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "standing": self.standing}


@dataclass(frozen=True, slots=True)
class RunHistory:
    """The tasks of one workflow instance, in the order in which they began."""

    dag: str
    run: str
    tasks: tuple[TaskRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        kept = ("task_id", "map_index", "task_type", "status", "try_number", "start_time", "end_time", "error_msg")
        records = [record.to_dict() for record in self.tasks]
        return {"dag": self.dag, "run": self.run, "tasks": [{key: r[key] for key in kept} for r in records]}


@dataclass(frozen=True, slots=True)
class PayloadKin:
    """How a payload hangs together with others.

    :param grouping: what its images have in common: ``study``, ``series`` or ``patient``.
    :param follows: the closed payload that its images came too late for.
    :param followed_by: the payload of the images that came too late for this one.
    :param includes: the payloads whose images it holds, the late ones last.
    :param included_in: the payload that holds these late images with all that came before.
    """

    grouping: str
    follows: str | None = None
    followed_by: str | None = None
    includes: tuple[str, ...] = ()
    included_in: str | None = None


@dataclass(frozen=True, slots=True)
class PayloadHistory:
    """Everything that is known of a payload.

    :param routing: for each workflow that there was, ``{workflow, dag_id, wanted, reason}``; None when undecided.
    :param kin: the payloads that it hangs together with.
    :param starts: the runs that were created on it.
    :param waiting: what keeps it, or one of its runs.
    :param deletion: whether somebody wanted it gone, and how far that is.
    """

    summary: PayloadSummary
    routing: tuple[dict[str, Any], ...] | None
    runs: tuple[RunHistory, ...]
    kin: PayloadKin
    arrival: Arrival = field(default_factory=Arrival)
    starts: tuple[RunStart, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    deletion: Deletion = field(default_factory=Deletion)

    def to_dict(self) -> dict[str, Any]:
        routing = list(self.routing) if self.routing is not None else None
        runs = [run.to_dict() for run in self.runs]
        return {
            **self.summary.to_dict(),
            **asdict(self.kin),
            "arrival": asdict(self.arrival),
            "routing": routing,
            "waiting": [item.to_dict() for item in self.waiting],
            "starts": [item.to_dict() for item in self.starts],
            "runs": runs,
            "deletion": self.deletion.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class PayloadFilter:
    """Which payloads to list.

    :param standing: a word of :attr:`PayloadSummary.standing`, or ``closed`` for all that are; empty for all.
    :param called_aet: empty for all.
    :param since: closed at this time (ISO 8601, UTC) or later, or still open; empty for all.
    """

    standing: str = ""
    called_aet: str = ""
    since: str = ""

    def takes(self, summary: PayloadSummary) -> bool:
        return (
            self.standing in ("", summary.standing, summary.state)
            and self.called_aet in ("", summary.called_aet)
            and (not self.since or summary.closed is None or summary.closed >= self.since)
        )


_ALL = PayloadFilter()


def newest(store: Store, limit: int, wanted: PayloadFilter = _ALL) -> list[PayloadSummary]:
    """Open payloads, then closed ones, the newest first; at most ``limit``.

    Of each payload of the store one small object is read, and all of those only that are looked at more closely.
    """

    def moment(payload_id: str) -> tuple[tuple[bool, str], str] | None:
        found = _moment(store, payload_id)
        return (found, payload_id) if found else None

    order = sorted(undamaged(payload_ids(store), moment), reverse=True)
    found: list[PayloadSummary] = []
    for summary in undamaged((payload_id for _, payload_id in order), lambda payload_id: summarise(store, payload_id)):
        if wanted.takes(summary):
            found.append(summary)
        if len(found) == limit or (summary.closed and summary.closed < wanted.since):
            break
    return found


def _moment(store: Store, payload_id: str) -> tuple[bool, str] | None:
    """Whether it is open, and since when it is what it is; None for what is no payload (yet)."""
    for name, is_open in (("closing.json", False), ("open.json", True)):
        key = payload_key(payload_id, name)
        if store.exists(key):
            said = store.read_dict(key)
            return is_open, str(said.get("time") or said.get("opened") or "")
    payload = _closed(store, payload_id)
    return (False, str(payload.closed)) if payload else None


def history_of(store: Store, payload_id: str) -> PayloadHistory:
    """What became of a payload; :class:`PayloadNotFound` when there is none."""
    if not _known(store, payload_id):
        raise PayloadNotFound(payload_id)
    payload = _closed(store, payload_id)  # once: somebody may delete it meanwhile
    summary = _summary(store, payload_id, payload)
    return PayloadHistory(
        summary=summary,
        routing=_routing(store, payload_id),
        runs=tuple(_runs(store, payload_id)),
        kin=_kin(store, payload_id),
        arrival=arrival_of(store, payload_id, payload),
        starts=starts_of(store, payload_id),
        waiting=waiting_of(store, payload_id) if summary.standing == "waiting" else (),
        deletion=deletion_of(store, payload_id),
    )


def _kin(store: Store, payload_id: str) -> PayloadKin:
    if not store.exists(payload_key(payload_id, "open.json")):
        return PayloadKin("study")
    opened = opened_payload(store, payload_id)
    key, called, sequence = opened["group"], opened["called_aet"], opened["sequence"]
    if opened["includes"]:
        return PayloadKin(opened["grouping"], includes=tuple(opened["includes"]))
    later, whole = member_id(key, called, sequence + 1), whole_id(key, called, sequence)
    return PayloadKin(
        opened["grouping"],
        follows=member_id(key, called, sequence - 1) if sequence else None,
        followed_by=later if _known(store, later) else None,
        included_in=whole if _known(store, whole) else None,
    )


def summarise(store: Store, payload_id: str) -> PayloadSummary:
    """A payload in one line."""
    return _summary(store, payload_id, _closed(store, payload_id))


def _summary(store: Store, payload_id: str, payload: Payload | None) -> PayloadSummary:
    routing = _routing(store, payload_id)
    wanted = tuple(item["dag_id"] for item in routing if item["wanted"]) if routing is not None else None
    runs = set(store.children(payload_key(payload_id, "runs")))
    announced = tuple(dag_id for dag_id in wanted or () if f"{safe_name(dag_id)}.json" in runs)
    others = runs - {f"{safe_name(dag_id)}.json" for dag_id in announced}
    by_hand = [_dag_id(store, payload_key(payload_id, "runs", name)) for name in sorted(others)]
    if not wanted:
        by_hand += _asked_for(store, payload_id)
    left = {} if payload else left_of(store, payload_id)
    return PayloadSummary(
        payload_id=payload_id,
        called_aet=payload.called_aet if payload else str(_opened(store, payload_id).get("called_aet", "")),
        calling_aets=tuple(left.get("calling_aets", ())) or _calling(store, payload_id, payload),
        images=len(payload.files) if payload else _images(store, payload_id, left),
        state="closed" if payload else "deleted" if left else "open",
        closed=payload.closed if payload else left.get("closed"),
        wanted=wanted,
        announced=announced,
        not_started=_not_started(store, payload_id, set(wanted or ()) - set(announced)),
        by_hand=tuple(dict.fromkeys(by_hand)),
        is_dataset=payload is not None and payload.called_aet == DATASETS_AET,
    )


def _asked_for(store: Store, payload_id: str) -> Iterator[str]:
    """DAG ids of jobs, and of runs that a person has started in Airflow."""
    top = payload_key(payload_id, "reruns")
    for dag in store.children(top):
        name = next(iter(store.children(f"{top}/{dag}")), None)
        if name is not None:
            yield _dag_id(store, f"{top}/{dag}/{name}")


def _dag_id(store: Store, key: str) -> str:
    return store.read_as(key, lambda record: str(record["dag_id"]))


def _closed(store: Store, payload_id: str) -> Payload | None:
    """The manifest of one that is closed and not deleted."""
    try:
        return load_payload(store, payload_id)
    except PayloadNotFound:
        return None


def _images(store: Store, payload_id: str, left: Mapping[str, Any]) -> int:
    return int(left["images"]) if left else sum(1 for _ in store.list(payload_key(payload_id, "dcm")))


def _not_started(store: Store, payload_id: str, missing: Iterable[str]) -> dict[str, str]:
    """Of the DAGs whose run is missing those that it was given up for, and why."""
    keys = {dag_id: not_started_key(payload_id, dag_id) for dag_id in sorted(missing)}
    return {dag_id: str(store.read_dict(key).get("reason", "")) for dag_id, key in keys.items() if store.exists(key)}


def _known(store: Store, payload_id: str) -> bool:
    keys = manifest_key(payload_id), payload_key(payload_id, "open.json")
    return any(store.exists(key) for key in keys) or bool(left_of(store, payload_id))


def _opened(store: Store, payload_id: str) -> dict[str, Any]:
    key = payload_key(payload_id, "open.json")
    return store.read_dict(key) if store.exists(key) else {}


def _calling(store: Store, payload_id: str, payload: Payload | None) -> tuple[str, ...]:
    return payload.calling_aets if payload else tuple(store.children(payload_key(payload_id, "calling")))


def _routing(store: Store, payload_id: str) -> tuple[dict[str, Any], ...] | None:
    key = payload_key(payload_id, "routing.json")
    return store.read_as(key, routing_from) if store.exists(key) else None


def _runs(store: Store, payload_id: str) -> Iterator[RunHistory]:
    top = payload_key(payload_id, "workflows")
    for dag in store.children(top):
        for run in store.children(f"{top}/{dag}"):
            records = _records(store, f"{top}/{dag}/{run}")
            yield RunHistory(dag, run, tuple(sorted(records, key=lambda record: record.start_time or "")))


def _records(store: Store, folder: str) -> Iterator[TaskRecord]:
    """Records of a run: of each task, and of each part of a mapped task."""
    for task in store.children(folder):
        places = [f"{folder}/{task}", *(f"{folder}/{task}/{part}" for part in _parts(store, f"{folder}/{task}"))]
        for place in places:
            if store.exists(f"{place}/task.json"):
                yield _as_it_ended(store, place, _record(store, f"{place}/task.json"))


def _as_it_ended(store: Store, place: str, record: TaskRecord) -> TaskRecord:
    """A task that a person has cancelled did not fail, whatever its process saw of that."""
    key = f"{place}/{note_name(record.generation, CANCELED)}"
    if record.status is not TaskStatus.FAILED or not store.exists(key):
        return record
    said = f"cancelled by {store.read_dict(key).get('by') or 'a person'}"
    return replace(record, status=TaskStatus.CANCELED, error_msg=said)


def _parts(store: Store, folder: str) -> list[str]:
    return [name for name in store.children(folder) if name.isdecimal()]


def _record(store: Store, key: str) -> TaskRecord:
    return store.read_as(key, TaskRecord.from_dict)
