"""Text of a workflow file to DAG: what every generated DAG file calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_monai.errors import SpecError
from airflow_monai.factory.builder import build_dag
from airflow_monai.factory.cache import plan_path, read_plan
from airflow_monai.factory.compile import compile_plan
from airflow_monai.specs.defaults.text import Defaults

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_monai.specs.plan import WorkflowPlan


def load_workflow_dag(
    text: str,
    *,
    source: str,
    beside: str | None = None,
    refused: str = "",
    defaults: Mapping[str, str] | None = None,
    closing: bool = False,
) -> DAG:
    """The DAG of a workflow's text.

    :param source: path of the workflow file within its folder, for messages.
    :param beside: path of the generated DAG file; a plan that lies beside it spares reading the text.
    :param refused: why the file cannot be used whatever its text says.
    :param defaults: path -> text of the defaults files above it, the nearest first.
    :param closing: nothing starts it any more; it is there for the runs that it still has.
    :raises SpecError: one line for each problem, with file, line, column, what is wrong and what to do; Airflow shows
        it as the import error of this file, and loads the others.
    :raises MonaiError: when a task asks for what the site can never give.
    """
    if refused:
        raise SpecError(refused)
    return build_dag(_plan(text, source, beside, defaults), closing=closing)


def load_batch_dag(
    text: str,
    *,
    source: str,
    beside: str | None = None,
    defaults: Mapping[str, str] | None = None,
    closing: bool = False,
) -> DAG | None:
    """The DAG that starts the workflow's batches, None where it has no schedule; arguments as above."""
    from airflow_monai.factory.batch import build_batch_dag

    return build_batch_dag(_plan(text, source, beside, defaults), closing=closing)


def _plan(text: str, source: str, beside: str | None, defaults: Mapping[str, str] | None) -> WorkflowPlan:
    layers = tuple(Defaults(name, content) for name, content in (defaults or {}).items())
    plan = read_plan(plan_path(beside), text, layers) if beside else None
    return plan or compile_plan(text, source, layers)
