"""What is told of objects that are sent again, by this host or by a server."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from airflow_monai.cli.printing import text_of
from airflow_monai.errors import InvalidArgument
from airflow_monai.sinks.ledger.cleared import Cleared

_WORDS = {
    Cleared.YES: "runs again",
    Cleared.COMING: "waits to run already",
    Cleared.RUNNING: "is running now",
    Cleared.GONE: "is not in Airflow any more",
    Cleared.SENT: "has sent them since",
}
_GONE = "Any other task that exports the same objects there sends them."


def ask(sink: str, objects: int, payload_id: str) -> None:
    """Whether it is meant.

    :raises InvalidArgument: where nobody says yes, or there is no terminal to ask at.
    """
    question = f"{sink} has accepted {objects} objects of payload {payload_id}. Send them again, unchanged? [yes/no] "
    print(text_of(question), end="", file=sys.stderr, flush=True)
    if not (sys.stdin.isatty() and sys.stdin.readline().strip().lower() in ("yes", "y")):
        raise InvalidArgument("Nothing is sent again. Say --yes, or answer with yes.")


def tell_task(task: Mapping[str, Any], out: TextIO, again_with: str = "") -> None:
    """
    :param task: ``dag_id``, ``run_id``, ``task_id`` and ``state``.
    :param again_with: what to say when this is done again for it, so that nothing else is sent twice; empty where that
        is told elsewhere.
    """
    state = Cleared(task["state"])
    name = text_of(f"{task['task_id']} of {task['dag_id']} {task['run_id']}")
    print(f"  {name}: {_WORDS[state]}", file=out)
    if state is Cleared.RUNNING:
        more = f": do this again, with {again_with}, when it has ended" if again_with else ""
        print(f"    It may have begun without them{more}.", file=out)
    elif state is Cleared.GONE:
        print(f"    {_GONE}", file=out)


def is_running(tasks: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one of them may have begun without it, so that this has to be done again."""
    return any(Cleared(task["state"]) is Cleared.RUNNING for task in tasks)


def code_of(tasks: list[dict[str, Any]]) -> int:
    """The exit code: 1 where one of them does not send it."""
    return int(not all(Cleared(task["state"]).is_done for task in tasks))
