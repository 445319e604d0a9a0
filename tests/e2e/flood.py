"""Very many studies that are complete at one moment, and an eye on the API server meanwhile."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import requests

from airflow_monai.local.stack import LocalStack
from tests.e2e.helpers import add_workflows, make_studies, payloads_of, send, wait_for_runs, workflow, write_spec

PATIENCE = 30.0
"""Seconds within which the API server has to answer anybody."""


def only_a_router(name: str, aet: str, quiet: float) -> dict[str, object]:
    """A workflow whose runs cost no process."""
    return workflow(name, aet, {"id": "route", "type": "router"}, quiet=quiet)


@dataclass
class Caller:
    """Asks the API server for its health and for the list of DAGs, four times a second, as a person's browser does."""

    stack: LocalStack
    answers: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def __enter__(self) -> Caller:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(2 * PATIENCE)

    def _call(self) -> None:
        while not self._stop.wait(0.25):
            started = time.monotonic()
            try:
                answer = requests.get(f"{self.stack.ui}/api/v2/monitor/health", timeout=PATIENCE)
                answer.raise_for_status()
                self.stack.api.call("GET", "/dags", limit="5")
            except Exception as error:  # noqa: BLE001 - whatever it was, nobody was answered
                self.missed.append(f"{type(error).__name__}: {error}")
            self.answers.append(time.monotonic() - started)


@dataclass(frozen=True)
class Flood:
    """How it went.

    :param created: seconds from the gateway's start until the last run was created; ``ended``: until it had ended.
    :param slowest: seconds of the slowest answer of the API server; ``missed``: those that did not come.
    """

    created: float
    ended: float
    answers: int
    slowest: float
    missed: tuple[str, ...]


def at_one_moment(stack: LocalStack, name: str, aet: str, count: int, folder: Path) -> Flood:
    """Send studies, have all of them be complete at the same moment, and check that each gets its one run."""
    add_workflows(stack, only_a_router(name, aet, quiet=3600))
    studies = make_studies(folder, aet, count, slices=1)
    send(stack, *studies, senders=4)
    stack.kill("gateway")
    assert payloads_of(stack, aet) == []
    write_spec(stack, only_a_router(name, aet, quiet=1))  # all have been quiet for longer now
    with Caller(stack) as caller:
        started = time.monotonic()
        stack.restart("gateway")

        def created() -> bool:
            return len([event for event in stack.events("run-created") if event["dag_id"] == name]) == count

        stack.wait_for(created, seconds=180 + count, what=f"{count} runs to be created", every=0.2)
        announced = time.monotonic() - started
        runs = wait_for_runs(stack, name, count, seconds=300 + count)
        ended = time.monotonic() - started
    assert {run_id: run["state"] for run_id, run in runs.items()} == {study.run_id: "success" for study in studies}
    return Flood(announced, ended, len(caller.answers), max(caller.answers), tuple(caller.missed))
