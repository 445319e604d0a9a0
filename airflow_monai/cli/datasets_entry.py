"""What the commands below ``airflow monai datasets`` call. Exit code 1: it is refused, 2: nothing could be done."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from airflow_monai.cli.entry import _ends

if TYPE_CHECKING:
    from airflow_monai.client.server import Server


@partial(_ends, refused=2)
def upload(args: Namespace) -> int:
    from airflow_monai.cli import datasets as command

    return _asked(
        args, lambda there: command.run_upload(there, args.paths, args.name, args.partial, args.json, sys.stdout)
    )


@partial(_ends, refused=2)
def list_all(args: Namespace) -> int:
    from airflow_monai.cli import datasets as command

    return _asked(args, lambda there: command.run_list(there, args.json, sys.stdout))


@partial(_ends, refused=2)
def describe(args: Namespace) -> int:
    from airflow_monai.cli import datasets as command

    return _asked(args, lambda there: command.run_describe(there, args.dataset, args.patient, args.json, sys.stdout))


@partial(_ends, refused=2)
def download(args: Namespace) -> int:
    from airflow_monai.cli import datasets as command

    return _asked(args, lambda there: command.run_download(there, args.dataset, args.output, sys.stdout))


@partial(_ends, refused=2)
def delete(args: Namespace) -> int:
    from airflow_monai.cli import datasets as command

    return _asked(args, lambda there: command.run_delete(there, args.dataset, args.with_results, sys.stdout))


@partial(_ends, refused=2)
def associate(args: Namespace) -> int:
    from airflow_monai.cli import datasets as command

    return _asked(args, lambda there: command.run_associate(there, args.dataset, args.maps, args.undo, sys.stdout))


def _asked(args: Namespace, run: Callable[[Server], int]) -> int:
    """What is asked of a server; 1, with the reason on stderr, for what it refuses."""
    from airflow_monai.cli.datasets import server_of
    from airflow_monai.errors import ServerRefused

    server = server_of(args.url, args.user)
    try:
        return run(server)
    except ServerRefused as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        server.close()
