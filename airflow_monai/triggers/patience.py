"""Asking a service that may be away for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from airflow_monai.errors import ServiceUnavailable

PATIENCE = 300.0
"""Seconds without an answer after which the try is given up."""
T = TypeVar("T")


async def patiently(ask: Callable[[], Awaitable[T]], pause: float, log: Any) -> T:
    """An answer, in spite of a service that cannot be reached for a while.

    :param pause: seconds between two questions.
    :raises ServiceUnavailable: when it has been away for longer than :data:`PATIENCE`.
    """
    missing_since: float | None = None
    while True:
        try:
            return await ask()
        except ServiceUnavailable as error:
            missing_since = missing_since or time.monotonic()
            if time.monotonic() - missing_since > PATIENCE:
                raise
            log.warning("%s Asking again", error)
        await asyncio.sleep(pause)
