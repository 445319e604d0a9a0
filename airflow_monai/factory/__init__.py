"""Plan to DAG: what the generated DAG files call. Nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_monai.factory.builder import build_dag
    from airflow_monai.factory.load import load_batch_dag, load_workflow_dag

__all__ = ["build_dag", "load_batch_dag", "load_workflow_dag"]


def __getattr__(name: str) -> Any:
    if name == "load_workflow_dag":
        from airflow_monai.factory.load import load_workflow_dag

        return load_workflow_dag
    if name == "load_batch_dag":
        from airflow_monai.factory.load import load_batch_dag

        return load_batch_dag
    if name == "build_dag":
        from airflow_monai.factory.builder import build_dag

        return build_dag
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
