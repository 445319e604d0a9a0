"""Waits in the triggerer until something can be found: what all sensors share."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_monai.errors import MonaiError

if TYPE_CHECKING:
    from airflow_monai.store.base import Store


class NeverFound(Exception):
    """What is waited for will not come; the text says why and is free of patient data."""


class WatchTrigger(BaseTrigger):
    """Looks again and again, and fires once: ``{"found": value}``, or ``{"failed": why}`` when it will never be found.

    A subclass names its arguments and says what a look is.

    :param poll_interval: seconds between two looks.
    """

    arguments: ClassVar[tuple[str, ...]] = ()
    """Names of the subclass's own arguments, which are attributes too."""

    def __init__(self, *, poll_interval: float = 2.0):
        super().__init__()
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = (*self.arguments, "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while True:
            try:
                found = await self.look()
            except NeverFound as error:
                yield TriggerEvent({"failed": str(error)})
                return
            except MonaiError as error:
                self.log.warning("%s Looking again in %g s", error, self.poll_interval)
                found = None
            if found is not None:
                yield TriggerEvent({"found": found})
                return
            await asyncio.sleep(self.poll_interval)

    @abstractmethod
    async def look(self) -> Any:
        """What was waited for, as JSON can hold it; None while it is not there.

        :raises NeverFound: it will not come.
        :raises MonaiError: nobody knows at the moment; it is looked for again.
        """


class StoreWatchTrigger(WatchTrigger):
    """Looks into the store, in a thread: disk and network never stop the loop that all triggers share."""

    async def look(self) -> Any:
        return await asyncio.to_thread(self.find)

    @abstractmethod
    def find(self) -> Any:
        """As :meth:`look`."""


def site_store() -> Store:
    """The store of this site."""
    from airflow_monai import settings
    from airflow_monai.store import open_store

    return open_store(settings.load().store)
