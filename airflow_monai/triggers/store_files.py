"""Waits in the triggerer for files in the store."""

from __future__ import annotations

import time

from airflow_monai.errors import StoreError
from airflow_monai.store.base import check_key
from airflow_monai.triggers.watch import NeverFound, StoreWatchTrigger, site_store


class StoreFilesTrigger(StoreWatchTrigger):
    """Fires with the number of files below a prefix when there are enough and none has changed for a while.

    A triggerer that takes over counts the quiet time from anew.

    :param prefix: folder of the store.
    :param at_least: so many files.
    :param stable_seconds: quiet time after the last change.
    """

    arguments = ("prefix", "at_least", "stable_seconds")

    def __init__(self, *, prefix: str, at_least: int = 1, stable_seconds: float = 10.0, poll_interval: float = 5.0):
        super().__init__(poll_interval=poll_interval)
        self.prefix = prefix
        self.at_least = at_least
        self.stable_seconds = stable_seconds
        self._seen: dict[str, tuple[int, float]] = {}
        self._since = 0.0

    def find(self) -> int | None:
        """The number of files; None while there are too few or they still change."""
        try:
            prefix = check_key(self.prefix.strip("/"))
        except StoreError as error:
            raise NeverFound(f"{error} Set prefix to a folder of the store.") from None
        files = {entry.key: (entry.size, entry.modified) for entry in site_store().entries(prefix)}
        now = time.monotonic()
        if files != self._seen or not self._since:
            self._seen, self._since = files, now
        if len(files) < self.at_least or now - self._since < self.stable_seconds:
            return None
        return len(files)
