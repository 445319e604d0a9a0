"""``airflow monai credentials``: secrets that tasks show to services, by the Workflow Manager API."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from airflow_monai.cli.given import secret_of, values_of
from airflow_monai.cli.remote.asking import WORKFLOW_MANAGER, answer, asks
from airflow_monai.client.server import Server, place
from airflow_monai.errors import SettingsError

_AT = "credentials"
_COLUMNS = ("id", "type", "host", "port", "login", "header", "has_secret", "description")
_FIELDS = ("type", "host", "port", "login", "header", "description")


@asks(WORKFLOW_MANAGER)
def create(server: Server, args: Namespace) -> int:
    made = server.call("POST", place(_AT), body={"id": args.credential, **_given(args)})
    return answer(args, made, line=f"Created {made['id']}.")


@asks(WORKFLOW_MANAGER)
def list_all(server: Server, args: Namespace) -> int:
    return answer(args, server.call("GET", place(_AT), type=args.type), columns=_COLUMNS)


@asks(WORKFLOW_MANAGER)
def show(server: Server, args: Namespace) -> int:
    return answer(args, server.call("GET", place(_AT, args.credential)))


@asks(WORKFLOW_MANAGER)
def update(server: Server, args: Namespace) -> int:
    """What is not said stays, which the API does for a secret and options only."""
    path, given = place(_AT, args.credential), _given(args)
    there = server.call("GET", path)
    if "***" in there["host"] and "host" not in given:
        raise SettingsError("The address of this credential has a password in it: say --host.")
    kept = {name: there[name] for name in _FIELDS if there[name] not in (None, "")}
    if given.get("type", there["type"]) != there["type"]:
        kept.pop("header", None)
    return answer(args, server.call("PUT", path, body={**kept, **given}), line=f"Updated {args.credential}.")


@asks(WORKFLOW_MANAGER)
def delete(server: Server, args: Namespace) -> int:
    server.call("DELETE", place(_AT, args.credential))
    return answer(args, {"id": args.credential}, line=f"Deleted {args.credential}.")


def _given(args: Namespace) -> dict[str, Any]:
    """What is said of it."""
    said = {name: getattr(args, name) for name in _FIELDS}
    said |= {"secret": secret_of(args), "options": values_of(args.option) or None}
    return {name: value for name, value in said.items() if value is not None}
