"""Payloads that a message asked for: what it said is kept beside them.

payloads/<payload_id>/request.json    who asked for which workflows on it; the first request counts
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_monai.store.base import Store
from airflow_monai.store.payloads import payload_key


@dataclass(frozen=True, slots=True)
class PayloadRequest:
    """What a message asked for.

    :param called_aet: and ``calling_aets``: to whom the data was sent, and by whom.
    :param bucket: where the files were.
    :param dag_ids: the workflows that it names; none: those that want the payload.
    :param correlation_id: follows the request through all systems.
    """

    called_aet: str
    calling_aets: tuple[str, ...]
    bucket: str
    dag_ids: tuple[str, ...]
    correlation_id: str

    def same_as(self, other: PayloadRequest) -> bool:
        """Whether both ask for the same; a sender may have counted them as two."""
        return (self.called_aet, sorted(self.calling_aets), self.bucket, sorted(self.dag_ids)) == (
            other.called_aet, sorted(other.calling_aets), other.bucket, sorted(other.dag_ids),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PayloadRequest:
        return cls(**{**data, "calling_aets": tuple(data["calling_aets"]), "dag_ids": tuple(data["dag_ids"])})


def request_key(payload_id: str) -> str:
    return payload_key(payload_id, "request.json")


def request_of(store: Store, payload_id: str) -> PayloadRequest | None:
    """The request that a payload was made for; None for one that came another way."""
    key = request_key(payload_id)
    return store.read_as(key, PayloadRequest.from_dict) if store.exists(key) else None


def correlation_of(store: Store, payload_id: str, dag_id: str, run_id: str, run_started: str = "") -> str:
    """What follows a workflow instance through all systems: the correlation id of the request that its payload came
    by, else one of the run.

    :param run_started: UTC time at which the run began, as text that sorts by time.
    """
    request = request_of(store, payload_id)
    if request is not None:
        return request.correlation_id
    return correlation_of_run(payload_id, dag_id, run_id, run_started)


def correlation_of_run(payload_id: str, dag_id: str, run_id: str, run_started: str) -> str:
    """The correlation id of a run that no message asked for."""
    return run_guid(payload_id, dag_id, run_id, run_started, "correlation")


def run_guid(payload_id: str, dag_id: str, run_id: str, run_started: str, *parts: str) -> str:
    """A GUID that is always the same for something of a run."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "\0".join((payload_id, dag_id, run_id, run_started, *parts))))
