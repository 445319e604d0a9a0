"""The JSON Schema says what the model says."""

from __future__ import annotations

import json

import pytest

from airflow_monai.specs.schema import workflow_schema
from tests.specs.fixtures import FIXTURES


def test_the_schema_has_the_fields_as_files_write_them():
    schema = workflow_schema()
    assert schema["required"] == ["name", "version", "informatics_gateway", "tasks"]
    assert {"dataRetentionDays", "predicate", "$schema"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert set(schema["$defs"]["ResourcesSpec"]["properties"]) == {"cpu", "memory", "sharedMemory", "gpu", "gpuMemory"}
    assert "map" in schema["$defs"]["TaskSpec"]["properties"]["type"]["enum"]
    assert json.loads(json.dumps(schema)) == schema


def test_a_valid_file_meets_the_schema():
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load((FIXTURES / "valid" / "ct-lung.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(data, workflow_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**data, "nmae": "x"}, workflow_schema())
