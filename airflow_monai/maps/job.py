"""One task's run of an application as a job for a runner: its name, labels, folders, environment and limits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapError
from airflow_monai.maps.manifest import Manifest, MapResources, run_environment, with_resources
from airflow_monai.maps.policy import Asked, Policy
from airflow_monai.maps.runners.base import FoundMap, MapJob, Mount
from airflow_monai.maps.staging import NamedInput, input_folder, local

if TYPE_CHECKING:
    from airflow_monai.operators.base import TaskRun

LABEL = "monai"
GPU_KEYS = ("gpu", "gpu_memory", "gpuMemory")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a spec says about how its application is run.

    :param resources: in place of the application's own, where it says any.
    :param timeout_seconds: the shorter of this and the application's own counts.
    :param asked: what it asks for beyond its resources, of which ``policy`` says what it may have.
    :param in_gpu_pool: the task holds slots of a pool of cards, of which class says ``card_class``.
    """

    resources: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    in_gpu_pool: bool = False
    card_class: str = ""
    user: str = ""
    asked: Asked = field(default_factory=Asked)
    policy: Policy = field(default_factory=Policy)


def map_job(run: TaskRun, found: FoundMap, inputs: Sequence[NamedInput], wish: Wish) -> MapJob:
    """The job of this generation of a map task; the same, but for a label, for every try of it.

    :raises MapError: when the MAP wants a card and the task has none, or the store is not on this host.
    :raises PolicyRefused: when task or MAP ask for more than the site allows.
    """
    manifest = with_resources(found.manifest, wish.resources)
    wanted = min((limit for limit in (manifest.timeout_seconds, wish.timeout_seconds) if limit), default=None)
    timeout = wish.policy.time_limit(wanted)
    source = input_folder(run.store, inputs, staging_folder(run))
    output = local(run.store, run.output_key)
    environment = run_environment(manifest, job_id=run.execution_id.replace("-", ""), timeout_seconds=timeout)
    mounts = (Mount(source, manifest.input_path), Mount(output, manifest.output_path, read_only=False))
    return make_job(run, replace(found, manifest=manifest), mounts, replace(wish, timeout_seconds=timeout), environment)


def make_job(
    run: TaskRun, found: FoundMap, mounts: tuple[Mount, ...], wish: Wish, environment: Mapping[str, str]
) -> MapJob:
    """A job of this generation of a task.

    :param found: with the resources that count; ``wish`` has the time limit that counts.
    :param environment: what the application is owed; the task's own comes on top.
    :raises MapError: when the application wants a card and the task has none.
    :raises PolicyRefused: when task or application ask for more than the site allows.
    """
    what, resources = f"Task {run.task_id} ({found.reference})", found.manifest.resources
    wish.policy.check_resources(resources.cpu, resources.memory_bytes, resources.shared_memory_bytes, what=what)
    confinement = wish.policy.confine(wish.asked, what=what)
    asked_for = tuple(Mount(Path(source), target) for source, target in confinement.mounts)
    labels = _task_labels(run)
    gpus = _gpus(run, found, resources, wish)
    driver = {"NVIDIA_DRIVER_CAPABILITIES": "all"} if gpus else {}
    return MapJob(
        name=job_name(run),
        found=found,
        labels={**labels, **_run_labels(run)},
        task_labels=labels,
        environment={**environment, **driver, **wish.environment},
        mounts=(*mounts, *asked_for),
        output=local(run.store, run.output_key),
        state=_beside_output(run, ".run"),
        resources=resources,
        timeout_seconds=wish.policy.time_limit(wish.timeout_seconds),
        user=wish.user,
        gpus=gpus,
        card_class=wish.card_class,
        confinement=confinement,
    )


def bare_job(run: TaskRun) -> MapJob:
    """The job by its name, labels and folders only: enough to remove what may be there of it."""
    nothing = Manifest((), "/", "", "", "", "")
    labels, output = _task_labels(run), local(run.store, run.output_key)
    state = _beside_output(run, ".run")
    found = FoundMap("", "", nothing)
    return MapJob(job_name(run), found, labels, labels, {}, (), output, state, nothing.resources)


def job_name(run: TaskRun) -> str:
    """A container's name: readable, and one for each generation of a task of an installation."""
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", run.task_id)[:40].strip("-.") or "task"
    return f"monai-{slug}-{_digest(run.store.url, run.output_key)}"


def staging_folder(run: TaskRun) -> Path:
    """Where inputs are put together; of no use once the job is done."""
    return _beside_output(run, ".in")


def _beside_output(run: TaskRun, suffix: str) -> Path:
    output = local(run.store, run.output_key)
    return output.with_name(output.name + suffix)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _task_labels(run: TaskRun) -> dict[str, str]:
    """What all generations share. The store tells apart two Airflows that use one engine."""
    return {
        f"{LABEL}.store": _digest(run.store.url),
        f"{LABEL}.dag": run.folder.dag_id,
        f"{LABEL}.run": run.folder.run_id,
        f"{LABEL}.task": run.task_id,
        f"{LABEL}.map_index": str(run.map_index),
    }


def _run_labels(run: TaskRun) -> dict[str, str]:
    return {
        f"{LABEL}.payload": run.payload.payload_id,
        f"{LABEL}.generation": str(run.generation),
        f"{LABEL}.started_by_try": str(run.try_number),
    }


def _gpus(run: TaskRun, found: FoundMap, resources: MapResources, wish: Wish) -> int:
    """How many cards the container gets."""
    wanted = ceil(resources.gpu) or (1 if resources.gpu_memory_bytes and _asks_for_gpu(wish) else 0)
    if wish.resources.get("gpu") == 0:
        return 0
    if wanted and not (wish.in_gpu_pool or _asks_for_gpu(wish)):
        raise MapError(
            f"{found.reference} of task {run.task_id} wants {wanted} GPU, but its task holds no slot of a GPU pool. "
            f"Write `resources: {{gpu: {wanted}}}` into the task, or `resources: {{gpu: 0}}` to run it without."
        )
    return wanted


def _asks_for_gpu(wish: Wish) -> bool:
    return any(wish.resources.get(key) for key in GPU_KEYS)
