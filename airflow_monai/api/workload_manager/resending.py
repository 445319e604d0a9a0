"""Results that a destination has accepted, and lost: it gets them once more."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.problems import responses
from airflow_monai.api.instances.clearing import clear_task
from airflow_monai.api.runs import site_store
from airflow_monai.api.workflow_manager.payloads import check_seen
from airflow_monai.errors import InvalidArgument
from airflow_monai.jobs.requests import MAX_KEY, asked_hash, request_id
from airflow_monai.sinks.ledger.again import MAX_REASON, ExportTask, Resendable, resendable_of, why_again
from airflow_monai.sinks.ledger.cleared import Cleared
from airflow_monai.sinks.ledger.wishes import Wish, WishReused
from airflow_monai.store.payloads import instance_id_of

router = APIRouter(prefix="/workload-manager/payloads", tags=["Workload Manager: payloads"])


class Resend(BaseModel):
    """What is to be sent again."""

    model_config = ConfigDict(extra="forbid")
    sink: str = Field(min_length=1, max_length=100, description="The destination.", examples=["MAINPACS"])
    task: str = Field("", max_length=250, description="Only what the export task of this id delivered.")
    reason: str = Field("", max_length=MAX_REASON, description="Kept in the store; name no patient.")
    dry_run: bool = Field(False, description="Only tell what would be sent again.")


class ResendingTask(BaseModel):
    """A task that delivered some of it."""

    workflow_instance_id: str
    dag_id: str = Field(examples=["ct-lung"])
    run_id: str
    task_id: str = Field(examples=["to-pacs"])
    state: Cleared | None = Field(
        None,
        description="Whether it sends that now: RunsAgain or Waits, that it does; Running, that it may have begun "
        "without it, so that the call has to be made again when it has ended; Gone, that Airflow does not have it any "
        "more. Null when nothing was done.",
    )


class Resending(BaseModel):
    """What is sent again, and by which tasks."""

    payload_id: str
    sink: str
    objects: int = Field(examples=[120])
    tasks: list[ResendingTask]


@router.post(
    "/{payload_id}/resend",
    status_code=202,
    summary="Send again what a destination lost",
    operation_id="resend_payload",
    responses=responses(400, 404, 409),
)
def resend_payload(
    payload_id: UUID,
    wanted: Resend,
    caller: TheCaller,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=MAX_KEY,
            description="Any text of the caller's. The same text means the same call, which is carried out once.",
        ),
    ] = None,
) -> Resending:
    """Send to a destination once more what it has accepted of a payload: the same objects under the same UIDs, by the
    export tasks that delivered them, which run again for it. Nothing is computed again, and nothing that comes after
    those tasks runs again. To call it again before they have done so changes nothing.
    """
    store, name = site_store(), str(payload_id)
    check_seen(caller, name)
    wish = None
    if idempotency_key and not wanted.dry_run:
        wish = Wish(store, name, request_id(caller.name, idempotency_key), asked_hash(wanted.model_dump(mode="json")))
    try:
        known = wish.answer() if wish else None
        if known is None:
            found = resendable_of(store, name, wanted.sink, wanted.task)
            _check(caller, found)
            if wanted.dry_run:
                return _told(found, {})
            known = wish.begin() if wish else None
        if known is not None:
            return Resending(**known)
    except (InvalidArgument, WishReused) as error:
        raise HTTPException(409, str(error)) from None
    answer = _told(found, _resend(caller, found, wanted.reason))
    if wish:
        wish.end(answer.model_dump(mode="json"))
    return answer


def _check(caller: Caller, found: Resendable) -> None:
    """:raises HTTPException: 403; it names no workflow, which the caller may not even know of."""
    dag_ids = {task.dag_id for task in found.tasks}
    if caller.of_dags(Right.CHANGE_TASKS, dag_ids) != dag_ids:
        raise HTTPException(403, "You have no right to run the tasks that delivered it again.")


def _resend(caller: Caller, found: Resendable, reason: str) -> dict[ExportTask, Cleared]:
    why = why_again(caller.name, reason)
    found.mark(why)
    states = {}
    for task, cleared in found.clear(
        lambda task, text: clear_task(task.dag_id, task.run_id, task.task_id, text, str(caller.user.get_id())), why
    ):
        states[task] = cleared
        facts = {"payload": found.ledger.payload_id, "sink": found.ledger.sink, "state": cleared.value}
        note(
            caller,
            "monai.payload.resend",
            dag_id=task.dag_id,
            run_id=task.run_id,
            task_id=task.task_id,
            extra=facts,
        )
    return states


def _told(found: Resendable, states: dict[ExportTask, Cleared]) -> Resending:
    return Resending(
        payload_id=found.ledger.payload_id,
        sink=found.ledger.sink,
        objects=len(found.entries),
        tasks=[
            ResendingTask(
                workflow_instance_id=instance_id_of(task.dag_id, task.run_id),
                dag_id=task.dag_id,
                run_id=task.run_id,
                task_id=task.task_id,
                state=states.get(task),
            )
            for task in found.tasks
        ],
    )
