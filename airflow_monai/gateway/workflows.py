"""The workflow folder as the gateway sees it: AE titles, quiet times, routing; always as the folder is now."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from airflow_monai.gateway.events import EventKind, EventLog, log
from airflow_monai.specs.folder import FolderSpecs, SpecFolder
from airflow_monai.specs.plan import WorkflowPlan

_FRESH_SECONDS = 2.0


class Workflows:
    """The workflows of a folder, looked at again when what is known is older than two seconds.

    :param quiet_seconds: of workflows that do not say their own.
    """

    def __init__(self, folder: str | Path, quiet_seconds: float, events: EventLog):
        self._folder = SpecFolder(folder)
        self._default_quiet = quiet_seconds
        self._events = events
        self._lock = threading.Lock()
        self._specs = FolderSpecs((), ())
        self._told: tuple[list[str], list[str]] = ([], [])
        self._checked = float("-inf")

    def current(self, fresh: bool = False) -> tuple[WorkflowPlan, ...]:
        """The workflows; with ``fresh`` as they are at this moment."""
        with self._lock:
            if fresh or time.monotonic() - self._checked > _FRESH_SECONDS:
                self._scan()
            return self._specs.workflows

    def knows(self, ae_title: str) -> bool:
        """Whether a workflow listens to this AE title."""
        return any(plan.ae_title == ae_title for plan in self.current()) or any(
            plan.ae_title == ae_title for plan in self.current(fresh=True)
        )

    def ae_titles(self) -> list[str]:
        return sorted({plan.ae_title for plan in self.current()})

    def quiet_seconds(self, ae_title: str) -> float:
        """The largest quiet time of the AE title's workflows."""
        times = [plan.quiet_seconds for plan in self.current() if plan.ae_title == ae_title]
        return max((self._default_quiet if quiet is None else quiet for quiet in times), default=self._default_quiet)

    def _scan(self) -> None:
        try:
            self._specs = self._folder.scan()
        except OSError as error:
            log.error("the workflow folder %s cannot be read, going on as before: %s", self._folder.folder, error)
        self._checked = time.monotonic()
        errors = [problem for problem in self._specs.problems if problem.is_error]
        told = (
            sorted({plan.ae_title for plan in self._specs.workflows}),
            [f"{problem.file}:{problem.line}: {problem.message}" for problem in errors],
        )
        if told != self._told:
            self._told = told
            self._events.emit(EventKind.WORKFLOWS_CHANGED, ae_titles=told[0], problems=told[1])
