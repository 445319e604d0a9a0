"""``airflow monai payloads download`` and ``delete``: by the Workflow Manager API."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from airflow_monai.cli.remote.asking import WORKFLOW_MANAGER, answer, asks
from airflow_monai.cli.remote.fetching import fetch
from airflow_monai.client.server import Server, place


@asks(WORKFLOW_MANAGER)
def download(server: Server, args: Namespace) -> int:
    target = args.output or f"{args.payload}.zip"
    size = fetch(server, place("payload", args.payload, "download"), Path(target))
    return answer(args, {"file": target, "size": size}, line=f"{target}: {size} bytes")


@asks(WORKFLOW_MANAGER)
def delete(server: Server, args: Namespace) -> int:
    server.call("DELETE", place("payload", args.payload), reason=args.reason or None)
    line = f"{args.payload} is going to be deleted by a gateway. 'airflow monai payloads show' tells when it has been."
    return answer(args, {"id": args.payload}, line=line)
