"""What runs a workflow has had of a payload, as the store knows it, and the names of those that batches start.

payloads/<payload_id>/runs/<dag>.json            written by the gateway when its run exists
payloads/<payload_id>/batches/<dag>/<N>.json     a batch's claim: it will start the run monai__<payload_id>__b<N>
                                   /<N>.started  that run exists
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import batch_run_id, payload_key, routing_from


@dataclass(frozen=True, slots=True)
class Claim:
    """The run that a batch starts on a payload.

    :param batch: id of the batch's own DAG run.
    :param version: of the workflow, when it was claimed.
    """

    number: int
    batch: str
    version: str
    is_started: bool = False

    def run_id(self, payload_id: str) -> str:
        return batch_run_id(payload_id, self.number)


@dataclass(frozen=True, slots=True)
class PayloadClaims:
    """The claims of one workflow on one payload."""

    store: Store
    payload_id: str
    dag_id: str

    def __iter__(self) -> Iterator[Claim]:
        number = 1
        while (claim := self._claim(number)) is not None:
            yield claim
            number += 1

    def take(self, batch: str, version: str) -> Claim:
        """This batch's claim: the one that it has, else the next number. Two callers never get the same number unless
        they are the same batch, whatever is repeated or happens at once."""
        number = 1
        while True:
            claim = self._claim(number)
            if claim is None:
                self.store.create_json(self._key(f"{number}.json"), {"batch": batch, "version": version})
                claim = self._claim(number)
            if claim is not None and claim.batch == batch:
                return claim
            number += 1

    def started(self, claim: Claim) -> None:
        """Note that the run of a claim exists."""
        self.store.create(self._key(f"{claim.number}.started"), b"")

    def _claim(self, number: int) -> Claim | None:
        key = self._key(f"{number}.json")
        if not self.store.exists(key):
            return None
        known = self.store.read_json(key)
        is_started = self.store.exists(self._key(f"{number}.started"))
        return Claim(number, str(known["batch"]), str(known["version"]), is_started)

    def _key(self, name: str) -> str:
        return payload_key(self.payload_id, "batches", safe_name(self.dag_id), name)


def versions_run(store: Store, payload_id: str, dag_id: str) -> set[str]:
    """Versions of a workflow that a run on this payload was made for, by the gateway or by a batch; an empty text for
    a run of which the version is not known."""
    found = {claim.version for claim in PayloadClaims(store, payload_id, dag_id) if claim.is_started}
    key = payload_key(payload_id, "runs", f"{safe_name(dag_id)}.json")
    if store.exists(key):
        found.add(str(store.read_dict(key).get("version", "")))
    return found


def is_being_handled(store: Store, payload_id: str, dag_id: str) -> bool:
    """Whether the gateway has still to decide about a payload, or to start this workflow on it."""
    if store.exists(f"pending/{payload_id}"):
        return True
    key = payload_key(payload_id, "routing.json")
    routing = store.read_as(key, routing_from) if store.exists(key) else ()
    is_wanted = any(item["wanted"] and item["dag_id"] == dag_id for item in routing)
    return is_wanted and not store.exists(payload_key(payload_id, "runs", f"{safe_name(dag_id)}.json"))
