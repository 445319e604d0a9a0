"""What a gateway does now and then beside taking studies in. All of it is noted in the store, and may be done by
several gateways at once: who comes second finds nothing to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_monai.errors import MonaiError
from airflow_monai.intake.events import log, log_internal

if TYPE_CHECKING:
    from airflow_monai.gateway.ways import GatewayParts, MakeWayIn
    from airflow_monai.hooks.airflow_api import AirflowApi


@dataclass(frozen=True, slots=True)
class Chore:
    """
    :param seconds: from the end of one time to the next.
    :param do: what it raises is logged, and it is done again.
    """

    name: str
    seconds: float
    do: Callable[[], object]


class Chores:
    """Does chores, one after the other, in one thread. A part of a gateway as a way in is."""

    name = "chores"

    def __init__(self, chores: Sequence[Chore]):
        self._chores = tuple(chores)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace: float) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(max(grace, 1.0))

    def _work(self) -> None:
        due = {chore.name: 0.0 for chore in self._chores}
        while not self._stopped.wait(0.5):
            for chore in self._chores:
                if time.monotonic() >= due[chore.name] and not self._stopped.is_set():
                    self._do(chore)
                    due[chore.name] = time.monotonic() + chore.seconds

    def _do(self, chore: Chore) -> None:
        try:
            chore.do()
        except MonaiError as error:
            log.warning("%s, which is tried again: %s", chore.name, error)
        except Exception as error:  # noqa: BLE001 - the edge of a thread; the other chores go on
            log_internal(f"{chore.name}, which is tried again", error)


def chores(api: AirflowApi) -> MakeWayIn:
    """Those of every gateway.

    :param api: makes runs.
    """

    def make(parts: GatewayParts) -> Chores:
        from airflow_monai.datasets.catalogue import Datasets
        from airflow_monai.jobs.clearing import Clearings
        from airflow_monai.jobs.starting import JobStarter

        starter, clearings = JobStarter(parts.store, api, api.end_run), Clearings(parts.store)
        return Chores(
            [
                Chore("beginning jobs", 2.0, starter.start_open),
                Chore("deleting the outputs of finalized jobs", 5.0, clearings.sweep),
                Chore("ending what cut uploads began", 60.0, Datasets(parts.store).sweep),
            ]
        )

    return make
