"""Whose data it is: who may have work done on a payload."""

from __future__ import annotations

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from fastapi import HTTPException
from sqlalchemy import select

from airflow_monai.api.common.access import Caller, Right
from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.store.base import Store


def check_data(caller: Caller, store: Store, payload_id: str) -> None:
    """Whoever has a workflow run on a payload gets to read it by that run, so they must have a right to it before: to
    the data of all workflows, or of one that runs or ran on it, or because they brought it in.

    :raises HTTPException: 403 where the caller has none.
    :raises DatasetNotFound: when there is no such payload.
    """
    if caller.may(Right.READ_DATA) or Datasets(store).is_of(payload_id, caller.name):
        return
    with create_session() as session:
        dag_ids = set(session.scalars(select(DagRun.dag_id).where(DagRun.partition_key == payload_id).distinct()))
    if not caller.of_dags(Right.READ_DATA, dag_ids):
        raise HTTPException(403, "You have no right to read these data, so no job of yours may work on them.")
