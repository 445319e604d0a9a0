"""What became of a payload's exports, in figures, from their ledgers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_monai.sinks.base import DeliveryState
from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.store.base import Store
from airflow_monai.store.payloads import payload_key


@dataclass(frozen=True, slots=True)
class ExportHistory:
    """How far the delivery to one destination has come.

    :param states: word of :class:`DeliveryState` -> instances.
    :param refusals: status and its meaning -> instances that were refused so.
    :param last: time of the latest news.
    :param again: instances that a person wants sent once more.
    """

    sink: str
    states: Mapping[str, int]
    refusals: Mapping[str, int]
    last: str
    again: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def exports_of(store: Store, payload_id: str) -> tuple[ExportHistory, ...]:
    """For each destination that something of the payload was to go to."""
    return tuple(_history(store, payload_id, sink) for sink in store.children(payload_key(payload_id, "exports")))


def _history(store: Store, payload_id: str, sink: str) -> ExportHistory:
    states: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    last, again = "", 0
    for _, entry in Ledger(store, payload_id, sink).entries():
        states[entry.state.value] += 1
        last = max(last, entry.time)
        again += entry.again
        if entry.state is DeliveryState.REFUSED:
            refusals[f"{entry.status or '-'} {entry.message}".strip()] += 1
    return ExportHistory(sink, dict(states), dict(refusals.most_common(10)), last, again)
