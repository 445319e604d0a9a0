"""The two steps of a pod that has no folder in common with the workers: input from the bucket, output to it.

``python -m airflow_monai.maps.transfer fetch|publish URL KEY`` with the bucket's address and the key of the task's
output. Credentials and endpoint come from the environment, as boto3 reads them (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION``, ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``,
``AWS_CA_BUNDLE``), and ``MONAI_S3_ADDRESSING_STYLE`` (``path`` or ``virtual``).

``publish`` runs beside the application and touches nothing until a worker asks (:mod:`airflow_monai.maps.handover`).
It cannot know whether the application has ended, and need not: the worker knows, by the cluster's own word. It ends
when it is told to, or with exit code 1 when an ask could not be carried out for a while; its last words are no lines
about patients, since the pod's status repeats them.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from airflow_monai.errors import MapError, MonaiError, StoreError
from airflow_monai.maps.handover import POLL_SECONDS, Answer, Ask, Handover, Plan
from airflow_monai.maps.outputs import tidy
from airflow_monai.maps.quota import MAX_DEPTH, measure
from airflow_monai.store.base import Store, check_key, plain_files
from airflow_monai.store.s3_errors import NoSuchObject

INPUT, OUTPUT = "/monai/input", "/monai/output"
"""Where a pod's steps see the two volumes."""

FOLDER = "files"
"""Of each volume, made by the application's user: the volume itself belongs to the node."""

POD = "MONAI_POD"
"""Environment variable with the pod's uid."""

PATIENCE_SECONDS = 300.0
"""How long a bucket that is away, or refuses, is asked again before a step fails."""

PAUSE_SECONDS = 5.0
ENDED = 143
_QUOTED = re.compile(r"'[^']*'")
_Made = TypeVar("_Made")


class _Replaced(Exception):
    """Another ask has come."""


def main(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Do one step; its exit code."""
    step, url, key = arguments
    # the first process of a container is not ended by a signal that it does not handle
    signal.signal(signal.SIGTERM, lambda *_: os._exit(ENDED))
    try:
        handover = Handover(_store(url, environment), key)
        if step == "fetch":
            fetch(handover, Path(INPUT, FOLDER), Path(OUTPUT, FOLDER))
        else:
            publish(handover, Path(OUTPUT, FOLDER), environment[POD])
    except (MonaiError, OSError) as error:
        _say(error)
        return 1
    return 0


def _store(url: str, environment: Mapping[str, str]) -> Store:
    from airflow_monai.store.s3 import S3Store
    from airflow_monai.store.s3_access import access_of

    extra = {
        "endpoint_url": environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or "",
        "region_name": environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "",
        "verify": environment.get("AWS_CA_BUNDLE") or True,
        "config_kwargs": {"s3": {"addressing_style": environment.get("MONAI_S3_ADDRESSING_STYLE", "")}},
    }
    return S3Store(url, access_of("in the environment", "", "", extra), Path("/tmp/spool"))


def fetch(handover: Handover, inputs: Path, outputs: Path) -> None:
    """Lay out the folders of a job and bring its input.

    :raises StoreError: when an object is not there, or the bucket cannot be used for a while.
    """
    plan: Plan = _patiently(handover.plan)
    for top, folders in ((inputs, plan.inputs), (outputs, plan.outputs)):
        for folder in ("", *folders):
            _below(top, folder).mkdir(parents=True, exist_ok=True)
    pairs = [(key, _below(inputs, path)) for key, path in plan.files]
    _patiently(lambda: handover.store.fetch_all(pair for pair in pairs if not pair[1].exists()))


def publish(handover: Handover, outputs: Path, pod: str) -> None:
    """Carry out what workers ask for, one ask after the other, until this process is ended.

    :param pod: this pod's uid.
    :raises StoreError: when the bucket did not take an output for a while.
    """
    served = ""
    while True:
        ask = _asked(handover, pod)
        if ask is None or ask.to == served:
            time.sleep(POLL_SECONDS)
            continue
        try:
            answer = _patiently(partial(_published, handover, outputs, ask))
            _patiently(partial(handover.answer, answer))
        except _Replaced:
            continue
        served = ask.to


def _asked(handover: Handover, pod: str) -> Ask | None:
    try:
        return handover.asked(pod)
    except StoreError:  # while nothing is asked nothing can be late: the worker waits, or is away itself
        time.sleep(PAUSE_SECONDS)
        return None


def _published(handover: Handover, outputs: Path, ask: Ask) -> Answer:
    """Upload the output into the folder that the ask names."""
    amount = measure(outputs, ask.max_bytes, ask.max_files)
    if ask.max_bytes is not None and amount.size > ask.max_bytes:
        problem = f"more than the {ask.max_bytes / 2**20:.0f} MiB that a task may write to its output"
        return Answer(ask.pod, ask.to, problem=problem, too_large=True)
    if ask.max_files is not None and amount.entries > ask.max_files:
        problem = f"more than the {ask.max_files} files that a task may write to its output"
        return Answer(ask.pod, ask.to, problem=problem, too_large=True)
    if amount.too_deep:
        problem = f"folders that are nested deeper than {MAX_DEPTH}"
        return Answer(ask.pod, ask.to, problem=problem, too_large=True)
    try:
        tidy(outputs, "The application")
    except MapError as error:
        return Answer(ask.pod, ask.to, problem=_told(error))

    def check() -> None:
        now = handover.asked(ask.pod)
        if now is not None and now.to != ask.to:
            raise _Replaced

    files = list(plain_files(outputs))
    folder = f"{handover.key}/{ask.to}"
    handover.store.delete_tree(folder)
    handover.store.put_tree(outputs, folder, check)
    return Answer(ask.pod, ask.to, len(files), sum(file.stat().st_size for file in files))


def _patiently(work: Callable[[], _Made]) -> _Made:
    """Do it, again and again while the bucket cannot; an object that is not there is not waited for."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return work()
        except NoSuchObject:
            raise
        except StoreError as error:
            if time.monotonic() > deadline:
                raise
            _say(error)
        time.sleep(PAUSE_SECONDS)


def _below(top: Path, path: str) -> Path:
    return top / check_key(path) if path else top


def _say(error: Exception) -> None:
    sys.stderr.write(f"{_told(error)}\n")
    sys.stderr.flush()


def _told(error: Exception) -> str:
    """An error without the names of objects and files."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return _QUOTED.sub("'...'", text or type(error).__name__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
