"""Validation of a workflow's data: all wrong fields as findings, and a model to go on checking with.

Where fields are wrong they are left out or replaced, so that one wrong field does not hide a dangling destination.
The model of such data is for further checks only; the caller knows from the findings that it is not the author's.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from pydantic import BaseModel, ValidationError

from airflow_monai.specs.doubts import INVENTED
from airflow_monai.specs.findings import Finding, Location
from airflow_monai.specs.model import WorkflowSpec

_ROUNDS = 4
_SUBSTITUTES: dict[str, Any] = {
    "name": "unnamed",
    "version": "0",
    "ae_title": "UNKNOWN",
    "type": "router",
    "value": "{{ context.input.dicom }}",
    "informatics_gateway": {"ae_title": "UNKNOWN"},
}
_EXAMPLES = {
    "version": "version: 1.0.0",
    "informatics_gateway": "informatics_gateway: {ae_title: MYAE}",
    "ae_title": "ae_title: MYAE, the AE title that studies are sent to",
    "tasks": "tasks: [...], the first of which is the root",
    "type": "type: map, export or router",
    "value": 'value: "{{ context.input.dicom }}"',
}
_CODES = {
    "missing": "missing-field",
    "greater_than": "out-of-range",
    "greater_than_equal": "out-of-range",
    "less_than": "out-of-range",
    "less_than_equal": "out-of-range",
    "finite_number": "out-of-range",
    "string_too_long": "too-long",
    "too_long": "too-long",
    "too_short": "missing-field",
}
_EXPECTED = {
    "list_type": ("a list is needed here", "write [a, b], or one '- ' a line"),
    "dict_type": ("a mapping is needed here", "write {key: value}"),
    "model_type": ("a mapping is needed here", "write {key: value}"),
    "string_type": ("a text is needed here", ""),
    "float_parsing": ("a number is needed here", ""),
    "int_parsing": ("a whole number is needed here", ""),
    "int_from_float": ("a whole number is needed here", ""),
    "float_type": ("a number is needed here", ""),
    "int_type": ("a whole number is needed here", ""),
}


# Field, whether a mapping is needed -> what to write.
_FORMS = {
    ("tasks", False): "write '- id: ...' for each task",
    ("tasks", True): "write {id: ..., type: ...}",
    ("task_destinations", True): "write {name: <id of the task>}",
    ("export_destinations", True): "write {name: <destination>}",
    ("informatics_gateway", True): "write {ae_title: MYAE}",
    ("input", True): 'write {name: study, value: "{{ context.input.dicom }}"}',
    ("output", True): "write {name: seg, type: SEG}",
    ("artifacts", True): "write {input: [...], output: [...]}",
    ("resources", True): "write {memory: 8Gi}",
    ("retry_policy", True): "write {connection: retry}",
    ("params", True): "write {<name>: {type: number, default: 1}}",
    ("param", True): "write {type: number, default: 1}",
    ("schedule", True): 'write {cron: "0 22 * * *"}',
    ("select", True): "write {received_within: 30d}",
}
_UNITS = {
    "timeout_minutes": "minutes, as in 30; 0 for no limit",
    "quiet_seconds": "seconds, as in 60",
    "dataRetentionDays": "days, as in 10; -1 keeps the data for ever",
    "retries": "how often it is tried again, as in 2",
    "cpu": "cores, as in 2",
    "gpu": "whole cards, as in 1; a part of one is gpuMemory",
}


def validated(data: Any) -> tuple[WorkflowSpec | None, list[Finding]]:
    """The model of the data, as far as one can be made, and what was wrong with fields."""
    findings: list[Finding] = []
    current = data
    for _ in range(_ROUNDS):
        try:
            return WorkflowSpec.model_validate(current), findings
        except ValidationError as error:
            if current is data:
                current = copy.deepcopy(data)
                findings = [_finding(item) for item in error.errors(include_url=False, include_input=False)]
            _repair(current, error)
    return None, findings


def findings_of(data: Any, model: type[BaseModel]) -> tuple[Any, list[Finding]]:
    """The model of the data, or None, and what was wrong with its fields."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, [_finding(item) for item in error.errors(include_url=False, include_input=False)]


def _finding(item: Any) -> Finding:
    kind, at = item["type"], tuple(item["loc"])
    context = item.get("ctx", {})
    if "text" in context:
        return Finding(at, kind, context["text"], context.get("hint", "") or _UNITS.get(str(at[-1]), ""))
    if kind == "missing":
        hint = f"add {_EXAMPLES.get(str(at[-1]), str(at[-1]))}"
        return Finding(at, "missing-field", f"the field {at[-1]!r} is missing{_where(at[:-1])}", hint)
    if kind == "too_long":
        message = f"{at[-1]}: there are {context['actual_length']} entries; {context['max_length']} are allowed"
        return Finding(at, "too-long", message)
    if kind == "too_short":
        return Finding(at, "missing-field", "a workflow needs at least one task", "the first one is the root")
    field = next((part for part in reversed(at) if isinstance(part, str)), "")
    if kind in _EXPECTED:
        message, hint = _EXPECTED[kind]
        is_mapping = kind in ("dict_type", "model_type")
        asked = "param" if at[:1] == ("params",) and len(at) == 2 else field
        hint = _FORMS.get((asked, is_mapping)) or hint or _UNITS.get(field, "")
        return Finding(at, "wrong-type", f"{field}: {message}", hint)
    why = re.sub(r"^(Input|String|Value) should", "must", item["msg"])
    return Finding(at, _CODES.get(kind, "wrong-value"), f"{field}: {why[:1].lower()}{why[1:]}", _UNITS.get(field, ""))


def _where(at: Location) -> str:
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")
    return f" in {shown}" if shown else ""


def _repair(data: Any, error: ValidationError) -> None:
    """Replace what is missing and take out what is wrong, from the last list element to the first."""
    items = error.errors(include_url=False, include_context=False, include_input=False)
    for item in sorted(items, key=lambda item: [str(part).zfill(9) for part in item["loc"]], reverse=True):
        at: tuple[Any, ...] = tuple(item["loc"])
        holder = data
        for part in at[:-1]:
            holder = _child(holder, part)
        if not at or not isinstance(holder, (dict, list)):
            continue
        if item["type"] == "missing" or at == ("tasks",):
            holder[at[-1]] = _substitute(at)
        elif isinstance(holder, dict):
            holder.pop(at[-1], None)
        elif (index := at[-1]) in range(len(holder)):
            holder[index] = {} if isinstance(holder[index], dict) else ""


def _child(holder: Any, part: Any) -> Any:
    if isinstance(holder, dict):
        return holder.get(part)
    return holder[part] if isinstance(holder, list) and isinstance(part, int) and part < len(holder) else None


def _substitute(at: Location) -> Any:
    name = at[-1]
    if name == "tasks":
        return [{"id": f"{INVENTED}0_", "type": "router"}]
    if name == "id" or (name == "name" and len(at) > 1):
        return f"{INVENTED}{at[-2]}_"
    return copy.deepcopy(_SUBSTITUTES.get(str(name), ""))
