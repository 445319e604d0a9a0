"""What all operators of workflow tasks share: find the payload, keep a record, take the right edges.

A subclass implements :meth:`MonaiOperator.perform`; everything around it (fencing, the task record in the store, XCom
without patient data, skipping the edges whose conditions do not hold) happens here, the same for every task type.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    AirflowTaskTimeout,
    DownstreamTasksSkipped,
    TaskAwaitingInput,
    TaskDeferred,
)

from airflow_monai.errors import Fenced, MonaiError, NoPayload
from airflow_monai.failures import hide_causes, is_retried, kind_of, without_data
from airflow_monai.store.runs import RunFolder
from airflow_monai.tasks.run import (
    Outcome,
    TaskRun,
    condition_context,
    note_run,
    one_line,
    return_value,
    sortable_time,
    task_record,
    utc_now,
)
from airflow_monai.types import FailureKind, TaskStatus

if TYPE_CHECKING:
    from airflow.sdk import Context


NO_FAILURES = (
    DownstreamTasksSkipped,
    TaskDeferred,
    TaskAwaitingInput,
    AirflowSkipException,
    AirflowRescheduleException,
)
"""Exceptions by which a task tells Airflow something else than that it failed."""
SERIES_NAME = "{{ monai_series | default('series ' ~ (ti.map_index + 1)) }}"
"""What the UI shows in place of a map index: :func:`series_name`, once the task has begun."""


def series_name(run: TaskRun) -> str:
    """``series 1 of 2, CT``: free of patient data, since a modality is named by the class of the images only."""
    from airflow_monai.maps.modality import MODALITIES
    from airflow_monai.store.payloads import series_of

    found = {MODALITIES.get(file.sop_class_uid, "") for file in run.input_files}
    modality = found.pop() if len(found) == 1 else ""
    name = f"series {run.map_index + 1} of {len(series_of(run.payload))}"
    return f"{name}, {modality}" if modality else name


def payload_id_from(context: Context) -> str:
    """The payload of this run: what the task was told, else the run's partition key, else ``payload_id`` of its conf.

    :raises NoPayload: when the run names none.
    """
    dag_run = context["dag_run"]
    payload_id = (
        getattr(context["task"], "payload_id", None)
        or getattr(dag_run, "partition_key", None)
        or (dag_run.conf or {}).get("payload_id")
    )
    if not payload_id:
        raise NoPayload
    return str(payload_id)


def task_run_from(context: Context) -> TaskRun:
    """The store's view of the running task instance."""
    from airflow_monai import settings
    from airflow_monai.store import open_store
    from airflow_monai.store.payloads import load_payload

    store = open_store(settings.load().store)
    ti, dag = context["ti"], context["dag"]
    payload = load_payload(store, payload_id_from(context))
    return TaskRun(
        store=store,
        payload=payload,
        folder=RunFolder(store, payload.payload_id, ti.dag_id, ti.run_id),
        task_id=ti.task_id,
        map_index=ti.map_index if ti.map_index is not None else -1,
        # Airflow sets max_tries = try_number + retries when a task is cleared and leaves it alone on a retry
        generation=max(1, ti.max_tries - (context["task"].retries or 0) + 1),
        try_number=ti.try_number,
        workflow_name=dag.dag_display_name or dag.dag_id,
        workflow_description=dag.description or "",
        run_started=sortable_time(getattr(context["dag_run"], "start_date", None)),
        params=_params(context),
        for_each_series=bool(getattr(context["task"], "for_each", None)),
    )


def _params(context: Context) -> dict[str, Any]:
    """The workflow's parameters: those that the run's conf gives, else their defaults."""
    defaults = getattr(context["task"], "workflow_params", None) or {}
    conf = getattr(context["dag_run"], "conf", None) or {}
    return {name: conf.get(name, default) for name, default in defaults.items()}


