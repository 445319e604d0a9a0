"""``/mip/jobs`` and ``/mip/modules``: what runs have given."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from airflow_monai.api.common.access import Right
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.downloads import send_zip
from airflow_monai.api.mip.desk import Desk, TheDesk, job_status
from airflow_monai.api.mip.engine import View, folder_of
from airflow_monai.api.mip.models import JobStatus, ModuleDescription, ModuleStatus
from airflow_monai.api.mip.routes import route
from airflow_monai.mip import files
from airflow_monai.mip.model import Result, RunId, Status
from airflow_monai.mip.modules import Modules
from airflow_monai.mip.names import map_names
from airflow_monai.store.runs import RunFolder

router = APIRouter(tags=["Job server (mip)"])


@route(router, "GET", "/jobs")
def list_jobs(desk: TheDesk) -> list[str]:
    """Names of all jobs that have been run."""
    firsts = [RunId(job, 1) for job in desk.ledger.jobs()]
    return [run_id.job for run_id in desk.visible(firsts)]


@route(router, "GET", "/jobs/{job_name}", 404)
def show_job(job_name: str, desk: TheDesk) -> JobStatus:
    """How far a job is, by its last run."""
    view = desk.last_of(job_name)
    return job_status(view, _results(desk, view))


@route(router, "GET", "/modules", 503)
def list_modules(desk: TheDesk) -> list[ModuleDescription]:
    """The modules that can be run, in the order of the workflow."""
    workflow = desk.workflow()
    desk.caller.check(Right.SEE_WORKFLOWS, workflow.dag_id)
    return [
        ModuleDescription(module_name=module.name, version=module.version)
        for module in Modules.of(workflow).by_name.values()
    ]


@route(router, "GET", "/modules/{job_name}", 404)
def list_job_modules(job_name: str, desk: TheDesk) -> list[str]:
    """Names of the modules that have been run for a job."""
    return list(_results(desk, desk.last_of(job_name)))


@route(router, "GET", "/modules/{job_name}/{module_name}", 404)
def show_module(job_name: str, module_name: str, desk: TheDesk) -> ModuleStatus:
    """How far a module of a job is, by its last run."""
    view = desk.last_of(job_name)
    result = _result(desk, view, module_name)
    tail = None
    has_ended = result.status in (Status.PASSED, Status.FAILED)
    if has_ended and desk.caller.may(Right.READ_DATA, view.run.dag_id):
        tail = files.log_tail(folder_of(desk.store, result), module_name)
        if tail is not None:
            _note_read(desk, result, "log")
    return ModuleStatus.of(job_name, result, tail)


def _download(kind: str, entries: Callable[[RunFolder, str], files.Entries]) -> None:
    def download(job_name: str, module_name: str, desk: TheDesk) -> Response:
        view = desk.last_of(job_name, Right.READ_DATA)
        result = _result(desk, view, module_name)
        if kind != "logs" and result.status not in (Status.PASSED, Status.FAILED):
            last = desk.ledger.last_ended(job_name).last.get(module_name)
            if last is None:
                raise HTTPException(409, f"The module has no {kind} yet: it is {result.status.value}.")
            result = last
        _note_read(desk, result, kind)
        return send_zip(entries(folder_of(desk.store, result), module_name), f"{job_name}-{module_name}-{kind}.zip")

    download.__name__ = f"download_{kind}"
    download.__doc__ = f"The {kind} of the last run of a module of a job, as a zip."
    for place in ("jobs", "modules"):
        route(
            router,
            "GET",
            f"/{place}/{{job_name}}/{{module_name}}/{kind}",
            404,
            409,
            media_type="application/zip",
            response_class=Response,
            operation_id=f"mip_{kind}_below_{place}",
        )(download)


_download("logs", files.logs)
_download("outputs", files.outputs)
_download("temps", files.temps)


@route(router, "GET", "/maps", 503)
def list_maps(desk: TheDesk) -> list[str]:
    """Names of the maps that modules can be run on."""
    dag_id = desk.workflow().dag_id
    desk.caller.check(Right.READ_DATA, dag_id)
    names = map_names(desk.store)
    note(desk.caller, "monai.mip.maps", dag_id=dag_id, extra={"maps": len(names)})
    return names


def _results(desk: Desk, view: View) -> dict[str, Result]:
    """The last result of each module of a job, that of a run which is under way included."""
    known = dict((view.ended or desk.ledger.last_ended(view.run.run_id.job)).last)
    if view.ended is None:
        known |= view.modules
    return known


def _result(desk: Desk, view: View, module: str) -> Result:
    found = _results(desk, view).get(module)
    if found is None:
        raise HTTPException(404, "The module has not been run in this job.")
    return found


def _note_read(desk: Desk, result: Result, what: str) -> None:
    note(
        desk.caller,
        "monai.mip.read",
        dag_id=result.dag_id,
        run_id=result.dag_run_id,
        task_id=result.module,
        extra={"what": what, "payload_id": result.payload_id},
    )
