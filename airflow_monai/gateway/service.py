"""A gateway: ways in, intake and shepherd on one store."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_monai.engine import Engine
from airflow_monai.gateway.dicom import settings as dicom_settings
from airflow_monai.gateway.dicom.admission import Admission
from airflow_monai.gateway.dicom.desk import StoreDesk
from airflow_monai.gateway.dicom.receiver import Receiver
from airflow_monai.gateway.dicom.settings import DicomOptions
from airflow_monai.gateway.shepherd import Patience, Shepherd
from airflow_monai.gateway.ways import GatewayParts, MakeWayIn, WayIn
from airflow_monai.intake.announcer import Announcer
from airflow_monai.intake.events import EventKind, EventLog, log_internal
from airflow_monai.intake.workflows import Workflows
from airflow_monai.settings import Settings
from airflow_monai.store import Store, open_store
from airflow_monai.store.intake import Intake
from airflow_monai.store.space import DiskGuard
from airflow_monai.store.spool import SpoolFolder
from airflow_monai.workflows.site import SiteWorkflows

if TYPE_CHECKING:
    from airflow_monai.gateway.dicom.pool import ReceiverPool

STOP_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """
    :param port: 0 for a free one.
    :param quiet_seconds: for workflows that do not say their own.
    :param disk_used_percent: and ``disk_reserve``: as :class:`airflow_monai.settings.Settings` has them; here no limit.
    """

    workflow_folder: str
    host: str = "0.0.0.0"
    port: int = 11112
    quiet_seconds: float = 10.0
    events: Path | None = None
    disk_used_percent: float = 100.0
    disk_reserve: str = "0"
    patience: Patience = field(default_factory=Patience)
    dicom: DicomOptions = field(default_factory=DicomOptions)

    @classmethod
    def of(
        cls, settings: Settings, *, host: str | None = None, port: int | None = None, events: str | None = None
    ) -> GatewayOptions:
        """What the site's settings say, unless told otherwise."""
        return cls(
            workflow_folder=settings.workflow_folder,
            host=host or settings.dicom_host,
            port=settings.dicom_port if port is None else port,
            quiet_seconds=settings.quiet_seconds,
            events=Path(events) if events else None,
            disk_used_percent=settings.disk_used_percent,
            disk_reserve=settings.disk_reserve,
            patience=Patience(settings.association_end_seconds, 60 * settings.max_open_minutes),
            dicom=dicom_settings.load(),
        )


