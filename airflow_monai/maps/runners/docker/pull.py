"""An image from its registry to the engine, told in the task log as it comes, and ended when the task is."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import ImageDenied, MapError, MapNotFound, RegistryUnavailable

if TYPE_CHECKING:
    from airflow_monai.maps.runners.docker.engine import Engine

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
TELL_SECONDS = 5.0
STALLED_SECONDS = 600.0
"""A pull of which nothing was heard for so long is given up."""

_DENIED = ("denied", "unauthorized", "forbidden", "authentication required", "no basic auth")
_NOT_THERE = ("not found", "does not exist", "manifest unknown", "name unknown", "invalid reference", "no matching")
_MIB = 2**20


def pull(engine: Engine, reference: str, check: Callable[[], None]) -> None:
    """Get an image.

    :param check: called now and then; what it raises ends the pull, which the engine gives up then.
    :raises MapNotFound: when the registry does not have it, :class:`ImageDenied` when it does not give it to us.
    :raises RegistryUnavailable: when the registry cannot be asked.
    """
    log.info("Pulling %s to the Docker engine at %s", reference, engine.url)
    progress, told = _Progress(), time.monotonic()
    for news in _news(engine, reference, check):
        if "error" in news:
            raise pull_error(reference, engine.url, str(news["error"]))
        progress.take(news)
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            log.info("Pulling %s: %s", reference, progress)
    log.info("Pulled %s", reference)


def pull_error(reference: str, url: str, reason: str) -> MapError:
    """The error for what engine or registry said."""
    what = f"The image {reference!r} is not on the Docker engine at {url}, and pulling it failed: {reason[:400]}"
    said = reason.lower()
    # some say both of an image that is not there: "denied: ... does not exist or may require 'docker login'"
    if any(words in said for words in _DENIED):
        return ImageDenied(f"{what}. Give [monai] docker_conn_id a login that may have it, or correct the reference.")
    if any(words in said for words in _NOT_THERE):
        return MapNotFound(f"{what}. Pull or load it there, or correct the reference.")
    return RegistryUnavailable(f"{what}. Another try may succeed once the registry answers.")


@dataclass(slots=True)
class _Progress:
    """What has come of each layer."""

    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def take(self, news: dict[str, Any]) -> None:
        layer, status = str(news.get("id") or ""), str(news.get("status") or "")
        detail = news.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self.layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        elif status in ("Pulling fs layer", "Waiting"):
            self.layers.setdefault(layer, (0, 0))
        elif status in ("Download complete", "Pull complete", "Already exists"):
            self.done.add(layer)
            size = self.layers.get(layer, (0, 0))[1]
            self.layers[layer] = (size, size)

    def __str__(self) -> str:
        have = sum(current for current, _ in self.layers.values()) // _MIB
        total = sum(size for _, size in self.layers.values()) // _MIB
        share = f"{100 * have // total} %, " if total else ""
        return f"{share}{have} of {total} MiB as far as known, {len(self.done)} of {len(self.layers)} layers"


def _news(engine: Engine, reference: str, check: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """What the engine tells of a pull, read by a thread: it can be silent for long, and the task may end meanwhile."""
    heard: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()
    client = engine.registry_client(STALLED_SECONDS)

    def read() -> None:
        try:
            for news in engine.pull_stream(client, reference):
                heard.put(news)
            heard.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            heard.put(error)

    threading.Thread(target=read, name="image-pull", daemon=True).start()
    last, next_check = time.monotonic(), time.monotonic() + CHECK_SECONDS
    try:
        while True:
            try:
                news = heard.get(timeout=CHECK_SECONDS)
                last = time.monotonic()
            except queue.Empty:
                news = {}
            if time.monotonic() >= next_check:
                check()
                next_check = time.monotonic() + CHECK_SECONDS
            if news is None:
                return
            if isinstance(news, BaseException):
                raise news
            if time.monotonic() - last > STALLED_SECONDS:
                raise RegistryUnavailable(f"The pull of {reference} stands still for {STALLED_SECONDS:g} s.")
            yield news
    finally:
        client.close()  # an engine gives a pull up once nobody listens: the latest when this process ends
