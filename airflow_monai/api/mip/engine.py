"""Runs of the job server as runs of Airflow.

A run begins when the one before it in its job has ended: then it is decided once what it runs, and the DAG run is made
with the tasks that are not wanted skipped and those that are taken over done, before the scheduler sees it. Each run
writes into a folder of its own, so no two can write into each other's results.

Everything here is done when somebody asks for the run, its user or the gateway, which asks for all that is open; and it
may be done twice, or by two servers at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskmap import TaskMap
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_monai.api.instances.starting import RunsHere
from airflow_monai.errors import PayloadNotFound
from airflow_monai.hooks.airflow_api import RunNotCreated
from airflow_monai.mip.ledger import Ledger, now, summed_up
from airflow_monai.mip.model import Decision, Ended, Plan, Result, Run, RunId, Status
from airflow_monai.mip.modules import Module, Modules
from airflow_monai.mip.site import Workflows
from airflow_monai.operators.base import TaskRun, condition_context
from airflow_monai.specs.edges import judge_edge
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.specs.regions import regions_of, series_task_id
from airflow_monai.store.base import Store
from airflow_monai.store.deletion import is_doomed
from airflow_monai.store.payloads import load_payload, manifest_key, series_of
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus

PATIENCE = timedelta(hours=12)
"""How long Airflow may not have the workflow of a run, or not take the run, until it has failed."""
EDGE_NODE = "EdgeNode"
"""Class of the nodes that a task skips when it ends; others judge their conditions themselves."""
_STATES = {"queued": Status.NOT_STARTED, "success": Status.PASSED, "failed": Status.FAILED}
_ENDED = (Status.PASSED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class View:
    """A run as it is now.

    :param modules: of those that run in it: how far each is.
    """

    run: Run
    status: Status
    modules: Mapping[str, Result]
    plan: Plan | None = None
    ended: Ended | None = None
    start_time: str | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A DAG run in Airflow's tables.

    :param tasks: task id -> states of its instances, with the earliest start and the latest end.
    """

    state: str
    start: datetime | None
    end: datetime | None
    tasks: Mapping[str, tuple[frozenset[str], datetime | None, datetime | None]]


