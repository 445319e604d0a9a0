"""Gets the output of a pod that shares no folder with the workers: asks it to publish, and checks what it has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from airflow_monai.errors import MapError, OutputTooLarge, TransferFailed
from airflow_monai.maps.handover import POLL_SECONDS, Answer, Ask, Handover
from airflow_monai.maps.removal import remove_tree
from airflow_monai.maps.runners.base import Check, MapJob
from airflow_monai.maps.runners.kubernetes import status
from airflow_monai.maps.workspace import note_published

log = logging.getLogger(__name__)


def handover_of(job: MapJob) -> Handover | None:
    """None where the store is a folder."""
    return Handover(job.notes.store, job.notes.key) if job.notes else None


def harvest(job: MapJob, pod: status.Pod, look: Callable[[], status.Pod], check: Check) -> None:
    """Have the output published into the folder of the try that asks, and copied to the job's output folder here.

    Whoever asks last is served, so a new try gets what a killed one had asked for.

    :param look: gives the pod as it is now.
    :raises TransferFailed: when the pod cannot publish any more: the application has to run again.
    :raises StoreError: when this worker cannot use the bucket; the pod waits for the next try.
    :raises OutputTooLarge: when there is more than the job may write.
    """
    handover = handover_of(job)
    assert handover is not None
    limits = job.confinement
    to = f"t{job.labels['monai.started_by_try']}"
    ask = Ask(pod["metadata"]["uid"], to, limits.output_bytes, limits.output_files)
    log.info("The application has ended well; its pod %s publishes the output", pod["metadata"]["name"])
    answer = _answer(handover, ask, job, look, check)
    if answer.too_large:
        raise OutputTooLarge(f"{job.found.reference} wrote {answer.problem}. Its output is removed.")
    if answer.problem:
        raise MapError(f"The output of {job.found.reference} cannot be published: {answer.problem}")
    _copy(handover, answer, job)
    check()
    note_published(job.output, to)


def _answer(handover: Handover, ask: Ask, job: MapJob, look: Callable[[], status.Pod], check: Check) -> Answer:
    while True:
        check()
        if handover.asked(ask.pod) != ask:  # also what an older try, which did not know of this one, has asked since
            handover.ask(ask)
        pod = look()
        answer = handover.answered(ask)
        if answer is not None:
            return answer
        status.raise_if_unpublished(pod, job.found.reference)
        time.sleep(POLL_SECONDS)


def _copy(handover: Handover, answer: Answer, job: MapJob) -> None:
    folder = f"{handover.key}/{answer.to}"
    found = list(handover.store.entries(folder))
    size = sum(entry.size for entry in found)
    if (len(found), size) != (answer.files, answer.size):
        raise TransferFailed(
            f"Of the output of {job.found.reference}, {answer.files} files with {answer.size} bytes, the bucket has "
            f"{len(found)} with {size} bytes. Does somebody else remove objects there?"
        )
    remove_tree(job.output)
    job.output.mkdir(parents=True)
    handover.store.fetch_all((entry.key, job.output / entry.key[len(folder) + 1 :]) for entry in found)
