"""End a task process whose worker is gone.

When a worker is killed, its task process lives on as an orphan while Airflow starts the task again elsewhere. Such an
orphan must not go on publishing beside its successor, so it ends itself as soon as its parent process has changed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_CODE = 71
"""Exit code of a process that ended itself because its parent was gone (EX_OSERR of sysexits.h)."""


@contextmanager
def watch_parent(interval: float = 1.0) -> Iterator[Callable[[], None]]:
    """While the block runs, end this process at once when its parent process changes.

    Nothing is cleaned up then, on purpose: containers, files and records belong to the task's next try. The block gets
    a function that looks at once, for use before an act that must not happen twice.

    :param interval: seconds between two looks.
    """
    parent = os.getppid()
    ended = threading.Event()

    def look() -> None:
        if os.getppid() != parent:
            os._exit(EXIT_CODE)

    def watch() -> None:
        while not ended.wait(interval):
            look()

    thread = threading.Thread(target=watch, name="watch-parent", daemon=True)
    thread.start()
    try:
        yield look
    finally:
        ended.set()
        thread.join()
