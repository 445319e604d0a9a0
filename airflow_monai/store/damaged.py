"""Tells of objects that are damaged: once in a while each, and what is not goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from airflow_monai.errors import DamagedObject

log = logging.getLogger(__name__)
TOLD_AGAIN_SECONDS = 3600.0
_REMEMBERED = 1000
T = TypeVar("T")
R = TypeVar("R")
_told: OrderedDict[str, float] = OrderedDict()
_lock = threading.Lock()


def tell_once(text: str) -> None:
    """Log a warning, but none that this process has given within the hour: what fails is tried again each second."""
    now = time.monotonic()
    with _lock:
        last = _told.get(text)
        if last is not None and now - last < TOLD_AGAIN_SECONDS:
            return
        _told[text] = now
        _told.move_to_end(text)
        if len(_told) > _REMEMBERED:
            _told.popitem(last=False)
    log.warning("%s", text)


def undamaged(items: Iterable[T], read: Callable[[T], R | None]) -> Iterator[R]:
    """What is read of each item, without None, and without those that are damaged, of which it is told.

    A store that does not answer is an error as ever: it would make every list an empty one.
    """
    for item in items:
        try:
            found = read(item)
        except DamagedObject as error:
            tell_once(str(error))
            continue
        if found is not None:
            yield found
