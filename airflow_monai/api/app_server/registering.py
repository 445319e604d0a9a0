"""Registers MAPs in a few threads of the API server: what takes long goes on after its request was answered."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field

from fastapi import HTTPException

from airflow_monai import settings
from airflow_monai.api.common import audit
from airflow_monai.api.common.wording import without_places
from airflow_monai.errors import (
    ImageDenied,
    InvalidArgument,
    ManifestError,
    MapError,
    MapNotFound,
    MonaiError,
    PolicyRefused,
    RegistryConflict,
    RegistryError,
    RunnerUnavailable,
    StoreError,
)
from airflow_monai.failures import internal_error
from airflow_monai.maps.registration import Registration
from airflow_monai.maps.registrations import SIGN_SECONDS, Asked, Progress, Registrations, register_asked
from airflow_monai.store.base import Store

log = logging.getLogger(__name__)
WAIT_SECONDS = 5.0
"""How long a request waits for what it asked for."""
THREADS, MOST = 2, 8
_STATUS: tuple[tuple[type[MonaiError], int], ...] = (  # of the first that fits
    (RunnerUnavailable, 503),
    (StoreError, 503),
    (PolicyRefused, 403),
    (ImageDenied, 403),
    (MapNotFound, 404),
    (RegistryConflict, 409),
    (RegistryError, 400),
    (ManifestError, 400),
    (InvalidArgument, 400),
    (MapError, 400),
)


@dataclass(slots=True)
class _Task:
    """A registration that is under way here."""

    asked: Asked
    store: Store
    progress: Progress | None = None  # once somebody was told that it takes long
    signed: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def alive(self) -> None:
        """Say so now and then."""
        with self.lock:
            if self.progress is not None and time.monotonic() - self.signed > SIGN_SECONDS:
                self.signed = time.monotonic()
                self.progress = Registrations(self.store).sign(self.progress)


class Registrar:
    """
    :param work: registers; a test may give its own.
    """

    def __init__(self, work: Callable[[Asked, Store, Callable[[], None]], Registration] | None = None):
        self._work = work or _work
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="register")
        self._under_way = threading.BoundedSemaphore(MOST)
        self._taken: set[str] = set()  # notes that this process goes on with
        self._lock = threading.Lock()

    def register(self, asked: Asked, store: Store) -> Registration | Progress:
        """What came of it, or a note that tells later.

        :raises HTTPException: when it cannot be done.
        """
        task = _Task(asked, store)
        future = self._begin(task)
        wait_for([future], WAIT_SECONDS)
        with task.lock:
            if not future.done():
                task.progress = Registrations(store).begin(asked)
                self._taken.add(task.progress.id)
                return task.progress
        try:
            return future.result()
        except MonaiError as error:
            status, detail = told(error)
            raise HTTPException(status, detail) from None

    def look(self, number: str, store: Store) -> Progress | None:
        """How far a registration is; one whose server died is done anew."""
        found = Registrations(store).find(number)
        if found is None or not found.is_forsaken:
            return found
        with self._lock:
            if number in self._taken:
                return found
            self._taken.add(number)
        try:
            found = Registrations(store).sign(found)
            self._begin(_Task(found.asked, store, found))
        except BaseException:
            with self._lock:
                self._taken.discard(number)  # whoever asks next begins it
            raise
        return found

    def _begin(self, task: _Task) -> Future[Registration]:
        if not self._under_way.acquire(blocking=False):
            raise HTTPException(503, "Too many MAPs are being registered just now.", {"Retry-After": "30"})
        try:
            return self._pool.submit(self._run, task)
        except BaseException:
            self._under_way.release()
            raise

    def _run(self, task: _Task) -> Registration:
        notes = Registrations(task.store)
        try:
            made = self._work(task.asked, task.store, task.alive)
        except BaseException as error:
            with task.lock:
                if task.progress is not None:
                    notes.failed(task.progress, *_told_of_any(error))
            raise
        else:
            with task.lock:
                if task.progress is not None:
                    _note(task.progress, made)
                    notes.done(task.progress, made)
            return made
        finally:
            self._under_way.release()


def _note(progress: Progress, made: Registration) -> None:
    """In the audit log, of one whose caller was answered before it was known which MAP it is."""
    extra = {"registration": progress.id, "map": made.record.label, "created": made.is_new}
    try:
        audit.note(progress.asked.by, "monai.map.register", dag_id=made.plan.dag_id, extra=extra)
    except Exception as error:  # noqa: BLE001 - it is registered all the same
        log.error("%s", internal_error("entering the registration of a MAP in the audit log", error))


def told(error: MonaiError) -> tuple[int, str]:
    """The status of an error, and its message without places of the site."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if isinstance(error, StoreError):
        return status, "The site's store cannot be used now."
    return status, without_places(str(error))


def _told_of_any(error: BaseException) -> tuple[int, str]:
    if isinstance(error, MonaiError):
        return told(error)
    log.error("%s", internal_error("registering a MAP", error))
    return 500, "This could not be done here. The API server's log has the reason."


def _work(asked: Asked, store: Store, alive: Callable[[], None]) -> Registration:
    return register_asked(settings.load(), store, asked, alive)


registrar = Registrar()
