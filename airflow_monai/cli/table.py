"""How commands are written down: as the rows of a table. What commands and arguments have in common stands here."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_monai.cli.model import Argument, Command, Group


@dataclass(frozen=True, slots=True)
class Topic:
    """Makes the commands whose functions are in one module.

    :param name: the word before theirs on the command line; empty for commands that stand alone.
    :param module: import path. A command's function bears its name, ``_`` for ``-``, unless the command says which.
    """

    name: str
    module: str

    def command(
        self, name: str, words: str, example: str, *arguments: Argument, description: str = "", function: str = ""
    ) -> Command:
        """
        :param words: what it does, in a line.
        :param example: what may stand behind its name.
        :param description: more than a line, at the head of its own help.
        """
        return Command(
            name=name,
            help=words,
            function=f"{self.module}.{function or name.replace('-', '_')}",
            example=_line(self.name, name, example),
            arguments=arguments,
            description=description,
        )

    def asking(
        self, name: str, words: str, example: str, *arguments: Argument, description: str = "", function: str = ""
    ) -> Command:
        """Likewise a command that asks a server."""
        return self.command(name, words, example, *arguments, *AT, JSON, description=description, function=function)

    def group(self, words: str, example: str, *commands: Command) -> Group:
        """The group itself, with commands that may be of other topics too.

        :param example: what may stand behind its name.
        """
        return Group(name=self.name, help=words, example=_line(self.name, example), commands=commands)


def _line(*words: str) -> str:
    return " ".join(filter(None, ("airflow monai", *words)))


def positional(name: str, metavar: str, words: str, **more: Any) -> Argument:
    """What stands on the command line without a flag.

    :param more: what ``argparse.add_argument`` takes besides.
    """
    return Argument((name,), {"metavar": metavar, "help": words, **more})


def option(flag: str, metavar: str, words: str, **more: Any) -> Argument:
    """
    :param metavar: what its value is; empty for a word like the flag.
    :param more: what ``argparse.add_argument`` takes besides.
    """
    return Argument((flag,), {**({"metavar": metavar} if metavar else {}), "help": words, **more})


def choice(flag: str, choices: Sequence[str], words: str, **more: Any) -> Argument:
    """An option that has one of these values."""
    return Argument((flag,), {"choices": choices, "help": words, **more})


def repeated(flag: str, metavar: str, words: str) -> Argument:
    """An option that may be given several times."""
    return option(flag, metavar, f"{words}; may be repeated.", action="append", default=[])


def flag(name: str, words: str) -> Argument:
    """An option without a value."""
    return Argument((name,), {"action": "store_true", "help": words})


def limit(default: int = 50, most: str = "") -> Argument:
    """How many entries of a list are shown."""
    return option("--limit", "N", f"How many at most{most}. Default: {default}.", type=positive, default=default)


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


JSON = flag("--json", "Print JSON for programs.")
DRY_RUN = flag("--dry-run", "Print what would be done and change nothing.")
USER = option(
    "--user",
    "NAME",
    "Who asks there, with the password in MONAI_PASSWORD. Default: MONAI_USER. A token of Airflow in MONAI_TOKEN does "
    "without both.",
)
AT = (option("--url", "URL", "Of Airflow's API server, as http://localhost:8080. Default: MONAI_URL."), USER)
"""Which server, and who asks it."""
ELSEWHERE = (
    option("--url", "URL", "Of an Airflow elsewhere. Default: MONAI_URL; without one, this host's store."),
    USER,
    JSON,
)
"""Of what can be done on this host or by a server."""
SECRET = (
    option("--secret-env", "VARIABLE", "Environment variable that has the secret."),
    flag("--secret-stdin", "Read the secret from standard input."),
)
"""A secret never stands on a command line, where others of the host can read it."""
