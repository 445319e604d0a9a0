"""Bodies of any size, handled as they come: the event loop hands the bytes to a thread, a few at a time.

The API server answers the tasks of the site in the same process, so an upload takes a place among few, in threads of
their own. A caller has a share of the places; who sends next to nothing loses the place.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from airflow_monai import settings
from airflow_monai.api.common.multipart import BadMultipart
from airflow_monai.api.common.problems import ApiProblem, FieldError
from airflow_monai.datasets.receiving import UploadLimits, UploadRefused, Why
from airflow_monai.errors import MonaiError, SettingsError
from airflow_monai.specs.units import memory_bytes
from airflow_monai.store import open_store
from airflow_monai.store.base import Store
from airflow_monai.store.space import DiskGuard
from airflow_monai.store.spool import SpoolFolder

log = logging.getLogger(__name__)
Made = TypeVar("Made")
_AHEAD_BYTES = 4 << 20
"""What the event loop may be ahead of the thread."""
_SWEEP_SECONDS = 60.0
_STATUS = {Why.INVALID: 400, Why.TOO_LARGE: 413, Why.NO_SPACE: 507}


class UploadCut(MonaiError):
    """The sender has gone before all had come, or sends too slowly."""


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """
    :param at_a_time: uploads that one API server takes at a time, and ``per_caller``: of one caller.
    :param idle_seconds: how long a sender may send nothing, or less than ``min_rate`` bytes a second.
    """

    limits: UploadLimits
    at_a_time: int = 8
    per_caller: int = 4
    idle_seconds: float = 60.0
    min_rate: int = 4096


def load_options() -> UploadOptions:
    """Read the options, or raise :class:`SettingsError` that names the one that cannot be used."""
    most = _bytes("upload_max_bytes", "64Gi")
    at_a_time = _whole("upload_at_a_time", 8)
    return UploadOptions(
        UploadLimits(most, _whole("upload_max_files", 100_000), _whole("upload_max_ratio", 250)),
        at_a_time,
        min(_per_caller() or max(1, at_a_time // 2), at_a_time),
        settings._number("upload_idle_seconds", 60.0),
        _bytes("upload_min_rate", "4Ki"),
    )


def _per_caller() -> int:
    """0 where the site does not say."""
    return _whole("upload_per_caller", 1) if settings._text("upload_per_caller") else 0


def _bytes(option: str, default: str) -> int:
    try:
        return memory_bytes(settings._text(option, default))
    except ValueError as error:
        raise SettingsError(f"[monai] {option}: {error}.") from None


def _whole(option: str, default: int) -> int:
    value = settings._number(option, default)
    if value != int(value) or value < 1:
        raise SettingsError(f"[monai] {option} = {value:g}: write a whole number from 1 on.")
    return int(value)


class UploadSite:
    """What uploads need of the site: its store, a spool folder of this process, and who watches the disk."""

    def __init__(self, url: str, used_percent: float, reserve: str, options: UploadOptions):
        self.options = options
        self.store: Store = open_store(url)
        self.guard = DiskGuard.of_settings(self.store.spool(), used_percent, reserve)
        self._spool = SpoolFolder(self.store)
        self._places = Places(options.at_a_time, options.per_caller)
        self._threads = ThreadPoolExecutor(options.at_a_time, thread_name_prefix="upload")
        atexit.register(self._spool.remove)
        self._swept = float("-inf")
        self._lock = threading.Lock()

    @property
    def spool(self) -> Path:
        return self._spool.path

    def check(self) -> None:
        """:raises UploadRefused: when the disk has no space for more."""
        if refusal := self.guard.refusal():
            log.warning("an upload is refused: %s", refusal)  # with the folder, which callers are not told
            raise UploadRefused(
                Why.NO_SPACE, "The store has too little space left for more: nothing is taken until some is freed."
            )

    def sweep_now_and_then(self, sweep: Callable[[], object]) -> None:
        """Remove what processes that died have left.

        :param sweep: does more of it, at the same time.
        """
        with self._lock:
            if time.monotonic() - self._swept < _SWEEP_SECONDS:
                return
            self._swept = time.monotonic()
        self._spool.remove_abandoned()
        sweep()

    async def receive(self, request: Request, caller: str, work: Callable[[Body], Made]) -> Made:
        """Have a request's body worked on in a thread while it comes.

        :param caller: whose place it takes.
        :param work: reads the body to its end, or raises.
        :raises HTTPException: 400, 408, 413, 415, 429, 503, 507.
        """
        if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise HTTPException(415, "The body is compressed on its way: send it as it is, or a zip archive.")
        length = request.headers.get("content-length", "")
        most = self.options.limits.max_bytes
        if length.isdecimal() and int(length) > most:
            raise _too_large(most)
        self._places.take(caller)
        loop = asyncio.get_running_loop()
        body = Body(loop)

        def do() -> Made:
            try:
                self.check()
                return work(body)
            finally:
                self._places.give_back(caller)

        working = loop.run_in_executor(self._threads, do)
        feeding = asyncio.ensure_future(self._feed(request, body, most))
        try:
            await asyncio.wait((working, feeding), return_when=asyncio.FIRST_COMPLETED)
            return await asyncio.shield(working)
        except (UploadRefused, BadMultipart, UploadCut) as error:
            raise _told(error) from error
        finally:
            feeding.cancel()
            body.give_up(UploadCut("The request was given up."))

    async def _feed(self, request: Request, body: Body, most: int) -> None:
        total, window, seconds = 0, 0, 0.0
        stream = request.stream()
        try:
            while True:
                began = time.monotonic()
                try:
                    data = await asyncio.wait_for(anext(stream), self.options.idle_seconds)
                except StopAsyncIteration:
                    break
                seconds += time.monotonic() - began  # the time in which this host does not keep up is not the sender's
                window += len(data)
                if seconds > self.options.idle_seconds:
                    if window < self.options.min_rate * seconds:
                        raise TimeoutError
                    window, seconds = 0, 0.0
                total += len(data)
                if total > most:
                    raise _too_large(most)
                await body.feed(data)
            body.end()
        except TimeoutError:
            told = f"The upload was too slow: for a time nothing, or less than {self.options.min_rate} bytes a second."
            body.give_up(HTTPException(408, told, {"Connection": "close"}))
        except ClientDisconnect:
            body.give_up(UploadCut("The sender has gone before the upload was whole."))
        except HTTPException as error:
            body.give_up(error)
        except BaseException:  # the thread must not wait for ever, whatever it was
            body.give_up(UploadCut("The upload could not be read."))
            raise


class Places:
    """The uploads of one API server at a time.

    :param of_one: so many places one caller may hold, so that nobody keeps all others out.
    """

    def __init__(self, all_places: int, of_one: int):
        self._all, self._of_one = all_places, of_one
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, caller: str) -> None:
        """:raises HTTPException: 503 when all are taken, 429 when the caller has taken theirs."""
        with self._lock:
            if self._held.total() >= self._all:
                told = "As many uploads as this site allows are coming in: try again in a moment."
                raise HTTPException(503, told, {"Retry-After": "5"})
            if self._held.get(caller, 0) >= self._of_one:
                told = f"You have {self._of_one} uploads coming in, as many as one caller may: try again after one."
                raise HTTPException(429, told, {"Retry-After": "5"})
            self._held[caller] += 1

    def give_back(self, caller: str) -> None:
        with self._lock:
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]


class Body:
    """A body as a thread reads it. Its other methods are for the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._room = asyncio.Event()

    def read(self, size: int) -> bytes:
        """Some bytes; empty at the end.

        :raises UploadCut: when the rest does not come.
        :raises HTTPException: when more comes than may, or too slowly.
        """
        with self._changed:
            while not (self._pieces or self._ended or self._error):
                self._changed.wait()
            if self._error:
                raise self._error
            if not self._pieces:
                return b""
            data = self._pieces.popleft()
            if len(data) > size:
                self._pieces.appendleft(data[size:])
                data = data[:size]
            was_full = self._size >= _AHEAD_BYTES
            self._size -= len(data)
            if was_full and self._size < _AHEAD_BYTES:
                self._loop.call_soon_threadsafe(self._room.set)
            return data

    async def feed(self, data: bytes) -> None:
        """Hand bytes over; returns when the thread can take more."""
        if not data:
            return
        with self._changed:
            self._room.clear()
            self._pieces.append(data)
            self._size += len(data)
            full = self._size >= _AHEAD_BYTES
            self._changed.notify()
        if full:
            await self._room.wait()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def give_up(self, error: BaseException) -> None:
        """The rest will not come."""
        with self._changed:
            if not self._ended:
                self._error = self._error or error
                self._pieces.clear()
            self._changed.notify()


def upload_site() -> UploadSite:
    """The site of this process, by its settings."""
    site = settings.load()
    return _site(site.store, site.disk_used_percent, site.disk_reserve, load_options())


_site = cache(UploadSite)


def _too_large(most: int) -> HTTPException:
    return HTTPException(
        413, f"The upload is larger than the {most} bytes that this site takes ([monai] upload_max_bytes).",
        {"Connection": "close"},
    )  # fmt: skip


def _told(error: MonaiError) -> HTTPException:
    """As the answer says it."""
    if isinstance(error, UploadRefused):
        items = [FieldError(field=name, message=reason) for name, reason in error.refused]
        headers = {"Retry-After": "60"} if error.why is Why.NO_SPACE else None
        return ApiProblem(_STATUS[error.why], str(error), items, headers)
    return HTTPException(400, str(error))
