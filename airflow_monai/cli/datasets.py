"""``airflow monai datasets``: the datasets of an Airflow, by its App Server API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from airflow_monai.cli.printing import print_json, print_table
from airflow_monai.cli.remote.fetching import fetch
from airflow_monai.cli.remote.uploading import tell_left_out, upload
from airflow_monai.client.server import Server, place

OK = 0


def run_upload(server: Server, paths: Sequence[str], name: str, partial: bool, as_json: bool, out: TextIO) -> int:
    """Upload files, folders and zip archives as one dataset."""
    made = upload(server, "/datasets", paths, name, partial=str(partial).lower())
    if as_json:
        print_json(made, out)
        return OK
    tell_left_out(made)
    word = "Uploaded" if made["created_now"] else "It was there already:"
    print(f"{word} {made['id']}, {made['files']} files, {made['size']} bytes.", file=out)
    return OK


def run_list(server: Server, as_json: bool, out: TextIO) -> int:
    rows = server.listed("/datasets", "datasets")
    if as_json:
        print_json(rows, out)
        return OK
    shown = [[row["id"], row["created"][:19], str(row["files"]), str(row["size"]), row["name"]] for row in rows]
    print_table([["ID", "CREATED", "FILES", "BYTES", "NAME"], *shown], out)
    return OK


def run_describe(server: Server, dataset_id: str, patient: bool, as_json: bool, out: TextIO) -> int:
    found = server.call("GET", place("datasets", dataset_id), patient=str(patient).lower())
    pairs = server.call("GET", f"{place('datasets', dataset_id)}/associations")["associations"]
    found["maps"] = [pair["map"] for pair in pairs]
    if as_json:
        print_json(found, out)
        return OK
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {text}" for key, text in value.items() if text)
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if shown not in (None, ""):
            print(f"{name.replace('_', ' ')}: {shown}", file=out)
    return OK


def run_download(server: Server, dataset_id: str, target: str, as_json: bool, out: TextIO) -> int:
    """Fetch all images as a zip archive; a transfer that breaks off leaves no file of that name."""
    path = Path(target or f"{dataset_id}.zip")
    size = fetch(server, f"{place('datasets', dataset_id)}/content", path)
    if as_json:
        print_json({"file": str(path), "size": size}, out)
    else:
        print(f"{path}: {size} bytes", file=out)
    return OK


def run_delete(server: Server, dataset_id: str, with_results: bool, as_json: bool, out: TextIO) -> int:
    server.call("DELETE", place("datasets", dataset_id), with_results=str(with_results).lower())
    if as_json:
        print_json({"id": dataset_id}, out)
    else:
        print(f"Deleted {dataset_id}.", file=out)
    return OK


def run_associate(server: Server, dataset_id: str, maps: Sequence[str], undo: bool, as_json: bool, out: TextIO) -> int:
    """Keep, or undo, that MAPs are to work on a dataset."""
    for label in maps:
        server.call("DELETE" if undo else "PUT", place("datasets", dataset_id, "associations", label))
        if not as_json:
            print(f"{'No longer associated' if undo else 'Associated'}: {dataset_id} and {label}.", file=out)
    if as_json:
        print_json({"id": dataset_id, "maps": list(maps), "associated": not undo}, out)
    return OK
