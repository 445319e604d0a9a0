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
from airflow_monai.maps.staging import NamedInput, input_folder, planned
from airflow_monai.maps.workspace import local, notes_of

if TYPE_CHECKING:
    from airflow_monai.store.base import Store
    from airflow_monai.store.runs import RunFolder
    from airflow_monai.tasks.run import TaskRun

LABEL = "monai"
GPU_KEYS = ("gpu", "gpu_memory", "gpuMemory")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a spec says about how its application is run.

    :param resources: in place of the application's own, where it says any.
    :param timeout_seconds: the shorter of this and the application's own counts.
    :param asked: what it asks for beyond its resources, of which ``policy`` says what it may have.
    :param fetches_inputs: the runner brings the input, so that it is not copied to this host.
    :param in_gpu_pool: the task holds slots of a pool of cards, of which class says ``card_class``.
    """

    resources: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    in_gpu_pool: bool = False
    card_class: str = ""
    user: str = ""
    asked: Asked = field(default_factory=Asked)
    fetches_inputs: bool = False
    policy: Policy = field(default_factory=Policy)


def map_job(run: TaskRun, found: FoundMap, inputs: Sequence[NamedInput], wish: Wish) -> MapJob:
    """The job of this generation of a map task; the same, but for a label, for every try of it.

    :raises MapError: when the MAP wants a card and the task has none, or the store is not on this host.
    :raises PolicyRefused: when task or MAP ask for more than the site allows.
    """
    manifest = with_resources(found.manifest, wish.resources)
    wanted = min((limit for limit in (manifest.timeout_seconds, wish.timeout_seconds) if limit), default=None)
    timeout = wish.policy.time_limit(wanted)
    source, fetched = job_input(run, inputs, staging_folder(run), wish)
    output = local(run.store, run.output_key)
    environment = run_environment(manifest, job_id=run.execution_id.replace("-", ""), timeout_seconds=timeout)
    mounts = (Mount(source, manifest.input_path), Mount(output, manifest.output_path, read_only=False))
    job = make_job(run, replace(found, manifest=manifest), mounts, replace(wish, timeout_seconds=timeout), environment)
    return replace(job, fetched=fetched)


def job_input(
    run: TaskRun, inputs: Sequence[NamedInput], staging: Path, wish: Wish
) -> tuple[Path, tuple[tuple[str, Path], ...]]:
    """The folder to mount as an application's input, and what of it the runner has to bring (:attr:`MapJob.fetched`).

    :param staging: the folder in which the input is put together.
    """
    if wish.fetches_inputs:
        return staging, planned(inputs, staging)
    return input_folder(run.store, inputs, staging), ()


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
    labels = _task_labels(run.folder, run.task_id, run.map_index)
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
        notes=notes_of(run.store, run.output_key),
    )


def bare_job(run: TaskRun) -> MapJob:
    """The job by its name, labels and folders only: enough to remove what may be there of it."""
    return bare_job_of(run.folder, run.task_id, run.map_index, run.generation)


def bare_job_of(folder: RunFolder, task_id: str, map_index: int, generation: int) -> MapJob:
    """The same for who knows of the task only what the store has."""
    nothing = Manifest((), "/", "", "", "", "")
    labels, key = _task_labels(folder, task_id, map_index), folder.output_key(task_id, map_index, generation)
    output = local(folder.store, key)
    state = output.with_name(f"{output.name}.run")
    found = FoundMap("", "", nothing)
    name = _name(folder.store, task_id, key)
    notes = notes_of(folder.store, key)
    return MapJob(name, found, labels, labels, {}, (), output, state, nothing.resources, notes=notes)


def job_name(run: TaskRun) -> str:
    """A container's name: readable, and one for each generation of a task of an installation."""
    return _name(run.store, run.task_id, run.output_key)


def _name(store: Store, task_id: str, output_key: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", task_id)[:40].strip("-.") or "task"
    return f"monai-{slug}-{_digest(store.identity, output_key)}"


def staging_folder(run: TaskRun) -> Path:
    """Where inputs are put together; of no use once the job is done."""
    return staging_beside(local(run.store, run.output_key))


def staging_beside(output: Path) -> Path:
    """The same for who knows the output folder."""
    return output.with_name(f"{output.name}.in")


def store_label(store: Store) -> dict[str, str]:
    """What everything that runs for a store has in common. It tells apart two Airflows that use one engine."""
    return {f"{LABEL}.store": _digest(store.identity)}


def _beside_output(run: TaskRun, suffix: str) -> Path:
    output = local(run.store, run.output_key)
    return output.with_name(output.name + suffix)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _task_labels(folder: RunFolder, task_id: str, map_index: int) -> dict[str, str]:
    """What all generations share."""
    return {
        **store_label(folder.store),
        f"{LABEL}.dag": folder.dag_id,
        f"{LABEL}.run": folder.run_id,
        f"{LABEL}.task": task_id,
        f"{LABEL}.map_index": str(map_index),
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
