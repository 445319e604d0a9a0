"""A workflow's parameters as Airflow's, so that the UI's trigger form shows a field for each."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param as AirflowParam

from airflow_monai.specs.plan import Kind, Param, WorkflowPlan

PAYLOAD_PATTERN = r"^\s*[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\s*$"
_PAYLOAD_HELP = (
    "Id of the payload to run on, as `airflow monai payloads list` shows it; any payload of the store, whatever AE "
    "title it was sent to. A run needs one: leave this empty only when the partition key is the payload's id."
)


def form_params(plan: WorkflowPlan) -> dict[str, AirflowParam]:
    """The fields of the form: the payload first, then the workflow's own.

    Every field has a value without a person: a run that a study starts gives none.
    """
    schema = {"type": ["null", "string"], "title": "Payload (needed)", "pattern": PAYLOAD_PATTERN}
    payload = AirflowParam(None, description=_PAYLOAD_HELP, source="dag", schema=schema)
    return {"payload_id": payload, **{param.name: _field(param) for param in plan.params}}


def _field(param: Param) -> AirflowParam:
    schema: dict[str, Any] = {"type": _json_type(param)}
    if param.title:
        schema["title"] = param.title
    if param.choices:
        schema["enum"] = list(param.choices)
    for name in ("minimum", "maximum"):
        limit = getattr(param, name)
        if limit is not None:
            schema[name] = int(limit) if limit == int(limit) else limit
    return AirflowParam(param.default, description=param.description or None, source="dag", schema=schema)


def _json_type(param: Param) -> str | list[str]:
    """The form takes an empty text for a field that is not filled in, so one that may be empty may be null."""
    may_be_empty = param.kind is Kind.STRING and param.default == "" and not param.choices
    return ["null", "string"] if may_be_empty else param.kind.value
