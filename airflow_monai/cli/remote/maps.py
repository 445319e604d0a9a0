"""``airflow monai maps`` of a server, by the App Server API."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from airflow_monai.cli.progress import Progress
from airflow_monai.cli.registered import Registered
from airflow_monai.cli.remote.asking import APP_SERVER, OK, answer, asks
from airflow_monai.client.server import Server, place
from airflow_monai.errors import MapNotFound, ServerRefused, SettingsError

_COLUMNS = ("map", "ae_title", "export_destinations", "use_gpu", "digest", "registered_at", "registered_by")
_HISTORY = ("revision", "registered", "changed_at", "changed_by", "digest", "ae_title", "export_destinations")
LOOK_SECONDS = 1.0


@asks(APP_SERVER)
def register(server: Server, args: Namespace) -> int:
    """An image of the server's engine; what begins with . or / is a folder there."""
    is_folder = args.map.startswith((".", "/"))
    wanted = {
        "folder" if is_folder else "image": args.map.removeprefix("./"),
        "name": args.name,
        "version": args.version,
        "ae_title": args.ae_title,
        "export_destinations": args.export,
        "use_gpu": False if args.no_gpu else None,
        "replace": args.replace,
        "pull": args.pull,
    }
    done = server.call("POST", "/maps", body={name: value for name, value in wanted.items() if value is not None})
    if "state" in done:  # it takes long
        done = _waited(server, done)
    if not args.json:
        _tell_registered(server, done)
        return OK
    return answer(args, done)


@asks(APP_SERVER)
def list_all(server: Server, args: Namespace) -> int:
    if args.all:
        raise SettingsError("A server lists those that are registered only: leave --all out.")
    return answer(args, server.listed("/maps", "maps"), columns=_COLUMNS)


@asks(APP_SERVER)
def describe(server: Server, args: Namespace) -> int:
    found = server.call("GET", _place(_label(server, args.map)))
    return answer(args, found, table="history", columns=_HISTORY)


@asks(APP_SERVER)
def unregister(server: Server, args: Namespace) -> int:
    server.call("DELETE", _place(args.map))
    return answer(args, {"map": args.map}, line=f"Unregistered {args.map}: nothing starts it any more.")


def _tell_registered(server: Server, done: Mapping[str, Any]) -> None:
    """As the command of this host does: what its workflow is, and what is doubtful."""
    found = server.call("GET", _place(done["map"]))
    told = Registered(
        label=done["map"],
        is_new=done["created_now"],
        what=f"{found['kind']} {found['digest']}",
        workflow=found["workflow"],
        ae_title=found["ae_title"],
        export_destinations=found["export_destinations"],
        beside=done.get("beside") or (),
        doubts=[f"{one['level']}: {one['field']}: {one['message']}" for one in found["facts"].get("problems", ())],
    )
    told.tell(sys.stdout)


def _waited(server: Server, asked: dict[str, Any]) -> dict[str, Any]:
    """A registration that has come to its end.

    :raises ServerRefused: when it failed.
    """
    progress, begun = Progress(sys.stderr), time.monotonic()
    while asked["state"] == "running":
        time.sleep(LOOK_SECONDS)
        asked = server.call("GET", place("maps", "registrations", asked["id"]))
        progress.tell(f"It is being registered, for {time.monotonic() - begun:.0f} s")
    progress.clear()
    if asked["state"] == "failed":
        raise ServerRefused(asked["detail"] or "It could not be registered.", status=asked["status"] or 500)
    return asked


def _label(server: Server, wanted: str) -> str:
    """``name:version``, also where the name says enough."""
    if ":" in wanted:
        return wanted
    same = [one["map"] for one in server.listed("/maps", "maps") if one["name"] == wanted]
    if len(same) != 1:
        raise MapNotFound(f"{wanted!r} is no <name>:<version> of a registered MAP ({', '.join(same) or 'none is'}).")
    return str(same[0])


def _place(label: str) -> str:
    name, _, version = label.rpartition(":")
    return place("maps", name, version)
