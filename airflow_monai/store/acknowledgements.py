"""Failures of tasks that a person has seen and taken note of.

acknowledgements/<instance id>/<execution id>.json    who, and when; the first one counts
acknowledged/<instance id>.<end>                      all failures of an instance that ended then are taken note of
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_monai.store.base import Store
from airflow_monai.store.damaged import undamaged
from airflow_monai.store.shapes import moment

FOLDER, WHOLE = "acknowledgements", "acknowledged"


def acknowledge(store: Store, instance_id: str, execution_id: str, by: str) -> bool:
    """Take note of a failure; durable when this returns. False when somebody had before."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return store.create_json(_key(instance_id, execution_id), {"by": by, "at": now})


def acknowledged(store: Store, instance_id: str) -> dict[str, dict[str, Any]]:
    """Execution id -> who took note of its failure, and when."""
    names = list(store.children(f"{FOLDER}/{instance_id}"))

    def read(name: str) -> tuple[str, dict[str, Any]]:
        return name.removesuffix(".json"), store.read_as(f"{FOLDER}/{instance_id}/{name}", _taken)

    return dict(undamaged(names, read))


def _taken(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"by": str(data["by"]), "at": moment(data["at"]).isoformat(timespec="milliseconds")}


def note_whole(store: Store, instance_id: str, ended: datetime | None) -> None:
    """Of all failures of an instance somebody has taken note. One that is cleared and fails again ends anew.

    :param ended: when it did.
    """
    store.create_json(f"{WHOLE}/{whole_name(instance_id, ended)}", {})


def whole_names(store: Store) -> Container[str]:
    """Those of all instances of which :func:`note_whole` has been told, at one listing."""
    return frozenset(store.children(WHOLE))


def whole_name(instance_id: str, ended: datetime | None) -> str:
    return f"{instance_id}.{ended.astimezone(timezone.utc).strftime('%Y%m%d%H%M%S%f') if ended else 'never'}"


def _key(instance_id: str, execution_id: str) -> str:
    return f"{FOLDER}/{instance_id}/{execution_id}.json"
