"""The store: payloads, manifests, artifacts and records in a folder or in a bucket, behind one face."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow_monai.errors import SettingsError
from airflow_monai.store.base import Store, check_key, safe_name

if TYPE_CHECKING:
    from airflow_monai.settings import BucketSettings

__all__ = ["Store", "check_key", "open_store", "safe_name"]


def open_store(url: str) -> Store:
    """The store at ``url``: a folder (``/data/monai``, ``file:///data/monai``) or a bucket (``s3://bucket/prefix``).

    :raises SettingsError: when it cannot be one, or a bucket's service lacks what a store needs.
    """
    from airflow_monai.store.local import LocalStore

    if url.startswith("s3://"):
        from airflow_monai.settings import load_bucket

        return _bucket(url, load_bucket(), os.getpid())
    if url.startswith("file://"):
        return LocalStore(url.removeprefix("file://"))
    if "://" in url:
        raise SettingsError(f"[monai] store = {url!r}: write a folder, or s3://bucket/prefix.")
    return LocalStore(url)


@lru_cache(maxsize=8)
def _bucket(url: str, site: BucketSettings, pid: int) -> Store:
    """One for each process: a client is dear to make, and a forked process must not use its parent's connections."""
    from airflow_monai.store.s3 import S3Store
    from airflow_monai.store.s3_access import access_by
    from airflow_monai.store.s3_check import check_once_a_day

    store = S3Store(url, access_by(site.conn_id), site.spool_folder)
    check_once_a_day(store)
    return store
