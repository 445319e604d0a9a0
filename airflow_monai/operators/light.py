"""Base of the operators that start and end in the triggerer: they wait or call, and cost no worker process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import StartTriggerArgs

from airflow_monai.errors import InvalidArgument, MonaiError

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_monai.triggers.light import LightTrigger

WHERE = {
    "payload_id": "{{ dag_run.partition_key or (dag_run.conf or {}).get('payload_id') or '' }}",
    "run_id": "{{ run_id }}",
    "map_index": "{{ ti.map_index }}",
    "try_number": "{{ ti.try_number }}",
    "try_id": "{{ ti.id }}",
    "run_started": "{{ dag_run.start_date or '' }}",
    "conf": "{{ (dag_run.conf or {}) | tojson }}",
}
"""Which try of which task instance: what Airflow knows of it, and nothing of the patient.

``try_id`` is of one try only, and stays when another triggerer takes the try over.
"""
TRIGGERER_AWAY = timedelta(days=1)
"""How long what needs but a moment in the triggerer may wait for one: work goes on when it is back."""
GRACE = timedelta(minutes=5)
"""The trigger ends its task at its time limit itself; Airflow steps in so much later, should that fail."""


class LightOperator(BaseOperator):
    """Base of light tasks.

    A subclass names its ``trigger_class`` and puts what that needs into ``task``: only ids and texts of the spec, since
    Airflow keeps a trigger's arguments. Templates in them (``{{ context... }}``) are resolved in the triggerer, from
    the store.

    :param result_keys: keys of the result that go into the return value (XCom); all others stay in the store.
    :param timeout_minutes: the task fails after this time; None or 0 for no limit.
    :param failure_policy: kind of failure (:class:`airflow_monai.failures.FailureKind`) -> ``retry`` or ``fail``.
    :param workflow_name: and ``workflow_description``: what ``context.workflow`` means in templates.
    :param workflow_params: defaults of ``context.params``; a run's conf overrides them.
    :param previous_task_id: the task before it, for its record.
    :param for_each: ``series`` in a mapped task: its map index counts the series of the payload, and of the payload it
        sees only that one.
    :param payload_id: (templated) the payload, where the DAG run does not name it; may be the output of a task.
    """

    spec_type = ""
    trigger_class = ""
    template_fields: Sequence[str] = ("where",)
    start_from_trigger = True

    def __init__(
        self,
        *,
        task: Mapping[str, Any],
        result_keys: Sequence[str] = (),
        timeout_minutes: float | None = None,
        failure_policy: Mapping[str, str] | None = None,
        workflow_name: str = "",
        workflow_description: str = "",
        workflow_params: Mapping[str, Any] | None = None,
        previous_task_id: str | None = None,
        for_each: str | None = None,
        payload_id: str | XComArg | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.where = {**WHERE, **({"payload_id": self._handed_on(payload_id)} if payload_id else {})}
        self.light_task = {
            **task,
            "dag_id": self.dag_id,
            "task_id": self.task_id,
            "task_type": self.spec_type,
            "result_keys": list(result_keys),
            "timeout_seconds": (timeout_minutes or 0) * 60,
            "retries": self.retries or 0,
            "failure_policy": dict(failure_policy or {}),
            "workflow_name": workflow_name,
            "workflow_description": workflow_description,
            "workflow_params": dict(workflow_params or {}),
            "previous_task_id": previous_task_id,
            "for_each": for_each,
        }
        self.limit = timedelta(minutes=timeout_minutes) + GRACE if timeout_minutes else None
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=self.trigger_class,
            next_method="finish",
            trigger_kwargs={"where": self.where, "task": self.light_task},
            timeout=self.limit,
        )

    def _handed_on(self, payload_id: str | XComArg) -> str:
        """The payload as a template; the output of another task as one that a triggerer can resolve."""
        if isinstance(payload_id, str):
            return payload_id
        (operator, key), *more = payload_id.iter_references()
        if more:
            raise InvalidArgument(f"Task {self.task_id}: payload_id must be the output of one task.")
        self.set_upstream(operator)
        # without map_indexes a triggerer sends a request that nobody answers
        return f"{{{{ ti.xcom_pull(task_ids={operator.task_id!r}, key={key!r}, map_indexes=-1) }}}}"

    def execute(self, context: Context) -> None:
        """Only where no triggerer starts the task by itself (Airflow's DAG test mode): hand over to the trigger."""
        self.defer(trigger=self._trigger(), method_name="finish", timeout=self.limit)

    def _trigger(self) -> LightTrigger:
        from importlib import import_module

        module, _, name = self.trigger_class.rpartition(".")
        return getattr(import_module(module), name)(where=self.where, task=self.light_task)

    def finish(self, context: Context, event: Any = None) -> None:
        """End a task that failed for good although it has tries left, which a trigger alone cannot; in DAG test mode,
        end as the trigger's event says."""
        if isinstance(event, Mapping) and "failed" in event:
            self._note(str(event.get("told") or ""))
            raise AirflowFailException(str(event["failed"]))
        if str(event) != "success":
            raise MonaiError(f"Task {self.task_id} failed; the trigger's log says why.")

    def _note(self, key: str) -> None:
        """Note that the failure is told, so that what comes after it is a person who has cleared the task."""
        from airflow_monai import settings
        from airflow_monai.store import open_store

        if key:
            open_store(settings.load().store).write_json(key, {})
