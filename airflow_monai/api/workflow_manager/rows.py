"""Which of Airflow's DAGs are workflows, and the rows that requests are about."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow.models.dag import DagTag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.state import DagRunState
from fastapi import HTTPException
from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session

from airflow_monai.api.common.access import Caller, Right
from airflow_monai.api.instances.ids import RunName, ids
from airflow_monai.api.instances.runs import (
    RUN_COLUMNS,
    TASK_COLUMNS,
    Run,
    Task,
    run_from,
    run_of,
    task_from,
    visible_dags,
)
from airflow_monai.api.workflow_manager.executions import execution_id_of, folder_of
from airflow_monai.api.workflow_manager.statuses import OPERATORS, TASK_STATES
from airflow_monai.specs.plan import BATCH_SUFFIX
from airflow_monai.store.acknowledgements import whole_name
from airflow_monai.store.base import Store

TAG = "monai"
"""That the factory gives to every DAG of ours."""
MAX_TRIES = 20
"""Of a task that was cleared more often only the first generations are found by their execution ids."""
MOST_RUNS = 1000
"""Of one payload in one DAG."""
_NOT_ENDED = ("queued", "running")
_AT_A_TIME = 10_000


def our_dags(session: Session) -> set[str]:
    """The DAGs of workflows, without those that only start batches."""
    found = session.scalars(select(DagTag.dag_id).where(DagTag.name == TAG))
    return {dag_id for dag_id in found if not dag_id.endswith(BATCH_SUFFIX)}


def visible_workflows(caller: Caller, right: Right, session: Session) -> set[str]:
    """The DAGs of workflows that the caller has this right on."""
    ours, visible = our_dags(session), visible_dags(caller, right, session)
    return ours if visible is None else ours & visible


def the_run(caller: Caller, right: Right, instance_id: str, session: Session) -> Run:
    """The run of an instance.

    :raises HTTPException: 404 where there is none that the caller may know of, 403 where the caller may not do this.
    """
    name = ids.run(instance_id, session)
    run = run_of(session, name) if name else None
    if run is None or not caller.may(Right.SEE_RUNS, run.dag_id) or run.dag_id not in our_dags(session):
        raise HTTPException(404, "There is no such workflow instance.")
    caller.check(right, run.dag_id)
    return run


def runs_on(
    session: Session, payload_ids: Iterable[str], dag_ids: Iterable[str] | None = None, most: int = MOST_RUNS
) -> list[Run]:
    """The runs that have these payloads as their keys, the oldest first.

    :param most: so many at most of each payload in each DAG: those that have not ended, then the latest.
    """
    rank = func.row_number().over(
        partition_by=(DagRun.partition_key, DagRun.dag_id),
        order_by=(case((DagRun._state.in_(_NOT_ENDED), 0), else_=1), DagRun.id.desc()),
    )
    ranked = select(DagRun.id, rank.label("rank")).where(DagRun.partition_key.in_(sorted(payload_ids)))
    if dag_ids is not None:
        ranked = ranked.where(DagRun.dag_id.in_(sorted(dag_ids)))
    found = ranked.subquery()
    wanted = select(*RUN_COLUMNS).join(found, found.c.id == DagRun.id).where(found.c.rank <= most)
    return [run_from(row) for row in session.execute(wanted.order_by(DagRun.id))]


@dataclass(frozen=True, slots=True)
class FailedRun:
    name: RunName
    ended: datetime | None


def failed_runs(session: Session, dag_ids: Iterable[str], acknowledged: Container[str]) -> list[FailedRun]:
    """The failed runs of these DAGs of which nobody took note, the newest first: a few columns of each, read in
    batches along the table's primary key.

    :param acknowledged: :func:`airflow_monai.store.acknowledgements.whole_names`.
    """
    found: list[FailedRun] = []
    failed = (DagRun._state == DagRunState.FAILED.value, DagRun.dag_id.in_(sorted(dag_ids)))
    query = select(DagRun.id, DagRun.dag_id, DagRun.run_id, DagRun.end_date).where(*failed)
    query, below = query.order_by(DagRun.id.desc()).limit(_AT_A_TIME), None
    while True:
        rows = session.execute(query if below is None else query.where(DagRun.id < below)).all()
        for _, dag_id, run_id, ended in rows:
            run = FailedRun(RunName(dag_id, run_id), ended)
            if whole_name(run.name.instance_id, ended) not in acknowledged:
                found.append(run)
        if len(rows) < _AT_A_TIME:
            return found
        below = rows[-1][0]


def payloads_of(session: Session, dag_ids: Iterable[str]) -> set[str]:
    """The payloads that runs of these DAGs have as their keys."""
    wanted = select(DagRun.partition_key).where(DagRun.dag_id.in_(sorted(dag_ids)), DagRun.partition_key.is_not(None))
    return {str(key) for key in session.scalars(wanted.distinct())}


def task_row(session: Session, run: RunName, task_id: str, map_index: int) -> Task | None:
    wanted = select(*TASK_COLUMNS).where(
        TaskInstance.dag_id == run.dag_id,
        TaskInstance.run_id == run.run_id,
        TaskInstance.task_id == task_id,
        TaskInstance.map_index == map_index,
    )
    row = session.execute(wanted).first()
    return task_from(row) if row else None


class ExecutionIds:
    """From an execution id, which is a hash of a task's names and its generation, back to the task.

    Airflow's tables are read once, what changed last first, and then only what has changed since. Safe for threads.

    :param kept: so many are known; others have to be asked for with their instance and task.
    """

    def __init__(self, kept: int = 400_000):
        self._kept = kept
        self._places: OrderedDict[str, tuple[RunName, str, int]] = OrderedDict()
        self._seen: datetime | None = None
        self._lock = threading.Lock()

    def find(self, execution_id: str, store: Store, session: Session) -> tuple[RunName, str, int] | None:
        """Run, task id and map index; None where none is known."""
        wanted = execution_id.strip().lower()
        with self._lock:
            if wanted not in self._places:
                self._read_new(store, session)
            return self._places.get(wanted)

    def _read_new(self, store: Store, session: Session) -> None:
        same = and_(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)
        query = select(TaskInstance.updated_at, *TASK_COLUMNS, *RUN_COLUMNS).join(DagRun, same)
        query = query.where(TaskInstance.operator.in_(sorted(OPERATORS)), TaskInstance.state.in_(sorted(TASK_STATES)))
        if self._seen is not None:
            # a transaction that was open then may have committed rows of a little before
            query = query.where(TaskInstance.updated_at >= self._seen - timedelta(minutes=2))
        rows = session.execute(query.order_by(TaskInstance.updated_at.desc()).limit(self._kept)).all()
        for row in reversed(rows):
            task, run = task_from(row[1 : 1 + len(TASK_COLUMNS)]), run_from(row[1 + len(TASK_COLUMNS) :])
            folder, place = folder_of(store, run), (run.name, task.task_id, task.map_index)
            for generation in range(1, min(max(task.try_number, 1), MAX_TRIES) + 1):
                self._places[execution_id_of(folder, task, generation)] = place
        if rows and rows[0][0] is not None:
            self._seen = rows[0][0]
        while len(self._places) > self._kept:
            self._places.popitem(last=False)


execution_ids = ExecutionIds()
