"""``airflow monai payloads``, of a server."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_monai.cli.moments import moment
from airflow_monai.cli.printing import print_json, print_table, text_of
from airflow_monai.cli.progress import Progress
from airflow_monai.cli.remote.asking import OK, REFUSED, WORKFLOW_MANAGER, WORKLOAD_MANAGER, answer, asks, keyed
from airflow_monai.cli.remote.fetching import fetch
from airflow_monai.cli.remote.uploading import tell_left_out
from airflow_monai.cli.remote.uploading import upload as send
from airflow_monai.cli.resending import ask, code_of, is_running, tell_task
from airflow_monai.client.server import Server, place
from airflow_monai.errors import SettingsError

_HEAD = ("PAYLOAD", "STATUS", "DELETED", "AE TITLE", "FROM", "IMAGES", "TIME", "WORKFLOWS")


@asks(WORKFLOW_MANAGER)
def list_all(server: Server, args: Namespace) -> int:
    """Open ones, then the newest. What is known of patients is in the JSON only."""
    if args.state:
        raise SettingsError("A server does not list payloads by --state: leave it out.")
    since = datetime.fromisoformat(moment(args.since)) if args.since else None
    asked = {"patientId": args.patient_id, "patientName": args.patient_name, "accessionId": args.accession}
    progress, found, seen = Progress(sys.stderr), list[dict[str, Any]](), 0
    for data, total in server.pages(place("payload"), **asked):
        found += [one for one in data if _is_wanted(one, args.called, since)]
        seen += len(data)
        progress.tell(f"{seen} of {total} payloads")
        if len(found) >= args.limit:
            break
    progress.clear()
    if args.json:
        print_json(found[: args.limit], sys.stdout)
    else:
        print_table([_HEAD, *map(_cells, found[: args.limit])], sys.stdout)
    return OK


@asks(WORKFLOW_MANAGER)
def show(server: Server, args: Namespace) -> int:
    """Without ``--json`` nothing of the patient, unless that is asked for."""
    found = server.call("GET", place("payload", args.payload))
    if not (args.json or args.patient):
        found = {name: value for name, value in found.items() if name not in ("patient_details", "accession_id")}
    return answer(args, found)


@asks(WORKLOAD_MANAGER)
def upload(server: Server, args: Namespace) -> int:
    """Exit code 1 also when the server has refused some of the files: it has taken the others."""
    asked = {"ae_title": args.called, "origin": args.calling, "complete": "true" if args.complete else None}
    made = send(server, "/payloads", args.paths, **asked)
    if not args.json:
        tell_left_out(made)
    answer(args, made, line=f"Uploaded {made['images']} images, of payload {', '.join(made['payload_ids'])}.")
    return REFUSED if made["refused"] else OK


@asks(WORKFLOW_MANAGER)
def download(server: Server, args: Namespace) -> int:
    target = args.output or f"{args.payload}.zip"
    size = fetch(server, place("payload", args.payload, "download"), Path(target))
    return answer(args, {"file": target, "size": size}, line=f"{target}: {size} bytes")


@asks(WORKLOAD_MANAGER)
def resend(server: Server, args: Namespace) -> int:
    """Exit code 1 also when a task that delivered it does not send it now."""
    wanted = {"sink": args.sink, "task": args.task or "", "reason": args.reason or ""}
    path = place("payloads", args.payload, "resend")
    if not args.yes:
        found = server.call("POST", path, body={**wanted, "dry_run": True})
        ask(found["sink"], found["objects"], found["payload_id"])
    with keyed(args.key, "is sent again is not sent again") as key:
        done = server.call("POST", path, body=wanted, key=key)
    if args.json:
        print_json(done, sys.stdout)
    else:
        print(text_of(f"{done['sink']}: {done['objects']} objects are to be sent again"))
        for task in done["tasks"]:
            tell_task(task, sys.stdout)
    if is_running(done["tasks"]):  # with another key, what the others have sent by then would be sent once more
        print(f"A task is running: do this again, with --key {shlex.quote(key)}, when it has ended.", file=sys.stderr)
    return code_of(done["tasks"])


@asks(WORKFLOW_MANAGER)
def delete(server: Server, args: Namespace) -> int:
    server.call("DELETE", place("payload", args.payload), reason=args.reason or None)
    line = f"{args.payload} is going to be deleted by a gateway. 'airflow monai payloads show' tells when it has been."
    return answer(args, {"id": args.payload}, line=line)


def _is_wanted(payload: Mapping[str, Any], called: str | None, since: datetime | None) -> bool:
    if called and payload["DataTrigger"]["destination"] != called.strip(" "):
        return False
    when = payload["timestamp"]
    return since is None or bool(when and datetime.fromisoformat(when.replace("Z", "+00:00")) >= since)


def _cells(payload: Mapping[str, Any]) -> tuple[str, ...]:
    trigger = payload["DataTrigger"]
    shown = (
        payload["id"],
        payload["payload_status"],
        payload["payload_deleted"],
        trigger["destination"],
        trigger["source"],
        payload["file_count"],
        (payload["timestamp"] or "")[:19],
        payload["triggered_workflow_names"],
    )
    return tuple(map(text_of, shown))
