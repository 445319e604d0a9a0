"""What a command is, and the arguments that several have."""

from __future__ import annotations

from argparse import ArgumentTypeError
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


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def port(text: str) -> int:
    """A TCP port, for argparse; 0 lets the system choose."""
    if not text.isdecimal() or int(text) > 65535:
        raise ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


JSON = Argument(("--json",), {"action": "store_true", "help": "Print JSON for programs."})
USER = Argument(
    ("--user",),
    {
        "metavar": "NAME",
        "help": "Who asks there, with the password in MONAI_PASSWORD. Default: MONAI_USER. A token "
        "of Airflow in MONAI_TOKEN does without both.",
    },
)
AT = (
    Argument(
        ("--url",), {"metavar": "URL", "help": "Of Airflow's API server, as http://localhost:8080. Default: MONAI_URL."}
    ),
    USER,
)
"""Which server, and who asks it."""
SECRET = (
    Argument(("--secret-env",), {"metavar": "VARIABLE", "help": "Environment variable that has the secret."}),
    Argument(("--secret-stdin",), {"action": "store_true", "help": "Read the secret from standard input."}),
)
"""A secret never stands on a command line, where others of the host can read it."""


def limit(default: int = 50, most: str = "") -> Argument:
    """How many entries of a list are shown."""
    words = f"How many at most{most}. Default: {default}."
    return Argument(("--limit",), {"metavar": "N", "type": positive, "default": default, "help": words})


def repeated(flag: str, metavar: str, words: str) -> Argument:
    """An option that may be given several times."""
    return Argument(
        (flag,), {"metavar": metavar, "action": "append", "default": [], "help": f"{words}; may be repeated."}
    )
