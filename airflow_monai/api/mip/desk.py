"""What the routes share: the engine, who may see what, and answers out of views."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from airflow_monai import settings
from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.wording import without_places
from airflow_monai.api.mip.engine import Engine, View
from airflow_monai.api.mip.models import HIDDEN, JobStatus, RunStatus, SeenPayload
from airflow_monai.errors import SettingsError
from airflow_monai.mip.delivery import told
from airflow_monai.mip.ledger import Ledger
from airflow_monai.mip.model import RunId
from airflow_monai.mip.site import Workflows, workflows_of
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.store import Store, open_store
from airflow_monai.store.damaged import undamaged

logger = logging.getLogger(__name__)


class Desk:
    """The job server for one request."""

    def __init__(self, caller: TheCaller):
        self.caller: Caller = caller

    @cached_property
    def store(self) -> Store:
        return open_store(settings.load().store)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.store)

    @cached_property
    def workflows(self) -> Workflows:
        return workflows_of(settings.load().workflow_folder, self.store)

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.store, self.workflows)

    def workflow(self) -> WorkflowPlan:
        """The one whose tasks are the modules.

        :raises HTTPException: 503 when nobody says which it is.
        """
        try:
            return self.workflows.of_the_site()
        except SettingsError as error:
            logger.error("%s", error)
            raise HTTPException(
                503, "This site has not said which workflow's tasks are the modules: [monai] mip_workflow."
            ) from None

    def view(self, run_id: RunId | None, right: Right = Right.SEE_RUNS) -> View:
        """
        :raises HTTPException: 404 when there is no such run, 403 for one that the caller has no right to.
        """
        run = self.ledger.run(run_id) if run_id is not None else None
        if run is None or run_id is None:
            self.caller.check(right)  # who may see nothing learns nothing of what there is
            raise HTTPException(404, "There is no such run.")
        self.caller.check(right, run.dag_id)
        view = self.engine.view(run_id)
        if view is None:
            raise HTTPException(404, "There is no such run.")
        return view

    def last_of(self, job: str, right: Right = Right.SEE_RUNS) -> View:
        """The last run of a job.

        :raises HTTPException: 404 when there is no such job, 403 for one that the caller has no right to.
        """
        first = RunId.parse(f"{job}-1")
        numbers = self.ledger.numbers(job) if first is not None else []
        if not numbers:
            self.caller.check(right)
            raise HTTPException(404, "There is no such job.")
        return self.view(RunId(job, numbers[-1]), right)

    def visible(self, run_ids: Iterable[RunId]) -> list[RunId]:
        """Those that the caller may see."""
        if self.caller.may(Right.SEE_RUNS):
            return list(run_ids)
        dags: dict[str, bool] = {}
        found = []
        for run in undamaged(run_ids, self.ledger.run):
            if run.dag_id not in dags:
                dags[run.dag_id] = self.caller.may(Right.SEE_RUNS, run.dag_id)
            if dags[run.dag_id]:
                found.append(run.run_id)
        return found


def desk(request: Request, caller: TheCaller) -> Desk:
    """For a request; who is not known gets none."""
    return Desk(caller)


TheDesk = Annotated[Desk, Depends(desk)]


def run_status(view: View, desk: Desk) -> RunStatus:
    """Who may not read data is not told the map of others, which may be named after a patient."""
    run, ended = view.run, view.ended
    deliveries = (f"delivery of {news}" for news in told(desk.store, run.run_id))
    log = without_places("\n".join([ended.log, *deliveries])) if ended else None
    payload = SeenPayload(
        job=run.run_id.job,
        modules=list(run.modules),
        map=run.map if run.user == desk.caller.name or desk.caller.may(Right.READ_DATA, run.dag_id) else HIDDEN,
        force_rerun=run.force_rerun,
        openai_key=HIDDEN if run.key_name else "",
        extra_args={module: list(words) for module, words in run.extra_args.items()},
    )
    return RunStatus(
        status=view.status,
        run_id=str(run.run_id),
        payload=payload,
        start_time=view.start_time,
        stop_time=ended.stop_time if ended else None,
        log=log,
    )


def job_status(view: View, modules: Iterable[str]) -> JobStatus:
    ended = view.ended
    return JobStatus(
        status=view.status,
        job=view.run.run_id.job,
        modules=list(modules),
        start_time=view.start_time,
        stop_time=ended.stop_time if ended else None,
        log=without_places(ended.log) if ended else None,
        force_rerun=view.run.force_rerun,
    )
