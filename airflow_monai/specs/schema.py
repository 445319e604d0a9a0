"""The JSON Schema of the workflow language, for editors and other programs."""

from __future__ import annotations

from typing import Any

from airflow_monai.specs.choices import SCHEMA_FIELD
from airflow_monai.specs.model import WorkflowSpec


def workflow_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a workflow file, with the field names that files use.

    It says what the types of the fields say; that destinations exist, conditions can be read and the like is a matter
    of ``airflow monai validate``.
    """
    schema = WorkflowSpec.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Clinical imaging-AI workflow"
    # the reference to this schema itself, as editors look for it
    schema["properties"][SCHEMA_FIELD] = {"type": "string"}
    return schema
