"""Watches the disk that studies are written to, so that intake stops before the disk is full and not when it is."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from airflow_monai.errors import SettingsError
from airflow_monai.specs.units import memory_bytes

FRESH_SECONDS = 1.0
_GB = 10**9


@dataclass(frozen=True, slots=True)
class Space:
    """What a file system has for those who are not root.

    :param used: and ``free``: bytes.
    """

    used: int
    free: int

    @property
    def used_percent(self) -> float:
        """As ``df`` counts: blocks that are kept for root are neither used nor free."""
        return 100.0 * self.used / max(1, self.used + self.free)

    @classmethod
    def of(cls, folder: Path) -> Space:
        """The file system of a folder, or of the nearest one above that is there.

        :raises OSError: when it cannot be asked.
        """
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        status = os.statvfs(folder)
        return cls((status.f_blocks - status.f_bfree) * status.f_frsize, status.f_bavail * status.f_frsize)


class DiskGuard:
    """Says whether something new may still be taken in. Safe for threads.

    :param folder: on the file system that is watched.
    :param used_percent: nothing is taken when more of it is used; 100 for no such limit.
    :param reserve_bytes: nor when less is free; 0 likewise.
    """

    def __init__(self, folder: str | os.PathLike[str], used_percent: float = 85.0, reserve_bytes: int = 100 * _GB):
        self.folder = Path(folder)
        self.used_percent = used_percent
        self.reserve_bytes = reserve_bytes
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._refusal: str | None = None

    @classmethod
    def of_settings(cls, folder: str | os.PathLike[str], used_percent: float, reserve: str) -> DiskGuard:
        """The guard of ``[monai] disk_used_percent`` and ``disk_reserve``.

        :raises SettingsError: when one of them is no such thing.
        """
        if not 0 < used_percent <= 100:
            raise SettingsError(f"[monai] disk_used_percent = {used_percent:g} is not a share: write 1 to 100.")
        try:
            return cls(folder, used_percent, memory_bytes(reserve))
        except ValueError as error:
            raise SettingsError(f"[monai] disk_reserve: {error}.") from None

    def refusal(self) -> str | None:
        """Why nothing new may be taken in, None when it may. It is looked at about once a second."""
        with self._lock:
            if time.monotonic() - self._looked >= FRESH_SECONDS:
                self._refusal = self._look()
                self._looked = time.monotonic()
            return self._refusal

    def _look(self) -> str | None:
        try:
            space = Space.of(self.folder)
        except OSError as error:
            return f"the disk of {self.folder} cannot be asked how full it is ({error.strerror or error})"
        if space.used_percent <= self.used_percent and space.free >= self.reserve_bytes:
            return None
        return (
            f"the disk of {self.folder} is {space.used_percent:.1f} % full with {_amount(space.free)} free; the limits "
            f"are [monai] disk_used_percent = {self.used_percent:g} and disk_reserve = {_amount(self.reserve_bytes)}: "
            "free some space or change them; it goes on by itself then"
        )


def _amount(count: int) -> str:
    for unit, size in (("TB", 10**12), ("GB", _GB), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
