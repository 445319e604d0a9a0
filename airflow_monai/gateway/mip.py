"""What a gateway does for the mip job server: runs go on although nobody asks for them, and outputs are delivered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_monai import settings
from airflow_monai.errors import DamagedObject, MonaiError
from airflow_monai.gateway.chores import Chore, Chores
from airflow_monai.intake.events import log
from airflow_monai.mip.delivery import Deliveries
from airflow_monai.mip.ledger import Ledger
from airflow_monai.mip.model import RunId
from airflow_monai.sinks.base import Destination
from airflow_monai.store.damaged import tell_once

if TYPE_CHECKING:
    from airflow_monai.gateway.ways import GatewayParts, MakeWayIn
    from airflow_monai.hooks.airflow_api import AirflowApi
    from airflow_monai.store.base import Store

LOOK_SECONDS = 2.0
LONGEST_PAUSE = 15.0
"""How seldom a run that takes long is asked for."""


class Clerk:
    """Looks after runs that have not ended, or whose outputs are not delivered yet.

    :param ask: has the API server show a run, which moves it on; raises a :class:`MonaiError` when it does not.
    """

    def __init__(
        self,
        store: Store,
        ask: Callable[[RunId], object],
        destination: Callable[[str], Destination],
        deliver_to: Callable[[], tuple[str, ...]] = lambda: settings.load_mip().deliver_to,
    ):
        self._ledger = Ledger(store)
        self._ask = ask
        self._deliveries = Deliveries(store, destination)
        self._deliver_to = deliver_to
        self._due: dict[RunId, tuple[float, float]] = {}  # when to ask again, and the pause before that

    def tend(self) -> None:
        """Ask for the oldest run of each job that has not ended."""
        seen: set[str] = set()
        open_runs = self._ledger.open_runs()
        self._due = {run_id: self._due[run_id] for run_id in open_runs if run_id in self._due}
        for run_id in open_runs:
            if run_id.job in seen:
                continue
            try:
                if self._ledger.ended(run_id) is not None:
                    continue
                if self._ledger.run(run_id) is None:
                    self._ledger.sweep(run_id)
                    continue
            except DamagedObject as error:  # the later ones of its job wait for it, other jobs do not
                tell_once(f"mip run {run_id}, which is tried again: {error}")
                seen.add(run_id.job)
                continue
            seen.add(run_id.job)
            due, pause = self._due.get(run_id, (0.0, LOOK_SECONDS / 1.5))
            if time.monotonic() >= due:
                pause = min(pause * 1.5, LONGEST_PAUSE)
                self._due[run_id] = (time.monotonic() + pause, pause)
                try:
                    self._ask(run_id)
                except MonaiError as error:
                    log.warning("mip run %s, which is tried again: %s", run_id, error)

    def deliver(self) -> None:
        """Deliver what is due of runs that have ended, and close those of which nothing is left to be done."""
        for run_id in self._ledger.open_runs():
            try:
                self._deliver(run_id)
            except (MonaiError, OSError) as error:  # it keeps no other
                tell_once(f"The outputs of mip run {run_id}, which are tried again: {error}")

    def _deliver(self, run_id: RunId) -> None:
        run, ended = self._ledger.run(run_id), self._ledger.ended(run_id)
        if run is None or ended is None:
            return
        self._ledger.forget_keys(run_id)
        settled, news = self._deliveries.deliver(run, ended, self._deliver_to())
        for one in news:
            log.info("mip run %s: %s", run_id, one)
        if settled:
            self._ledger.close(run_id)


def mip_chores(api: AirflowApi) -> list[MakeWayIn]:
    """For every gateway; deliveries have a thread of their own, since one may take long."""
    from airflow_monai.hooks.base import destination

    def ask(run_id: RunId) -> object:
        answer = api.get(f"/monai/mip/runs/{quote(str(run_id), safe='')}", {})
        if answer.status_code != 200:
            raise MonaiError(f"Airflow's API server answers {answer.status_code}.")
        return answer

    def tending(parts: GatewayParts) -> Chores:
        return Chores([Chore("mip runs", LOOK_SECONDS, Clerk(parts.store, ask, destination).tend)])

    def delivering(parts: GatewayParts) -> Chores:
        return Chores([Chore("mip deliveries", LOOK_SECONDS, Clerk(parts.store, ask, destination).deliver)])

    return [tending, delivering]
