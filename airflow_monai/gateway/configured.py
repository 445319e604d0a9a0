"""The ways in, beside the DICOM receiver, that the site's settings ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_monai import settings
from airflow_monai.gateway.deposit import Depositor, check_aet
from airflow_monai.gateway.inbox import CALLING_AET, Inbox, InboxOptions
from airflow_monai.gateway.ways import GatewayParts, MakeWayIn, WayIn


@dataclass(frozen=True, slots=True)
class WaySettings:
    """
    :param inbox: None where there is none.
    :param calling_aet: who images are from that come without a calling AE title.
    """

    inbox: InboxOptions | None
    calling_aet: str


def load() -> WaySettings:
    """Read the settings.

    :raises MonaiError: that names the option which cannot be used.
    """
    calling = check_aet(settings._text("inbox_calling_aet", CALLING_AET), "[monai] inbox_calling_aet")
    folder, still = settings._text("inbox_folder"), settings._number("inbox_still_seconds", 5.0)
    return WaySettings(InboxOptions(Path(folder), still, calling) if folder else None, calling)


def configured_ways() -> list[MakeWayIn]:
    """What makes the ways in of this site."""
    site, broker = load(), settings.load_broker()
    ways = [_inbox(site.inbox)] if site.inbox else []
    if broker.conn_id:
        from airflow_monai.broker.buckets import Buckets
        from airflow_monai.gateway.broker import broker_way  # with its client library, for those that have one

        ways.append(broker_way(broker.conn_id, Buckets(broker.buckets)))
    return ways


def _inbox(options: InboxOptions) -> MakeWayIn:
    def make(parts: GatewayParts) -> WayIn:
        return Inbox(options, Depositor.of(parts), parts.workflows, parts.events)

    return make
