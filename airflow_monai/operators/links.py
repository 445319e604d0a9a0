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


class ArtifactsLink(BaseOperatorLink):
    """From a task to what it made: a page of ours, behind Airflow's own permissions.

    The plugin gives it to the operators, so that the API server makes it: it is there from the task's begin on, and
    costs the task nothing.
    """

    name = "Artifacts"

    @property
    def operators(self) -> list[type[BaseOperator]]:  # type: ignore[override]
        from airflow_monai.operators.container import ContainerOperator
        from airflow_monai.operators.map import MapOperator

        return [MapOperator, ContainerOperator]

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        page = monai_page(ti_key.dag_id, ti_key.run_id, ti_key.task_id)
        return f"{page}{_index(ti_key)}"


class ApplicationLink(BaseOperatorLink):
    """From a ``map`` task to what exactly it runs; made as :class:`ArtifactsLink` is."""

    name = "MAP"

    @property
    def operators(self) -> list[type[BaseOperator]]:  # type: ignore[override]
        from airflow_monai.operators.map import MapOperator

        return [MapOperator]

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        page = monai_page(ti_key.dag_id, ti_key.run_id, ti_key.task_id)
        return f"{page}/map{_index(ti_key)}"


def _index(ti_key: Any) -> str:
    index = getattr(ti_key, "map_index", None)
    return f"?map_index={index}" if index is not None and index >= 0 else ""


def monai_base() -> str:
    """Address of our pages, which the plugin mounts in Airflow's API server."""
    return f"{_base_url()}/monai"


def monai_page(dag_id: str, run_id: str, task_id: str) -> str:
    """Address of our page about a task instance."""
    ids = (quote(dag_id, safe=""), quote(run_id, safe=""), quote(task_id, safe=""))
    return "{}/dags/{}/runs/{}/tasks/{}".format(monai_base(), *ids)


def _base_url() -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")


def task_page(dag_id: str, run_id: str, task_id: str, map_index: int | None = None) -> str:
    """Address of a task instance's page in Airflow's UI."""
    page = f"{_base_url()}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/tasks/{quote(task_id, safe='')}"
    return f"{page}/mapped/{map_index}" if map_index is not None and map_index >= 0 else page
