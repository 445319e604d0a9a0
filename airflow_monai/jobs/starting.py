"""Begins the jobs of requests: at once by whoever takes the request, later by a gateway, never twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from airflow_monai.errors import MonaiError
from airflow_monai.jobs.requests import JobRequests, Request, WantedJob
from airflow_monai.maps.registry import MapRegistry, split_label
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import manifest_key, payload_key

log = logging.getLogger(__name__)


class RunCreator(Protocol):
    """What makes runs: Airflow's API, or its database."""

    def create_run(self, dag_id: str, run_id: str, partition_key: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class JobStarter:
    """
    :param end: ends a run; for a job that was cancelled while its run was being made.
    """

    store: Store
    runs: RunCreator
    end: Callable[[str, str], object]

    def start_open(self, limit: int = 200) -> int:
        """Go on with what is open; how many requests are done with now. One that fails keeps no other."""
        done = 0
        for number, request in enumerate(JobRequests(self.store).open()):
            if number >= limit:
                break
            try:
                done += self.start(request)
            except MonaiError as error:
                log.warning("the jobs of request %s cannot be begun now: %s", request.id, error)
        return done

    def start(self, request: Request) -> bool:
        """Begin its jobs: whether all have begun, or never will. May be called again and again, by anybody."""
        results = [self._begin(job) for job in request.jobs]
        if all(results):
            JobRequests(self.store).close(request)
        return all(results)

    def _begin(self, job: WantedJob) -> bool:
        requests = JobRequests(self.store)
        if requests.unstarted(job.job_id) is not None:
            # it was cancelled; whoever was just making its run may have died before seeing that
            self._end_quietly(job)
            return True
        if not self._is_registered(job):
            requests.never_start(job, reason=f"The MAP {job.label} was unregistered before the job began.")
            return True
        if not self.store.exists(manifest_key(job.payload_id)):
            requests.never_start(job, reason="Its dataset was deleted before the job began.")
            return True
        try:
            self.runs.create_run(job.dag_id, job.run_id, partition_key=job.payload_id)
        except MonaiError as error:  # the DAG is not parsed yet, or Airflow is away
            log.info("job %s waits: %s", job.job_id, error)
            return False
        self._note_start(job)
        if requests.unstarted(job.job_id) is not None:
            self._end_quietly(job)
        return True

    def _is_registered(self, job: WantedJob) -> bool:
        record = MapRegistry(self.store).newest(*(split_label(job.label) or ("", "")))
        return record is not None and record.is_registered

    def _note_start(self, job: WantedJob) -> None:
        """Beside the payload, whose history names all runs on it."""
        name = job.run_id.rpartition("__")[2]
        key = payload_key(job.payload_id, "reruns", safe_name(job.dag_id), f"{name}.json")
        record = {
            "dag_id": job.dag_id,
            "run_id": job.run_id,
            "version": job.label.partition(":")[2],
            "time": time.time(),
            "by_hand": True,
        }
        self.store.create_json(key, record)

    def _end_quietly(self, job: WantedJob) -> None:
        try:
            self.end(job.dag_id, job.run_id)
        except LookupError:
            pass
