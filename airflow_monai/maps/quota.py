"""How much an application may write to its output, watched while it writes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airflow_monai.errors import OutputTooLarge
from airflow_monai.maps.policy import MIB, Confinement

MAX_DEPTH = 100
FIRST_LOOK_SECONDS = 0.25
SHARE_OF_TIME = 20
"""Between two looks at the folder passes so many times what the last one took, so that looking stays cheap."""
MAX_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Amount:
    """What is in a folder, as far as it was counted.

    :param size: of its files as they say it, or as they fill the disk, whichever is more.
    :param too_deep: there are folders in it that were not looked into.
    """

    size: int = 0
    entries: int = 0
    too_deep: bool = False


def measure(folder: Path, max_bytes: int | None = None, max_entries: int | None = None) -> Amount:
    """What a folder holds; counting ends where it is more than the limits. Links are not followed."""
    size = entries = 0
    left = [(str(folder), 0)]
    while left:
        path, depth = left.pop()
        if depth > MAX_DEPTH:
            return Amount(size, entries, too_deep=True)
        try:
            found = os.scandir(path)
        except OSError:  # removed meanwhile, or shut: what is in it counts once it is open again
            continue
        with found:
            for entry in found:
                entries += 1
                try:
                    status = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        left.append((entry.path, depth + 1))
                except OSError:
                    continue
                size += max(status.st_size, status.st_blocks * 512)
                if (max_bytes is not None and size > max_bytes) or (max_entries is not None and entries > max_entries):
                    return Amount(size, entries)
    return Amount(size, entries)


class OutputWatch:
    """Watches one application's output folder; :meth:`check` raises once there is too much in it.

    :param what: which application of which task, for the message.
    :param on_over: called once, from the watching thread, to end the application.
    :param also: what else a check asks, first of all.
    """

    def __init__(
        self, folder: Path, limits: Confinement, what: str, on_over: Callable[[], None], also: Callable[[], None]
    ):
        self.folder, self.limits, self.what, self.on_over, self.also = folder, limits, what, on_over, also
        self._problem = ""
        self._over = threading.Event()

    def __enter__(self) -> OutputWatch:
        threading.Thread(target=self._watch, name="output-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def check(self) -> None:
        """:class:`OutputTooLarge` when there was too much at the last look."""
        self.also()
        if self._problem:
            raise OutputTooLarge(f"{self.what} {self._problem}. It was stopped, and what it had written is removed.")

    def settle(self) -> None:
        """The same for what there is in the end: a quick application is done between two looks."""
        self._look()
        self.check()

    def _watch(self) -> None:
        pause = FIRST_LOOK_SECONDS
        while not self._over.wait(pause):
            begun = time.monotonic()
            self._look()
            if self._problem:
                self.on_over()
                return
            took = time.monotonic() - begun
            pause = min(max(FIRST_LOOK_SECONDS, took * SHARE_OF_TIME), MAX_PAUSE_SECONDS)

    def _look(self) -> None:
        limits = self.limits
        amount = measure(self.folder, limits.output_bytes, limits.output_files)
        if limits.output_bytes is not None and amount.size > limits.output_bytes:
            self._problem = (
                f"wrote more than the {limits.output_bytes / MIB:.0f} MiB that a task may write to its output. Raise "
                "[monai] output_quota, or args.output_quota of the task, if it needs more"
            )
        elif amount.entries > limits.output_files:
            self._problem = (
                f"wrote more than the {limits.output_files} files that a task may write to its output. Raise [monai] "
                "output_files if it needs more"
            )
        elif amount.too_deep:
            self._problem = f"wrote folders that are nested deeper than {MAX_DEPTH}"
