"""Puts files where those who get a message can fetch them: into the bucket that they know."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_monai.broker.buckets import Buckets, open_bucket
from airflow_monai.errors import StoreError
from airflow_monai.store.base import safe_name

if TYPE_CHECKING:
    from airflow_monai.store.base import Store


class Outbox:
    """The bucket of those who get messages.

    :param store: ours.
    :param bucket: as they name it; empty where our own store is their bucket.
    :raises InvalidEvent: when the site has no such bucket.
    """

    def __init__(self, store: Store, bucket: str, buckets: Buckets):
        self._store = store
        url = _plain(buckets.open(bucket).url if bucket else _root(store))
        ours = _plain(store.url)
        self._inside = ours == url or ours.startswith(f"{url}/")
        self._top = ours.removeprefix(url).strip("/")
        self._bucket = store if self._inside else open_bucket(buckets.urls[bucket])

    def path_of(self, key: str, file: Path, name: str, take: Callable[[int], None] = lambda size: None) -> str:
        """Path in the bucket of a file of our store, which is there and durable when this returns.

        :param name: ``<payload id>/...``: where it is put if our store is not in their bucket.
        :param take: asked before so many bytes are sent.
        """
        if self._inside:
            return f"{self._top}/{key}" if self._top else key
        payload_id, _, rest = name.partition("/")
        parts = [safe_name(part) for part in rest.split("/")]
        path = "/".join((payload_id, "exports", *parts))
        take(file.stat().st_size)
        if not self._put(path, file) and not self._bucket.same(path, file):
            path = "/".join((payload_id, "exports", _sha256(file)[:16], *parts))
            self._put(path, file)
        return path

    def _put(self, path: str, file: Path) -> bool:
        """As ``create_from``, and always a copy: what lies in the bucket belongs to others, who may change it."""
        if self._bucket.local_path(path) is None:
            return self._bucket.create_from(path, file)
        copy = self._bucket.spool() / f"outbox-{uuid.uuid4().hex}"
        try:
            shutil.copyfile(file, copy)
            return self._bucket.create_from(path, copy)
        except OSError as error:
            raise StoreError(f"The bucket cannot be written to: {error.strerror or error}.") from error
        finally:
            copy.unlink(missing_ok=True)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _root(store: Store) -> str:
    """The whole bucket that a store lies in; a folder is one by itself."""
    if not store.url.startswith("s3://"):
        return store.url
    return "s3://" + store.url.removeprefix("s3://").partition("/")[0]


def _plain(url: str) -> str:
    return url.removeprefix("file://").rstrip("/")
