"""Failures of tasks that a person has seen and taken note of.

acknowledgements/<instance id>/<execution id>.json    who, and when; the first one counts
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow_monai.store.base import Store

FOLDER = "acknowledgements"


def acknowledge(store: Store, instance_id: str, execution_id: str, by: str) -> bool:
    """Take note of a failure; durable when this returns. False when somebody had before."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return store.create_json(_key(instance_id, execution_id), {"by": by, "at": now})


def acknowledged(store: Store, instance_id: str) -> dict[str, dict[str, Any]]:
    """Execution id -> who took note of its failure, and when."""
    names = list(store.children(f"{FOLDER}/{instance_id}"))
    return {name.removesuffix(".json"): store.read_json(f"{FOLDER}/{instance_id}/{name}") for name in names}


def _key(instance_id: str, execution_id: str) -> str:
    return f"{FOLDER}/{instance_id}/{execution_id}.json"
