"""What a command is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument: its flags (or its name) and what ``argparse.add_argument`` takes besides."""

    flags: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Command:
    """A command that does something.

    :param function: import path of a function that takes the parsed arguments and ends the process.
    :param example: a command line, shown at the end of its help.
    """

    name: str
    help: str
    function: str
    example: str
    arguments: tuple[Argument, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A command that has commands."""

    name: str
    help: str
    example: str
    commands: tuple[Command | Group, ...]
