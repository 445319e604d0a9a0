"""What a workflow said in a version of the bundle: for whoever tells of a run as it was made."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from airflow_monai.errors import StoreError
from airflow_monai.factory.cache import PLAN_FORMAT
from airflow_monai.factory.versions import kept_entries, keys_of
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.store.base import Store

Asked = tuple[str, str]
"""A version, and the id of a DAG."""
_Records = Mapping[str, bytes]
"""DAG id -> the record of its plan, as JSON, which takes less memory than what it says."""


class PastPlans:
    """The plans of past versions, each of which is read once and never changes. Safe for threads.

    :param kept: so many plans are kept in memory as they were asked for.
    :param records: so many are kept that came along with them in the versions that were read last.
    """

    def __init__(self, kept: int = 1000, records: int = 4000):
        self._kept = kept
        self._records = records
        self._plans: OrderedDict[tuple[str, Asked], WorkflowPlan | None] = OrderedDict()
        self._versions: OrderedDict[tuple[str, str], _Records] = OrderedDict()
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
                said = self._said_in(store, version)
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

    def _said_in(self, store: Store, version: str) -> _Records:
        place = (store.url, version)
        with self._lock:
            if place in self._versions:
                self._versions.move_to_end(place)
                return self._versions[place]
        said = _records_of(store, version)
        with self._lock:
            self._versions[place] = said
            # the newest one stays, however large
            while len(self._versions) > 1 and sum(len(one) + 1 for one in self._versions.values()) > self._records:
                self._versions.popitem(last=False)
        return said


def _records_of(store: Store, version: str) -> _Records:
    for key in keys_of(store, version):
        if store.exists(key):
            try:
                records = [entry.plan for entry in kept_entries(store.read_json(key)) if entry.plan]
                return {str(record["plan"]["dag_id"]): json.dumps(record).encode() for record in records}
            except (ValueError, KeyError, TypeError):
                return {}
    return {}


def _plan(kept: bytes | None) -> WorkflowPlan | None:
    try:
        record = json.loads(kept) if kept else None
        return WorkflowPlan.from_dict(record["plan"]) if record and record["format"] == PLAN_FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None
