"""How the images of a payload came, and which runs were started on it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_monai.store.base import Store, as_dict, safe_name
from airflow_monai.store.payloads import payload_id_in, payload_key
from airflow_monai.types import Payload


@dataclass(frozen=True, slots=True)
class Arrival:
    """Times are ISO 8601, empty where they are not known.

    :param size: bytes of its images; ``duplicates``: how many came again; ``differing``: how many of these with other
        content than the one that came first, which is kept.
    :param closed_because: a word of :class:`airflow_monai.store.intake.CloseReason`.
    """

    opened: str = ""
    first: str = ""
    last: str = ""
    series: int = 0
    size: int = 0
    duplicates: int = 0
    differing: int = 0
    closed_because: str = ""


@dataclass(frozen=True, slots=True)
class RunStart:
    """A run that was created.

    :param time: ISO 8601.
    :param by_hand: a person wanted it.
    """

    dag_id: str
    run_id: str
    time: str
    version: str = ""
    by_hand: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def arrival_of(store: Store, payload_id: str, payload: Payload | None) -> Arrival:
    """
    :param payload: its manifest, None while it is open.
    """
    opened, closing = _read(store, payload_id, "open.json"), _read(store, payload_id, "closing.json")
    duplicates, differing = _duplicates(store, payload_id)
    return Arrival(
        opened=str(opened.get("opened", "")),
        first=payload.received_first if payload else "",
        last=payload.received_last if payload else "",
        series=len({file.series_instance_uid for file in payload.files}) if payload else 0,
        size=sum(file.size for file in payload.files) if payload else 0,
        duplicates=duplicates,
        differing=differing,
        closed_because=str(closing.get("reason", "")),
    )


def starts_of(store: Store, payload_id: str) -> tuple[RunStart, ...]:
    """The runs that gateways and persons have created, and those that Airflow began by itself, the oldest first."""
    keys = [*_below(store, payload_key(payload_id, "runs"))]
    top = payload_key(payload_id, "reruns")
    for dag in store.children(top):
        keys += _below(store, f"{top}/{dag}")
    found = [store.read_as(key, _started) for key in keys]
    return tuple(
        RunStart(
            dag_id=str(item["dag_id"]),
            run_id=str(item["run_id"]),
            time=datetime.fromtimestamp(item["time"], timezone.utc).isoformat(timespec="seconds"),
            version=str(item.get("version", "")),
            by_hand=bool(item.get("by_hand")),
        )
        for item in sorted(found, key=lambda item: item["time"])
    )


def _started(data: Any) -> dict[str, Any]:
    return {**as_dict(data), "dag_id": str(data["dag_id"]), "run_id": str(data["run_id"]), "time": float(data["time"])}


def note_foreign_run(store: Store, payload_id: str, dag_id: str, run_id: str, started: str) -> None:
    """Note a run that Airflow, or a person there, has created; called by its tasks, the first of which notes it.

    Who creates a run of ours notes it: those are named after the payload.

    :param started: when the run began, ISO 8601; empty where that is not known.
    """
    if payload_id_in(run_id) == payload_id:
        return
    key = payload_key(payload_id, "reruns", safe_name(dag_id), f"run-{safe_name(run_id)}.json")
    if not store.exists(key):
        began = datetime.fromisoformat(started).timestamp() if started else time.time()
        by_hand = run_id.startswith("manual__")
        store.create_json(key, {"dag_id": dag_id, "run_id": run_id, "time": began, "by_hand": by_hand})


def _below(store: Store, folder: str) -> Iterator[str]:
    return (f"{folder}/{name}" for name in store.children(folder))


def _read(store: Store, payload_id: str, name: str) -> dict[str, Any]:
    key = payload_key(payload_id, name)
    return store.read_dict(key) if store.exists(key) else {}


def _duplicates(store: Store, payload_id: str) -> tuple[int, int]:
    """How many came again, and how many of them differ; a line that a power cut spoilt is none."""
    key = payload_key(payload_id, "duplicates.jsonl")
    count = differing = 0
    for line in store.read(key).splitlines() if store.exists(key) else ():
        try:
            identical = json.loads(line)["identical"]
        except (ValueError, KeyError, TypeError):
            continue
        count, differing = count + 1, differing + (identical is False)
    return count, differing
