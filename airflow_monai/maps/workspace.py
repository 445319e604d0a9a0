"""Where an application's input and output lie on this host.

A store in a folder is seen by all workers, so they lie in it. For one in a bucket each worker has a scratch folder with
the same names below it: the input is copied there before the run, and after a good verdict the output is copied to the
bucket, into a folder of the try that does it: ``<output>/t<try>/...``. The task's record, which is written last, names
that folder. So what a killed try has copied is seen by nobody, and an older try whose process outlived its worker
cannot write into what a newer one has published.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapError, RunnerUnavailable
from airflow_monai.maps.logs import StoredLog
from airflow_monai.maps.removal import remove_tree
from airflow_monai.store.base import Store
from airflow_monai.store.local import TEMPORARY_PREFIX, flush_tree

if TYPE_CHECKING:
    from airflow_monai.tasks.run import TaskRun

PLACE = ".place"
"""Suffix of the note that tells where a job was started."""

PUBLISHED = ".published"
"""Suffix of the file that says that an engine, not the worker, has brought the output to the store."""

ANYWHERE = "anywhere"
"""In a note: what the job reads and writes lies on no worker's host, so that any of them can go on with it."""

STALE_SECONDS = 14 * 86_400.0
"""What lies on a host for the jobs of a payload is of no use any more when nothing of it has changed for so long."""

LOG_SECONDS = 15.0
"""How often a growing log goes to a bucket; the more seldom the longer it is."""
LOG_BYTES_A_SECOND = 256 * 1024


def local(store: Store, key: str) -> Path:
    """Where an object or folder of the store lies on this host, or is to lie while an application runs."""
    path = store.local_path(key)
    return path if path is not None else _scratch(store) / key


def is_shared(store: Store) -> bool:
    """Whether :func:`local` paths are the store itself."""
    return store.local_path("payloads") is not None


def shared(store: Store, key: str) -> Path:
    """:func:`local` for what has to be seen by others; :class:`MapError` for a store in a bucket."""
    path = store.local_path(key)
    if path is None:
        raise MapError(
            f"The store {store.url} is no folder that others than this host can see, and this task needs one: set "
            "[monai] store to a folder of a shared file system."
        )
    return path


def publish(run: TaskRun) -> str:
    """Make what the application has left the task's output in the store, durable; the key of its folder.

    Nobody sees it before the task's record names it.

    :raises Fenced: when a newer try has taken over.
    """
    if is_shared(run.store):
        # no application flushes what it writes, and the record outlives a power cut: so must what it names
        flush_tree(local(run.store, run.output_key))
        return run.output_key
    run.fence.check()
    own = f"t{run.try_number}"
    published = f"{run.output_key}/{own}"
    if not _is_published(local(run.store, run.output_key), own):
        run.store.delete_tree(published)
        run.store.put_tree(local(run.store, run.output_key), published, run.fence.check)
    run.fence.check()
    for other in run.store.children(run.output_key):
        if other != own:  # of a try that was killed over it
            run.store.delete_tree(f"{run.output_key}/{other}")
    return published


def note_published(output: Path, folder: str) -> None:
    """Take note that what lies in the output folder is a copy of what is published already.

    :param folder: the try's own, below the output's key.
    """
    output.with_name(output.name + PUBLISHED).write_text(folder)


def _is_published(output: Path, folder: str) -> bool:
    try:
        return output.with_name(output.name + PUBLISHED).read_text() == folder
    except FileNotFoundError:
        return False


def clear(store: Store, output_key: str) -> None:
    """Remove what a generation of a task, and those before it, have left on this host, where that is not the store."""
    if is_shared(store):
        return
    output, scratch = local(store, output_key), _scratch(store)
    for path in list(output.parent.glob("*")):
        number = path.name.partition(".")[0].removeprefix("g")
        is_old = number.isdecimal() and path.name.startswith("g") and int(number) <= int(output.name[1:])
        if is_old or path.name.startswith(TEMPORARY_PREFIX):
            with contextlib.suppress(OSError):
                remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the first that is not empty ends it
        for folder in output.parents:
            if folder == scratch:
                break
            folder.rmdir()


def remove_stale(store: Store, seconds: float = STALE_SECONDS) -> int:
    """Remove what jobs have left on this host when it died under them, and its tasks were done elsewhere or given up.

    :return: of how many payloads something was removed.
    """
    if is_shared(store):
        return 0
    removed = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(_scratch(store) / "payloads") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False) and _newest(Path(entry)) < time.time() - seconds:
                    remove_tree(Path(entry))
                    removed += 1
    return removed


