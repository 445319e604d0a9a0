"""Ways in: what a gateway takes studies by, each behind the same small face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from airflow_monai.intake.deposit import Depositor

if TYPE_CHECKING:
    from airflow_monai.gateway.shepherd import Shepherd
    from airflow_monai.intake.announcer import Announcer
    from airflow_monai.intake.events import EventLog
    from airflow_monai.intake.workflows import Workflows
    from airflow_monai.store.base import Store
    from airflow_monai.store.intake import Intake
    from airflow_monai.store.space import DiskGuard


class WayIn(Protocol):
    """Takes studies in: DICOM receiver, folder, bucket, broker."""

    name: str

    def start(self) -> None:
        """Begin to take studies, in threads of its own; an error here keeps the gateway from starting."""

    def stop(self, grace: float) -> None:
        """Take nothing more; what is being taken may be finished within ``grace`` seconds. Does nothing twice."""


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What a way in may need of the gateway that it belongs to.

    :param spool: folder of this process for files that are still coming in, on the store's file system.
    :param guard: says when nothing may be taken in.
    """

    store: Store
    spool: Path
    events: EventLog
    workflows: Workflows
    intake: Intake
    announcer: Announcer
    shepherd: Shepherd
    guard: DiskGuard | None = None

    def depositor(self) -> Depositor:
        """Takes files in, and hands them to the gateway's shepherd."""
        return Depositor(
            self.intake,
            self.spool,
            grouping=self.workflows.grouping,
            received=self.shepherd.received,
            ended=self.shepherd.whole,
            guard=self.guard,
        )


MakeWayIn = Callable[[GatewayParts], WayIn]
"""Makes a way in for a gateway that is about to start."""
