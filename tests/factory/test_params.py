"""The form of a workflow: what Airflow takes when a study, a person or a program starts a run."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from airflow_monai.bundles.reader import entry_of
from airflow_monai.factory.batch import build_batch_dag
from airflow_monai.factory.builder import build_dag
from airflow_monai.specs import load_text, plan_of

TEXT = """
name: form
version: 1.0.0
informatics_gateway: {ae_title: FORM}
params:
  threshold: {type: number, default: 0.5, minimum: 0, maximum: 1, title: Threshold, description: Of the mask.}
  mode: {default: fast, choices: [fast, exact]}
  series: {type: integer, default: 2}
  exact: {type: boolean, default: false}
  comment: {default: ""}
schedule: {cron: "0 2 * * *", select: {include_processed: true}}
tasks:
  - id: segment
    type: map
    args: {map: "noop:1.0.0", env_THRESHOLD: "{{ context.params.threshold }}", env_MODE: plain}
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}]}
"""
PAYLOAD = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"


@pytest.fixture(scope="module")
def params() -> Any:
    """As the API server has them."""
    return DagSerialization.from_dict(DagSerialization.to_dict(build_dag(plan_of(load_text(TEXT, "form.yaml"))))).params


def test_the_payload_comes_first_then_the_workflows_own_with_their_types(params: Any) -> None:
    assert list(params) == ["payload_id", "threshold", "mode", "series", "exact", "comment"]
    threshold = params.get_param("threshold")
    assert threshold.schema == {"type": "number", "title": "Threshold", "minimum": 0, "maximum": 1}
    assert (threshold.value, threshold.description) == (0.5, "Of the mask.")
    assert params.get_param("mode").schema == {"type": "string", "enum": ["fast", "exact"]}
    assert [params.get_param(name).schema["type"] for name in ("series", "exact")] == ["integer", "boolean"]
    assert params.get_param("payload_id").schema["title"] == "Payload (needed)"


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"payload_id": None, "comment": None},
        {"payload_id": PAYLOAD},
        {"payload_id": f" {PAYLOAD.upper()}\n", "threshold": 1, "mode": "exact"},
    ],
)
def test_what_airflow_takes(params: Any, conf: dict[str, Any]) -> None:
    params.deep_merge(conf).validate()


@pytest.mark.parametrize(
    ("conf", "name"),
    [
        ({"payload_id": "the last one"}, "payload_id"),
        ({"payload_id": PAYLOAD[:-1]}, "payload_id"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": "0.5"}, "threshold"),
        ({"mode": "slow"}, "mode"),
        ({"series": 1.5}, "series"),
        ({"exact": "yes"}, "exact"),
    ],
)
def test_what_airflow_refuses_by_the_name_of_the_field(params: Any, conf: dict[str, Any], name: str) -> None:
    with pytest.raises(Exception, match=f"Invalid input for param {name}"):
        params.deep_merge(conf).validate()


def test_arguments_named_env_become_variables_of_the_application() -> None:
    task = build_dag(plan_of(load_text(TEXT, "form.yaml"))).task_dict["segment"]
    assert task.environment == {"THRESHOLD": "{{ context.params.threshold }}", "MODE": "plain"}


def test_the_batch_has_a_form_too_and_needs_none_by_the_clock() -> None:
    dag = build_batch_dag(plan_of(load_text(TEXT, "form.yaml")))
    assert dag is not None
    back = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    form = ["study_instance_uids", "received_after", "received_before", "limit", "include_processed", "dry_run"]
    assert list(back.params) == form
    assert back.params.validate() == dict.fromkeys(form) | {"include_processed": True, "dry_run": False}
    back.params.deep_merge({"study_instance_uids": ["1.2.3"], "limit": 5, "dry_run": True}).validate()
    assert (back.dag_id, back.max_active_runs, back.catchup) == ("form.batch", 1, False)
    assert [(task.task_id, bool(task.start_from_trigger)) for task in back.tasks] == [
        ("select", False),
        ("start", True),
    ]


def test_a_workflow_without_a_schedule_has_no_batch() -> None:
    assert build_batch_dag(plan_of(load_text(TEXT.replace("schedule:", "# schedule:"), "form.yaml"))) is None


def test_a_workflow_cannot_take_the_place_of_anothers_batch() -> None:
    taker = plan_of(load_text(TEXT.replace("name: form", "name: form.batch"), "taker.yaml"))
    assert taker.dag_id.startswith("form.batch-")


def test_the_generated_file_holds_both_dags(tmp_path: Path) -> None:
    for name, content in entry_of(TEXT, "form.yaml").dag_files():
        (tmp_path / name).write_bytes(content)
    found = runpy.run_path(str(tmp_path / "form.yaml.py"))
    assert (found["dag"].dag_id, found["batch_dag"].dag_id) == ("form", "form.batch")
    assert found["batch_dag"].tags - found["dag"].tags == {"batch"}
