"""``airflow monai datasets``: the datasets of an Airflow, by its App Server API."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from airflow_monai.cli.printing import print_json, print_table
from airflow_monai.cli.remote.asking import APP_SERVER, OK, answer, asks
from airflow_monai.cli.remote.fetching import fetch
from airflow_monai.cli.remote.uploading import tell_left_out
from airflow_monai.cli.remote.uploading import upload as uploaded
from airflow_monai.client.server import Server, place
from airflow_monai.errors import ServerRefused


@asks(APP_SERVER)
def upload(server: Server, args: Namespace) -> int:
    """Upload files, folders and zip archives as one dataset."""
    made = uploaded(server, "/datasets", args.paths, args.name, partial=str(args.partial).lower())
    if not args.json:
        tell_left_out(made)
    word = "Uploaded" if made["created_now"] else "It was there already:"
    return answer(args, made, line=f"{word} {made['id']}, {made['files']} files, {made['size']} bytes.")


@asks(APP_SERVER)
def list_all(server: Server, args: Namespace) -> int:
    rows = server.listed("/datasets", "datasets")
    if args.json:
        print_json(rows, sys.stdout)
        return OK
    shown = [[row["id"], row["created"][:19], str(row["files"]), str(row["size"]), row["name"]] for row in rows]
    print_table([["ID", "CREATED", "FILES", "BYTES", "NAME"], *shown], sys.stdout)
    return OK


@asks(APP_SERVER)
def describe(server: Server, args: Namespace) -> int:
    found = server.call("GET", place("datasets", args.dataset), patient=str(args.patient).lower())
    pairs = server.call("GET", place("datasets", args.dataset, "associations"))["associations"]
    found["maps"] = [pair["map"] for pair in pairs]
    return answer(args, found)


@asks(APP_SERVER)
def download(server: Server, args: Namespace) -> int:
    """Fetch all images as a zip archive; a transfer that breaks off leaves no file of that name."""
    target = args.output or f"{args.dataset}.zip"
    size = fetch(server, place("datasets", args.dataset, "content"), Path(target))
    return answer(args, {"file": target, "size": size}, line=f"{target}: {size} bytes")


@asks(APP_SERVER)
def delete(server: Server, args: Namespace) -> int:
    try:
        server.call("DELETE", place("datasets", args.dataset), with_results=str(args.with_results).lower())
    except ServerRefused as error:  # the API's own word is none of the command line
        said = str(error).replace("with_results=true", "--with-results")
        raise ServerRefused(said, status=error.status, errors=error.errors) from None
    return answer(args, {"id": args.dataset}, line=f"Deleted {args.dataset}.")


@asks(APP_SERVER)
def associate(server: Server, args: Namespace) -> int:
    """Keep, or undo, that MAPs are to work on a dataset."""
    for label in args.maps:
        server.call("DELETE" if args.undo else "PUT", place("datasets", args.dataset, "associations", label))
        if not args.json:
            print(f"{'No longer associated' if args.undo else 'Associated'}: {args.dataset} and {label}.")
    if args.json:
        print_json({"id": args.dataset, "maps": args.maps, "associated": not args.undo}, sys.stdout)
    return OK
