"""Payloads that are deleted because somebody wants it: asked for once, done by a gateway, and told for ever.

    deletions/<payload_id>                 who asked, when and why; gateways work it off, and remove it at the end
    payloads/<payload_id>/deleting.json    what is told of it later; its manifest goes next
                         /deleted.json     it is gone
                         /not-deleted.json why it could not be done yet

Images, headers and results go; so do results in records, and what the far side of an export said in its own words. What
stays tells what happened: when and from whom the images came and which they were (by their UIDs), how it was routed,
the runs and how each task ended, what was delivered to whom. Nothing of it says anything of the patient but these UIDs.
An image that is sent again is a new one: who sends it wants it.

Every step can be done again, by any gateway: one that dies in the middle loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from airflow_monai.errors import DamagedObject, MonaiError, PayloadNotFound
from airflow_monai.store.base import Store, as_dict
from airflow_monai.store.damaged import tell_once
from airflow_monai.store.groups import member_id, opened_payload, whole_id
from airflow_monai.store.payloads import (
    deleted_key,
    deleting_key,
    dicom_key,
    load_payload,
    manifest_key,
    payload_key,
    summary_key,
    tags_key,
)
from airflow_monai.store.runs import FENCES, KEPT_NOTES, ONE_FENCE
from airflow_monai.types import FailureKind

DELETIONS = "deletions"
PENDING = "pending"  # as airflow_monai.store.intake has it, which asks here
MAX_REASON = 200
_KEPT = frozenset(
    {
        "open.json",
        "closing.json",
        "listing.json",
        "routing.json",
        "request.json",
        "duplicates.jsonl",
        "deleting.json",
        "deleted.json",
        "calling",
        "runs",
        "reruns",
        "not-started",
        "batches",
        "exports",
        "workflows",
    }
)


class NotDeletable(MonaiError):
    """The payload cannot be deleted now, and why."""

    failure = FailureKind.REFUSED


class DeletionState(str, Enum):
    """How far the deletion of a payload is, as the Workflow Manager's API names it."""

    NO = "No"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    """It could not be done yet, and is tried again."""
    YES = "Yes"


@dataclass(frozen=True, slots=True)
class Deletion:
    """What is known of the deletion of a payload.

    :param requested: and ``deleted``: ISO 8601; empty where it is not so.
    :param by: who asked for it.
    :param images: that it held, and ``size`` their bytes.
    :param error: why it could not be done yet.
    """

    state: DeletionState = DeletionState.NO
    requested: str = ""
    by: str = ""
    reason: str = ""
    deleted: str = ""
    images: int = 0
    size: int = 0
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "state": self.state.value}


def deletion_of(store: Store, payload_id: str) -> Deletion:
    """How far it is, also where what was noted of it is damaged."""
    asked = _noted(store, _intent_key(payload_id))  # first: it goes when the other is there
    told = _noted(store, deleted_key(payload_id))
    if told:
        return replace(told, state=DeletionState.YES)
    if not asked:
        return Deletion()
    error = asked.error or _said(store, payload_id)
    return replace(asked, state=DeletionState.FAILED if error else DeletionState.IN_PROGRESS, error=error)


def _noted(store: Store, key: str) -> Deletion | None:
    """What is noted of a deletion there, without its state; None where nothing is."""
    try:
        return store.read_if_there(key, _deletion)
    except DamagedObject as error:
        tell_once(str(error))
        return Deletion(error=str(error))


def _deletion(data: Mapping[str, Any]) -> Deletion:
    told = {name: data[name] for name in ("requested", "by", "reason")}
    more = {name: data[name] for name in ("deleted", "images", "size") if name in data}
    return Deletion(**told, **more)


def doomed(store: Store) -> frozenset[str]:
    """Ids of the payloads that are being deleted."""
    return frozenset(store.children(DELETIONS))


def is_doomed(store: Store, payload_id: str) -> bool:
    """Whether a payload is being deleted, or is gone: nothing may be started on it any more."""
    return store.exists(_intent_key(payload_id)) or store.exists(deleted_key(payload_id))


