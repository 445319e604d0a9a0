"""From a workflow file to the plan that the factory builds from, and the plan's way through JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from airflow_monai.specs import load_text, load_workflow, plan_of
from airflow_monai.specs.compile import dag_id_of
from airflow_monai.specs.plan import Edge, InputArtifact, OutputArtifact, Resources, TaskType, WorkflowPlan
from tests.specs.fixtures import FIXTURES, spec_files


def plan(name: str) -> WorkflowPlan:
    return plan_of(load_workflow(FIXTURES / "valid" / name))


def test_the_example_of_the_design():
    ct_lung = plan("ct-lung.yaml")
    volume = "{{ context.executions.segment.result.volume_ml }}"
    assert (ct_lung.name, ct_lung.dag_id, ct_lung.version, ct_lung.ae_title) == ("ct-lung", "ct-lung", "1.0", "CTLUNG")
    assert ct_lung.predicate == ("{{ context.dicom.series.any('0008','0060') }} == 'CT'",)
    assert ct_lung.edges == (
        Edge("segment", "to-pacs", (f"{volume} > '500'",), "segment.to.to-pacs"),
        Edge("segment", "look", (f"{volume} <= '500'",), "segment.to.look"),
        Edge("look", "to-pacs", (), "look.to.to-pacs"),
    )
    segment, look, export = ct_lung.tasks
    assert ct_lung.root is segment
    assert (segment.type, segment.retries, segment.timeout_minutes) == (TaskType.MAP, 2, 30)
    assert segment.outputs == (OutputArtifact("seg", "SEG"),)
    assert segment.result_keys == ("volume_ml",)
    assert (look.type, look.retries, look.timeout_minutes, look.previous) == (TaskType.ROUTER, 0, 60, ("segment",))
    assert (export.is_join, export.previous, export.retries) == (True, ("segment", "look"), 2)
    assert export.inputs == (InputArtifact("seg", "{{ context.executions.segment.artifacts.seg }}"),)
    assert export.export_destinations == ("MAINPACS",)


def test_every_field():
    every = plan("every-field.yaml")
    assert every.dag_id == "every-field-" + every.dag_id[-6:]
    assert every.version == "2.10"
    assert every.description == "Folded text over lines\n"
    assert (every.quiet_seconds, every.data_origins) == (0.5, ("CT01", "MR 2"))
    sort, model, send = every.tasks
    assert sort.type is TaskType.ROUTER
    assert model.args["env_THRESHOLD"] == "0.50"
    assert model.args["env_FAST"] == "yes"
    assert model.args["env_ORIGIN"] == "{{ context.executions.Sort.status }}"
    assert model.outputs[0].type == "SEG"
    assert [artifact.mandatory for artifact in model.outputs] == [True, False]
    assert model.resources == Resources(2.0, "8Gi", "512MB", 1.0, "6g")
    assert (model.retries, model.timeout_minutes) == (0, 0)
    assert send.inputs[0].value == "{{ context.executions.model_1.artifacts.seg }}"
    assert every.edges[1] == Edge("model_1", "send", (), None)


def test_a_join_has_a_node_for_every_way_and_anchors_are_filled_in():
    join = plan("join.yaml")
    assert [(edge.source, edge.target, edge.node_id) for edge in join.edges] == [
        ("left", "middle", "left.to.middle"),
        ("left", "right", None),
        ("middle", "send", "middle.to.send"),
        ("right", "send", "right.to.send"),
    ]
    assert join.task("right").args == {"map": "noop:1"}
    assert join.task("left").result_keys == ("go",)
    with pytest.raises(KeyError):
        join.task("nobody")


def test_published_spelling_is_understood():
    published = plan("published.json")
    assert (published.ae_title, published.export_destinations) == ("PUBLISHED", ("PACS",))
    assert published.edges[0].conditions == ("""{{ context.dicom.series.any('0008','0060') }} CONTAINS ["CT", "MR"]""",)
    assert published.task("send").timeout_minutes == 60


@pytest.mark.parametrize("path", spec_files("valid"), ids=lambda path: path.name)
def test_round_trip_through_json(path):
    made = plan_of(load_workflow(path))
    assert WorkflowPlan.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_the_digest_is_of_the_text():
    text = (FIXTURES / "valid" / "join.yaml").read_text(encoding="utf-8")
    digests = [load_text(version, "a.yaml").digest for version in (text, text + "# more\n")]
    assert digests[0] != digests[1]
    assert load_text(text, "b.yaml").digest == digests[0]


@pytest.mark.parametrize("name", ["ct-lung", "A.b_c-9", "x" * 200])
def test_a_name_that_is_a_legal_dag_id_is_the_dag_id(name: str):
    assert dag_id_of(name) == name


@pytest.mark.parametrize("name", ["a b", "a/b", "Lunge, groß", "肺", "x" * 201, "../x", " "])
def test_any_other_name_becomes_one_of_its_own(name: str):
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", dag_id_of(name))
    assert dag_id_of(name) != dag_id_of(name + "!")


def test_plans_conditions_and_routing_cost_no_heavy_import():
    modules = [
        "plan",
        "conditions.parser",
        "context",
        "edges",
        "routing",
        "folder",
        "templates",
        "units",
        "problems",
        "conditions.values",
    ]
    code = "; ".join(f"import airflow_monai.specs.{name}" for name in modules)
    heavy = "{'pydantic', 'yaml', 'airflow', 'pydicom', 'numpy'}"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
