"""A store's intake for a command: takes files in and creates runs without a gateway."""

from __future__ import annotations

import logging

from airflow_monai import settings as site
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_engine import AirflowEngine
from airflow_monai.intake.announcer import Announcer
from airflow_monai.intake.deposit import Depositor
from airflow_monai.intake.events import EventLog
from airflow_monai.intake.single import see_through
from airflow_monai.intake.starting import Starter
from airflow_monai.intake.workflows import Workflows
from airflow_monai.store.base import Store
from airflow_monai.store.intake import Intake
from airflow_monai.store.space import DiskGuard
from airflow_monai.store.spool import SpoolFolder
from airflow_monai.workflows.site import SiteWorkflows


class IntakeHere:
    """To be used in a ``with``: its spool is removed in the end."""

    def __init__(self, store: Store):
        settings = site.load()
        logging.getLogger("airflow_monai.gateway").setLevel(logging.WARNING)
        self.store = store
        self.events = EventLog()
        registered = SiteWorkflows(store).files
        self.workflows = Workflows(settings.workflow_folder, settings.quiet_seconds, self.events, registered)
        self.guard = DiskGuard.of_settings(store.spool(), settings.disk_used_percent, settings.disk_reserve)
        self._spool = SpoolFolder(store)
        self.depositor = Depositor(Intake(store), self._spool.path, grouping=self.workflows.grouping, guard=self.guard)
        self._engine = AirflowEngine(AirflowApi(settings.api_conn_id))

    def __enter__(self) -> IntakeHere:
        return self

    def __exit__(self, *exc: object) -> None:
        self._spool.remove()

    def unheard(self, called_aet: str) -> str:
        """What to say of an AE title that no workflow listens to; empty when one does."""
        if self.workflows.knows(called_aet.strip(" ")):
            return ""
        known = ", ".join(self.workflows.ae_titles()) or "none"
        return f"no workflow listens to AE title {called_aet!r} (there are: {known}); nothing is started by this"

    def announcer(self) -> Announcer:
        """Creates runs by Airflow's API."""
        return Announcer(self.store, self._engine, self.workflows.known, self.events, self.guard)

    def starter(self) -> Starter:
        """Starts runs because a person wants them."""
        return Starter(self.store, self._engine, self.workflows.known, self.announcer(), self.guard)

    def see_through(self, payload_id: str, until: float) -> bool:
        """As :func:`airflow_monai.intake.single.see_through`."""
        return see_through(self.depositor.intake, self.announcer(), payload_id, until)
