"""``airflow monai payloads upload``, ``download`` and ``delete``, of a server."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from airflow_monai.cli.remote.asking import OK, REFUSED, WORKFLOW_MANAGER, WORKLOAD_MANAGER, answer, asks
from airflow_monai.cli.remote.fetching import fetch
from airflow_monai.cli.remote.uploading import tell_left_out
from airflow_monai.cli.remote.uploading import upload as send
from airflow_monai.client.server import Server, place


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


@asks(WORKFLOW_MANAGER)
def delete(server: Server, args: Namespace) -> int:
    server.call("DELETE", place("payload", args.payload), reason=args.reason or None)
    line = f"{args.payload} is going to be deleted by a gateway. 'airflow monai payloads show' tells when it has been."
    return answer(args, {"id": args.payload}, line=line)