def request_deletion(store: Store, payload_id: str, by: str, reason: str = "") -> Deletion:
    """Ask for the deletion; durable when this returns. Of several who ask, one is told that it did.

    Whoever calls this has seen that nothing works on the payload.

    :raises PayloadNotFound: when there is none.
    :raises NotDeletable: when it is being deleted already, or something is still to be done with it.
    """
    _check(store, payload_id)
    asked = {"requested": _now(), "by": by, "reason": " ".join(reason.split())[:MAX_REASON]}
    if not store.create_json(_intent_key(payload_id), asked):
        raise NotDeletable(f"Payload {payload_id} is being deleted already.")
    if store.exists(deleted_key(payload_id)):  # another's wish was fulfilled in between
        store.delete(_intent_key(payload_id))
        raise NotDeletable(f"Payload {payload_id} has been deleted already.")
    return Deletion(DeletionState.IN_PROGRESS, asked["requested"], by, asked["reason"])


def delete_payload(store: Store, payload_id: str, is_worked_on: Callable[[], bool] = lambda: False) -> Deletion:
    """Do what was asked for, or go on where another stopped.

    :param is_worked_on: whether something that began earlier works on the payload; asked when nothing can begin any
        more: what it makes would stay for ever.
    :raises NotDeletable: when something has still to be done with the payload: try again later.
    :raises StoreError: when it cannot be done; a part of it may be.
    """
    asked = _read(store, _intent_key(payload_id))
    if not store.exists(deleted_key(payload_id)):
        if not asked:
            return deletion_of(store, payload_id)
        _check_free(store, payload_id)
        told = _begin(store, payload_id, asked)
        _remove_manifest(store, payload_id)
        if is_worked_on():
            raise NotDeletable(f"Something works on payload {payload_id}.")
        _remove(store, payload_id)
        store.create_json(deleted_key(payload_id), {**told, "deleted": _now()})
    store.delete(deleting_key(payload_id))
    store.delete(_error_key(payload_id))
    store.delete(_intent_key(payload_id))
    return deletion_of(store, payload_id)


def note_not_deleted(store: Store, payload_id: str, reason: str) -> None:
    """Tell those who ask why it could not be done yet; an empty reason forgets the last one."""
    key = _error_key(payload_id)
    if reason:
        store.write_json(key, {"time": _now(), "reason": reason}, durable=False)
    elif store.exists(key):
        store.delete(key)


def _check(store: Store, payload_id: str) -> None:
    if store.exists(deleted_key(payload_id)):
        raise NotDeletable(f"Payload {payload_id} has been deleted already.")
    if store.exists(_intent_key(payload_id)):
        raise NotDeletable(f"Payload {payload_id} is being deleted already.")
    if not store.exists(manifest_key(payload_id)):
        if store.exists(payload_key(payload_id, "open.json")):
            raise NotDeletable(f"Payload {payload_id} is still open: images may join it.")
        raise PayloadNotFound(payload_id)
    _check_free(store, payload_id)


def _check_free(store: Store, payload_id: str) -> None:
    """:raises NotDeletable: when a gateway has still something to do with it."""
    pending = frozenset(store.children(PENDING))
    if payload_id in pending:
        raise NotDeletable(f"The runs of payload {payload_id} are still being started.")
    if pending and not pending.isdisjoint(_wholes(store, payload_id)):
        raise NotDeletable(f"Payload {payload_id} is just being joined with the late images of its study.")


def _wholes(store: Store, payload_id: str) -> set[str]:
    """Ids of the payloads that it is, or may yet be, brought into."""
    if not store.exists(payload_key(payload_id, "open.json")):
        return set()
    opened = opened_payload(store, payload_id)
    key, called, number = opened["group"], opened["called_aet"], int(opened["sequence"])
    found = set()
    while store.exists(payload_key(member_id(key, called, number), "open.json")):
        found.add(whole_id(key, called, number))
        number += 1
    return found


