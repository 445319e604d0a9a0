"""What the commands below ``airflow monai datasets`` call. Exit code 1: it is refused, 2: nothing could be done."""

from __future__ import annotations

import sys
from argparse import Namespace

from airflow_monai.cli import datasets as command
from airflow_monai.cli.remote.asking import APP_SERVER, asks
from airflow_monai.client.server import Server


@asks(APP_SERVER)
def upload(server: Server, args: Namespace) -> int:
    return command.run_upload(server, args.paths, args.name, args.partial, args.json, sys.stdout)


@asks(APP_SERVER)
def list_all(server: Server, args: Namespace) -> int:
    return command.run_list(server, args.json, sys.stdout)


@asks(APP_SERVER)
def describe(server: Server, args: Namespace) -> int:
    return command.run_describe(server, args.dataset, args.patient, args.json, sys.stdout)


@asks(APP_SERVER)
def download(server: Server, args: Namespace) -> int:
    return command.run_download(server, args.dataset, args.output, args.json, sys.stdout)


@asks(APP_SERVER)
def delete(server: Server, args: Namespace) -> int:
    return command.run_delete(server, args.dataset, args.with_results, args.json, sys.stdout)


@asks(APP_SERVER)
def associate(server: Server, args: Namespace) -> int:
    return command.run_associate(server, args.dataset, args.maps, args.undo, args.json, sys.stdout)
