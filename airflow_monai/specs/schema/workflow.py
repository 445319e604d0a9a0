"""The JSON Schema of the workflow language, for editors and other programs.

:func:`workflow_schema` says what the documentation says; :func:`editor_schema` also lets pass what the loader lets pass
(names in any case, numbers as texts, empty values), and knows the arguments of each task type. Both are of draft 07,
which every editor's language server understands. That destinations exist, conditions can be read and the like is a
matter of ``airflow monai validate``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_monai.specs.choices import SCHEMA_FIELD
from airflow_monai.specs.model import WorkflowSpec
from airflow_monai.specs.schema.field_help import FIELD_HELP

DRAFT = "http://json-schema.org/draft-07/schema#"
SCHEMA_FILE = Path(__file__).parents[1] / "workflow.schema.json"
"""The editors' schema as it is shipped; a test keeps it equal to what :func:`editor_schema` makes."""
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def workflow_schema() -> dict[str, Any]:
    """JSON Schema of a workflow file, with the field names that files use and what each field means."""
    schema = _tidy(WorkflowSpec.model_json_schema(by_alias=True, mode="validation"))
    for model, definition in {"WorkflowSpec": schema, **schema["$defs"]}.items():
        _describe(definition, model)
    # the reference to this schema itself, as editors look for it
    schema["properties"][SCHEMA_FIELD] = {"type": "string", "description": "Where this JSON Schema is, for editors."}
    return {"$schema": DRAFT, **schema, "title": "Clinical imaging-AI workflow"}


def editor_schema() -> dict[str, Any]:
    """JSON Schema by which an editor completes and checks workflow files while they are written."""
    from airflow_monai.specs.schema.args import with_arguments
    from airflow_monai.specs.schema.leniency import lenient

    return with_arguments(lenient(workflow_schema()))


def defaults_schema() -> dict[str, Any]:
    """JSON Schema of a ``defaults`` file."""
    from airflow_monai.specs.defaults.model import DefaultsSpec

    schema = _tidy(DefaultsSpec.model_json_schema(by_alias=True, mode="validation"))
    schema["properties"][SCHEMA_FIELD] = {"type": "string", "description": "Where this JSON Schema is, for editors."}
    return {"$schema": DRAFT, **schema, "title": "Defaults of clinical imaging-AI workflows"}


def schema_text() -> str:
    """The editors' schema as its file holds it."""
    return json.dumps(editor_schema(), indent=1, ensure_ascii=False) + "\n"


def _tidy(node: Any) -> Any:
    """The schema without what is of no use in an editor, and with the names of bounds as the draft has them."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs", "patternProperties"):
            found[key] = {name: _tidy(item) for name, item in value.items()}
        elif key != "title" and not (key == "default" and value in (None, "")):
            found[_BOUNDS.get(key, str(key))] = _tidy(value)
    if isinstance(found.get("description"), str):
        found["description"] = " ".join(found["description"].split("\n\n:param")[0].split())
    return found


def _describe(definition: dict[str, Any], model: str) -> None:
    """Add what the fields of an object mean."""
    from airflow_monai.specs import model as models

    fields = getattr(models, model).model_fields if model in FIELD_HELP else {}
    for name, info in fields.items():
        told = FIELD_HELP[model][name]
        shown = definition["properties"][info.alias or name]
        shown["description"] = told.text
        if told.examples:
            shown["examples"] = [list(value) if isinstance(value, tuple) else value for value in told.examples]