class Gateway:
    """Receives studies and has them worked on. Several may run on one store.

    :param engine: what runs the workflows.
    :param ways: make the ways in beside the DICOM receiver.
    """

    def __init__(self, store: Store, options: GatewayOptions, engine: Engine, ways: Sequence[MakeWayIn] = ()):
        self.events = EventLog(options.events)
        registered = SiteWorkflows(store).files
        self.workflows = Workflows(options.workflow_folder, options.quiet_seconds, self.events, registered)
        self.intake = Intake(store)
        self._store = store
        self._options = options
        self._more_ways = tuple(ways)
        self._ways: list[WayIn] = []  # those that have been started
        self._guard = DiskGuard.of_settings(store.spool(), options.disk_used_percent, options.disk_reserve)
        self._announcer = Announcer(store, engine, self.workflows.known, self.events, self._guard)
        self._spool: SpoolFolder | None = None
        self._shepherd: Shepherd | None = None
        self._receiver: Receiver | ReceiverPool | None = None

    @property
    def port(self) -> int:
        """Where it listens, after :meth:`start`."""
        return self._receiver.port if self._receiver else self._options.port

    @property
    def tls_port(self) -> int:
        """Likewise, for associations with TLS; 0 when there are none."""
        return self._receiver.tls_port if self._receiver else self._options.dicom.tls_port or 0

    def start(self) -> None:
        """Go on with what an earlier gateway left, and listen.

        :raises OSError: when the port is taken; nothing runs then.
        """
        self._spool = SpoolFolder(self._store)
        try:
            self._start(self._spool)
        except BaseException:
            self._spool.remove()
            raise
        self.events.emit(
            EventKind.GATEWAY_STARTED, host=self._options.host, port=self.port, ae_titles=self.workflows.ae_titles()
        )

    def _start(self, spool: SpoolFolder) -> None:
        spool.remove_abandoned()
        dicom = self._options.dicom
        desk = StoreDesk(
            self.intake,
            spool.path,
            self.events,
            received=lambda placed, called: shepherd.received(placed, called),
            grouping=self.workflows.grouping,
            guard=self._guard,
            max_file=dicom.max_file,
            sender_left=lambda payload_id: shepherd.sender_left(payload_id),
        )
        receiver = self._receiver_of(desk, dicom, spool)
        shepherd = Shepherd(
            self.intake, self.workflows, self._announcer, self.events, receiver.arriving, self._options.patience
        )
        parts = GatewayParts(
            store=self._store,
            spool=spool.path,
            events=self.events,
            workflows=self.workflows,
            intake=self.intake,
            announcer=self._announcer,
            shepherd=shepherd,
            guard=self._guard,
        )
        ways: list[WayIn] = [receiver, *(make(parts) for make in self._more_ways)]
        try:
            for way in ways:
                way.start()
                self._ways.append(way)
            shepherd.start()
        except BaseException:
            self._stop_ways(0.0)  # receiving processes would else go on, with nobody to see to what they store
            raise
        self._shepherd, self._receiver = shepherd, receiver

    def _receiver_of(self, desk: StoreDesk, dicom: DicomOptions, spool: SpoolFolder) -> Receiver | ReceiverPool:
        """In this process, or in several of its own."""
        options = self._options
        if dicom.processes == 1:
            admission = Admission(dicom, self.workflows.knows, self._guard)
            return Receiver(desk, admission, self.events, options.host, options.port, dicom)
        from airflow_monai.gateway.dicom.pool import ReceiverPool, Site

        site = Site(self._store.url, options.workflow_folder, options.events, options.host, options.port)
        return ReceiverPool(
            site,
            dicom,
            self._guard,
            self.events,
            received=desk.received,
            sender_left=desk.sender_left,
            tidy=spool.remove_abandoned,
        )

    def stop(self, grace: float = STOP_GRACE_SECONDS) -> None:
        """Accept nothing more, let open associations end, finish what is being written. Work left over stays on disk.

        :param grace: seconds after which associations that are still open are aborted.
        """
        if not (self._receiver and self._shepherd and self._spool):
            return
        self._stop_ways(grace)
        self._shepherd.stop()
        self._spool.remove()
        self._receiver = self._shepherd = self._spool = None
        self.events.emit(EventKind.GATEWAY_STOPPED)

    def _stop_ways(self, grace: float) -> None:
        """All at once; one that fails to stop keeps no other from it."""

        def stop(way: WayIn) -> None:
            try:
                way.stop(grace)
            except Exception as error:  # noqa: BLE001 - the edge of a process that is ending
                log_internal(f"stopping the way in {way.name}", error)

        threads = [threading.Thread(target=stop, args=(way,), name=f"stop-{way.name}") for way in self._ways]
        self._ways.clear()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def gateway_of(settings: Settings, options: GatewayOptions) -> Gateway:
    """The gateway of this site."""
    from airflow_monai.gateway.chores import chores
    from airflow_monai.gateway.configured import configured_ways
    from airflow_monai.gateway.mip import mip_chores
    from airflow_monai.gateway.removal import removal_by
    from airflow_monai.hooks.airflow_api import AirflowApi
    from airflow_monai.hooks.airflow_engine import AirflowEngine

    api = AirflowApi(settings.api_conn_id)
    more = [removal_by(api.is_worked_on), *mip_chores(api), chores(api), *configured_ways()]
    return Gateway(open_store(settings.store), options, AirflowEngine(api), more)
