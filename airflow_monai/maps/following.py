"""What tells others that a try of a task follows its application, or that it has let it go and could not remove it.

Notes of a generation in the store, since workers of several hosts may use one engine. A try that lives writes its note
anew now and then; one whose process was killed does not, and so its note gets old.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_monai.errors import MonaiError
from airflow_monai.store.runs import RunFolder

if TYPE_CHECKING:
    from airflow_monai.tasks.run import TaskRun

BEAT_SECONDS = 30.0
FRESH_SECONDS = 300.0
"""A try whose note is older does not live: ten beats, and what clocks of hosts may differ by."""

_FOLLOWED, _LET_GO = "followed", "let_go"


@contextlib.contextmanager
def following(run: TaskRun) -> Iterator[None]:
    """Say, as long as the block runs, that this try follows the application of its generation."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(MonaiError, OSError):  # it is said again soon
                _say(run)

    _say(run)
    thread = threading.Thread(target=beat, name="following", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(MonaiError, OSError):
            if not run.fence.is_taken_over():  # else the note is that of a newer try
                run.store.delete(run.folder.note_key(run.task_id, run.map_index, run.generation, _FOLLOWED))


def let_go(run: TaskRun) -> None:
    """Note that this try is done with its application, which could not be removed: whoever can may do so."""
    run.write_note(_LET_GO, {"try_number": run.try_number})


def is_followed(folder: RunFolder, task_id: str, map_index: int, generation: int) -> bool:
    """Whether a try follows the application of this generation."""
    note = _note(folder, task_id, map_index, generation, _FOLLOWED)
    return note is not None and float(note["at"]) > time.time() - FRESH_SECONDS


def was_let_go(folder: RunFolder, task_id: str, map_index: int, generation: int, try_number: int) -> bool:
    """Whether this try, the last one that there was, has let the application go."""
    note = _note(folder, task_id, map_index, generation, _LET_GO)
    return note is not None and note["try_number"] == try_number


def forget(folder: RunFolder, task_id: str, map_index: int, generation: int) -> None:
    """Remove both notes: there is no application any more."""
    for name in (_FOLLOWED, _LET_GO):
        folder.store.delete(folder.note_key(task_id, map_index, generation, name))


def _say(run: TaskRun) -> None:
    key = run.folder.note_key(run.task_id, run.map_index, run.generation, _FOLLOWED)
    run.store.write_json(key, {"at": time.time(), "try_number": run.try_number}, durable=False)


def _note(folder: RunFolder, task_id: str, map_index: int, generation: int, name: str) -> dict[str, float] | None:
    key = folder.note_key(task_id, map_index, generation, name)
    return dict(folder.store.read_json(key)) if folder.store.exists(key) else None
