"""What all operators of workflow tasks share: find the payload, keep a record, take the right edges.

A subclass implements :meth:`MonaiOperator.perform`; everything around it (fencing, the task record in the store, XCom
without patient data, skipping the edges whose conditions do not hold) happens here, the same for every task type.
"""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cache
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

from airflow_monai.errors import Fenced, InvalidArgument, MonaiError, NoPayload
from airflow_monai.failures import is_retried, kind_of, without_data
from airflow_monai.store.runs import Fence, RunFolder
from airflow_monai.types import FailureKind, Payload, PayloadFile, SeriesTags, TaskRecord, TaskStatus

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_monai.specs.context import ExecutionContext
    from airflow_monai.store.base import Store


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task gave.

    :param result: values that conditions may read (``context.executions.<task>.result.<key>``).
    :param artifacts: artifact name -> store keys of its files.
    :param xcom: more for the task's return value; must be free of patient data.
    :param status: Succeeded, or PartialFail for a task that ended well and says no.
    """

    result: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stats: Mapping[str, Any] = field(default_factory=dict)
    output_dir: str | None = None
    xcom: Mapping[str, Any] = field(default_factory=dict)
    status: TaskStatus = TaskStatus.SUCCEEDED


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One try of one task of one workflow instance, in terms of the store.

    :param generation: number of the try that began this generation: a retry keeps it, clearing the task begins a new,
        and so does a run that was deleted and made again under the same id.
    :param run_started: UTC time at which the run began, as text that sorts by time.
    :param params: what ``context.params`` means.
    :param for_each_series: the map index counts the series of the payload, and only that one is seen.
    """

    store: Store
    payload: Payload
    folder: RunFolder
    task_id: str
    map_index: int
    generation: int
    try_number: int
    workflow_name: str
    workflow_description: str
    run_started: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    for_each_series: bool = False

    def with_generation(self, generation: int) -> TaskRun:
        return replace(self, generation=generation)

    @property
    def fence(self) -> Fence:
        return Fence(self.folder, self.task_id, self.map_index, self.try_number, self.run_started)

    def claimed(self) -> TaskRun:
        """This run after it has taken over the task from all older tries; :class:`Fenced` when a newer one has it."""
        return self.with_generation(self.fence.claim(self.generation))

    @property
    def series_uid(self) -> str | None:
        """The series that the task runs for, None when it runs for the whole payload.

        :raises InvalidArgument: when the payload has no such series.
        """
        if not self.for_each_series or self.map_index < 0:
            return None
        from airflow_monai.store.payloads import series_of

        series = series_of(self.payload)
        if self.map_index >= len(series):
            raise InvalidArgument(
                f"Task {self.task_id} is to run for series {self.map_index + 1} of payload {self.payload.payload_id}, "
                f"which has {len(series)}: clear the task that lists them, which begins the tasks for each series anew."
            )
        return series[self.map_index]

    @property
    def input_key(self) -> str:
        """Store key of the folder of the received files: of the series, or of the payload."""
        from airflow_monai.store.payloads import dicom_key, payload_key

        folders = {file.path.rpartition("/")[0] for file in self.input_files} if self.series_uid else set()
        payload_id = self.payload.payload_id
        return payload_key(payload_id, folders.pop()) if len(folders) == 1 else dicom_key(payload_id)

    @property
    def input_files(self) -> tuple[PayloadFile, ...]:
        """The received files: of the series, or of the payload."""
        series = self.series_uid
        files = self.payload.files
        return files if series is None else tuple(file for file in files if file.series_instance_uid == series)

    def record(self, task_id: str) -> TaskRecord | None:
        """What an earlier task did: for this series, where it runs for each, else for all."""
        found = self.folder.record(task_id, self.map_index)
        return self.folder.record(task_id) if found is None and self.map_index >= 0 else found

    def note(self, name: str) -> Any:
        """What a try of this generation noted under a name, None when nothing was."""
        key = self.folder.note_key(self.task_id, self.map_index, self.generation, name)
        return self.store.read_json(key) if self.store.exists(key) else None

    def write_note(self, name: str, facts: Mapping[str, Any]) -> None:
        """Note something for later tries of this generation."""
        key = self.folder.note_key(self.task_id, self.map_index, self.generation, name)
        self.store.write_json(key, dict(facts))

    @property
    def output_key(self) -> str:
        return self.folder.output_key(self.task_id, self.map_index, self.generation)

    @property
    def execution_id(self) -> str:
        """A UUID that is the same for every try of a generation."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.output_key))


def condition_context(run: TaskRun, tags: Callable[[], SeriesTags] | None = None) -> ExecutionContext:
    """Resolver of condition paths over the run's payload and the tasks of its workflow instance, from the store.

    :param tags: gives the payload's attributes where they are at hand.
    """
    from airflow_monai.specs.context import ExecutionContext
    from airflow_monai.store.payloads import load_series_tags

    series = run.series_uid

    def series_tags() -> SeriesTags:
        found = tags() if tags else load_series_tags(run.store, run.payload.payload_id)
        return found if series is None else {uid: known for uid, known in found.items() if uid == series}

    return ExecutionContext(
        payload=run.payload,
        series_tags=cache(series_tags),
        task_record=run.record,
        task_records=run.folder.records,
        input_folder=run.input_key,
        workflow_name=run.workflow_name,
        workflow_description=run.workflow_description,
        params=run.params,
    )


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


def sortable_time(moment: datetime | str | None) -> str:
    """A moment, or its text in ISO 8601, as text that sorts by time; empty for none."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment.strip()) if moment.strip() else None
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds") if moment else ""


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
        return self._finish(run, context, _now(), lambda: self.perform(run, context))

    def _begun(self, context: Context) -> TaskRun:
        """The task in terms of the store, taken over from all earlier tries."""
        run = task_run_from(context).claimed()
        if run.for_each_series:
            context["monai_series"] = series_name(run)  # type: ignore[typeddict-unknown-key]
        return run

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


def return_value(outcome: Outcome, result_keys: Iterable[str]) -> dict[str, Any]:
    """What a task returns to Airflow: counts and declared keys, nothing else of the result."""
    declared = {key: outcome.result[key] for key in result_keys if key in outcome.result}
    counts = {name: len(keys) for name, keys in outcome.artifacts.items()}
    return {"status": outcome.status.value, "result": declared, "artifacts": counts, **outcome.xcom}


def task_record(
    run: TaskRun,
    task_type: str,
    status: TaskStatus,
    outcome: Outcome,
    *,
    error: str | None,
    started: str,
    previous_task_id: str | None,
) -> TaskRecord:
    """The record of a task that has just ended."""
    return TaskRecord(
        task_id=run.task_id,
        task_type=task_type,
        status=status,
        execution_id=run.execution_id,
        generation=run.generation,
        try_number=run.try_number,
        map_index=run.map_index,
        previous_task_id=previous_task_id,
        start_time=started,
        end_time=_now(),
        output_dir=outcome.output_dir,
        error_msg=error,
        result=outcome.result,
        stats=outcome.stats,
        artifacts=outcome.artifacts,
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


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


def one_line(error: BaseException) -> str:
    """A failure's reason for the record: our own messages, of others the class only (they may quote data)."""
    text = str(error) if isinstance(error, MonaiError) else type(error).__name__
    return " ".join(text.split())[:500]
