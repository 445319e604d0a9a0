"""Text of a workflow file to DAG: what every generated DAG file calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_monai.errors import SpecError
from airflow_monai.factory.builder import build_dag
from airflow_monai.factory.cache import plan_path, read_plan
from airflow_monai.factory.compile import compile_plan

if TYPE_CHECKING:
    from airflow.sdk import DAG


def load_workflow_dag(text: str, *, source: str, beside: str | None = None, refused: str = "") -> DAG:
    """The DAG of a workflow's text.

    :param source: path of the workflow file within its folder, for messages.
    :param beside: path of the generated DAG file; a plan that lies beside it spares reading the text.
    :param refused: why the file cannot be used whatever its text says.
    :raises SpecError: one line for each problem, with file, line, column, what is wrong and what to do; Airflow shows
        it as the import error of this file, and loads the others.
    :raises MonaiError: when a task asks for what the site can never give.
    """
    if refused:
        raise SpecError(refused)
    plan = read_plan(plan_path(beside), text) if beside else None
    return build_dag(plan or compile_plan(text, source))
