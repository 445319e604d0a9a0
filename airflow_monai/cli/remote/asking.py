"""What all commands have in common that ask a server: who asks where, and how a refusal is told."""

from __future__ import annotations

import os
import shlex
import sys
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_monai.cli.ending import ends
from airflow_monai.cli.printing import print_facts, print_json, print_rows, text_of

if TYPE_CHECKING:
    from airflow_monai.client.server import Server
    from airflow_monai.errors import ServerRefused

APP_SERVER, WORKFLOW_MANAGER, WORKLOAD_MANAGER = "app-server", "workflow-manager", "workload-manager"
OK, REFUSED, NOT_DONE = 0, 1, 2
"""Exit codes. Not done: the server is not there, does not know who asks, or the command line cannot be used."""
INTERRUPTED = 130
"""As a shell says it of what ended by Ctrl-C."""

Asking = Callable[["Server", Namespace], int]


def asks(
    prefix: str, *, refused: int = REFUSED, login: bool = True
) -> Callable[[Asking], Callable[[Namespace], NoReturn]]:
    """Make a command of a function that asks an API and returns the exit code.

    :param prefix: of the API.
    :param refused: exit code for what the server refuses. It is told on stderr; with ``--json`` on stdout.
    :param login: False for what strangers may ask too.
    """

    def decorate(function: Asking) -> Callable[[Namespace], NoReturn]:
        @ends(refused=NOT_DONE)
        @wraps(function)
        def command(args: Namespace) -> int:
            from airflow_monai.errors import ServerRefused

            server = server_of(args.url, args.user, prefix, login=login)
            try:
                return function(server, args)
            except ServerRefused as error:
                _refused(error, getattr(args, "json", False))
                return refused
            except KeyboardInterrupt:
                print("Stopped.", file=sys.stderr)
                return INTERRUPTED
            finally:
                server.close()

        return command

    return decorate


def server_of(url: str | None, user: str | None, prefix: str, *, login: bool = True) -> Server:
    """
    :param login: whether it has to be said who asks.
    :raises SettingsError: when nothing says where the server is, or who asks.
    """
    from airflow_monai.client.server import URL, Login, Server
    from airflow_monai.errors import SettingsError

    address = url or os.environ.get(URL, "")
    if not address:
        raise SettingsError(f"Say where Airflow's API server is: --url, or {URL}; as in http://localhost:8080.")
    return Server(address, prefix, Login.of_environment(user or "", needed=login))


@contextmanager
def keyed(given: str | None, done: str) -> Iterator[str]:
    """The Idempotency-Key of a call that changes something: the given one, or a new one. Who gets no answer is told it.

    :param done: what is then not done twice, as ``has begun is not begun``.
    """
    from airflow_monai.errors import CallerUnknown, ServerUnavailable

    key = given or str(uuid.uuid4())
    again = f"Try again with --key {shlex.quote(key)}: what {done} twice."
    try:
        yield key
    except CallerUnknown:
        raise
    except ServerUnavailable as error:
        raise ServerUnavailable(f"{str(error).removesuffix('.')}. {again}") from error
    except KeyboardInterrupt:
        print(f"Stopped before there was an answer. {again}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def answer(args: Namespace, found: Any, *, line: str = "", columns: Sequence[str] = (), table: str = "") -> int:
    """Print what a server answered: JSON where it is wanted, else the line, else these columns, else all facts.

    :param table: the field that has the rows for the columns: all facts come first.
    :return: the exit code 0.
    """
    if args.json:
        print_json(found, sys.stdout)
    elif line:
        print(text_of(line))
    elif columns and not table:
        print_rows(found, columns, sys.stdout)
    else:
        print_facts(found, sys.stdout)
        if table:
            print_rows(found[table], columns, sys.stdout)
    return OK


def _refused(error: ServerRefused, as_json: bool) -> None:
    if as_json:
        print_json({"error": str(error), "status": error.status, "errors": list(error.errors)}, sys.stdout)
        return
    for item in error.errors:
        print(f"refused: {item.get('field', '')}: {item.get('message', '')}", file=sys.stderr)
    print(f"error: {error}", file=sys.stderr)
