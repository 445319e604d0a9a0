"""The workflow whose tasks are the modules, and what else the site's settings say."""

from __future__ import annotations

import threading
from pathlib import Path

from airflow_monai import settings
from airflow_monai.errors import SettingsError
from airflow_monai.maps.workflows import PREFIX
from airflow_monai.specs.folder import SpecFolder
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.store.base import Store
from airflow_monai.workflows.site import SiteWorkflows


class Workflows:
    """Workflows by the name of their DAG, in files, registered, and of registered MAPs, as they are now. Safe for
    threads."""

    def __init__(self, folder: str, store: Store):
        self._folder = SpecFolder(Path(folder), keep=True, more=SiteWorkflows(store).files)
        self._lock = threading.Lock()

    def of_dag(self, dag_id: str) -> WorkflowPlan | None:
        return next((plan for plan in self._plans() if plan.dag_id == dag_id), None)

    def of_the_site(self) -> WorkflowPlan:
        """The one that ``[monai] mip_workflow`` names, or the only one that there is.

        :raises SettingsError: that says what to set.
        """
        wanted = settings.load_mip().workflow
        plans = self._plans()
        if wanted:
            found = [plan for plan in plans if wanted in (plan.name, plan.dag_id)]
            if found:
                return found[0]
            raise SettingsError(f"[monai] mip_workflow = {wanted!r}: there is no such workflow.")
        written = [plan for plan in plans if not plan.name.startswith(PREFIX)]
        if len(written) == 1:
            return written[0]
        names = ", ".join(sorted(plan.name for plan in written)[:10]) or "none"
        raise SettingsError(
            f"Nobody says which workflow's tasks are the modules: set [monai] mip_workflow. There are: {names}."
        )

    def _plans(self) -> tuple[WorkflowPlan, ...]:
        with self._lock:
            return self._folder.scan().workflows


_known: dict[tuple[str, str], Workflows] = {}
_lock = threading.Lock()


def workflows_of(folder: str, store: Store) -> Workflows:
    """Those of a folder and a store, which this process has read before."""
    with _lock:
        key = (folder, store.url)
        if key not in _known:
            _known[key] = Workflows(folder, store)
        return _known[key]
