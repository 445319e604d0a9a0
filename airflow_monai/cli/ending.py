"""How a command ends: with an exit code, and with one line on stderr where it cannot be done."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, NoReturn

from airflow_monai.errors import MonaiError

if TYPE_CHECKING:
    from argparse import Namespace

_MASKERS = (
    "airflow._shared.secrets_masker.secrets_masker",
    "airflow.sdk._shared.secrets_masker.secrets_masker",
)


def ends(refused: int = 1) -> Callable[[Callable[[Namespace], int]], Callable[[Namespace], NoReturn]]:
    """Make a command of a function that takes the parsed arguments and returns the exit code.

    :param refused: exit code for an error of ours.
    """

    def decorate(function: Callable[[Namespace], int]) -> Callable[[Namespace], NoReturn]:
        @wraps(function)
        def command(args: Namespace) -> NoReturn:
            quiet_masker()
            try:
                code = function(args)
                sys.stdout.flush()
            except MonaiError as error:
                print(f"error: {error}", file=sys.stderr)
                code = refused
            except BrokenPipeError:  # the reader (head, less) has gone
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                code = 1
            sys.exit(code)

        return command

    return decorate


def quiet_masker() -> None:
    """Have Airflow not warn of short passwords among what a command prints: nobody can mend that here."""
    for name in _MASKERS:
        logging.getLogger(name).addFilter(_no_warning)


def _no_warning(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


def warn(text: str) -> None:
    """Tell of what is no reason to end."""
    print(f"warning: {text}", file=sys.stderr)
