"""Which AE titles workflows listen to, and how the images of each are grouped; always as it is now."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from airflow_monai.specs.folder import SpecFolder
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.base import Store
from airflow_monai.workflows.site import SiteWorkflows

_FRESH_SECONDS = 2.0


class Listeners:
    """Safe for threads.

    :param folder: of the hand-written workflows.
    """

    def __init__(self, folder: str | Path, store: Store):
        self._folder = SpecFolder(folder, keep=True, more=SiteWorkflows(store).files)
        self._groupings: dict[str, Grouping] = {}
        self._checked = float("-inf")
        self._lock = threading.Lock()

    def grouping(self, ae_title: str) -> Grouping | None:
        """How the images of an AE title are grouped; None where no workflow listens to it."""
        with self._lock:
            if time.monotonic() - self._checked > _FRESH_SECONDS:
                workflows = self._folder.scan().workflows
                self._groupings = {plan.ae_title: plan.grouping or Grouping.STUDY for plan in workflows}
                self._checked = time.monotonic()
            return self._groupings.get(ae_title)
