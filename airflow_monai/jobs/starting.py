"""Begins the jobs of requests: at once by whoever takes the request, later by a gateway, never twice."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from airflow_monai.errors import MonaiError
from airflow_monai.jobs.requests import JobRequests, Request, WantedJob
from airflow_monai.maps.registry import MapRegistry, split_label
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.damaged import tell_once
from airflow_monai.store.payloads import manifest_key, payload_key

log = logging.getLogger(__name__)
PATIENCE = 3
"""After so many runs of a workflow that could not be made the others are left for later."""


MOST_AT_ONCE = 1000
"""Requests that are looked at before anything else is done."""


class RunCreator(Protocol):
    """What makes runs: Airflow's API, or its database."""

    def create_run(self, dag_id: str, run_id: str, partition_key: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class JobStarter:
    """
    :param end: ends a run, given the ids of its DAG and of itself, and who cancelled it (empty: nobody); for a job that
        was cancelled while its run was being made.
    """

    store: Store
    runs: RunCreator
    end: Callable[[str, str, str], object]
    _told: dict[str, set[str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Of open requests the jobs that the index has been told of, so that it is not told at each pass."""

    def start_open(self) -> int:
        """Go on with what is open; how many requests are done with now.

        One that fails keeps no other: they come in any order. A workflow of which a few runs could not be made, as one
        that Airflow has not read yet, is left for the next time.
        """
        self._see_cancelling_through()
        done, refused, seen = 0, Counter[str](), set[str]()
        for request in JobRequests(self.store).open(MOST_AT_ONCE):
            seen.add(request.id)
            try:
                done += self._start(request, refused)
            except MonaiError as error:
                tell_once(f"The jobs of request {request.id} cannot be begun now: {error}")
        for request_id in self._told.keys() - seen:
            del self._told[request_id]
        return done

    def start(self, request: Request) -> bool:
        """Begin its jobs: whether all have begun, or never will. May be called again and again, by anybody."""
        return self._start(request, Counter())

    def _start(self, request: Request, refused: Counter[str]) -> bool:
        """:param refused: how many runs of each DAG could not be made."""
        settled = []
        for job in request.jobs:
            if self._is_settled(job) or (refused[job.dag_id] < PATIENCE and self._begin(job)):
                settled.append(job)
            else:
                refused[job.dag_id] += 1
        if len(settled) == len(request.jobs):
            JobRequests(self.store).close(request)
            self._told.pop(request.id, None)
            return True
        told = self._told.setdefault(request.id, set())
        for job in settled:
            if job.job_id not in told:
                JobRequests(self.store).begun(request, job)
                told.add(job.job_id)
        return False

    def _is_settled(self, job: WantedJob) -> bool:
        """Whether it has begun, or never will."""
        requests = JobRequests(self.store)
        if (unwanted := requests.unstarted(job.job_id)) is not None:
            # it was cancelled; whoever was just making its run may have died before seeing that
            self._end_quietly(job, unwanted.by)
            return True
        if self.store.exists(_start_key(job)):  # its run may have been deleted since, and is not made again
            return True
        if not self._is_registered(job):
            requests.never_start(job, reason=f"The MAP {job.label} was unregistered before the job began.")
            return True
        if not self.store.exists(manifest_key(job.payload_id)):
            requests.never_start(job, reason="Its dataset was deleted before the job began.")
            return True
        return False

    def _begin(self, job: WantedJob) -> bool:
        try:
            self.runs.create_run(job.dag_id, job.run_id, partition_key=job.payload_id)
        except MonaiError as error:  # the DAG is not parsed yet, or Airflow is away
            log.info("job %s waits: %s", job.job_id, error)
            return False
        self._note_start(job)
        if (unwanted := JobRequests(self.store).unstarted(job.job_id)) is not None:
            self._end_quietly(job, unwanted.by)
        return True

    def _see_cancelling_through(self) -> None:
        """Of whoever died in the midst of it."""
        requests = JobRequests(self.store)
        for job, by in list(requests.cancelling()):
            try:
                unwanted = requests.cancel(job, by)
                self._end_quietly(job, unwanted.by)
                requests.close_cancelling(job.job_id)
            except MonaiError as error:
                tell_once(f"Job {job.job_id} cannot be cancelled now: {error}")

    def _is_registered(self, job: WantedJob) -> bool:
        record = MapRegistry(self.store).newest(*(split_label(job.label) or ("", "")))
        return record is not None and record.is_registered

    def _note_start(self, job: WantedJob) -> None:
        """Beside the payload, whose history names all runs on it."""
        record = {
            "dag_id": job.dag_id,
            "run_id": job.run_id,
            "version": job.label.partition(":")[2],
            "time": time.time(),
            "by_hand": True,
        }
        self.store.create_json(_start_key(job), record)

    def _end_quietly(self, job: WantedJob, cancelled_by: str) -> None:
        try:
            self.end(job.dag_id, job.run_id, cancelled_by)
        except LookupError:
            pass


def _start_key(job: WantedJob) -> str:
    """Exists when its run was made."""
    name = job.run_id.rpartition("__")[2]
    return payload_key(job.payload_id, "reruns", safe_name(job.dag_id), f"{name}.json")
