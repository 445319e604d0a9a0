"""The commands in the form that Airflow's own command line takes (``cli`` of the provider info)."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

from airflow_monai.cli.commands import MONAI
from airflow_monai.cli.model import Argument, Command, Group


def get_cli_commands() -> list[CLICommand]:
    """The command ``airflow monai`` with all below it."""
    return [_command(MONAI)]


def _command(command: Command | Group) -> CLICommand:
    epilog = f"Example: {command.example}"
    if isinstance(command, Group):
        return GroupCommand(command.name, command.help, tuple(map(_command, command.commands)), epilog=epilog)
    return ActionCommand(
        name=command.name,
        help=command.help,
        func=lazy_load_command(command.function),
        args=tuple(map(_argument, command.arguments)),
        description=command.description or command.help,
        epilog=epilog,
    )


def _argument(argument: Argument) -> Arg:
    return Arg(flags=argument.flags, **argument.options)
