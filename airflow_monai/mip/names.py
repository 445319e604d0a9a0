"""Maps: the datasets of the store, by their names.

A name is known by its hash, under which the store lists its datasets, for ever. So what one process has read serves
all others:

mip/names.json    hash -> name, of names that there were when it was written; whatever is missing is read anew
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.datasets.model import DatasetNotFound
from airflow_monai.errors import PayloadNotFound, StoreError
from airflow_monai.store.base import Store

KEPT = "mip/names.json"
_AT_A_TIME = 8
_names: dict[str, dict[str, str]] = {}
"""Store -> hash -> name; only of names that there are."""
_lock = threading.Lock()


def map_names(store: Store) -> list[str]:
    """Names of all datasets that have one, sorted: at one listing, whoever has read them before."""
    datasets = Datasets(store)
    marks = datasets.name_marks()
    with _lock:
        known = dict(_names.get(store.url, {}))
    if not known.keys() >= marks:
        known = {**_kept(store), **known}
    if missing := marks - known.keys():
        known.update(_read(datasets, missing))
        known = {mark: name for mark, name in known.items() if mark in marks}
        with suppress(StoreError):  # it only saves others the reading
            store.write_json(KEPT, known, durable=False)
    with _lock:
        _names[store.url] = {mark: name for mark, name in known.items() if mark in marks}
    return sorted({name for mark, name in known.items() if mark in marks})


def payload_of(store: Store, name: str, may: Callable[[str], bool] = lambda payload_id: True) -> str:
    """The payload that a map is: the newest dataset of this name, else any closed payload of this id.

    :param may: whether somebody may have work done on a payload. Who gives a dataset the name of another one does not
        keep that from those who may only use the other.
    :raises PayloadNotFound: when there is none.
    """
    datasets = Datasets(store)
    try:
        found = datasets.named(name, may) or datasets.named(name)
        return (found or datasets.ready(name)).payload_id
    except DatasetNotFound:
        raise PayloadNotFound(name) from None


def _kept(store: Store) -> dict[str, str]:
    try:
        found = store.read_json(KEPT) if store.exists(KEPT) else {}
    except (StoreError, ValueError):  # a power cut has left half of it
        return {}
    return {str(mark): str(name) for mark, name in found.items()} if isinstance(found, dict) else {}


def _read(datasets: Datasets, marks: Iterable[str]) -> dict[str, str]:
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="names") as pool:
        chosen = sorted(marks)
        return {mark: name for mark, name in zip(chosen, pool.map(datasets.name_of_mark, chosen), strict=True) if name}
