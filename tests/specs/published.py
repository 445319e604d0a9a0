"""The context that the published condition cases share, as an ``ExecutionContext``."""

from __future__ import annotations

from typing import Any

from airflow_monai.specs.conditions.values import SeriesValues
from airflow_monai.specs.context import ExecutionContext
from airflow_monai.types import PatientDetails, TaskRecord, TaskStatus
from tests.specs.samples import payload


def published_context(shared: dict[str, Any], setup: Any):
    """A resolver over the shared context; ``setup`` may say what every DICOM attribute answers."""
    tasks = {task["task_id"]: _record(task) for task in shared["workflow_instance"]["tasks"]}
    details = {name.removeprefix("patient_"): value for name, value in shared["patient_details"].items()}
    context = ExecutionContext(
        payload=payload(patient=PatientDetails(**details)),
        series_tags=dict,
        task_record=tasks.get,
        workflow_name=shared["workflow"]["name"],
        workflow_description=shared["workflow"]["description"],
    )
    dicom = setup.get("dicom_any_and_all_return") if isinstance(setup, dict) else None

    def resolve(path: str) -> Any:
        if dicom is not None and path.startswith("context.dicom"):
            return SeriesValues((dicom,), "any")
        return context(path)

    return resolve


def _record(task: dict[str, Any]) -> TaskRecord:
    return TaskRecord(
        task_id=task["task_id"],
        task_type=task["task_type"],
        status=TaskStatus(task["status"]),
        execution_id=task["execution_id"],
        result={
            key: value.get("$datetime") if isinstance(value, dict) else value for key, value in task["result"].items()
        },
    )
