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
from airflow_monai.sinks.ledger.again import (
    MAX_REASON,
    REASON_WARNING,
    ExportTask,
    NothingToSend,
    Resendable,
    dags_by_destination,
    resendable_of,
    wanted_before,
    why_again,
)
from airflow_monai.sinks.ledger.cleared import Cleared
from airflow_monai.sinks.ledger.wishes import Wish, WishReused
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import instance_id_of

router = APIRouter(prefix="/workload-manager/payloads", tags=["Workload Manager: payloads"])


class Resend(BaseModel):
    """What is to be sent again."""

    model_config = ConfigDict(extra="forbid")
    sink: str = Field(min_length=1, max_length=100, description="The destination.", examples=["MAINPACS"])
    task: str = Field("", max_length=250, description="Only what the export task of this id delivered.")
    reason: str = Field("", max_length=MAX_REASON, description=f"Why. {REASON_WARNING}")
    dry_run: bool = Field(False, description="Only tell what would be sent again.")


class ResendingTask(BaseModel):
    """A task that delivered some of it."""

    workflow_instance_id: str
    dag_id: str = Field(examples=["ct-lung"])
    run_id: str
    task_id: str = Field(examples=["to-pacs"])
    state: Cleared | None = Field(
        None,
        description="Whether it sends that now: RunsAgain or Waits, that it does; Sent, that it has done so since a "
        "call with the same key; Running, that it may have begun without it, so that the call has to be made again, "
        "with the same key, when it has ended; Gone, that Airflow does not have it any more. Null when nothing was "
        "done.",
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
            description="Any text of the caller's. The same text means the same call, which is carried out once; while "
            "a task is Running, or when no answer came, calling again goes on with it.",
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
        noted = wish.noted() if wish else None
        if noted is None:
            found = _what(caller, store, name, wanted)
            if wanted.dry_run:
                return _told(found, {})
            noted = wish.begin(found.wanted) if wish else None
        if noted is not None:
            if noted.answer is not None:
                return Resending(**noted.answer)
            found = wanted_before(store, name, wanted.sink, noted.wanted)
            if not _may(caller, _dags_of(found)):
                raise _forbidden()
    except (InvalidArgument, WishReused) as error:
        raise HTTPException(409, str(error)) from None
    states = _resend(caller, found, wanted.reason)
    answer = _told(found, states)
    if wish and Cleared.RUNNING not in states.values():  # else the same call, made again, is to send it
        return Resending(**wish.end(answer.model_dump(mode="json")))
    return answer


def _what(caller: Caller, store: Store, payload_id: str, wanted: Resend) -> Resendable:
    """What is to be sent again.

    :raises HTTPException: 403 or 409; see :func:`_refusal`.
    """
    try:
        found = resendable_of(store, payload_id, wanted.sink, wanted.task)
    except NothingToSend as error:
        raise _refusal(caller, store, payload_id, wanted.sink, str(error)) from None
    if not _may(caller, _dags_of(found)):
        raise _refusal(caller, store, payload_id, wanted.sink, "")
    return found


def _refusal(caller: Caller, store: Store, payload_id: str, sink: str, why: str) -> HTTPException:
    """Tells of those destinations only whose deliveries the caller may have made again: whoever sees a payload by one
    workflow may not even know of another, and learns here neither where that one delivers to, nor whether it does."""
    there = dags_by_destination(store, payload_id)
    mine = [name for name, dag_ids in there.items() if _may(caller, dag_ids)]
    asked = safe_name(sink)
    if why and asked in mine:
        return HTTPException(409, why)
    if (there and not mine) or caller.of_dags(Right.CHANGE_TASKS, there.get(asked, set())):
        return _forbidden()
    names = ", ".join(mine) or "none"
    return HTTPException(
        409, f"Nothing of this payload that you may send again was to go to a destination {sink!r}. There are: {names}."
    )


def _dags_of(found: Resendable) -> set[str]:
    return {task.dag_id for task in found.tasks}


def _may(caller: Caller, dag_ids: set[str]) -> bool:
    return caller.of_dags(Right.CHANGE_TASKS, dag_ids) == dag_ids


def _forbidden() -> HTTPException:
    """Names no workflow, which the caller may not even know of."""
    return HTTPException(403, "You have no right to run the tasks that delivered it again.")


def _resend(caller: Caller, found: Resendable, reason: str) -> dict[ExportTask, Cleared]:
    why = why_again(caller.name, reason)
    for task, names in found.unmarked.items():  # before, so that nothing is marked of which the audit log has nothing
        _note(caller, "monai.payload.resend", found, task, objects=len(names))
    found.mark(why)
    states = {}
    for task, cleared in found.clear(
        lambda task, text: clear_task(task.dag_id, task.run_id, task.task_id, text, str(caller.user.get_id())), why
    ):
        states[task] = cleared
        if cleared is Cleared.YES:
            _note(caller, "monai.task.clear", found, task)
    return states


def _note(caller: Caller, event: str, found: Resendable, task: ExportTask, **more: int) -> None:
    facts = {"payload": found.ledger.payload_id, "sink": found.ledger.sink, **more}
    note(caller, event, dag_id=task.dag_id, run_id=task.run_id, task_id=task.task_id, extra=facts)


def _told(found: Resendable, states: dict[ExportTask, Cleared]) -> Resending:
    return Resending(
        payload_id=found.ledger.payload_id,
        sink=found.ledger.sink,
        objects=found.objects,
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
