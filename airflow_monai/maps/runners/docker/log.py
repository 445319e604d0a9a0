"""A container's output from its first line, across streams that hang or end early and engines that restart."""

from __future__ import annotations

import contextlib
import time

from docker.errors import DockerException
from docker.types.daemon import CancellableStream

from airflow_monai.errors import MapError
from airflow_monai.maps.logs import MAX_LOG_BYTES, TAIL_LINES
from airflow_monai.maps.runners.docker.engine import Engine
from airflow_monai.maps.runners.lines import LineSplitter
from airflow_monai.maps.runners.log_thread import LOG_END, LogThread

FOLLOWED_BYTES = MAX_LOG_BYTES
"""What is read of a container's output; the store keeps no more of it."""


class ContainerLog(LogThread):
    """Follows the output of one container.

    :param patience: seconds for which an engine may be away.
    """

    def __init__(self, engine: Engine, name: str, patience: float):
        super().__init__()
        self.patience = patience
        self.engine = engine
        self.name = name
        self._splitter = LineSplitter(self._put)
        self._seen = 0
        self._followed: CancellableStream | None = None

    def container_ended(self) -> None:
        """The container has ended: what is left is read at once, rather than waited for at a stream that hangs."""
        if self._followed is not None:
            with contextlib.suppress(OSError, AttributeError, DockerException):  # it has ended, or cannot be cut (SSH)
                self._followed.close()

    def _read(self) -> None:
        away_since: float | None = None
        while not self._given_up.is_set():
            before = self._seen
            try:
                self._copy(follow=True)
                state = None if self._is_flood() else self.engine.fresh().inspect(self.name)
                if state is not None and not state["State"]["Running"]:
                    self._copy(follow=False)  # engines have been seen to end a followed log before its end, or never
                if self._is_flood():
                    self._skip_to_the_end()
                if self._is_flood() or state is None or not state["State"]["Running"]:
                    break
            except (OSError, MapError, ValueError) as error:  # requests' and docker's errors are OSErrors
                now = time.monotonic()
                away_since = now if away_since is None or self._seen > before else away_since
                if now - away_since > self.patience:
                    note = f"[airflow-monai: the log could not be followed further: {type(error).__name__}]"
                    self._splitter.feed(f"\n{note}".encode())
                    break
            else:
                away_since = None
            self._given_up.wait(1.0)
        self._splitter.close()
        self._put(LOG_END)

    def _is_flood(self) -> bool:
        return self._seen >= FOLLOWED_BYTES

    def _copy(self, *, follow: bool) -> None:
        """Take over what has not been seen yet and, followed, what comes until the engine ends the stream."""
        skip = self._seen
        stream = self.engine.second().logs(self.name, stdout=True, stderr=True, stream=True, follow=follow)
        self._followed = stream if follow else None
        for chunk in stream:
            fresh = chunk[skip:]
            skip = max(0, skip - len(chunk))
            self._seen += len(fresh)
            self._splitter.feed(fresh)
            if self._is_flood() or self._given_up.is_set():
                return

    def _skip_to_the_end(self) -> None:
        """Of a flood only its last lines are read, once there are such: reading all of it would take longer than it."""
        self._splitter.feed(f"\n[airflow-monai: after {self._seen} bytes only the last lines follow]\n".encode())
        engine = self.engine.fresh()
        while not self._given_up.wait(1.0):
            state = engine.inspect(self.name)
            if state is None or not state["State"]["Running"]:
                break
        self._splitter.feed(engine.api.logs(self.name, stdout=True, stderr=True, tail=TAIL_LINES))
