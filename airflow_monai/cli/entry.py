"""The functions behind the commands: each takes the parsed arguments, does its work and ends the process.

What a command needs is imported inside its function, so that one command never pays for another.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, NoReturn

from airflow_monai.errors import MonaiError

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_monai.store.base import Store


def _ends(function: Callable[[Namespace], int]) -> Callable[[Namespace], NoReturn]:
    """Exit with the function's code; an error of ours becomes one line on stderr and exit code 1."""

    @wraps(function)
    def command(args: Namespace) -> NoReturn:
        try:
            code = function(args)
            sys.stdout.flush()
        except MonaiError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 1
        except BrokenPipeError:  # the reader (head, less) has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        sys.exit(code)

    return command


@_ends
def validate(args: Namespace) -> int:
    from airflow_monai.cli import validate as command

    return command.run(args.paths, args.json, sys.stdout)


@_ends
def gateway(args: Namespace) -> int:
    from airflow_monai.cli import gateway as command

    return command.gateway(args)


@_ends
def pools_sync(args: Namespace) -> int:
    from airflow_monai.cli import pools as command

    return command.run(_store(), args.inventory, args.dry_run, sys.stdout)


@_ends
def payloads_list(args: Namespace) -> int:
    from airflow_monai.cli import payloads as command

    return command.run_list(_store(), args.limit, args.json, sys.stdout)


@_ends
def payloads_show(args: Namespace) -> int:
    from airflow_monai.cli import payloads as command

    return command.run_show(_store(), args.payload_id, args.json, sys.stdout)


def _store() -> Store:
    from airflow_monai import settings
    from airflow_monai.store import open_store

    return open_store(settings.load().store)
