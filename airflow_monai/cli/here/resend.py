"""``airflow monai payloads resend``: a destination that has lost what it had accepted gets it once more."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from airflow_monai.cli.ending import ends
from airflow_monai.cli.here.configured import this_store
from airflow_monai.errors import InvalidArgument, MonaiError
from airflow_monai.person import person_here
from airflow_monai.sinks.ledger.again import ExportTask, Resendable, resendable
from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.deletion import is_doomed
from airflow_monai.store.finding import find_payloads
from airflow_monai.store.payloads import payload_key

if TYPE_CHECKING:
    from airflow_monai.hooks.airflow_api import Cleared

Clear = Callable[[ExportTask, str], "Cleared"]
"""Has a task run once more; the text is shown with it."""


@ends()
def resend(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.hooks.airflow_api import AirflowApi

    api = AirflowApi(settings.load().api_conn_id)

    def clear(task: ExportTask, note: str) -> Cleared:
        return api.clear_task(task.dag_id, task.run_id, task.task_id, note)

    found = what(this_store(), args.payload, args.sink, args.task or "")
    if not args.yes and not _agreed(found):
        raise InvalidArgument("Nothing is sent again. Say --yes, or answer with yes.")
    return run(found, clear, args.reason or "", sys.stdout)


def what(store: Store, which: str, sink: str, task: str = "") -> Resendable:
    """What a destination has accepted of a payload.

    :param which: payload id, run id, Study Instance UID or accession number.
    :raises MonaiError: when there is nothing to send again, with the reason.
    """
    found = find_payloads(store, which)
    if len(found) > 1:
        raise InvalidArgument(f"There are {len(found)} payloads of this study; name one: {', '.join(found)}.")
    (payload_id,) = found
    if is_doomed(store, payload_id):
        raise InvalidArgument(f"Payload {payload_id} was deleted, or is being deleted.")
    there = sorted(store.children(payload_key(payload_id, "exports")))
    if safe_name(sink) not in there:
        names = ", ".join(there) or "none"
        raise InvalidArgument(f"Nothing of this payload was to go to a destination {sink!r}. There are: {names}.")
    return resendable(Ledger(store, payload_id, sink), task)


def run(found: Resendable, clear: Clear, reason: str, out: TextIO) -> int:
    """Have it sent again by the tasks that delivered it; the exit code, 1 where one of them does not.

    The ledger says so first: whatever ends this command, what it says is sent by the tasks' next tries.
    """
    from airflow_monai.hooks.airflow_api import Cleared

    if not found.tasks:
        raise MonaiError("The ledger does not say which tasks delivered it, so that none can send it again.")
    sink, why = found.ledger.sink, f"wanted again by {person_here() or 'somebody'}{f': {reason}' if reason else ''}"
    found.mark(why)
    print(f"{sink}: {len(found.entries)} objects are to be sent again ({why})", file=out)
    code = 0
    for task in found.tasks:
        cleared = clear(task, f"Sends to {sink} again what it had accepted: {why}.")
        print(f"  {task.task_id} of {task.dag_id} {task.run_id}: {cleared.value}", file=out)
        if cleared is Cleared.RUNNING:
            print("    It may have begun without them: do this again when it has ended.", file=out)
        elif cleared is Cleared.GONE:
            print("    Any other task that exports the same objects there sends them.", file=out)
        code = code or int(cleared in (Cleared.RUNNING, Cleared.GONE))
    return code


def _agreed(found: Resendable) -> bool:
    print(
        f"{found.ledger.sink} has accepted {len(found.entries)} objects of payload {found.ledger.payload_id}. "
        "Send them again, unchanged? [yes/no] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.isatty() and sys.stdin.readline().strip().lower() in ("yes", "y")
