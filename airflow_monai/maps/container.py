"""A container of any image as a job for a runner: what a MAP's manifest would say, the task says by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_monai.errors import MapError
from airflow_monai.maps.job import Wish, job_input, make_job, staging_folder
from airflow_monai.maps.manifest import Manifest, with_resources
from airflow_monai.maps.manifest_file import normal
from airflow_monai.maps.runners.base import ContainerImage, FoundMap, MapJob, Mount
from airflow_monai.maps.staging import NamedInput
from airflow_monai.maps.workspace import local
from airflow_monai.store.base import safe_name

if TYPE_CHECKING:
    from airflow_monai.tasks.run import TaskRun


@dataclass(frozen=True, slots=True)
class Container:
    """How a task wants its container to be.

    :param entrypoint: and ``command``: in place of the image's own; None where the image decides.
    :param paths: artifact name -> absolute path in the container.
    :param outputs: output artifact name -> its folder below the task's output folder.
    :param scratch: an absolute path in the container that it may write to, kept in memory; empty for none.
    """

    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    scratch: str = ""


def container_job(
    run: TaskRun, image: ContainerImage, container: Container, inputs: Sequence[NamedInput], wish: Wish
) -> MapJob:
    """The job of this generation of a container task.

    :raises MapError: when there is nothing to run, or the store is not on this host.
    """
    manifest = with_resources(
        Manifest(
            command=_command(image, container),
            working_directory=image.working_directory,
            input_path="",
            output_path="",
            application_root="",
            models_path="",
        ),
        wish.resources,
    )
    mounted, fetched = _inputs(run, container, inputs, wish)
    mounts = (*mounted, *_outputs(run, container))
    job = make_job(run, FoundMap(image.reference, image.location, manifest, image.digest), mounts, wish, {})
    scratch = (normal(container.scratch),) if container.scratch else ()
    return replace(job, scratch=scratch, fetched=fetched)


def _command(image: ContainerImage, container: Container) -> tuple[str, ...]:
    """As the engine puts them together: the image's own command goes with the image's own entry point only."""
    if container.entrypoint is None and not image.is_known:
        raise MapError(
            f"Nobody here knows the entry point of the image {image.reference} before it runs: write args.entrypoint "
            "(and args.command), as a cluster does not tell an image's own."
        )
    if container.entrypoint is not None:
        words = container.entrypoint + (container.command or ())
    else:
        words = image.entrypoint + (image.command if container.command is None else container.command)
    if not words or not words[0]:
        raise MapError(f"The image {image.reference} has no command of its own: write args.entrypoint or args.command.")
    return words


def _inputs(
    run: TaskRun, container: Container, inputs: Sequence[NamedInput], wish: Wish
) -> tuple[list[Mount], tuple[tuple[str, Path], ...]]:
    staging = staging_folder(run)
    mounts: list[Mount] = []
    fetched: list[tuple[str, Path]] = []
    for item in inputs:
        source, pairs = job_input(run, [item], staging / safe_name(item.name), wish)
        mounts.append(Mount(source, normal(container.paths[item.name])))
        fetched += pairs
    return mounts, tuple(fetched)


def _outputs(run: TaskRun, container: Container) -> list[Mount]:
    top = local(run.store, run.output_key)
    return [
        Mount(_inside(top, folder), normal(container.paths[name]), read_only=False)
        for name, folder in container.outputs.items()
    ]


def _inside(top: Path, folder: str) -> Path:
    path = top.joinpath(*(safe_name(part) for part in folder.strip("/").split("/")))
    if path == top:
        raise MapError(f"{folder!r} is no folder of an output artifact.")
    return path
