"""The files of a module's result: its log, its outputs, and what it kept beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_monai.specs.plan import TaskType
from airflow_monai.store.base import Store
from airflow_monai.store.deletion import is_doomed
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord

TEMPORARY = frozenset({"temp", "temps", "tmp"})
"""Folders of an application's output that hold what is no result."""
LOG_TAIL = 64 * 1024
_APPLICATIONS = frozenset({TaskType.MAP.value, TaskType.DOCKER.value})
"""Types of task that always have a folder of outputs until it is deleted."""
_LOG = re.compile(r"g([0-9]+)\.log\Z")
Entries = Iterator[tuple[str, Store, str]]
"""Name in an archive, store and key of each file."""


def outputs(folder: RunFolder, module: str) -> Entries:
    """What the application wrote, but for temporary files."""
    return (entry for entry, is_temporary in _written(folder, module) if not is_temporary)


def are_gone(folder: RunFolder, module: str) -> bool:
    """Whether somebody has deleted what a module that passed had left, or a part of it."""
    store, records = folder.store, _records(folder, module)
    if not records or is_doomed(store, folder.payload_id):
        return True
    for _, record in records:
        if record.output_dir is None:
            if record.task_type in _APPLICATIONS:
                return True
            continue
        keys = {key for found in record.artifacts.values() for key in found}
        if keys and any(not store.exists(key) for key in keys.difference(store.list(record.output_dir))):
            return True
    return False


def temps(folder: RunFolder, module: str) -> Entries:
    """What the application wrote into :data:`TEMPORARY`."""
    return (entry for entry, is_temporary in _written(folder, module) if is_temporary)


def logs(folder: RunFolder, module: str) -> Entries:
    """What the application printed, and the record of the task, which says why it failed."""
    for name, base in _places(folder, module):
        if (key := _last_log(folder.store, base)) is not None:
            yield f"{name}.log", folder.store, key
        if folder.store.exists(f"{base}/task.json"):
            yield f"{name}.json", folder.store, f"{base}/task.json"


def log_tail(folder: RunFolder, module: str) -> str | None:
    """The end of what the application printed; None where nothing is kept, or it runs once for each series."""
    store = folder.store
    key = _last_log(store, folder.task_key(module))
    if key is None:
        return None
    path = store.local_path(key)
    if path is None:
        if store.size(key) > 16 * LOG_TAIL:
            return "The log is long: get all of it as a zip."
        data = store.read(key)
    else:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_TAIL))
            data = file.read(LOG_TAIL)
    return data[-LOG_TAIL:].decode("utf-8", "replace")


def _written(folder: RunFolder, module: str) -> Iterator[tuple[tuple[str, Store, str], bool]]:
    for prefix, record in _records(folder, module):
        if record.output_dir is None:
            continue
        for key in folder.store.list(record.output_dir):
            name = key[len(record.output_dir) + 1 :]
            yield (f"{prefix}{name}", folder.store, key), name.split("/")[0] in TEMPORARY


def _records(folder: RunFolder, module: str) -> list[tuple[str, TaskRecord]]:
    """The records of a module, and what comes before the names of the files of each."""
    own = folder.record(module)
    return [("", own)] if own is not None else [(f"{one.map_index}/", one) for one in folder.records(module)]


def _places(folder: RunFolder, module: str) -> list[tuple[str, str]]:
    """Name and folder of the task, or of each series that it ran for."""
    base = folder.task_key(module)
    indexes = sorted(int(name) for name in folder.store.children(base) if name.isdecimal())
    return [(f"{module}/{index}", f"{base}/{index}") for index in indexes] or [(module, base)]


def _last_log(store: Store, base: str) -> str | None:
    found = [int(match[1]) for name in store.children(base) if (match := _LOG.match(name))]
    return f"{base}/g{max(found)}.log" if found else None
