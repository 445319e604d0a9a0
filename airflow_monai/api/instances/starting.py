"""Starts DAG runs from within the API server, as Airflow's own route does, but for our gate in front of it."""

from __future__ import annotations

from airflow.models.dag import DagModel
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from airflow_monai.hooks.airflow_api import CANCELLED, DagNotThere, RunNotCreated


class RunsHere:
    """Makes runs in Airflow's database: what the gateway does through Airflow's REST API
    (:class:`airflow_monai.hooks.airflow_api.AirflowApi`).

    :param user: in whose name.
    """

    def __init__(self, user: str):
        self._user = user

    def create_run(self, dag_id: str, run_id: str, partition_key: str, note: str = "") -> bool:
        """Make sure that the run exists: True when this call made it, False when it was there.

        :raises DagNotThere: when Airflow has no such DAG (yet).
        :raises RunNotCreated: with the reason, when it does not exist.
        """
        try:
            with create_session() as session:
                self._create(session, dag_id, run_id, partition_key, note)
        except IntegrityError:
            return False
        except SQLAlchemyError as error:
            raise RunNotCreated(f"Airflow's database does not take the run: {type(error).__name__}") from error
        return True

    def _create(self, session: Session, dag_id: str, run_id: str, partition_key: str, note: str) -> None:
        from pendulum import now

        model = session.scalar(select(DagModel).where(~DagModel.is_stale, DagModel.dag_id == dag_id))
        dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session) if model is not None else None
        if model is None or dag is None:
            raise DagNotThere(f"Airflow has no DAG {dag_id!r}, or has not parsed it yet")
        if model.has_import_errors:
            raise RunNotCreated(f"the file of the DAG {dag_id!r} has import errors")
        run = dag.create_dagrun(
            run_id=run_id,
            logical_date=None,
            data_interval=None,
            run_after=now("UTC"),
            conf={},
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.REST_API,
            triggering_user_name=self._user,
            state=DagRunState.QUEUED,
            partition_key=partition_key,
            session=session,
        )
        if note:
            run.note = (note, None)


def end_run(dag_id: str, run_id: str, cancelled_by: str = "") -> bool:
    """Have Airflow end a run: its tasks are stopped, and it has failed. False when it had ended before.

    :param cancelled_by: whoever wants that; the run then says, in the same transaction, that it was cancelled
        (:func:`airflow_monai.api.instances.runs.is_cancelled`).
    :raises LookupError: when there is no such run.
    """
    from airflow.api_fastapi.core_api.datamodels.dag_run import DagRunMutableStates
    from airflow.api_fastapi.core_api.services.public.dag_run import patch_dag_run_state
    from pendulum import now

    with create_session() as session:
        wanted = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        # one of several that want to end it does
        run = session.scalar(wanted.with_for_update())
        if run is None:
            raise LookupError(f"{dag_id} {run_id}")
        if run.state not in (DagRunState.QUEUED, DagRunState.RUNNING):
            return False
        dag = DBDagBag().get_dag_for_run(run, session=session)
        if dag is None:
            raise LookupError(f"{dag_id} {run_id}")
        if cancelled_by:
            noted = {"by": cancelled_by, "at": now("UTC").isoformat(), "clear_number": run.clear_number}
            run.conf = {**(run.conf or {}), CANCELLED: noted}
        patch_dag_run_state(dag=dag, dag_run=run, state=DagRunMutableStates.FAILED, session=session)
    return True