class MonaiOperator(BaseOperator):
    """Base of the operators that run as a task of a workflow.

    :param edges: the conditional edges to later tasks: ``{"node": <task id of the edge's own node>, "conditions":
        [...], "behind": [...]}``; the nodes whose conditions do not hold are skipped. An edge whose condition cannot be
        evaluated is not taken, which the log and the XCom ``edges`` say. ``behind`` names the tasks that can be reached
        over the edge (by default those that the DAG has behind the node): when it is not taken, what they left in an
        earlier round, before somebody cleared this task, no longer counts.
    :param result_keys: keys of the result that go into the return value (XCom); all others stay in the store.
    :param payload_id: the payload to work on, where the DAG run does not name it (templated).
    :param workflow_params: defaults of ``context.params``; a run's conf overrides them.
    :param failure_policy: kind of failure (:class:`airflow_monai.failures.FailureKind`) -> ``retry`` or ``fail``, in
        place of what the type of task and :data:`airflow_monai.failures.DEFAULT_POLICY` say. ``retry`` leaves the
        failure to Airflow, which tries again while there are retries left; ``fail`` ends the task at once.
    :param for_each: ``series`` in a mapped task: its map index counts the series of the payload (in the order of their
        UIDs), and of the payload it sees only that one.
    :param previous_task_id: the task before it, for its record; by default the one that the DAG has there.
    :cvar type_policy: the same for all tasks of a type.
    """

    spec_type: str = ""
    type_policy: Mapping[str, str] = {}
    template_fields: Sequence[str] = ("payload_id",)

    def __init__(
        self,
        *,
        edges: Sequence[Mapping[str, Any]] = (),
        result_keys: Sequence[str] = (),
        payload_id: str | None = None,
        workflow_params: Mapping[str, Any] | None = None,
        failure_policy: Mapping[str, str] | None = None,
        for_each: str | None = None,
        previous_task_id: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.for_each = for_each
        self.previous_task_id = previous_task_id
        self.payload_id = payload_id
        self.workflow_params = dict(workflow_params or {})
        self.failure_policy = dict(failure_policy or {})
        self.edges = [dict(edge) for edge in edges]
        self.result_keys = list(result_keys)

    @abstractmethod
    def perform(self, run: TaskRun, context: Context) -> Outcome:
        """Do the task's work."""

    def execute(self, context: Context) -> Any:
        return self._told(lambda: self._attempt(context))

    def _told(self, work: Callable[[], Any]) -> Any:
        """Do the work; the one place where a failure becomes final or is left for another try."""
        try:
            return work()
        except (*NO_FAILURES, Fenced, AirflowFailException):
            raise  # no failure, no business of this try any more, or final already
        except BaseException as error:
            kind, is_foreign = failure_kind(error), _is_foreign(error)
            hide_causes(error, _is_foreign)
            if self.is_retried(error):
                self.log.error("Kind of failure: %s; another try may follow, as far as there are retries", kind.value)
                if is_foreign:
                    raise without_data(error) from None  # type: ignore[arg-type]
                raise
            self.log.error("Kind of failure: %s; no other try follows, whatever retries there are", kind.value)
            if is_foreign:
                raise AirflowFailException(str(without_data(error))) from None  # type: ignore[arg-type]
            raise AirflowFailException(str(error) or type(error).__name__) from error

    def is_retried(self, error: BaseException) -> bool:
        """Whether the policy leaves a failure for another try."""
        return is_retried(error, {**self.type_policy, **self.failure_policy}, failure_kind(error))

    def _attempt(self, context: Context) -> Any:
        run = self._begun(context)
        return self._finish(run, context, utc_now(), lambda: self.perform(run, context))

    def _begun(self, context: Context) -> TaskRun:
        """The task in terms of the store, taken over from all earlier tries."""
        run = self._view(context).claimed()
        note_run(run)
        if run.for_each_series:
            context["monai_series"] = series_name(run)  # type: ignore[typeddict-unknown-key]
        return run

    def _view(self, context: Context) -> TaskRun:
        """The task in terms of the store, before it is taken over."""
        return task_run_from(context)

    def _finish(self, run: TaskRun, context: Context, started: str, work: Callable[[], Outcome]) -> Any:
        """Do the last part of a try's work, keep its record, and take the edges."""
        with self._record_of_failure(run, started):
            outcome = work()
            run.fence.check()
        self._keep(run, started, outcome.status, outcome, None)
        with self._record_of_failure(run, started, outcome):
            # Also Airflow pushes it, but not when edges are skipped, and too late to put the record right if it cannot
            value = return_value(outcome, self.result_keys)
            context["ti"].xcom_push(key="return_value", value=value)
            untaken = self._untaken_edges(run, context)
        if untaken:
            raise DownstreamTasksSkipped(tasks=[(node, run.map_index) for node in untaken])
        return value

    @contextmanager
    def _record_of_failure(self, run: TaskRun, started: str, outcome: Outcome | None = None) -> Iterator[None]:
        """Keep a record of what fails in the block, with what the task had given until then."""
        try:
            yield
        except NO_FAILURES:
            raise
        except BaseException as error:
            self._keep(run, started, TaskStatus.FAILED, failed(error, outcome or Outcome()), one_line(error))
            raise

    def _keep(self, run: TaskRun, started: str, status: TaskStatus, outcome: Outcome, error: str | None) -> None:
        try:
            run.fence.check()
        except Fenced:
            return  # a newer try owns the record now
        previous = self._previous_task_id()
        run.folder.write_record(
            task_record(run, self.spec_type, status, outcome, error=error, started=started, previous_task_id=previous)
        )

    def _previous_task_id(self) -> str | None:
        """The spec task before this one; edge nodes are named ``<source>.to.<target>``."""
        if self.previous_task_id:
            return self.previous_task_id
        names = sorted({name.split(".to.")[0] for name in self.upstream_task_ids})
        return names[0] if len(names) == 1 else None

    def _untaken_edges(self, run: TaskRun, context: Context) -> list[str]:
        if not self.edges:
            return []
        from airflow_monai.specs.edges import judge_edge

        resolve = condition_context(run)
        verdicts = {edge["node"]: judge_edge(edge.get("conditions") or (), resolve) for edge in self.edges}
        for node, verdict in verdicts.items():
            (self.log.info if "cannot be" not in verdict.reason else self.log.warning)("%s: %s", node, verdict.reason)
        context["ti"].xcom_push(key="edges", value={node: verdict.reason for node, verdict in verdicts.items()})
        untaken = [edge for edge in self.edges if not verdicts[edge["node"]].taken]
        run.fence.check()
        for edge in untaken:
            run.folder.retire(self._behind(edge), run.map_index)
        return [edge["node"] for edge in untaken]

    def _behind(self, edge: Mapping[str, Any]) -> Iterable[str]:
        """The tasks that can be reached over an edge; none of them has begun while this task decides."""
        if "behind" in edge or not self.has_dag():
            return list(edge.get("behind") or ())
        return self.dag.get_task(edge["node"]).get_flat_relative_ids(upstream=False)


def _is_foreign(error: BaseException) -> bool:
    """Whether nobody foresaw it: what it says may quote what was read."""
    return isinstance(error, Exception) and not isinstance(error, (MonaiError, AirflowException))


def failure_kind(error: BaseException) -> FailureKind:
    """The kind of a failure in a worker process, where Airflow's own time limit is one too."""
    return FailureKind.TIMEOUT if isinstance(error, AirflowTaskTimeout) else kind_of(error)


def failed(error: BaseException, outcome: Outcome) -> Outcome:
    """What a task that failed had given, with the kind of its failure (``execution_stats.error_kind``)."""
    known = error.facts if isinstance(error, MonaiError) else {}
    return replace(outcome, stats={**outcome.stats, **known, "error_kind": failure_kind(error).value})
