"""Why a payload waits, kept beside it, so that whoever asks what became of it is told. It only informs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.damaged import undamaged
from airflow_monai.store.payloads import payload_key

_ITSELF = "_"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a payload, or the run of one of its workflows, waits for.

    :param dag_id: empty for the payload itself.
    :param since: when it began to wait for this reason; ``tried``: the last time that it was tried, or told. ISO 8601.
    """

    reason: str
    since: str
    tried: str
    dag_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def note_waiting(store: Store, payload_id: str, waiting: Waiting) -> None:
    store.write_json(_key(payload_id, waiting.dag_id), waiting.to_dict(), durable=False)


def forget_waiting(store: Store, payload_id: str, dag_id: str = "") -> None:
    store.delete(_key(payload_id, dag_id))


def waiting_of(store: Store, payload_id: str) -> tuple[Waiting, ...]:
    """All that is noted; a gateway that was killed may have left what is over."""
    folder = payload_key(payload_id, "waiting")
    return tuple(undamaged(store.children(folder), lambda name: store.read_as(f"{folder}/{name}", _waiting)))


def _waiting(data: Mapping[str, Any]) -> Waiting:
    return Waiting(**data)


def _key(payload_id: str, dag_id: str) -> str:
    return payload_key(payload_id, "waiting", f"{safe_name(dag_id) if dag_id else _ITSELF}.json")
