"""``airflow monai argo``: the WorkflowTemplates of a cluster, and executions of one by hand."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from airflow_monai.argo.templates import read_template
from airflow_monai.cli.ending import ends
from airflow_monai.cli.given import texts_of
from airflow_monai.engine import Engine, Job, JobState, JobStatus
from airflow_monai.errors import InvalidArgument
from airflow_monai.hooks.argo import ArgoHook
from airflow_monai.hooks.argo_engine import ArgoEngine
from airflow_monai.hooks.argo_server import ArgoServer

POLL_SECONDS = 1.0


@ends()
def register(args: Namespace) -> int:
    return run_register(server_of(args.conn_id), args.file, args.json, sys.stdout)


@ends()
def delete(args: Namespace) -> int:
    return run_delete(server_of(args.conn_id), args.template, args.json, sys.stdout)


@ends()
def launch(args: Namespace) -> int:
    server = server_of(args.conn_id)
    return run_launch(server, args.template, args.param, args.name, args.wait, args.json, sys.stdout)


@ends()
def status(args: Namespace) -> int:
    return run_status(server_of(args.conn_id), args.name, args.json, sys.stdout)


@ends()
def cancel(args: Namespace) -> int:
    return run_cancel(server_of(args.conn_id), args.name, args.json, sys.stdout)


def server_of(conn_id: str) -> ArgoServer:
    """The Argo Server of an Airflow connection."""
    return ArgoHook(conn_id).get_conn()


def run_register(server: ArgoServer, file: str, as_json: bool, out: TextIO) -> int:
    """Register the WorkflowTemplate of a file, ``-`` for standard input; the exit code."""
    text = sys.stdin.read() if file == "-" else _text(Path(file))
    template = read_template(text, "standard input" if file == "-" else file)
    name = str(template["metadata"]["name"])
    created = asyncio.run(server.register_template(template))
    if as_json:
        print(json.dumps({"template": name, "namespace": server.namespace, "created": created}), file=out)
    else:
        done = "is registered" if created else "is registered in place of the one that was there"
        print(f"{name} {done} in namespace {server.namespace}. A task of type argo names it: args.template.", file=out)
    return 0


def run_delete(server: ArgoServer, name: str, as_json: bool, out: TextIO) -> int:
    """Delete a WorkflowTemplate, by its name or its file; exit code 1 where there is none."""
    if Path(name).suffix in (".yaml", ".yml", ".json"):
        name = str(read_template(_text(Path(name)), name)["metadata"]["name"])
    deleted = asyncio.run(server.delete_template(name))
    if as_json:
        print(json.dumps({"template": name, "namespace": server.namespace, "deleted": deleted}), file=out)
    else:
        said = "is deleted" if deleted else "is not there"
        print(f"{name} {said} in namespace {server.namespace}.", file=out)
    return 0 if deleted else 1


def run_launch(
    server: ArgoServer, template: str, parameters: Sequence[str], name: str, wait: bool, as_json: bool, out: TextIO
) -> int:
    """Start a template by hand, to try it; exit code 1 when it was waited for and failed."""
    job = Job(template, name or f"monai-by-hand-{uuid.uuid4().hex[:12]}", parameters=texts_of(parameters))
    created, status = _launched(ArgoEngine(server), job, wait)
    _print(server, job, status, as_json, out, created=created)
    return 1 if status is not None and status.state is JobState.FAILED else 0


def run_status(server: ArgoServer, name: str, as_json: bool, out: TextIO) -> int:
    """How an execution is; exit code 1 where there is none, or it failed."""
    job = Job("", name)
    status = ArgoEngine(server).status(job)
    _print(server, job, status, as_json, out)
    return 1 if status is None or status.state is JobState.FAILED else 0


def run_cancel(server: ArgoServer, name: str, as_json: bool, out: TextIO) -> int:
    """End an execution; exit code 1 where there is none, or it has ended."""
    cancelled = ArgoEngine(server).cancel(Job("", name))
    if as_json:
        print(json.dumps({"name": name, "cancelled": cancelled}), file=out)
    else:
        print(f"{name} {'is being ended' if cancelled else 'is not there, or has ended'}.", file=out)
    return 0 if cancelled else 1


def _launched(engine: Engine, job: Job, wait: bool) -> tuple[bool, JobStatus | None]:
    problems = engine.validate(job.workflow)
    if problems:
        raise InvalidArgument(f"{'; '.join(problems)[:1].upper()}{'; '.join(problems)[1:]}.")
    created = engine.launch(job)
    status = engine.status(job)
    while wait and status is not None and not status.state.is_final:
        time.sleep(POLL_SECONDS)
        status = engine.status(job)
    return created, status


def _print(
    server: ArgoServer,
    job: Job,
    status: JobStatus | None,
    as_json: bool,
    out: TextIO,
    created: bool | None = None,
) -> None:
    state = status.state.value if status else "unknown"
    message = status.message if status else ""
    if as_json:
        told = {"name": job.name, "state": state, "message": message, "page": server.page(job.name)}
        print(json.dumps(told if created is None else {**told, "created": created}), file=out)
        return
    print(f"{job.name}: {state}{': ' if message else ''}{message}", file=out)
    print(server.page(job.name), file=out)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise InvalidArgument(f"{path} cannot be read: {reason}.") from None
