"""Which MAP a task runs: the registered one, pinned, where ``args.map`` names one; else what the runner finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_monai.errors import MapChanged, MapError, MapNotFound, MapUnregistered, RegistryError, RegistryUnavailable
from airflow_monai.maps.contents import folder_digest
from airflow_monai.maps.registry import MapKind, MapRegistry, RegisteredMap, split_label
from airflow_monai.maps.runners.base import FoundMap, Runner
from airflow_monai.store.runs import MAP_NOTE

if TYPE_CHECKING:
    from airflow_monai.tasks.run import TaskRun


def find_map(run: TaskRun, runner: Runner, reference: str) -> FoundMap:
    """The MAP that ``args.map`` of a task means.

    :raises MapUnregistered: when it was registered and is not any more, unless the task had begun before.
    :raises MapNotFound: when it is not here; :class:`MapChanged` when what is here is something else.
    """
    record = _pinned(run, reference)
    return runner.find(reference) if record is None else registered_map(runner, record)


def _pinned(run: TaskRun, reference: str) -> RegisteredMap | None:
    parts = split_label(reference)
    if parts is None:
        return None
    registry = MapRegistry(run.store)
    noted = run.note(MAP_NOTE)
    if noted:
        return registry.revision(*parts, noted["revision"])
    record = _in_use(registry, *parts)
    if record is None:
        return None
    run.write_note(MAP_NOTE, {"label": record.label, "revision": record.revision, "digest": record.digest})
    return record


def _in_use(registry: MapRegistry, name: str, version: str) -> RegisteredMap | None:
    """What is registered, marked as used before anybody can give its version to another content.

    :raises MapUnregistered: when it is not registered any more.
    """
    while True:
        record = registry.newest(name, version)
        if record is None:
            return None
        if not record.is_registered:
            raise unregistered(record)
        registry.mark_used(record)
        if registry.newest(name, version) == record:
            return record


def unregistered(record: RegisteredMap) -> MapUnregistered:
    """The error of who asks for a MAP that is not registered any more."""
    return MapUnregistered(
        f"The MAP {record.label} was unregistered at {record.changed_at}{_by(record)}: nothing starts it any more. "
        "Register it again (`airflow monai maps register`), or name another one in args.map."
    )


def registered_map(runner: Runner, record: RegisteredMap) -> FoundMap:
    """A registered MAP as the runner can run it.

    :raises MapNotFound: when it is not here, or of a kind that the runner cannot run.
    """
    problem = misfit(record, runner.name)
    if problem:
        raise MapNotFound(problem)
    if record.kind is MapKind.FOLDER:
        return _folder(record)
    manifest = record.manifest()
    try:
        return runner.find_registered(record.pinned, manifest)
    except (MapNotFound, RegistryUnavailable) as error:
        if record.pinned == record.digest:
            raise
        try:  # an image that was loaded from a file is known by its id only
            return runner.find_registered(record.digest, manifest)
        except MapNotFound:
            raise error from None


def misfit(record: RegisteredMap, runner: str) -> str:
    """Why a runner cannot run what is registered, whatever it finds; empty when it can."""
    if record.kind is MapKind.IMAGE and runner == "process":
        return (
            f"The registered MAP {record.label} is the image {record.location}, and the process runner runs folders. "
            "Set [monai] runner to one that runs images, or register its unpacked folder under another version."
        )
    if record.kind is MapKind.FOLDER and runner != "process":
        return (
            f"The registered MAP {record.label} is the folder {record.location}, which only the process runner runs. "
            "Set [monai] runner = process, or register its image under another version."
        )
    return ""


def check_kind(kind: MapKind, runner: str) -> None:
    """:class:`RegistryError` for a kind of MAP of which this site could run none."""
    if kind is MapKind.FOLDER and runner != "process":
        raise RegistryError(
            f"This site runs MAPs as containers ([monai] runner = {runner}), and only the process runner runs a "
            "folder: register its image. Nothing was changed."
        )
    if kind is MapKind.IMAGE and runner == "process":
        raise RegistryError(
            "This site runs MAPs as folders ([monai] runner = process), and images need a runner of containers: "
            "register the unpacked folder. Nothing was changed."
        )


def problem_here(record: RegisteredMap, runner: str) -> str:
    """Why a registered MAP cannot be run by this host's workers, as far as that can be told without an engine."""
    problem = misfit(record, runner)
    if not problem and record.kind is MapKind.FOLDER:
        try:
            _folder(record)
        except MapError as error:
            return str(error)
    return problem


def _folder(record: RegisteredMap) -> FoundMap:
    folder = Path(record.location)
    if not folder.is_dir():
        raise MapNotFound(f"The folder {folder} of the registered MAP {record.label} is not on this host.")
    digest = folder_digest(folder)
    if digest != record.digest:
        raise MapChanged(
            f"The folder {folder} of the registered MAP {record.label} has changed since it was registered (it was "
            f"{record.digest}, it is {digest}). Bring the old files back, or register the new ones under a new version."
        )
    return FoundMap(record.label, str(folder), record.manifest())


def _by(record: RegisteredMap) -> str:
    return f" by {record.changed_by}" if record.changed_by else ""
