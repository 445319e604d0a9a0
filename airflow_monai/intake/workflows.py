"""The workflows of the folder and the registered ones as the gateway sees them; always as they are now."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_monai.errors import StoreError
from airflow_monai.intake.events import EventKind, EventLog, log
from airflow_monai.specs.folder import FolderSpecs, SpecFile, SpecFolder
from airflow_monai.specs.plan import Grouping, WorkflowPlan

_FRESH_SECONDS, _ASKED_SECONDS = 2.0, 0.25


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the workflow folder at a moment.

    :param doubt: why there may be workflows that are not among these; empty when these are all.
    """

    workflows: tuple[WorkflowPlan, ...]
    doubt: str = ""


class Workflows:
    """The workflows of a folder, looked at again when what is known is older than two seconds.

    :param quiet_seconds: of workflows that do not say their own.
    :param registered: gives the registered workflows, those of MAPs included.
    """

    def __init__(
        self,
        folder: str | Path,
        quiet_seconds: float,
        events: EventLog,
        registered: Callable[[], Mapping[Path, SpecFile]] | None = None,
    ):
        self._folder = SpecFolder(folder, keep=True, more=registered)
        self._default_quiet = quiet_seconds
        self._events = events
        self._lock = threading.Lock()
        self._specs = FolderSpecs((), ())
        self._told: tuple[list[str], list[str], list[str]] = ([], [], [])
        self._groupings: dict[str, Grouping] = {}
        self._unreadable = ""
        self._checked = float("-inf")

    def current(self, fresh: bool = False) -> tuple[WorkflowPlan, ...]:
        """The workflows; with ``fresh`` as they are at this moment."""
        return self.known(fresh).workflows

    def known(self, fresh: bool = True) -> Known:
        """The workflows, and whether there may be others."""
        with self._lock:
            if fresh or time.monotonic() - self._checked > _FRESH_SECONDS:
                self._scan()
            return Known(self._specs.workflows, self._unreadable or _doubt(self._specs))

    def knows(self, ae_title: str) -> bool:
        """Whether a workflow listens to this AE title."""
        if any(plan.ae_title == ae_title for plan in self.current()):
            return True
        # who asks for a title that is none, however often, must not keep those that send from their turn
        fresh = time.monotonic() - self._checked > _ASKED_SECONDS
        return any(plan.ae_title == ae_title for plan in self.current(fresh))

    def ae_titles(self) -> list[str]:
        return sorted({plan.ae_title for plan in self.current()})

    def quiet_seconds(self, ae_title: str) -> float:
        """The largest quiet time of the AE title's workflows."""
        times = [plan.quiet_seconds for plan in self.current() if plan.ae_title == ae_title]
        return max((self._default_quiet if quiet is None else quiet for quiet in times), default=self._default_quiet)

    def grouping(self, ae_title: str) -> Grouping:
        """How the images of an AE title are grouped: all its workflows say the same. Asked for every image."""
        self.known(fresh=False)
        return self._groupings.get(ae_title, Grouping.STUDY)

    def _scan(self) -> None:
        unreadable = ""
        try:
            os.stat(self._folder.folder)  # a folder that is away, as an unmounted one, is not one that was emptied
            self._specs = self._folder.scan()
        except OSError as error:
            unreadable = f"the workflow folder {self._folder.folder} cannot be read ({error.strerror or error})"
        except StoreError as error:
            unreadable = f"the registered MAPs and workflows cannot be read ({error})"
        if unreadable and unreadable != self._unreadable:
            log.error("%s, going on as before", unreadable)
        self._groupings = {plan.ae_title: plan.grouping or Grouping.STUDY for plan in self._specs.workflows}
        self._unreadable = unreadable
        self._checked = time.monotonic()
        errors = [problem for problem in self._specs.problems if problem.is_error]
        told = (
            sorted({plan.ae_title for plan in self._specs.workflows}),
            [f"{problem.file}:{problem.line}: {problem.message}" for problem in errors],
            list(self._specs.kept),
        )
        if told != self._told:
            self._told = told
            self._events.emit(EventKind.WORKFLOWS_CHANGED, ae_titles=told[0], problems=told[1], kept=told[2])


def _doubt(specs: FolderSpecs) -> str:
    return f"the workflow files {', '.join(specs.lost[:5])} have errors" if specs.lost else ""
