"""Buckets that messages name: where the files of requests lie, and where exported files are put for others to fetch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_monai.errors import InvalidEvent, StoreError

if TYPE_CHECKING:
    from airflow_monai.store.base import Entry, Store

_NOT_RECEIVED = ("workflows", "inference")  # what tasks made of a payload, as the published layout has it


@dataclass(frozen=True, slots=True)
class Buckets:
    """The buckets of a site.

    :param urls: name as messages have it -> URL of a store that is this bucket, a folder or ``s3://...``.
    """

    urls: Mapping[str, str]

    def open(self, name: str) -> Store:
        """The bucket as a store.

        :raises InvalidEvent: when the site has none of this name.
        """
        url = self.urls.get(name)
        if url is None:
            known = ", ".join(sorted(self.urls)) or "none"
            raise InvalidEvent(
                f"This site has no bucket {name!r}, it has {known}. Add it to [monai] broker_buckets, or correct the "
                "sender."
            )
        return open_bucket(url)

    @property
    def only(self) -> str:
        """The bucket of messages that name none.

        :raises InvalidEvent: when there is none, or more than one.
        """
        if len(self.urls) != 1:
            raise InvalidEvent(f"The message names no bucket, and this site has {len(self.urls)}.")
        return next(iter(self.urls))


def open_bucket(url: str) -> Store:
    """A bucket that others write to as well: unlike our own store it need not offer all that a store needs."""
    from airflow_monai.store import open_store

    if not url.startswith("s3://"):
        return open_store(url)
    from airflow_monai.settings import load_bucket
    from airflow_monai.store.s3 import S3Store
    from airflow_monai.store.s3_access import access_by

    site = load_bucket()
    return S3Store(url, access_by(site.conn_id), site.spool_folder)


def received_files(bucket: Store, payload_id: str) -> list[Entry]:
    """The files that came in as a payload: ``<payload_id>/dcm/...``, else all but what tasks made of it."""
    try:
        found = list(bucket.entries(f"{payload_id}/dcm"))
        if not found:
            made = tuple(f"{payload_id}/{name}/" for name in _NOT_RECEIVED)
            found = [entry for entry in bucket.entries(payload_id) if not entry.key.startswith(made)]
    except StoreError as error:
        raise StoreError(f"The bucket cannot be read: {error}") from error
    return [entry for entry in found if not entry.key.endswith(".json")]
