"""``export_hl7``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest
from airflow_monai.factory.kinds.export import export_arguments

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.export import Hl7ExportOperator

    return Hl7ExportOperator(**export_arguments(request))


KIND = TaskKind(make)
