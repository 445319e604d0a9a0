"""What a workflow said in a version of the bundle: for whoever tells of a run as it was made."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_monai.errors import StoreError
from airflow_monai.factory.cache import PLAN_FORMAT
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.store.base import Store, safe_name

FOLDER = "bundles"
_PLAN = 3
"""Place of the plan's record in an entry of a version (:meth:`airflow_monai.bundles.snapshot.Snapshot.to_dict`)."""
Asked = tuple[str, str]
"""A version, and the id of a DAG."""


class PastPlans:
    """The plans of past versions, each of which is read once and never changes. Safe for threads.

    :param kept: so many are kept in memory.
    """

    def __init__(self, kept: int = 1000):
        self._kept = kept
        self._plans: OrderedDict[tuple[str, Asked], WorkflowPlan | None] = OrderedDict()
        self._lock = threading.Lock()

    def plans(self, store: Store, asked: Iterable[Asked]) -> dict[Asked, WorkflowPlan | None]:
        """The plans; None where the store does not hold the version, or this release cannot read it."""
        found: dict[Asked, WorkflowPlan | None] = {}
        missing: dict[str, list[Asked]] = {}
        with self._lock:
            for one in set(asked):
                if (store.url, one) in self._plans:
                    found[one] = self._plans[store.url, one]
                    self._plans.move_to_end((store.url, one))
                else:
                    missing.setdefault(one[0], []).append(one)
        for version, wanted in missing.items():
            try:
                said = _said_in(store, version)
            except StoreError:  # away just now: asked for again next time
                found.update(dict.fromkeys(wanted))
                continue
            for one in wanted:
                found[one] = _plan(said.get(one[1]))
                self._keep(store.url, one, found[one])
        return found

    def _keep(self, url: str, one: Asked, plan: WorkflowPlan | None) -> None:
        with self._lock:
            self._plans[url, one] = plan
            while len(self._plans) > self._kept:
                self._plans.popitem(last=False)


def _said_in(store: Store, version: str) -> Mapping[str, Mapping[str, Any]]:
    """DAG id -> what is kept of its plan; of whichever bundle it is, since versions are hashes."""
    for bundle in store.children(FOLDER):
        key = f"{FOLDER}/{bundle}/{safe_name(version)}.json"
        if store.exists(key):
            try:
                records = [entry[_PLAN] for entry in store.read_json(key)["entries"] if entry[_PLAN]]
                return {record["plan"]["dag_id"]: record for record in records}
            except (ValueError, KeyError, IndexError, TypeError):
                return {}
    return {}


def _plan(record: Mapping[str, Any] | None) -> WorkflowPlan | None:
    try:
        return WorkflowPlan.from_dict(record["plan"]) if record and record["format"] == PLAN_FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None
