"""Maps: the datasets of the store, by their names."""

from __future__ import annotations

from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.datasets.model import DatasetNotFound
from airflow_monai.errors import PayloadNotFound
from airflow_monai.store.base import Store

_names: dict[tuple[str, str], str] = {}
"""Store and id of a dataset -> its name, which never changes."""
_KEPT = 100_000


def map_names(store: Store) -> list[str]:
    """Names of all datasets that have one, sorted."""
    datasets = Datasets(store)
    return sorted({name for dataset_id in datasets.ids() if (name := _name(datasets, dataset_id))})


def payload_of(store: Store, name: str) -> str:
    """The payload that a map is: the newest dataset of this name, else any closed payload of this id.

    :raises PayloadNotFound: when there is none.
    """
    datasets = Datasets(store)
    try:
        return (datasets.named(name) or datasets.ready(name)).payload_id
    except DatasetNotFound:
        raise PayloadNotFound(name) from None


def _name(datasets: Datasets, dataset_id: str) -> str:
    key = (datasets.store.url, dataset_id)
    if key not in _names:
        try:
            found = datasets.find(dataset_id).name
        except DatasetNotFound:
            return ""
        if len(_names) >= _KEPT:
            _names.clear()
        _names[key] = found
    return _names[key]
