"""``airflow monai sinks`` and ``export-tasks``: where results go, and clients that fetch them.

By the Workload Manager API."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from airflow_monai.cli.given import secret_of, texts_of, values_of
from airflow_monai.cli.remote.asking import WORKLOAD_MANAGER, answer, asks
from airflow_monai.cli.remote.fetching import fetch, fetch_all
from airflow_monai.client.server import Server, place
from airflow_monai.errors import SettingsError

LEASE = "MONAI_LEASE"
_SINK = ("name", "type", "host", "port", "description")
_TASK = ("export_task_id", "state", "destinations", "payload_id", "created", "taken_by", "taken_until")


@asks(WORKLOAD_MANAGER)
def create_sink(server: Server, args: Namespace) -> int:
    wanted = {
        "name": args.sink,
        "type": args.type,
        "host": args.host,
        "port": args.port,
        "login": args.login,
        "password": secret_of(args),
        "extra": values_of(args.extra),
        "description": args.description,
    }
    made = server.call("POST", place("sinks"), body={name: value for name, value in wanted.items() if value})
    return answer(args, made, line=f"Created {made['name']}, {made['type']}.")


@asks(WORKLOAD_MANAGER)
def list_sinks(server: Server, args: Namespace) -> int:
    return answer(args, server.call("GET", place("sinks")), columns=_SINK)


@asks(WORKLOAD_MANAGER)
def delete_sink(server: Server, args: Namespace) -> int:
    server.call("DELETE", place("sinks", args.sink))
    return answer(args, {"name": args.sink}, line=f"Deleted {args.sink}.")


@asks(WORKLOAD_MANAGER)
def list_tasks(server: Server, args: Namespace) -> int:
    return answer(args, server.call("GET", place("sinks", args.sink, "tasks"), limit=args.limit), columns=_TASK)


@asks(WORKLOAD_MANAGER)
def show_task(server: Server, args: Namespace) -> int:
    return answer(args, server.call("GET", _task(args)), table="files", columns=("number", "path", "size"))


@asks(WORKLOAD_MANAGER)
def take(server: Server, args: Namespace) -> int:
    wanted = {"count": args.count, "lease_seconds": args.lease_seconds, "client": args.client}
    taken = server.call("POST", place("sinks", args.sink, "tasks", "take"), body=wanted)
    return answer(args, taken, columns=("export_task_id", "lease", "taken_until", "destinations"))


@asks(WORKLOAD_MANAGER)
def download(server: Server, args: Namespace) -> int:
    path, target = place(*_parts(args), "files"), args.output or f"{args.task}.zip"
    if target.lower().endswith(".zip"):
        files = [{"file": target, "size": fetch(server, path, Path(target))}]
    else:
        listed = server.call("GET", _task(args))["files"]
        named = [{"number": file["number"], "name": f"{file['number']}-{file['name']}"} for file in listed]
        files = fetch_all(server, path, named, Path(target))
    return answer(args, files, columns=("file", "size"))


@asks(WORKLOAD_MANAGER)
def report(server: Server, args: Namespace) -> int:
    said = {
        "lease": _lease(args),
        "status": args.status,
        "file_statuses": texts_of(args.file, last=True),
        "message": args.message,
    }
    server.call("PUT", _task(args), body=said)
    return answer(args, {"export_task_id": args.task}, line=f"Reported {args.status} of {args.task}.")


@asks(WORKLOAD_MANAGER)
def renew(server: Server, args: Namespace) -> int:
    asked = {"lease": _lease(args), "lease_seconds": args.lease_seconds}
    found = server.call("POST", place(*_parts(args), "renew"), body=asked)
    return answer(args, found, line=f"{args.task} is yours until {found['taken_until']}.")


@asks(WORKLOAD_MANAGER)
def give_back(server: Server, args: Namespace) -> int:
    server.call("POST", place(*_parts(args), "return"), body={"lease": _lease(args)})
    return answer(args, {"export_task_id": args.task}, line=f"Gave {args.task} back.")


def _parts(args: Namespace) -> tuple[str, ...]:
    return ("sinks", args.sink, "tasks", args.task)


def _task(args: Namespace) -> str:
    return place(*_parts(args))


def _lease(args: Namespace) -> str:
    found = args.lease or os.environ.get(LEASE, "")
    if not found:
        raise SettingsError(f"Say the lease that 'export-tasks take' has printed: --lease, or {LEASE}.")
    return found
