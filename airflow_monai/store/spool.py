"""Folders for what is still coming in, each locked by its process, so that those of killed ones can be told apart."""

from __future__ import annotations

import shutil
import uuid
from contextlib import ExitStack

from airflow_monai.errors import disk_error
from airflow_monai.store.base import Store


class SpoolFolder:
    """A folder of this process for files that are still coming in, on the store's file system.

    Folders of gateways and API servers that were killed are removed: their lock is free.
    """

    def __init__(self, store: Store):
        import fcntl

        self._base = store.spool()
        name = uuid.uuid4().hex
        self.path = self._base / f"gateway-{name}"
        making = self._base / f"new-{name}"
        try:
            making.mkdir()
            with ExitStack() as lock:
                self._lock = lock.enter_context(open(making / "lock", "w"))
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                making.rename(self.path)  # it is never seen without being locked
                lock.pop_all()  # held as long as this process lives
        except OSError as error:
            shutil.rmtree(making, ignore_errors=True)
            raise disk_error("The store's spool cannot be written", error) from error

    def remove_abandoned(self) -> None:
        import fcntl

        for folder in self._base.glob("gateway-*"):
            if folder == self.path:
                continue
            try:
                with open(folder / "lock", "r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                continue  # its gateway lives, or another one has just removed it

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()
