"""What a person gives to commands: secrets, which never stand on a command line, and values by name."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from getpass import getpass
from typing import Any

from airflow_monai.errors import SettingsError


def secret_of(args: Namespace) -> str | None:
    """From the environment or from standard input; None where neither is named.

    :raises SettingsError: when there is none, or both are named.
    """
    if args.secret_env and args.secret_stdin:
        raise SettingsError("Say --secret-env or --secret-stdin, not both.")
    if args.secret_env:
        if not os.environ.get(args.secret_env):
            raise SettingsError(f"The environment has no secret in {args.secret_env}.")
        return os.environ[args.secret_env]
    if not args.secret_stdin:
        return None
    secret = getpass("Secret: ") if sys.stdin.isatty() else sys.stdin.read().rstrip("\r\n")
    if not secret:
        raise SettingsError("There is no secret on standard input.")
    return secret


def values_of(pairs: Iterable[str]) -> dict[str, Any]:
    """Values by name: those that are JSON as what they are, others as text.

    :raises SettingsError: for what is no NAME=VALUE.
    """
    return {name: _value(text) for name, text in texts_of(pairs).items()}


def texts_of(pairs: Iterable[str], *, last: bool = False) -> dict[str, str]:
    """Likewise, all as text.

    :param last: the last '=' counts, for names that may have some.
    """
    found = {}
    for pair in pairs:
        name, equals, text = pair.rpartition("=") if last else pair.partition("=")
        if not equals or not name:
            raise SettingsError(f"{pair!r} is no NAME=VALUE.")
        found[name] = text
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
