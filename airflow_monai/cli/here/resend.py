"""``airflow monai payloads resend``: a destination that has lost what it had accepted gets it once more."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from typing import Any, TextIO

from airflow_monai.cli.elsewhere import or_elsewhere
from airflow_monai.cli.ending import ends
from airflow_monai.cli.here.configured import this_store
from airflow_monai.cli.printing import print_json
from airflow_monai.cli.resending import ask, code_of, tell_task
from airflow_monai.errors import InvalidArgument
from airflow_monai.person import person_here
from airflow_monai.sinks.ledger.again import Clear, ExportTask, Resendable, resendable_of, why_again
from airflow_monai.sinks.ledger.cleared import Cleared
from airflow_monai.store.base import Store
from airflow_monai.store.finding import find_payloads


@ends()
@or_elsewhere("airflow_monai.cli.remote.payloads")
def resend(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.hooks.airflow_api import AirflowApi

    if args.key:
        raise InvalidArgument("A server knows calls by --key: leave it out, or say --url.")
    api = AirflowApi(settings.load().api_conn_id)

    def clear(task: ExportTask, note: str) -> Cleared:
        return api.clear_task(task.dag_id, task.run_id, task.task_id, note)

    found = what(this_store(), args.payload, args.sink, args.task or "")
    if not args.yes:
        ask(found.ledger.sink, found.objects, found.ledger.payload_id)
    return run(found, clear, args.reason or "", args.json, sys.stdout)


def what(store: Store, which: str, sink: str, task: str = "") -> Resendable:
    """What a destination has accepted of a payload.

    :param which: payload id, run id, Study Instance UID or accession number.
    :raises MonaiError: when there is nothing to send again, with the reason.
    """
    found = find_payloads(store, which)
    if len(found) > 1:
        raise InvalidArgument(f"There are {len(found)} payloads of this study; name one: {', '.join(found)}.")
    return resendable_of(store, found[0], sink, task)


def run(found: Resendable, clear: Clear, reason: str, as_json: bool, out: TextIO) -> int:
    """Have it sent again by the tasks that delivered it; the exit code, 1 where one of them does not.

    The ledger says so first: whatever ends this command, what it says is sent by the tasks' next tries.
    """
    ledger, why = found.ledger, why_again(person_here(), reason)
    found.mark(why)
    if not as_json:
        print(f"{ledger.sink}: {found.objects} objects are to be sent again ({why})", file=out)
    tasks: list[dict[str, Any]] = []
    for task, cleared in found.clear(clear, why):
        tasks.append({"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id, "state": cleared.value})
        if not as_json:
            tell_task(tasks[-1], out, f"--task {shlex.quote(task.task_id)}")
    if as_json:
        facts = {"payload_id": ledger.payload_id, "sink": ledger.sink, "objects": found.objects, "tasks": tasks}
        print_json(facts, out)
    return code_of(tasks)
