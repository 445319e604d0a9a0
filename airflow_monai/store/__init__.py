"""The store: payloads, manifests, artifacts and records in a folder; a bucket can come behind the same face."""

from __future__ import annotations

from airflow_monai.errors import SettingsError
from airflow_monai.store.base import Store, check_key, safe_name

__all__ = ["Store", "check_key", "open_store", "safe_name"]


def open_store(url: str) -> Store:
    """The store at ``url``: a folder (``/data/monai`` or ``file:///data/monai``)."""
    from airflow_monai.store.local import LocalStore

    if url.startswith("file://"):
        return LocalStore(url.removeprefix("file://"))
    if "://" in url:
        raise SettingsError(f"[monai] store = {url!r}: only a local folder is supported by this version.")
    return LocalStore(url)
