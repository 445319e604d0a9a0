"""Who is going to work on a payload as soon as Airflow has their run: jobs and runs of the job server that wait."""

from __future__ import annotations

from airflow_monai.jobs.requests import JobRequests
from airflow_monai.mip.ledger import Ledger
from airflow_monai.store.base import Store


def waiting_on(store: Store, payload_id: str) -> int:
    """How many have been asked for and have not ended, as the store says; some may have a run in Airflow by now."""
    requests = JobRequests(store)
    entries = (entry for entry in requests.index.entries() if entry.request and entry.payload_id == payload_id)
    jobs = sum(requests.of_entry(entry) is not None for entry in entries)
    return jobs + sum(run.payload_id == payload_id for run in Ledger(store).waiting_runs())
