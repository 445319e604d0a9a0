"""Whose turn it is: of several gateways on one store one looks and tells, and another takes over when it is gone.

lifecycle/turn/<number>.json    the latest number has the turn; it counts on while its owner lives

Nothing depends on there being only one: two would tell things twice, under the same ids. Nobody compares clocks: who
waits sees by his own that the other's count stands still.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from airflow_monai.store.base import Store

FOLDER = "lifecycle/turn"
GONE_SECONDS = 10.0
_COUNT_SECONDS = 2.0


class Turn:
    """For one thread; :attr:`held` for all.

    :param gone: so many seconds after the owner's last sign another one takes over.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic, gone: float = GONE_SECONDS):
        self._store = store
        self._clock = clock
        self._gone = gone
        self._me = uuid.uuid4().hex
        self._number = 0
        self._count = 0
        self._counted = float("-inf")
        self._seen: tuple[str, float] = ("", 0.0)

    @property
    def held(self) -> bool:
        """Whether this one may act now: it has the turn, and has said so not long ago."""
        return bool(self._number) and self._clock() - self._counted < self._gone / 2

    def ask(self) -> bool:
        """Whether it is ours, after this. To be asked more often than each :data:`GONE_SECONDS` / 4."""
        latest = max((int(name[:-5]) for name in self._store.children(FOLDER) if name[:-5].isdecimal()), default=0)
        if latest and latest == self._number:
            if self._clock() - self._counted >= _COUNT_SECONDS:
                self._tell(self._count + 1)
            return True
        self._number = 0
        if latest and not self._is_free(latest):
            return False
        if not self._store.create_json(_key(latest + 1), {"owner": self._me, "count": 0}):
            return False
        self._number, self._count, self._counted = latest + 1, 0, self._clock()
        for number in range(max(1, latest - 3), latest + 1):
            self._store.delete(_key(number))
        return True

    def give_up(self) -> None:
        """Let another one have it at once."""
        if self._number:
            self._store.write_json(_key(self._number), {"owner": "", "count": self._count}, durable=False)
            self._number = 0

    def _is_free(self, number: int) -> bool:
        try:
            said = self._store.read(_key(number)).decode()
        except Exception:  # noqa: BLE001 - it was removed just now: somebody else has a later one
            return False
        if '"owner":""' in said:
            return True
        sign = f"{number} {said}"
        if sign != self._seen[0]:
            self._seen = (sign, self._clock())
            return False
        return self._clock() - self._seen[1] >= self._gone

    def _tell(self, count: int) -> None:
        self._store.write_json(_key(self._number), {"owner": self._me, "count": count}, durable=False)
        self._count, self._counted = count, self._clock()


def _key(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"
