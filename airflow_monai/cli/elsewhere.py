"""What can be done on this host, or by a server: the server does it where one is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace


def or_elsewhere(module: str) -> Callable[[Callable[[Namespace], int]], Callable[[Namespace], int]]:
    """Have a server asked in place of this host where the command line or the environment names one.

    :param module: import path of the commands that ask; the function of the same name is called.
    """

    def decorate(function: Callable[[Namespace], int]) -> Callable[[Namespace], int]:
        @wraps(function)
        def either(args: Namespace) -> int:
            if is_elsewhere(args):
                code: int = getattr(import_module(module), function.__name__)(args)
                return code
            return function(args)

        return either

    return decorate


def is_elsewhere(args: Namespace) -> bool:
    """Whether a server is asked, and not this host's store."""
    return bool(args.url or os.environ.get("MONAI_URL"))
