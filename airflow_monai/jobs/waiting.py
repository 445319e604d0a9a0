"""Who is going to work on a payload as soon as Airflow has their run: jobs and runs of the job server that wait."""

from __future__ import annotations

from airflow_monai.jobs.requests import JobRequests
from airflow_monai.mip.ledger import Ledger
from airflow_monai.store.base import Store


def waiting_on(store: Store, payload_id: str) -> int:
    """How many have been asked for and have not ended, as the store says; some may have a run in Airflow by now."""
    jobs = sum(job.payload_id == payload_id for request in JobRequests(store).open() for job in request.jobs)
    return jobs + sum(run.payload_id == payload_id for run in Ledger(store).waiting_runs())
