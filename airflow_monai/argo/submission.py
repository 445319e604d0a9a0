"""What is sent to Argo: a Workflow that refers to a WorkflowTemplate of the cluster and carries what a task says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_monai.tasks.run import TaskRun

LABEL = "monai"
GPU = "nvidia.com/gpu"
MAIN_CONTAINER = "main"
"""What Argo calls the container of a template in its pod."""

KEPT_SECONDS = 24 * 3600
"""How long Argo keeps a workflow that has ended: a triggerer that died must find it, however short the template's own
time is."""

_NAME_LENGTH = 52
"""Argo puts more behind a workflow's name in those of its pods, which have 63 characters at most."""
_LABEL = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?\Z")


@dataclass(frozen=True, slots=True)
class Submission:
    """One workflow to start.

    :param template: name of the WorkflowTemplate.
    :param parameters: name -> value, in place of the template's own.
    :param limits: of every container, as Kubernetes names them.
    :param priority_class: of the pods; empty for the cluster's default.
    :param deadline_seconds: Argo itself ends the workflow after this time.
    """

    name: str
    namespace: str
    template: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    priority_class: str = ""
    deadline_seconds: int | None = None

    def manifest(self) -> dict[str, Any]:
        """The Workflow; what it says goes before what the template says."""
        spec: dict[str, Any] = {
            "workflowTemplateRef": {"name": self.template},
            "arguments": {"parameters": [{"name": name, "value": value} for name, value in self.parameters.items()]},
            "ttlStrategy": dict.fromkeys(
                ("secondsAfterCompletion", "secondsAfterSuccess", "secondsAfterFailure"), KEPT_SECONDS
            ),
        }
        if self.deadline_seconds:
            spec["activeDeadlineSeconds"] = self.deadline_seconds
        if self.priority_class:
            spec["podPriorityClassName"] = self.priority_class
        if self.limits:
            container = {"name": MAIN_CONTAINER, "resources": {"limits": dict(self.limits)}}
            spec["podSpecPatch"] = json.dumps({"containers": [container]})
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": dict(self.labels)},
            "spec": spec,
        }


def workflow_name(run: TaskRun, number: int = 1) -> str:
    """The name of the workflow of this generation of a task: the same for every try that may still find it.

    :param number: 2 for the workflow after one that ended badly, and so on.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", run.task_id.lower()).strip("-") or "task"
    tail = _digest(run.store.identity, run.output_key) + (f"-{number}" if number > 1 else "")
    return f"monai-{slug[: _NAME_LENGTH - len(tail) - 7].strip('-')}-{tail}"


def task_labels(run: TaskRun) -> dict[str, str]:
    """What the workflows of all generations of a task share; ids only. The store tells apart two Airflows."""
    return {
        f"{LABEL}.store": _digest(run.store.identity),
        f"{LABEL}.dag": label_value(run.folder.dag_id),
        f"{LABEL}.run": label_value(run.folder.run_id),
        f"{LABEL}.task": label_value(run.task_id),
        f"{LABEL}.map_index": f"m{run.map_index}" if run.map_index >= 0 else "none",
    }


def run_labels(run: TaskRun) -> dict[str, str]:
    return {f"{LABEL}.payload": label_value(run.payload.payload_id), f"{LABEL}.generation": str(run.generation)}


def label_value(text: str) -> str:
    """A text as the value of a Kubernetes label, which takes only short and plain ones."""
    if _LABEL.match(text):
        return text
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")[:46].rstrip("-_.")
    return f"{plain}-{_digest(text)}" if plain else _digest(text)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
