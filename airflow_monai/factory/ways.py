"""What leads the nodes of a DAG to each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

JOIN_RULE = "none_failed_min_one_success"


def connect(sources: Iterable[BaseOperator], target: BaseOperator) -> None:
    """What ``sources >> target`` comes to, without its check that all are of one DAG: a fifth of a build's time."""
    for source in sources:
        source.downstream_task_ids.add(target.task_id)
        target.upstream_task_ids.add(source.task_id)
