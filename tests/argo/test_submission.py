"""Names and labels of workflows have to be Kubernetes'."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_monai.argo.submission import Submission, label_value, task_labels, workflow_name
from airflow_monai.store.runs import RunFolder
from airflow_monai.tasks.run import TaskRun
from tests.specs.samples import payload

PAYLOAD_ID = "0a1b2c3d-0000-4000-8000-000000000003"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def run(task_id: str = "measure", run_id: str = "monai__x", generation: int = 1, map_index: int = -1) -> TaskRun:
    store = SimpleNamespace(url="/data/monai", identity="/data/monai")
    folder = RunFolder(store, PAYLOAD_ID, "ct lung", run_id)  # type: ignore[arg-type]
    return TaskRun(store, payload(), folder, task_id, map_index, generation, 1, "w", "")  # type: ignore[arg-type]


def test_a_name_is_one_generation_s_and_nobody_else_s():
    names = [
        workflow_name(run()),
        workflow_name(run(), 2),
        workflow_name(run(generation=2)),
        workflow_name(run(map_index=0)),
        workflow_name(run("Measure")),
        workflow_name(run("measure_" * 12)),
        workflow_name(run("___")),
        workflow_name(run(run_id="other")),
    ]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) and len(name) <= 52 for name in names)
    assert workflow_name(run()) == workflow_name(replace(run(), try_number=3))


@pytest.mark.parametrize(
    "text",
    ["monai__5f0c", "manual__2026-01-01T00:00:00+00:00", "x" * 64, "__", "Lungen-Größe", "a b", "-a-", "x" * 63],
)
def test_label_values(text: str):
    value = label_value(text)
    assert LABEL.fullmatch(value)
    assert (value == text) == bool(LABEL.fullmatch(text))
    assert value != label_value(f"{text}x")


def test_labels_tell_tasks_apart_and_hold_ids_only():
    labels = task_labels(run())
    assert labels == task_labels(run(generation=2)) != task_labels(run(map_index=3))
    assert all(LABEL.fullmatch(value) for value in labels.values())


def test_a_manifest_says_only_what_the_task_says():
    spec = Submission("n", "argo", "template").manifest()["spec"]
    assert set(spec) == {"workflowTemplateRef", "arguments", "ttlStrategy"}
