"""Who wants to know what happens to workflow instances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow_monai.lifecycle.outbox import Teller


@dataclass(frozen=True, slots=True)
class Receiver:
    """Somebody who wants to know.

    :param start: batch of the journal to begin with.
    :param since: when it began to want to know.
    :param waits: nothing is told to it for now, and what it has to be told is kept: what is noted of it is damaged.
    """

    teller: Callable[[], Teller]
    start: int
    since: datetime
    waits: bool = False


Receivers = Callable[[], Mapping[str, Receiver]]
"""Who wants to know now, by the name of its channel."""
