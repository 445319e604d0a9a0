"""Input folders for applications: what is one folder of the store is mounted as it is, all else is put together."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapError
from airflow_monai.maps.workspace import is_shared, local
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.local import TEMPORARY_PREFIX
from airflow_monai.tasks.artifacts import ArtifactFiles

if TYPE_CHECKING:
    from airflow_monai.tasks.run import TaskRun


@dataclass(frozen=True, slots=True)
class NamedInput:
    """One input artifact of a task with its files."""

    name: str
    files: ArtifactFiles


def present_inputs(run: TaskRun, inputs: Iterable[Mapping[str, Any]]) -> list[NamedInput]:
    """The input artifacts that are there; :class:`MapError` when a mandatory one is not."""
    from airflow_monai.tasks.artifacts import resolve_artifact

    found = []
    for item in inputs:
        files = resolve_artifact(run, item)
        if files.keys:
            found.append(NamedInput(str(item["name"]), files))
        elif item.get("mandatory", True):
            raise MapError(
                f"Task {run.task_id}: its mandatory input {item['name']!r} ({item['value']}) has no files."
                f"{files.why_missing} If it may be absent, write `mandatory: false`."
            )
    return found


def input_folder(store: Store, inputs: Sequence[NamedInput], staging: Path) -> Path:
    """The host folder to mount at the application's input path, a copy where the store is in a bucket.

    One artifact is the folder itself; of several, each is a folder with the artifact's name.

    :param staging: the folder to make when the store has none that fits. One that is there is whole, and an application
        that an earlier try started may be reading it: it stays as it is.
    """
    if len(inputs) == 1 and inputs[0].files.folder_key is not None and is_shared(store):
        return local(store, inputs[0].files.folder_key)
    if not staging.is_dir():
        unfinished = staging.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        _build(store, inputs, unfinished)
        with contextlib.suppress(OSError):  # it is there now: somebody else was faster
            unfinished.rename(staging)
        shutil.rmtree(unfinished, ignore_errors=True)
    return staging


def planned(inputs: Sequence[NamedInput], folder: Path) -> tuple[tuple[str, Path], ...]:
    """What :func:`input_folder` would copy into a folder: pairs of an object of the store and a path."""
    return tuple(
        (key, top / item.files.relative(key))
        for item, top in zip(inputs, _tops(inputs, folder), strict=True)
        for key in item.files.keys
    )


def _tops(inputs: Sequence[NamedInput], folder: Path) -> list[Path]:
    return [folder if len(inputs) == 1 else folder / safe_name(item.name) for item in inputs]


def _build(store: Store, inputs: Sequence[NamedInput], folder: Path) -> None:
    folder.mkdir(parents=True)
    for top in _tops(inputs, folder):
        top.mkdir(exist_ok=True)
    pairs = planned(inputs, folder)
    if is_shared(store):
        for key, target in pairs:
            _link(local(store, key), target)
    else:
        store.fetch_all(pairs)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; a copy where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise MapError(f"An input cannot be staged: {error.strerror}.") from error
        shutil.copyfile(source, target)