class Engine:
    """Moves runs on and shows them."""

    def __init__(self, store: Store, workflows: Workflows):
        self._store = store
        self._ledger = Ledger(store)
        self._workflows = workflows

    def view(self, run_id: RunId) -> View | None:
        """A run, moved on as far as can be; None when there is none."""
        waiting = []  # those before it that have not ended, the oldest last
        number = run_id.number
        while number and self._ledger.ended(RunId(run_id.job, number)) is None:
            waiting.append(RunId(run_id.job, number))
            number -= 1
        view = None
        for earlier in reversed(waiting):
            run = self._ledger.run(earlier)
            if run is None:
                return None
            view = self._moved_on(run)
            if view.ended is None and earlier != run_id:
                run = self._ledger.run(run_id)
                return View(run, Status.NOT_STARTED, {}) if run else None
        return view or self._over(run_id)

    def _over(self, run_id: RunId) -> View | None:
        run, ended = self._ledger.run(run_id), self._ledger.ended(run_id)
        if run is None or ended is None:
            return None
        self._ledger.forget_keys(run_id)  # whoever ended it may have been killed before that
        return View(run, ended.status, ended.results, self._ledger.plan(run_id), ended, ended.start_time)

    def _moved_on(self, run: Run) -> View:
        """The oldest run of its job that has not ended."""
        started = self._ledger.has_started(run.run_id)  # asked before the tables, where another may just make its run
        seen = _look(run)
        plan = self._ledger.plan(run.run_id)
        if started and seen is None:
            return self._given_up(run, plan, "somebody deleted its run in Airflow")
        if seen is None or plan is None:
            try:
                plan = self._start(run, plan)
            except PayloadNotFound:
                return self._given_up(run, plan, "its map was deleted before it began")
            except RunNotCreated:  # the DAG is not there yet, or not for a moment: whoever asks next tries again
                if datetime.now(timezone.utc) - self._ledger.refused_since(run.run_id) > PATIENCE:
                    return self._given_up(
                        run, plan, f"its workflow was not to be run for {PATIENCE.seconds // 3600} hours"
                    )
                return View(run, Status.NOT_STARTED, {}, plan)
            seen = _look(run)
            if seen is None:
                return View(run, Status.NOT_STARTED, {}, plan)
        if not started:
            self._ledger.note_started(run.run_id)
        status = _STATES.get(seen.state, Status.RUNNING)
        results = {module: self._result(run, plan, module, seen) for module in plan.of(Decision.RUN)}
        if status not in _ENDED:
            return View(run, status, results, plan, None, _text(seen.start))
        return self._end(run, plan, results, status, (_text(seen.start), _text(seen.end)))

    def _given_up(self, run: Run, plan: Plan | None, reason: str) -> View:
        """The end of a run that has no DAG run, and gets none: its job goes on, and nothing is kept of its key."""
        return self._end(run, plan, {}, Status.FAILED, (None, now()), reason)

    def _end(
        self,
        run: Run,
        plan: Plan | None,
        results: dict[str, Result],
        status: Status,
        times: tuple[str | None, str | None],
        reason: str = "",
    ) -> View:
        before = self._ledger.before(run.run_id)
        assert before is not None
        self._ledger.end(run, summed_up(run, plan, before, results, status, times, reason))
        view = self._over(run.run_id)
        assert view is not None
        return view

    def _start(self, run: Run, plan: Plan | None) -> Plan:
        """
        :raises RunNotCreated: when that cannot be now.
        :raises PayloadNotFound: when its map is not there any more.
        """
        if is_doomed(self._store, run.payload_id) or not self._store.exists(manifest_key(run.payload_id)):
            raise PayloadNotFound(run.payload_id)
        workflow = self._workflows.of_dag(run.dag_id)
        if workflow is None:
            raise RunNotCreated(f"the workflow of the DAG {run.dag_id!r} is not there now")
        if plan is None:
            plan = self._ledger.settle(run.run_id, self._decide(run, Modules.of(workflow)))
        folder, modules = self._folder(run), Modules.of(workflow).by_name
        repeated: dict[str, frozenset[int]] = {}
        for module, result in plan.reused.items():
            records = records_of(folder_of(self._store, result), module)
            for record in records:
                folder.write_record(record)
            if module in modules and modules[module].is_repeated:
                repeated[module] = frozenset(record.map_index for record in records)
        count = len(series_of(load_payload(self._store, run.payload_id))) if repeated else 0
        series = _Series(count, repeated, _counters(workflow, repeated))
        seeded = _SeededRuns(run.user, workflow, plan, self._not_taken(run, workflow, plan), series)
        seeded.create_run(run.dag_id, run.run_id.dag_run_id, run.payload_id, f"mip run {run.run_id}")
        return plan

    def _decide(self, run: Run, modules: Modules) -> Plan:
        before = self._ledger.before(run.run_id)
        assert before is not None

        def found(module: Module) -> Result | None:
            result = before.good.get(module.name, {}).get(run.map)
            if result is None or (result.payload_id, result.version) != (run.payload_id, module.version):
                return None
            records = records_of(folder_of(self._store, result), module.name)
            indexes = {record.map_index for record in records}
            if not records or (-1 in indexes) is module.is_repeated:  # it was not, or is not any more, run for each
                return None
            return result if all(record.status is TaskStatus.SUCCEEDED for record in records) else None

        decisions = modules.decide(run.modules, force=run.force_rerun, exists=lambda module: found(module) is not None)
        reused = {name: found(modules.by_name[name]) for name, made in decisions.items() if made is Decision.REUSE}
        return Plan(
            decisions,
            {name: result for name, result in reused.items() if result is not None},
            {name: module.version for name, module in modules.by_name.items()},
        )

    def _not_taken(self, run: Run, workflow: WorkflowPlan, plan: Plan) -> set[str]:
        """Nodes of the ways that tasks which are taken over do not take, by what their results say."""
        of_each = {
            task.id for task in workflow.tasks if task.for_each
        }  # their ways are judged when the run comes there
        edges = [
            edge
            for edge in workflow.edges
            if edge.node_id and edge.conditions and edge.source in plan.reused and edge.source not in of_each
        ]
        if not edges:
            return set()
        params = {param.name: param.default for param in workflow.params}
        payload, folder = load_payload(self._store, run.payload_id), self._folder(run)
        skipped = set()
        for edge in edges:
            task = TaskRun(
                self._store,
                payload,
                folder,
                edge.source,
                -1,
                1,
                1,
                workflow.name,
                workflow.description,
                params=params,
            )
            if not judge_edge(edge.conditions, condition_context(task)).taken:
                skipped.add(str(edge.node_id))
        return skipped

    def _result(self, run: Run, plan: Plan, module: str, seen: _Seen) -> Result:
        states, start, end = seen.tasks.get(module, (frozenset(), None, None))
        status, error = _status_of(states), ""
        if status is Status.FAILED:
            error = self._why(run, module)
        elif "upstream_failed" in states:
            error = "what is before it failed"
        return Result(
            module,
            status,
            run.map,
            run.payload_id,
            run.dag_id,
            run.run_id.dag_run_id,
            str(run.run_id),
            plan.versions.get(module, ""),
            _text(start),
            _text(end) if status in _ENDED else None,
            error,
        )

    def _why(self, run: Run, module: str) -> str:
        records = records_of(self._folder(run), module)
        return next((record.error_msg for record in records if record.error_msg), "its log in Airflow says why")

    def _folder(self, run: Run) -> RunFolder:
        return RunFolder(self._store, run.payload_id, run.dag_id, run.run_id.dag_run_id)


def folder_of(store: Store, result: Result) -> RunFolder:
    """Where a result lies."""
    return RunFolder(store, result.payload_id, result.dag_id, result.dag_run_id)


