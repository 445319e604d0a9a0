"""From the id of a workflow instance, which is a hash of its DAG run's names, back to the run.

Nothing is kept for it: what Airflow has of runs is read once, newest first, and then only what is new.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from airflow.models.dagrun import DagRun
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_monai.store.payloads import instance_id_of

KEPT = 200_000
_AT_A_TIME = 20_000


@dataclass(frozen=True, slots=True)
class RunName:
    dag_id: str
    run_id: str

    @property
    def instance_id(self) -> str:
        return instance_id_of(self.dag_id, self.run_id)


class InstanceIds:
    """Looks ids up. Safe for threads.

    :param kept: so many runs are known by heart; for an older one Airflow's table is searched.
    """

    def __init__(self, kept: int = KEPT):
        self._kept = kept
        self._names: dict[str, RunName] = {}
        self._seen = 0  # id of the newest run in it
        self._lock = threading.Lock()

    def run(self, instance_id: str, session: Session) -> RunName | None:
        """The run of an instance; None where Airflow has none."""
        wanted = instance_id.strip().lower()
        found = self._names.get(wanted)
        if found is None:
            with self._lock:
                self._read_new(session)
            found = self._names.get(wanted) or self._search(wanted, session)
        if found is not None and not _exists(found, session):
            return None
        return found

    def _read_new(self, session: Session) -> None:
        query = select(DagRun.id, DagRun.dag_id, DagRun.run_id).where(DagRun.id > self._seen)
        rows = session.execute(query.order_by(DagRun.id.desc()).limit(self._kept)).all()
        for _, dag_id, run_id in reversed(rows):
            name = RunName(dag_id, run_id)
            self._names[name.instance_id] = name
        if rows:
            self._seen = rows[0][0]
        while len(self._names) > self._kept:
            del self._names[next(iter(self._names))]

    def _search(self, wanted: str, session: Session) -> RunName | None:
        """Through those that are too old to be known by heart."""
        if len(self._names) < self._kept:
            return None
        below = self._seen + 1
        while True:
            query = select(DagRun.id, DagRun.dag_id, DagRun.run_id).where(DagRun.id < below)
            rows = session.execute(query.order_by(DagRun.id.desc()).limit(_AT_A_TIME)).all()
            for _, dag_id, run_id in rows:
                if instance_id_of(dag_id, run_id) == wanted:
                    return RunName(dag_id, run_id)
            if len(rows) < _AT_A_TIME:
                return None
            below = rows[-1][0]


def _exists(name: RunName, session: Session) -> bool:
    query = select(DagRun.id).where(DagRun.dag_id == name.dag_id, DagRun.run_id == name.run_id)
    return session.execute(query).first() is not None


ids = InstanceIds()
