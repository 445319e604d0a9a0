"""``python -m airflow_monai``: the same commands without the start-up cost of Airflow's command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from airflow_monai.cli.commands import MONAI
from airflow_monai.cli.model import Command, Group

PROGRAM = "python -m airflow_monai"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command of the command line; ends the process."""
    args = parser().parse_args(argv)
    module, _, name = args.function.rpartition(".")
    getattr(import_module(module), name)(args)


def parser() -> argparse.ArgumentParser:
    """A parser for all commands."""
    top = argparse.ArgumentParser(prog=PROGRAM, description=MONAI.help, epilog=_example(MONAI))
    _add_group(top, MONAI)
    return top


def _add_group(parser: argparse.ArgumentParser, group: Group) -> None:
    below = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in group.commands:
        description = getattr(command, "description", "") or command.help
        made = below.add_parser(command.name, help=command.help, description=description, epilog=_example(command))
        if isinstance(command, Group):
            _add_group(made, command)
        else:
            _add_command(made, command)


def _add_command(parser: argparse.ArgumentParser, command: Command) -> None:
    for argument in command.arguments:
        parser.add_argument(*argument.flags, **argument.options)
    parser.set_defaults(function=command.function)


def _example(command: Command | Group) -> str:
    return f"Example: {command.example.replace('airflow monai', PROGRAM)}"
