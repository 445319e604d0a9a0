"""The JSON Schema says what the model says, and an editor that checks by it marks nothing that can be loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.cli.standalone import main
from airflow_monai.specs import model
from airflow_monai.specs.reading import check_text
from airflow_monai.specs.schema.field_help import FIELD_HELP
from airflow_monai.specs.schema.workflow import SCHEMA_FILE, editor_schema, schema_text, workflow_schema
from airflow_monai.specs.task_types import TASK_TYPE_SPECS
from tests.specs.fixtures import spec_files

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = editor_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def _data(text: str) -> Any:
    return yaml.safe_load(text)


def _workflow(task: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "x", "version": "1", "informatics_gateway": {"ae_title": "X"}, "tasks": [task], **more}


def test_the_schema_has_the_fields_as_files_write_them():
    schema = workflow_schema()
    assert schema["required"] == ["name", "version", "informatics_gateway", "tasks"]
    assert {"dataRetentionDays", "predicate", "$schema"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert set(schema["$defs"]["ResourcesSpec"]["properties"]) == {"cpu", "memory", "sharedMemory", "gpu", "gpuMemory"}
    assert "map" in schema["$defs"]["TaskSpec"]["properties"]["type"]["enum"]
    assert schema["$defs"]["InformaticsGateway"]["properties"]["quiet_seconds"]["anyOf"][0]["minimum"] == 0.1


def test_the_shipped_file_is_what_the_code_makes():
    """When this fails: python -m airflow_monai schema --output airflow_monai/specs/workflow.schema.json"""
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text()


def test_every_field_has_help_and_no_help_is_left_over():
    models = {
        name: value
        for name, value in vars(model).items()
        if isinstance(value, type) and issubclass(value, model._Model) and value is not model._Model
    }
    assert {name: set(value.model_fields) for name, value in models.items()} == {
        name: set(fields) for name, fields in FIELD_HELP.items()
    }
    assert all(told.text.endswith(".") for fields in FIELD_HELP.values() for told in fields.values())


def test_every_argument_of_every_task_type_is_in_the_schema_with_its_help():
    definitions = editor_schema()["$defs"]
    for kind, spec in TASK_TYPE_SPECS.items():
        name = "".join(part.title() for part in kind.value.split("_")) + "Args"
        properties = definitions[name]["properties"]
        assert set(properties) == {arg.name for arg in spec.args}
        assert all(properties[arg.name]["description"].startswith(arg.help) for arg in spec.args)


@pytest.mark.parametrize("path", spec_files("valid"), ids=lambda path: path.name)
def test_what_can_be_loaded_is_not_marked(path, validator):
    text = path.read_text(encoding="utf-8-sig")
    data = json.loads(text) if path.suffix == ".json" else _data(text)
    assert [error.message for error in validator.iter_errors(data)] == []


@pytest.mark.parametrize("folder", ["workflow_specs", "examples/workflows", "benchmarks/specs"])
def test_the_workflows_of_this_project_meet_the_schema_that_they_name(folder, validator):
    for path in sorted((PROJECT / folder).rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if path.stem == "defaults":
            continue
        assert [error.message for error in validator.iter_errors(_data(text))] == [], path
        first = text.splitlines()[0]
        if first.startswith("# yaml-language-server: $schema="):
            assert (path.parent / first.partition("=")[2]).resolve() == SCHEMA_FILE, path


@pytest.mark.parametrize(
    "change",
    [
        {"nmae": "x"},
        {"version": None},
        {"informatics_gateway": {"ae_title": "TOO LONG AN AE TITLE"}},
        {"informatics_gateway": {"ae_title": "back\\slash"}},
        {"informatics_gateway": {"ae_title": "X", "grouping": "studies"}},
        {"informatics_gateway": {}},
        {"predicate": "a text, not a list"},
        {"tasks": []},
        {"tasks": [{"id": "with blank", "type": "router"}]},
        {"tasks": [{"id": "a", "type": "ruoter"}]},
        {"tasks": [{"type": "router"}]},
        {"tasks": [{"id": "a", "type": "router", "timeout_minutes": -5}]},
        {"tasks": [{"id": "a", "type": "router", "retries": "many"}]},
        {"tasks": [{"id": "a", "type": "map", "artifacts": {"input": []}}]},
        {"tasks": [{"id": "a", "type": "map", "args": {"mpa": "x:1"}, "artifacts": {}}]},
        {"tasks": [{"id": "a", "type": "map", "args": {"map": "x:1"}}]},
        {"tasks": [{"id": "a", "type": "export"}]},
        {"tasks": [{"id": "a", "type": "router", "for_each": "image"}]},
    ],
    ids=lambda change: json.dumps(change)[:60],
)
def test_clear_mistakes_are_marked_and_refused_by_the_loader_too(change, validator):
    data = {**_workflow({"id": "a", "type": "router"}), **change}
    assert list(validator.iter_errors(data))
    spec, problems = check_text(json.dumps(data), "x.json")
    assert spec is None and problems


@pytest.mark.parametrize(
    "change",
    [
        {"Name": "y", "VERSION": "2"},
        {"version": 2.5},
        {"description": None},
        {"tasks": [{"ID": "a", "Type": "ROUTER", "Timeout_Minutes": "30", "Description": 5}]},
        {"tasks": [{"id": "a", "type": "router", "args": None, "ref": "", "task_destinations": None}]},
        {"tasks": [{"id": "a", "type": "router", "resources": {"gpu_memory": "6g", "GPU": "1"}}]},
        {"informatics_gateway": {"AE_Title": "X", "grouping": "SERIES", "quiet_seconds": "5"}},
    ],
    ids=lambda change: json.dumps(change)[:60],
)
def test_other_spellings_that_the_loader_takes_are_not_marked(change, validator):
    data = _workflow({"id": "a", "type": "router"})
    for name in change:
        data.pop(name.lower(), None)
    data |= change
    spec, problems = check_text(json.dumps(data), "x.json")
    assert spec is not None, problems
    assert [error.message for error in validator.iter_errors(data)] == []


def test_the_command_prints_the_schema_or_writes_it_and_says_how_to_name_it(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["schema"])
    assert not ended.value.code and json.loads(capsys.readouterr().out) == editor_schema()
    with pytest.raises(SystemExit):
        main(["schema", "--output", str(tmp_path / "s.json")])
    assert json.loads((tmp_path / "s.json").read_text()) == editor_schema()
    assert "# yaml-language-server: $schema=s.json" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["schema", "--output", str(tmp_path / "no" / "s.json")])
    assert ended.value.code == 1 and "cannot be written" in capsys.readouterr().err
