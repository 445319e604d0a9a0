"""Which associations are open, in memory that the processes of a gateway share.

Each process writes only its own part and reads those of all, so no lock is needed that one could die with. Two that
admit at the same moment do not see each other yet: the limits can then be exceeded, by at most one for each process.
"""

from __future__ import annotations

import threading
from typing import Any

_TITLE_BYTES = 17  # a mark, and an AE title


class Board:
    """Safe for threads, and for processes that have different numbers.

    :param memory: of :meth:`size` bytes, zeros at first: a ``bytearray``, or an array that processes share.
    :param slots: associations that one process may have open.
    :param own: number of this process.
    """

    def __init__(self, memory: Any, processes: int, slots: int, own: int = 0):
        self._memory = memory
        self._processes = processes
        self._slots = slots
        self._own = own
        self._lock = threading.Lock()

    @staticmethod
    def size(processes: int, slots: int) -> int:
        """Bytes of memory that are needed."""
        return processes * slots * _TITLE_BYTES

    @classmethod
    def private(cls, slots: int) -> Board:
        """For one process."""
        return cls(bytearray(cls.size(1, slots)), 1, slots)

    def enter(self, title: str, most: int, most_of_title: int) -> int | str:
        """Take a slot for an association of a calling AE title: its number, or which limit forbids it.

        :param most: associations in all; at most as many as there are slots.
        """
        entry = b"\1" + title.encode("latin-1", "replace")[: _TITLE_BYTES - 1].ljust(_TITLE_BYTES - 1, b"\0")
        with self._lock:
            taken = self._taken()
            if len(taken) >= most:
                return "all"
            if taken.count(entry) >= most_of_title:
                return "title"
            slot = next(slot for slot in range(self._slots) if not self._at(self._own, slot))
            self._write(self._own, slot, entry)
            return slot

    def leave(self, slot: int) -> None:
        """Give the slot back."""
        with self._lock:
            self._write(self._own, slot, bytes(_TITLE_BYTES))

    def clear(self, process: int) -> None:
        """Forget those of a process that has died."""
        for slot in range(self._slots):
            self._write(process, slot, bytes(_TITLE_BYTES))

    def count(self) -> int:
        """How many are open."""
        return len(self._taken())

    def _taken(self) -> list[bytes]:
        numbers = ((process, slot) for process in range(self._processes) for slot in range(self._slots))
        return [entry for process, slot in numbers if (entry := self._at(process, slot))]

    def _at(self, process: int, slot: int) -> bytes:
        """The entry, empty when the slot is free."""
        start = (process * self._slots + slot) * _TITLE_BYTES
        entry = bytes(self._memory[start : start + _TITLE_BYTES])
        return entry if entry[0] else b""

    def _write(self, process: int, slot: int, entry: bytes) -> None:
        start = (process * self._slots + slot) * _TITLE_BYTES
        self._memory[start : start + _TITLE_BYTES] = entry
