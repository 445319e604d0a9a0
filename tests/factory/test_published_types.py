"""Tasks of the published types ``docker`` and ``argo`` as operators, from files as published ones are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_monai.factory.builder import build_dag
from airflow_monai.factory.kinds.map import EXECUTION_GRACE
from airflow_monai.operators.argo import ArgoOperator
from airflow_monai.operators.container import ContainerOperator
from airflow_monai.specs import check_file, plan_of
from airflow_monai.specs.plan import WorkflowPlan
from tests.factory.plans import plan_of_text
from tests.specs.fixtures import spec_files

FILES = {path.suffix: path for path in spec_files("valid") if path.stem == "docker-and-argo"}


def plan(suffix: str) -> WorkflowPlan:
    spec, problems = check_file(FILES[suffix])
    assert spec is not None and not [problem for problem in problems if problem.is_error]
    return plan_of(spec)


def dag_of(made: WorkflowPlan) -> DAG:
    return build_dag(made, inventory=lambda: None)


def serialised(dag: DAG) -> dict[str, Any]:
    from airflow.serialization.serialized_objects import DagSerialization

    return dict(DagSerialization.to_dict(dag))


def test_json_and_yaml_of_a_workflow_make_the_same_dag():
    """But for the name of the file and its digest, which tell versions apart."""
    plans = [replace(plan(suffix), source="same", digest="0" * 64) for suffix in (".json", ".yaml")]
    assert plans[0] == plans[1]
    first, second = map(dag_of, plans)
    assert serialised(first) == serialised(second)


@pytest.mark.parametrize("suffix", FILES)
def test_a_docker_task(suffix: str):
    task = dag_of(plan(suffix)).get_task("lungs")
    assert isinstance(task, ContainerOperator)
    assert (task.image, task.entrypoint) == ("registry.example/lungs:1.0", ["/bin/bash", "-c"])
    assert task.command == ["python3 -u /opt/app/app.py"]
    assert task.paths == {"env_MONAI_INPUTPATH": "/var/monai/input/", "env_MONAI_OUTPUTPATH": "/var/monai/output/"}
    assert task.environment == {
        "MONAI_INPUTPATH": "/var/monai/input/",
        "MONAI_OUTPUTPATH": "/var/monai/output/",
        "MONAI_MODELPATH": "/opt/monai/models/",
        "MONAI_WORKDIR": "/var/monai/",
        "THRESHOLD": "0.5",
    }
    assert (task.scratch, task.always_pull, task.user) == ("/var/monai/", True, "")
    assert task.timeout_minutes == 15
    assert task.execution_timeout is not None and (task.execution_timeout - EXECUTION_GRACE).total_seconds() == 900
    assert task.result_keys == ["volume_ml"]
    assert [edge["node"] for edge in task.edges] == ["lungs.to.send"]


@pytest.mark.parametrize("suffix", FILES)
def test_an_argo_task(suffix: str):
    task = dag_of(plan(suffix)).get_task("measure")
    assert isinstance(task, ArgoOperator)
    assert task.start_from_trigger
    wanted = {
        "template": "mean-pixel-calc",
        "namespace": "argo",
        "server_url": "https://argo-server.argo:2746",
        "allow_insecure": True,
        "priority_class": "high",
        "limits": {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"},
        "deadline_seconds": 600,
        "timeout_seconds": 3600,
        "parameters": {},
    }
    assert {name: task.light_task[name] for name in wanted} == wanted


HEAD = """\
name: types
version: "1"
informatics_gateway: {ae_title: TYPES}
tasks:
  - id: only
"""
TAIL = """
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}]}
"""


def only_task(text: str) -> Any:
    return dag_of(plan_of_text(f"{HEAD}{text}{TAIL}")).get_task("only")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("args: {container_image: x, study: /in}", 5),
        ("args: {container_image: x, study: /in, Task_Timeout_Minutes: 7}", 7),
        ("args: {container_image: x, study: /in, task_timeout_minutes: 7}\n    timeout_minutes: 9", 9),
        ("args: {container_image: x, study: /in}\n    timeout_minutes: 0", None),
    ],
)
def test_the_time_limit_of_a_docker_task(text: str, minutes: float | None):
    assert only_task(f"    type: docker\n    {text}").timeout_minutes == minutes


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ('"a, b,c"', ["a", "b", "c"]),
        ('["a, b", 5, true]', ["a, b", "5", "true"]),
        ("\"{{ context.dicom.series.any('0008','0060') }},x\"", ["{{ context.dicom.series.any('0008','0060') }}", "x"]),
    ],
)
def test_the_words_of_a_command(command: str, words: list[str]):
    task = only_task(f"    type: docker\n    args: {{container_image: x, study: /in, command: {command}}}")
    assert task.command == words
    assert task.entrypoint is None


@pytest.mark.parametrize(("user", "used"), [("1000:1000", "1000:1000"), ("1000", "1000"), ("root", ""), ("0", "")])
def test_the_user_of_a_container_is_never_root(user: str, used: str):
    text = f'    type: docker\n    args: {{container_image: x, study: /in, user: "{user}"}}'
    assert only_task(text).user == used


@pytest.mark.parametrize(
    ("args", "resources", "limits"),
    [
        ("", "", {}),
        (", cpu: 500m, memory_gb: 2", "", {"cpu": "500m", "memory": "2Gi"}),
        ("", "\n    resources: {cpu: 2, memory: 4Gi}", {"cpu": "2", "memory": "4Gi"}),
        (", cpu: 1", "\n    resources: {cpu: 2}", {"cpu": "1"}),
        (', gpu_required: "false"', "", {"nvidia.com/gpu": "0"}),
    ],
)
def test_the_limits_of_an_argo_task(args: str, resources: str, limits: dict[str, str]):
    task = only_task(f"    type: argo\n    args: {{workflow_template_name: x{args}}}{resources}")
    assert task.light_task["limits"] == limits


def test_parameters_may_be_a_mapping_or_json():
    text = "    type: argo\n    args: {workflow_template_name: x, parameters: %s}"
    for written in ('{threshold: 0.5, "name": a}', """'{"threshold": 0.5, "name": "a"}'"""):
        assert only_task(text % written).light_task["parameters"] == {"threshold": "0.5", "name": "a"}


def test_a_large_request_for_cards_is_refused_like_that_of_a_map():
    from airflow_monai.errors import MonaiError

    text = "    type: docker\n    args: {container_image: x, study: /in}\n    resources: {gpu: 2}"
    with pytest.raises(MonaiError, match=r"[Gg][Pp][Uu]"):
        only_task(text)
