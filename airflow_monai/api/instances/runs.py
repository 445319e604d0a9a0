"""Lists of DAG runs and task instances: filtered and paged by the database, in two queries a page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import ColumnElement, Select, and_, false, func, or_, select, tuple_
from sqlalchemy.orm import Session

from airflow_monai.api.common.access import Caller, Right
from airflow_monai.api.instances.ids import RunName
from airflow_monai.hooks.airflow_api import CANCELLED
from airflow_monai.store.payloads import instance_id_of

MAX_PAGE = 1000
ENDED = frozenset({"success", "failed"})
ENDED_TASK = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})

_created_at: Any = func.coalesce(DagRun.created_at, DagRun.run_after)
RUN_COLUMNS: tuple[Any, ...] = (
    DagRun.id,
    DagRun.dag_id,
    DagRun.run_id,
    DagRun._state,
    DagRun.partition_key,
    DagRun.conf,
    _created_at,
    DagRun.start_date,
    DagRun.end_date,
    DagRun.triggering_user_name,
    DagRun.clear_number,
    DagRun.bundle_version,
)
"""What a :class:`Run` is made of, and a :class:`Task` of the next."""
TASK_COLUMNS: tuple[Any, ...] = (
    TaskInstance.id,
    TaskInstance.dag_id,
    TaskInstance.run_id,
    TaskInstance.task_id,
    TaskInstance.map_index,
    TaskInstance.state,
    TaskInstance.try_number,
    TaskInstance.queued_dttm,
    TaskInstance.start_date,
    TaskInstance.end_date,
    TaskInstance.pool,
    TaskInstance.pool_slots,
    TaskInstance.priority_weight,
    TaskInstance.operator,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A page.

    :param total: how many there are on all pages.
    """

    items: tuple[T, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Run:
    """A DAG run as Airflow's table has it.

    :param state: ``queued``, ``running``, ``success`` or ``failed``.
    :param payload_id: that it works on, where its key or its conf says so; else empty.
    :param created: when it was asked for.
    :param cancelled: what is noted of it where a person cancelled it, and it was not started again since.
    :param version: of the bundle of workflows that it runs by; empty where its tasks run by the newest.
    """

    number: int
    dag_id: str
    run_id: str
    state: str
    payload_id: str
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    user: str
    cancelled: dict[str, Any] | None
    version: str = ""

    @property
    def name(self) -> RunName:
        return RunName(self.dag_id, self.run_id)

    @property
    def instance_id(self) -> str:
        return instance_id_of(self.dag_id, self.run_id)

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Task:
    """A task instance as Airflow's table has it.

    :param id: Airflow's, a UUID.
    :param state: empty where it has none yet.
    """

    id: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str
    try_number: int
    queued: datetime | None
    started: datetime | None
    ended: datetime | None
    pool: str
    pool_slots: int
    priority: int
    operator: str

    @property
    def run(self) -> RunName:
        return RunName(self.dag_id, self.run_id)

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED_TASK


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None takes all.

    :param dag_ids: of these DAGs.
    :param dag_prefix: of DAGs whose id begins so.
    :param states: in one of these states.
    :param payload_id: that work on this payload by their partition key, as all runs of the gateway and of our APIs.
    :param cancelled: True: only those that were cancelled, False: only others.
    :param since: asked for at this time or later, and ``until``: before this one.
    """

    dag_ids: Collection[str] | None = None
    dag_prefix: str = ""
    states: Collection[str] | None = None
    payload_id: str | None = None
    cancelled: bool | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.dag_ids is not None:
            found.append(DagRun.dag_id.in_(sorted(self.dag_ids)) if self.dag_ids else false())
        if self.dag_prefix:
            found.append(DagRun.dag_id.startswith(self.dag_prefix, autoescape=True))
        if self.states is not None:
            found.append(DagRun._state.in_(sorted(self.states)) if self.states else false())
        if self.payload_id is not None:
            found.append(DagRun.partition_key == self.payload_id)
        if self.cancelled is not None:
            found.append(is_cancelled() if self.cancelled else ~is_cancelled())
        if self.since is not None:
            found.append(_created_at >= self.since)
        if self.until is not None:
            found.append(_created_at < self.until)
        return found


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which task instances to list; None takes all.

    :param runs: of runs that this takes.
    :param states: in one of these states; an empty text stands for none yet.
    :param task_id: with this id.
    :param operators: of these classes (names).
    :param since: ended at this time or later, or not at all, and ``until``: started before this one.
    """

    runs: RunFilter = RunFilter()
    states: Collection[str] | None = None
    task_id: str | None = None
    operators: Collection[str] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> list[ColumnElement[bool]]:
        found = self.runs.where()
        if self.states is not None:
            found.append(_in_state(self.states))
        if self.task_id is not None:
            found.append(TaskInstance.task_id == self.task_id)
        if self.operators is not None:
            found.append(TaskInstance.operator.in_(sorted(self.operators)))
        if self.since is not None:
            found.append(or_(TaskInstance.end_date.is_(None), TaskInstance.end_date >= self.since))
        if self.until is not None:
            found.append(TaskInstance.start_date < self.until)
        return found


def visible_dags(caller: Caller, right: Right, session: Session) -> frozenset[str] | None:
    """The DAGs that the caller has this right on; None for all there are, which most have."""
    if caller.may(right):
        return None
    from airflow.models.dag import DagModel

    return frozenset(caller.of_dags(right, set(session.scalars(select(DagModel.dag_id)))))


def list_runs(
    session: Session, wanted: RunFilter, *, limit: int = 50, offset: int = 0, oldest_first: bool = False
) -> Listed[Run]:
    """A page of runs, the newest first, in two queries.

    :param limit: at most :data:`MAX_PAGE`.
    """
    where = wanted.where()
    order = DagRun.id.asc() if oldest_first else DagRun.id.desc()
    query = _runs().where(*where).order_by(order)
    items = _page(session, query, limit, offset, run_from)
    return Listed(items, total_of(session, select(func.count(DagRun.id)).where(*where), items, limit, offset))


def run_of(session: Session, name: RunName) -> Run | None:
    """One run; None where there is none."""
    row = session.execute(_runs().where(DagRun.dag_id == name.dag_id, DagRun.run_id == name.run_id)).first()
    return run_from(row) if row else None


def runs_of(session: Session, names: Iterable[RunName]) -> dict[RunName, Run]:
    """Those of the runs that there are, in one query."""
    keys = sorted({(name.dag_id, name.run_id) for name in names})
    if not keys:
        return {}
    rows = session.execute(_runs().where(tuple_(DagRun.dag_id, DagRun.run_id).in_(keys)))
    return {run.name: run for run in map(run_from, rows)}


def list_tasks(
    session: Session, wanted: TaskFilter, *, limit: int = 50, offset: int = 0, oldest_first: bool = False
) -> Listed[Task]:
    """A page of task instances, those of the newest runs first, in two queries."""
    where = wanted.where()
    order = DagRun.id.asc() if oldest_first else DagRun.id.desc()
    query = _tasks().join(DagRun, same_run()).where(*where)
    query = query.order_by(order, TaskInstance.start_date.asc().nulls_last(), TaskInstance.id)
    count = select(func.count(TaskInstance.id)).join(DagRun, same_run()).where(*where)
    items = _page(session, query, limit, offset, task_from)
    return Listed(items, total_of(session, count, items, limit, offset))


def tasks_of(session: Session, names: Iterable[RunName]) -> dict[RunName, list[Task]]:
    """The task instances of runs, by run, in one query; those that began first come first."""
    keys = sorted({(name.dag_id, name.run_id) for name in names})
    found: dict[RunName, list[Task]] = {RunName(*key): [] for key in keys}
    if keys:
        query = _tasks().where(tuple_(TaskInstance.dag_id, TaskInstance.run_id).in_(keys))
        query = query.order_by(TaskInstance.start_date.asc().nulls_last(), TaskInstance.task_id, TaskInstance.map_index)
        for task in map(task_from, session.execute(query)):
            found[task.run].append(task)
    return found


def is_cancelled() -> ColumnElement[bool]:
    """Whether a person cancelled a run, and it was not started again since."""
    noted = DagRun.conf[CANCELLED]["clear_number"].as_integer()
    return and_(DagRun._state == DagRunState.FAILED.value, noted.is_not(None), noted == DagRun.clear_number)


def _in_state(states: Collection[str]) -> ColumnElement[bool]:
    known = TaskInstance.state.in_(sorted(filter(None, states)))
    return or_(known, TaskInstance.state.is_(None)) if "" in states else known


def working_on(session: Session, payload_id: str) -> int:
    """How many runs that have not ended have this payload as their key, or in their conf; of any DAG."""
    wanted = select(func.count(DagRun.id)).where(
        DagRun._state.in_((DagRunState.QUEUED.value, DagRunState.RUNNING.value)),
        or_(DagRun.partition_key == payload_id, DagRun.conf["payload_id"].as_string() == payload_id),
    )
    return int(session.scalar(wanted) or 0)


def same_run() -> ColumnElement[bool]:
    """Whether a task instance is of a DAG run."""
    return and_(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)


def _page(session: Session, query: Select[Any], limit: int, offset: int, made: Callable[[Any], T]) -> tuple[T, ...]:
    return tuple(map(made, session.execute(query.limit(min(limit, MAX_PAGE)).offset(offset))))


def total_of(session: Session, count: Select[Any], items: tuple[Any, ...], limit: int, offset: int) -> int:
    """How many there are on all pages; a page that is not full tells it by itself."""
    if len(items) < min(limit, MAX_PAGE) and (items or not offset):
        return offset + len(items)
    return int(session.scalar(count) or 0)


def _runs() -> Select[Any]:
    return select(*RUN_COLUMNS)


def run_from(row: Any) -> Run:
    """:param row: of :data:`RUN_COLUMNS`."""
    number, dag_id, run_id, state, key, conf, created, started, ended, user, clear_number, version = row
    conf = conf if isinstance(conf, dict) else {}
    noted: Any = conf.get(CANCELLED)
    is_noted = state == DagRunState.FAILED.value and isinstance(noted, dict)
    return Run(
        number=number,
        dag_id=dag_id,
        run_id=run_id,
        state=str(state or ""),
        payload_id=str(key or conf.get("payload_id") or ""),
        created=created,
        started=started,
        ended=ended,
        user=user or "",
        cancelled=noted if is_noted and noted["clear_number"] == clear_number else None,
        version=version or "",
    )


def _tasks() -> Select[Any]:
    return select(*TASK_COLUMNS)


def task_from(row: Any) -> Task:
    """:param row: of :data:`TASK_COLUMNS`."""
    number, dag_id, run_id, task_id, map_index, state, tries, queued, started, ended, pool, slots, weight, made = row
    return Task(
        id=str(number),
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        state=state.value if isinstance(state, TaskInstanceState) else str(state or ""),
        try_number=tries or 0,
        queued=queued,
        started=started,
        ended=ended,
        pool=pool,
        pool_slots=slots,
        priority=weight or 0,
        operator=made or "",
    )