def _newest(folder: Path) -> float:
    """When something below a folder was last changed.

    :raises OSError: where that cannot be seen.
    """

    def refuse(error: OSError) -> None:
        raise error

    newest = folder.lstat().st_mtime
    for top, folders, names in os.walk(folder, onerror=refuse):
        for name in (*folders, *names):
            newest = max(newest, os.lstat(os.path.join(top, name)).st_mtime)
    return newest


def stored_log(store: Store, key: str, check: Callable[[], None]) -> StoredLog:
    """An application's log, which is in the store at the end, and now and then while it grows.

    :param check: raises where this try may not write it any more.
    """
    path = local(store, key)
    return StoredLog(path) if is_shared(store) else _CopiedLog(path, store, key, check)


class _CopiedLog(StoredLog):
    """One that is copied to a bucket."""

    def __init__(self, path: Path, store: Store, key: str, check: Callable[[], None]):
        super().__init__(path)
        self._path, self._store, self._key, self._check = path, store, key, check
        self._size = 0
        self._copying = threading.Lock()
        threading.Thread(target=self._copy_now_and_then, name="log-copy", daemon=True).start()

    def close(self) -> None:
        super().close()
        self._copy()

    def _copy_now_and_then(self) -> None:
        while not self._closed.wait(LOG_SECONDS + self._size / LOG_BYTES_A_SECOND):
            with contextlib.suppress(Exception):  # what is wrong is told at the end, by `close`
                self._copy()

    def _copy(self) -> None:
        with self._copying:
            size = self._path.stat().st_size
            if size == self._size and not self._closed.is_set():
                return
            self._store.put_all([(self._path, self._key)], self._check)
            self._size = size


@dataclass(frozen=True, slots=True)
class Notes:
    """Small facts about a job for workers of other hosts, where the store is in a bucket.

    What a job reads and writes lies in the scratch folder of the host that started it, so only that host can go on.

    :param key: of the task's generation.
    """

    store: Store
    key: str

    def create(self, suffix: str, content: Mapping[str, object]) -> bool:
        return self.store.create_json(self.key + suffix, {**content, "scratch": scratch_id(self.store)})

    def require_here(self, what: str) -> None:
        """:class:`RunnerUnavailable` when the job was started on a host with another scratch folder.

        :param what: the job's name.
        """
        noted = self.read(PLACE)
        if noted is None or noted.get(ANYWHERE) or noted.get("scratch") == scratch_id(self.store):
            return
        raise RunnerUnavailable(
            f"{what} was started by the worker on {noted['worker']}, in whose [monai] scratch_folder its input and "
            "output lie, as the store is in a bucket. A retry on that host goes on with it; if that is gone for good, "
            "clear the task, which starts it anew. To avoid this, give each host a queue of its own."
        )

    def read(self, suffix: str) -> dict[str, Any] | None:
        key = self.key + suffix
        return dict(self.store.read_json(key)) if self.store.exists(key) else None

    def remove(self, suffix: str) -> None:
        self.store.delete(self.key + suffix)

    def others(self, suffix: str) -> Sequence[Notes]:
        """Those of the task's other generations that have such a note."""
        folder, _, own = self.key.rpartition("/")
        names = [name.removesuffix(suffix) for name in self.store.children(folder) if name.endswith(suffix)]
        return [Notes(self.store, f"{folder}/{name}") for name in names if name != own]


def notes_of(store: Store, output_key: str) -> Notes | None:
    """None where files beside the job's state do, which all workers see."""
    return None if is_shared(store) else Notes(store, output_key)


def scratch_id(store: Store) -> str:
    """A name of this host's scratch folder that no other one has."""
    file = _scratch(store) / "id"
    if not file.exists():
        own = file.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        own.write_text(uuid.uuid4().hex)
        with contextlib.suppress(FileExistsError):
            os.link(own, file)
        own.unlink()
    return file.read_text()


def _scratch(store: Store) -> Path:
    from airflow_monai.settings import load_scratch

    folder = load_scratch() / hashlib.sha256(store.identity.encode()).hexdigest()[:16]
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)  # what is below is about patients
        except OSError as error:
            reason = error.strerror or error
            raise MapError(f"[monai] scratch_folder {folder.parent} cannot be used: {reason}.") from error
    return folder