def _begin(store: Store, payload_id: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Put down what will be told of it, as long as its manifest is there to say so."""
    key = deleting_key(payload_id)
    if not store.exists(key):
        payload = load_payload(store, payload_id)
        told = {
            **asked,
            "images": len(payload.files),
            "size": sum(file.size for file in payload.files),
            "called_aet": payload.called_aet,
            "calling_aets": list(payload.calling_aets),
            "closed": payload.closed,
        }
        store.create_json(key, told)
    return store.read_dict(key)


def _remove_manifest(store: Store, payload_id: str) -> None:
    """Goes first: what begins now finds no payload, rather than half of one."""
    for key in (manifest_key(payload_id), summary_key(payload_id), tags_key(payload_id)):
        store.delete(key)


def _remove(store: Store, payload_id: str) -> None:
    store.delete_tree(dicom_key(payload_id))
    top = payload_key(payload_id)
    _strip_runs(store, f"{top}/workflows")
    _strip_exports(store, f"{top}/exports")
    for name in list(store.children(top)):
        if name not in _KEPT:
            _remove_all(store, f"{top}/{name}")


def _remove_all(store: Store, key: str) -> None:
    """An object, or a folder, which may be empty: a task that was ended early leaves such ones."""
    store.delete_tree(key)
    store.delete(key)


def _strip_runs(store: Store, top: str) -> None:
    """Leave of every task its record without its results, who may publish, which MAP it was, and who canceled it."""
    for dag in list(store.children(top)):
        for run in list(store.children(f"{top}/{dag}")):
            for task in list(store.children(f"{top}/{dag}/{run}")):
                place = f"{top}/{dag}/{run}/{task}"
                _strip_task(store, place)
                for part in list(store.children(place)):
                    if part.isdecimal():
                        _strip_task(store, f"{place}/{part}")


def _strip_task(store: Store, place: str) -> None:
    for name in list(store.children(place)):
        if name == "task.json":
            record = store.read_as(f"{place}/{name}", _with_stats)
            stats = {key: value for key, value in record["stats"].items() if not isinstance(value, (dict, list))}
            store.write_json(
                f"{place}/{name}", {**record, "result": {}, "artifacts": {}, "output_dir": None, "stats": stats}
            )
        elif name not in (FENCES, ONE_FENCE) and not name.endswith(KEPT_NOTES) and not name.isdecimal():
            _remove_all(store, f"{place}/{name}")


def _with_stats(data: Any) -> dict[str, Any]:
    return {**as_dict(data), "stats": as_dict(data.get("stats", {}))}


def _strip_exports(store: Store, top: str) -> None:
    """Leave what was delivered, without what the far side said of it in its own words."""
    for sink in list(store.children(top)):
        for name in list(store.children(f"{top}/{sink}")):
            key = f"{top}/{sink}/{name}"
            try:
                page = store.read_json(key)
            except DamagedObject as error:
                tell_once(f"{error} It may say something of the patient of a payload that was deleted.")
                continue
            if isinstance(page, dict) and any("comment" in entry for entry in _entries(page)):
                for entry in _entries(page):
                    entry.pop("comment", None)
                store.write_json(key, page)


def _entries(page: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in page.values() if isinstance(entry, dict)]


def _intent_key(payload_id: str) -> str:
    return f"{DELETIONS}/{payload_key(payload_id).rpartition('/')[2]}"


def _error_key(payload_id: str) -> str:
    return payload_key(payload_id, "not-deleted.json")


def _said(store: Store, payload_id: str) -> str:
    """Why it could not be done yet, as far as that is known."""
    try:
        return str(_read(store, _error_key(payload_id)).get("reason", ""))
    except DamagedObject:  # empty after a power cut: it only informs
        return ""


def _read(store: Store, key: str) -> dict[str, Any]:
    """Empty where there is none, or no more."""
    return store.read_if_there(key, as_dict) or {}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
