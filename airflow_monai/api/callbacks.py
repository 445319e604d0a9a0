"""Where a service says that the job of an ``http_async`` task with ``wait: callback`` has ended.

The one address of ours without a log-in: the secret token in it, of which the store knows a digest only, is the right
to answer for that one task, once.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Path
from pydantic import BaseModel

from airflow_monai.api.common.audit import note
from airflow_monai.api.common.problems import responses
from airflow_monai.api.runs import site_store
from airflow_monai.store.callbacks import resolve_callback, waiting_for
from airflow_monai.store.giving import Reception

router = APIRouter(prefix="/callbacks", tags=["Callbacks"])
ANSWER = {
    "done": {"summary": "The job has ended well", "value": {"status": "done", "result": {"volume_ml": 712.5}}},
    "failed": {"summary": "It has not", "value": {"status": "failed", "message": "no liver in the image"}},
}


class Received(BaseModel):
    """What became of the answer."""

    state: Reception


@router.post(
    "/{token}",
    responses=responses(400, 404, 413, 429, anonymous=True),
    response_model=Received,
    operation_id="call_back",
    summary="Tell a waiting task how its job has ended",
)
def call_back(
    token: Annotated[str, Path(description="As the task's request held it.", examples=["3q2-7w_..."], max_length=200)],
    answer: Annotated[Any, Body(openapi_examples=ANSWER, description="Any JSON document.")] = None,
) -> Received:
    """No log-in is needed: the token is the right. Of several answers the first one counts; to a later one the state is
    `repeated`, so that whoever is not sure that an answer arrived can send it again. The task goes on within seconds.
    """
    store = site_store()
    state = resolve_callback(store, token, answer)
    waiting = waiting_for(store, token)
    if state is Reception.UNKNOWN or waiting is None:
        raise HTTPException(404, "No task waits for an answer with this token.")
    if state is Reception.TAKEN:
        note(
            None,
            "monai.callback",
            dag_id=waiting.dag_id,
            run_id=waiting.run_id,
            task_id=waiting.task_id,
            map_index=waiting.map_index,
        )
    return Received(state=state)
