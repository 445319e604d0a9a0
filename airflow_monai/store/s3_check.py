"""What a service must offer so that a store can be in it, tried on one probe object that is removed again.

The promises of this package rest on these: that a conditional create really refuses (two gateways never make two
payloads of a study), that what was written is read and listed at once, and that a file in parts is one object.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_monai.errors import SettingsError, StoreError
from airflow_monai.store.s3_errors import NoSuchObject

if TYPE_CHECKING:
    from airflow_monai.store.s3 import S3Store

PROBES = "probes"
VALID_SECONDS = 24 * 3600
"""A host asks again after so long."""


def check_once_a_day(store: S3Store) -> None:
    """:func:`check` unless this host has done it lately; a note in the spool folder tells."""
    import hashlib

    name = hashlib.sha256(f"{store.endpoint} {store.url}".encode()).hexdigest()[:16]
    note = store.spool() / f"checked-{name}"
    with suppress(OSError):
        if time.time() - note.stat().st_mtime < VALID_SECONDS:
            return
    check(store)
    with suppress(OSError):
        note.touch()


def check(store: S3Store) -> None:
    """Try all that is needed.

    :raises SettingsError: when the service answers, but lacks something; the message names all of it.
    :raises StoreError: when it does not answer, or lets nobody in.
    """
    key = f"{PROBES}/{uuid.uuid4().hex}"
    try:
        lacks = _lacks(store, key)
    finally:
        with suppress(StoreError):
            store.delete(key)
    if lacks:
        raise SettingsError(
            f"[monai] store = {store.url} at {store.endpoint} cannot be used: it lacks {'; '.join(lacks)}. Use a "
            "service that has this, or a folder."
        )


def _lacks(store: S3Store, key: str) -> list[str]:
    if not store.create(key, b"first"):
        raise StoreError(f"The probe {key!r} is in {store.url} already, by whatever chance: try again.")
    lacks = []
    if store.create(key, b"second"):
        lacks.append("conditional create (a PUT with If-None-Match: * must be refused where there is an object)")
    store.write(key, b"third")
    if _content(store, key) != b"third":
        lacks.append("read after write (what was read is not what had just been written)")
    if key not in store.list(PROBES):
        lacks.append("list after write (an object that had just been written is not listed)")
    lacks += _lacks_of_parts(store, key)
    store.delete(key)
    if store.exists(key):
        lacks.append("read after delete (an object that had just been removed is still there)")
    return lacks


def _lacks_of_parts(store: S3Store, key: str) -> list[str]:
    try:
        refused = not store.transfers.put_parts(f"{store.top}{key}", [b"fourth"], new=True)
        store.transfers.put_parts(f"{store.top}{key}", [b"fifth"])
    except Exception as error:  # noqa: BLE001 - whatever it is, files in parts do not work
        return [f"multipart upload ({type(error).__name__})"]
    lacks = []
    if not refused:
        lacks.append("conditional create in parts (completing an upload with If-None-Match: * must be refused, too)")
    if _content(store, key) != b"fifth":
        lacks.append("multipart upload (what was read is not what had been written in parts)")
    return lacks


def _content(store: S3Store, key: str) -> bytes:
    try:
        return store.read(key)
    except NoSuchObject:
        return b""
