"""Maps: the datasets of the store by the names that runs give them."""

from __future__ import annotations

import uuid

from airflow_monai.errors import PayloadNotFound
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import manifest_key

NAMES = "mip/maps"


def name_map(store: Store, name: str, payload_id: str) -> None:
    """Have a payload known as a map of this name, in place of the one that was."""
    store.write_json(f"{NAMES}/{safe_name(name)}.json", {"name": name, "payload_id": payload_id})


def map_names(store: Store) -> list[str]:
    """Names of all maps, sorted."""
    return sorted(store.read_json(f"{NAMES}/{child}")["name"] for child in store.children(NAMES))


def payload_of(store: Store, name: str) -> str:
    """The payload that a map is: the one of this name, else of this id.

    :raises PayloadNotFound: when there is none.
    """
    key = f"{NAMES}/{safe_name(name)}.json" if name else ""
    payload_id = str(store.read_json(key)["payload_id"]) if key and store.exists(key) else _plain_id(name)
    if payload_id is None or not store.exists(manifest_key(payload_id)):
        raise PayloadNotFound(name)
    return payload_id


def _plain_id(name: str) -> str | None:
    try:
        return str(uuid.UUID(name))
    except ValueError:
        return None
