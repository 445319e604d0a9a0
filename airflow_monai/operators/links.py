"""Links that Airflow's UI shows on the page of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


class ReviewedTaskLink(BaseOperatorLink):
    """From a review to the task whose results are reviewed."""

    name = "Reviewed task"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        reviewed = getattr(operator, "reviewed_task_id", "")
        return task_page(ti_key.dag_id, ti_key.run_id, reviewed, ti_key.map_index) if reviewed else ""


class ArgoWorkflowLink(BaseOperatorLink):
    """From an ``argo`` task to its workflow in Argo's own UI, once it has ended."""

    name = "Argo workflow"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Nothing: the trigger, which knows the address, leaves it where the UI looks for it."""
        return ""


def task_page(dag_id: str, run_id: str, task_id: str, map_index: int | None = None) -> str:
    """Address of a task instance's page in Airflow's UI."""
    from airflow.sdk.configuration import conf

    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    page = f"{base}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/tasks/{quote(task_id, safe='')}"
    return f"{page}/mapped/{map_index}" if map_index is not None and map_index >= 0 else page
