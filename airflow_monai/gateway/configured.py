"""The parts of a gateway, beside the DICOM receiver, that the site's settings ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_monai import settings
from airflow_monai.errors import SettingsError
from airflow_monai.gateway.bucket_inbox import BucketInbox, BucketOptions
from airflow_monai.gateway.bucket_place import BucketPlace
from airflow_monai.gateway.herald import herald
from airflow_monai.gateway.inbox import Inbox, InboxOptions
from airflow_monai.gateway.ways import GatewayParts, MakeWayIn, WayIn
from airflow_monai.intake.deposit import default_calling_aet


@dataclass(frozen=True, slots=True)
class WaySettings:
    """
    :param inbox: None where there is none.
    :param calling_aet: who images are from that come without a calling AE title.
    :param bucket: None where there is none; ``bucket_conn_id``: the connection by which it is reached.
    """

    inbox: InboxOptions | None
    calling_aet: str
    bucket: BucketOptions | None = None
    bucket_conn_id: str = ""


def load() -> WaySettings:
    """Read the settings.

    :raises MonaiError: that names the option which cannot be used.
    """
    calling = default_calling_aet()
    folder, still = settings._text("inbox_folder"), settings._number("inbox_still_seconds", 5.0)
    return WaySettings(
        InboxOptions(Path(folder), still, calling) if folder else None,
        calling,
        _bucket_options(calling),
        settings._text("inbox_s3_conn_id") or settings.load_bucket().conn_id,
    )


def _bucket_options(calling_aet: str) -> BucketOptions | None:
    places = tuple(BucketPlace.parse(url) for url in settings._list("inbox_s3"))
    delete = settings._choice("inbox_s3_taken", "keep", ("keep", "delete")) == "delete"
    poll = settings._number("inbox_s3_poll_seconds", 10.0)
    for place in places:
        if not (delete or place.is_dated):
            raise SettingsError(
                f"[monai] inbox_s3: s3://{place.bucket}/{place.pattern} grows for ever, and would be listed again and "
                "again: put {date} into it, or set [monai] inbox_s3_taken = delete."
            )
    return BucketOptions(places, calling_aet, delete, poll) if places else None


def configured_ways() -> list[MakeWayIn]:
    """What makes the ways in of this site, and what tells of what becomes of it."""
    site, broker = load(), settings.load_broker()
    ways = [_inbox(site.inbox)] if site.inbox else []
    if site.bucket:
        ways.append(_bucket(site.bucket, site.bucket_conn_id))
    if broker.conn_id:
        from airflow_monai.broker.buckets import Buckets
        from airflow_monai.gateway.broker import broker_way  # with its client library, for those that have one

        ways.append(broker_way(broker.conn_id, Buckets(broker.buckets)))
    ways.append(herald())
    return ways


def _inbox(options: InboxOptions) -> MakeWayIn:
    def make(parts: GatewayParts) -> WayIn:
        return Inbox(options, parts.depositor(), parts.workflows, parts.events)

    return make


def _bucket(options: BucketOptions, conn_id: str) -> MakeWayIn:
    def make(parts: GatewayParts) -> WayIn:
        from airflow_monai.store.s3_access import access_by, client_of

        client = client_of(access_by(conn_id))
        return BucketInbox(options, client, parts.store, parts.depositor(), parts.workflows, parts.events)

    return make