def records_of(folder: RunFolder, module: str) -> list[TaskRecord]:
    """Of a module: its one, or one for each series that it has run for."""
    own = folder.record(module)
    return [own] if own is not None else folder.records(module)


@dataclass(frozen=True, slots=True)
class _Series:
    """What is taken over of modules that run for each series.

    :param count: series of the map.
    :param modules: each with the indexes of the series for which it has a result; it passed over the others.
    :param counters: the tasks that count the series for them.
    """

    count: int
    modules: Mapping[str, frozenset[int]]
    counters: frozenset[str]


def _counters(workflow: WorkflowPlan, modules: Iterable[str]) -> frozenset[str]:
    mapped = [task.id for task in workflow.tasks if task.for_each]
    regions = regions_of(mapped, [(edge.source, edge.target) for edge in workflow.edges])
    return frozenset(series_task_id(region) for region in regions if any(module in region for module in modules))


class _SeededRuns(RunsHere):
    """Makes runs in which some tasks have ended before they begin.

    :param not_taken: nodes of ways that are not gone.
    """

    def __init__(self, user: str, workflow: WorkflowPlan, plan: Plan, not_taken: Iterable[str], series: _Series):
        super().__init__(user)
        self._series = series
        unwanted = set(plan.of(Decision.SKIP))
        self._done = set(plan.of(Decision.REUSE))
        self._skipped = unwanted | {
            str(edge.node_id) for edge in workflow.edges if edge.node_id and unwanted & {edge.source, edge.target}
        }
        self._not_taken = set(not_taken)

    def _create(self, session: Session, *args: Any) -> None:
        super()._create(session, *args)
        dag_id, run_id = args[:2]
        session.flush()
        at = datetime.now(timezone.utc)
        wanted = select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        for instance in session.scalars(wanted):
            state = self._state_of(instance)
            if state is not None and instance.task_id not in self._series.modules:
                _end(instance, state, at)
        if self._series.modules:
            self._expand(session, dag_id, run_id, at)

    def _expand(self, session: Session, dag_id: str, run_id: str, at: datetime) -> None:
        """Have the series counted, and what is taken over there once for each of them, as the scheduler would."""
        where: Any = {"dag_id": dag_id, "run_id": run_id}
        for task_id in self._series.counters:
            numbers = list(range(self._series.count))
            XComModel.set("return_value", numbers, task_id=task_id, session=session, **where)
            session.add(TaskMap(task_id=task_id, map_index=-1, length=len(numbers), keys=None, **where))
        session.flush()
        dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
        assert dag is not None
        for module, indexes in self._series.modules.items():
            made, _ = TaskMap.expand_mapped_task(dag.get_task(module), run_id, session=session)
            for instance in made:
                is_there = instance.map_index in indexes
                _end(instance, TaskInstanceState.SUCCESS if is_there else TaskInstanceState.SKIPPED, at)

    def _state_of(self, instance: TaskInstance) -> TaskInstanceState | None:
        task_id = instance.task_id
        if task_id in self._done or task_id in self._series.counters:
            return TaskInstanceState.SUCCESS
        if task_id in self._skipped or (task_id in self._not_taken and instance.operator == EDGE_NODE):
            return TaskInstanceState.SKIPPED
        return None


def _end(instance: TaskInstance, state: TaskInstanceState, at: datetime) -> None:
    instance.state, instance.start_date, instance.end_date, instance.duration = state, at, at, 0.0


def _look(run: Run) -> _Seen | None:
    """The run in Airflow's tables; None where it is not."""
    dag_id, run_id = run.dag_id, run.run_id.dag_run_id
    with create_session() as session:
        found = session.execute(
            select(DagRun.state, DagRun.start_date, DagRun.end_date).where(
                DagRun.dag_id == dag_id, DagRun.run_id == run_id
            )
        ).first()
        if found is None:
            return None
        rows = session.execute(
            select(TaskInstance.task_id, TaskInstance.state, TaskInstance.start_date, TaskInstance.end_date).where(
                TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id
            )
        ).all()
    tasks: dict[str, tuple[frozenset[str], datetime | None, datetime | None]] = {}
    for task_id, state, start, end in rows:
        states, first, last = tasks.get(task_id, (frozenset(), None, None))
        tasks[task_id] = (
            states | {str(state or "none")},
            min((moment for moment in (first, start) if moment), default=None),
            max((moment for moment in (last, end) if moment), default=None),
        )
    return _Seen(str(found[0]), found[1], found[2], tasks)


def _status_of(states: frozenset[str]) -> Status:
    """Of a module whose instances (one, or one for each series) are in these states."""
    if states & {"failed", "removed"}:
        return Status.FAILED
    if states <= {"success", "skipped"} and "success" in states:
        return Status.PASSED
    if states <= {"none", "scheduled", "queued", "skipped", "upstream_failed"}:
        return Status.NOT_STARTED
    return Status.RUNNING


def _text(moment: datetime | None) -> str | None:
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds") if moment else None
