"""A container's log that is whole although the engine's stream of it is not.

The engine is a stand-in: a real one hangs or ends such a stream only now and then, on a busy host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_monai.maps.runners.docker.log import ContainerLog
from airflow_monai.maps.runners.log_thread import LOG_END

LINES = [f"line {n}".encode() for n in range(300)]
GIVEN = 100
"""So many lines a followed stream gives before it hangs, ends or breaks."""


class Stream:
    """What docker's client gives for a log that is followed: an iterator that another thread can close."""

    def __init__(self, after: Callable[[threading.Event], None]):
        self.closed = threading.Event()
        self._after = after

    def __iter__(self) -> Iterator[bytes]:
        yield b"".join(line + b"\n" for line in LINES[:GIVEN])
        self._after(self.closed)

    def close(self) -> None:
        self.closed.set()


class EngineOfEndedContainer:
    def __init__(self, after: Callable[[threading.Event], None]):
        self.after = after

    def second(self) -> EngineOfEndedContainer:
        return self

    fresh = second

    def inspect(self, name: str) -> dict[str, Any]:
        return {"State": {"Running": False}}

    def logs(self, name: str, *, follow: bool, **_: Any) -> Any:
        if follow:
            return Stream(self.after)
        return iter([b"".join(line + b"\n" for line in LINES[:150]), b"".join(line + b"\n" for line in LINES[150:])])


def _hangs(closed: threading.Event) -> None:
    assert closed.wait(60.0)


def _ends(closed: threading.Event) -> None:
    return


def _breaks(closed: threading.Event) -> None:
    raise ConnectionResetError("the engine restarts")


@pytest.mark.parametrize("after", [_hangs, _ends])
def test_every_line_is_read_when_the_stream_hangs_or_ends_early(after: Callable[[threading.Event], None]) -> None:
    log = ContainerLog(EngineOfEndedContainer(after), "one", patience=5.0)  # type: ignore[arg-type]
    log.start()
    got = [log.next(5.0) for _ in range(GIVEN)]
    if after is _hangs:
        assert log.next(0.3) is None
        log.container_ended()
    while (line := log.next(5.0)) is not LOG_END:
        assert line is not None
        got.append(line)
    assert got == LINES


def test_a_stream_that_breaks_ever_again_ends_with_a_note() -> None:
    log = ContainerLog(EngineOfEndedContainer(_breaks), "one", patience=0.5)  # type: ignore[arg-type]
    log.start()
    got: list[bytes] = []
    while (line := log.next(5.0)) is not LOG_END:
        assert line is not None
        got.append(line)
    assert got[:GIVEN] == LINES[:GIVEN] and b"could not be followed further: ConnectionResetError" in got[-1]
