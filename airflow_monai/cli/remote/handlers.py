"""``airflow monai handlers``: who is told of the end of jobs, by the App Server API."""

from __future__ import annotations

from argparse import Namespace

from airflow_monai.cli.given import secret_of
from airflow_monai.cli.remote.asking import APP_SERVER, OK, REFUSED, answer, asks, keyed
from airflow_monai.client.server import Server, place

_AT = "notification-handlers"
_COLUMNS = ("id", "url", "events", "state", "told", "waiting", "failed")
_DELIVERY = ("event_id", "event", "job_id", "state", "tries", "at", "reason")


@asks(APP_SERVER)
def register(server: Server, args: Namespace) -> int:
    wanted = {
        "url": args.handler_url,
        "events": args.events,
        "maps": args.map,
        "workflows": args.workflow,
        "jobs": args.job,
        "secret": secret_of(args),
        "description": args.description,
    }
    with keyed(args.key, "is registered is not registered") as key:
        found = server.call("POST", place(_AT), body={name: value for name, value in wanted.items() if value}, key=key)
    secret = f" Its secret, told once: {found['secret']}" if found["secret"] else ""
    return answer(args, found, line=f"Registered {found['id']}.{secret}")


@asks(APP_SERVER)
def list_all(server: Server, args: Namespace) -> int:
    return answer(args, server.call("GET", place(_AT))["handlers"], columns=_COLUMNS)


@asks(APP_SERVER)
def show(server: Server, args: Namespace) -> int:
    return answer(args, server.call("GET", place(_AT, args.handler)))


@asks(APP_SERVER)
def test(server: Server, args: Namespace) -> int:
    """Exit code 1 also when it was not taken."""
    found = server.call("POST", place(_AT, args.handler, "test"))
    line = f"Delivered {found['event_id']}." if found["delivered"] else f"Not delivered: {found['reason']}."
    answer(args, found, line=line)
    return OK if found["delivered"] else REFUSED


@asks(APP_SERVER)
def unregister(server: Server, args: Namespace) -> int:
    server.call("DELETE", place(_AT, args.handler))
    return answer(args, {"id": args.handler}, line=f"Unregistered {args.handler}: it is told nothing more.")


@asks(APP_SERVER)
def deliveries(server: Server, args: Namespace) -> int:
    found = server.call("GET", place(_AT, args.handler, "deliveries"), limit=args.limit)["deliveries"]
    return answer(args, found, columns=_DELIVERY)


@asks(APP_SERVER)
def retry(server: Server, args: Namespace) -> int:
    """Exit code 1 also when nothing was given up."""
    path = place(_AT, args.handler, "deliveries", "retry")
    found = server.call("POST", path, body={"events": args.events})["deliveries"]
    answer(args, found, columns=_DELIVERY)
    return OK if found else REFUSED
