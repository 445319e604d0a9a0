"""``/mip/runs``: have modules run, and see how far they are."""

from __future__ import annotations

import logging
import uuid
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from sqlalchemy.exc import SQLAlchemyError

from airflow_monai import settings
from airflow_monai.api.common.access import Right
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.problems import ApiProblem, FieldError
from airflow_monai.api.instances.data_rights import check_data
from airflow_monai.api.mip.desk import Desk, TheDesk, run_status
from airflow_monai.api.mip.engine import View
from airflow_monai.api.mip.models import RunPayload, RunStatus
from airflow_monai.api.mip.routes import route
from airflow_monai.errors import MonaiError, PayloadNotFound, SecretsUnsafe
from airflow_monai.hooks.fernet import AirflowFernet
from airflow_monai.mip.ledger import now
from airflow_monai.mip.model import ALL, Run, RunId, Status
from airflow_monai.mip.modules import Modules
from airflow_monai.mip.names import payload_of
from airflow_monai.specs.plan import WorkflowPlan

log = logging.getLogger(__name__)
router = APIRouter(tags=["Job server (mip)"])


@route(router, "POST", "/runs", 400, 404, 409, 503)
def run_modules(payload: RunPayload, desk: TheDesk) -> RunStatus:
    """Have modules run, with what comes before them and has no result yet. Answers at once."""
    workflow = desk.workflow()
    desk.caller.check(Right.START_RUNS, workflow.dag_id)
    _check_modules(payload, Modules.of(workflow))
    _check_job(desk, payload.job, workflow)
    key = _encrypted(payload)
    run = Run(
        run_id=RunId(payload.job, 1),
        dag_id=workflow.dag_id,
        modules=(ALL,) if ALL in payload.modules else tuple(dict.fromkeys(payload.modules)),
        map=payload.map,
        payload_id=_payload_of(desk, payload.map),
        force_rerun=payload.force_rerun,
        submitted=now(),
        user=desk.caller.name,
        extra_args={module: tuple(words) for module, words in payload.extra_args.items() if words},
        key_name=uuid.uuid4().hex if key else "",
    )
    run = desk.ledger.submit(run, key)
    try:
        note(
            desk.caller,
            "monai.mip.run",
            dag_id=run.dag_id,
            run_id=run.run_id.dag_run_id,
            extra={"modules": list(run.modules), "force_rerun": run.force_rerun, "payload_id": run.payload_id},
        )
        view = desk.engine.view(run.run_id)
        return run_status(view or View(run, Status.NOT_STARTED, {}), desk)
    except (SQLAlchemyError, MonaiError, OSError) as error:  # it is submitted: whoever asks next starts it
        log.error("run %s cannot be started now: %s", run.run_id, type(error).__name__)
        return run_status(View(run, Status.NOT_STARTED, {}), desk)


@route(router, "GET", "/runs")
def list_runs(desk: TheDesk) -> list[str]:
    """Ids of all runs."""
    return [str(run_id) for run_id in desk.visible(desk.ledger.run_ids())]


@route(router, "GET", "/runs/{run_id}", 404)
def show_run(run_id: Annotated[str, Path(examples=["alpha-1"])], desk: TheDesk) -> RunStatus:
    """How far a run is."""
    return run_status(desk.view(RunId.parse(run_id)), desk)


def _check_modules(payload: RunPayload, modules: Modules) -> None:
    unknown = modules.unknown(payload.modules)
    if unknown:
        raise ApiProblem(
            404,
            "There is no such module.",
            [FieldError(field="body.modules", message=f"{name[:100]!r} is not known") for name in unknown[:20]],
        )
    if not payload.extra_args:
        return
    if not settings.load_mip().extra_args:
        raise HTTPException(403, "This site allows no extra_args ([monai] mip_extra_args).")
    strange = [name for name in payload.extra_args if name not in modules.by_name]
    if strange:
        raise ApiProblem(
            404,
            "There is no such module.",
            [FieldError(field="body.extra_args", message=f"{name[:100]!r} is not known") for name in strange[:20]],
        )


def _check_job(desk: Desk, job: str, workflow: WorkflowPlan) -> None:
    """A job is of one workflow: another one's results would mean something else."""
    numbers = desk.ledger.numbers(job)
    first = desk.ledger.run(RunId(job, numbers[0])) if numbers else None
    if first is not None and first.dag_id != workflow.dag_id:
        raise HTTPException(409, "This job has results of another workflow's modules: choose another name.")


def _payload_of(desk: Desk, name: str) -> str:
    try:
        payload_id = payload_of(desk.store, name, lambda payload_id: _may_use(desk, payload_id))
        check_data(desk.caller, desk.store, payload_id)
        return payload_id
    except PayloadNotFound:
        raise HTTPException(404, "There is no such map.") from None


def _may_use(desk: Desk, payload_id: str) -> bool:
    try:
        check_data(desk.caller, desk.store, payload_id)
    except HTTPException as error:
        if error.status_code >= 500:  # nobody knows now; an older one of the name would be other data
            raise
        return False
    return True


def _encrypted(payload: RunPayload) -> bytes | None:
    key = payload.openai_key.get_secret_value()
    if not key:
        return None
    if any(ord(character) < 32 or ord(character) == 127 for character in key):
        raise HTTPException(400, "The openai_key holds control characters.")
    if settings.load().runner == "kubernetes":
        raise HTTPException(
            409, "An openai_key would lie unencrypted in the pods' specs: give the modules one by a Secret."
        )
    try:
        return AirflowFernet().encrypt(key).encode()
    except SecretsUnsafe as error:
        raise HTTPException(409, str(error)) from None
