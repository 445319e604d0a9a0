"""Which MAPs a dataset is to be worked on by: pairs that people keep.

associations/by-dataset/<dataset id>/<MAP>.json    the pair, who made it and when
            /by-map/<MAP>/<dataset id>.json        finds it from the other side; counts only with the other object
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.damaged import undamaged

ROOT = "associations"


@dataclass(frozen=True, slots=True)
class Association:
    """
    :param map: ``name:version`` of a registered MAP.
    :param created: UTC, ISO 8601.
    """

    dataset_id: str
    map: str
    created: str
    created_by: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Association:
        return cls(**{name: str(data[name]) for name in cls.__dataclass_fields__})


class Associations:
    """The pairs of a store. Each method may be called again after a crash, and then brings things in order."""

    def __init__(self, store: Store):
        self._store = store

    def add(self, dataset_id: str, map_label: str, by: str) -> tuple[Association, bool]:
        """Keep a pair. The pair as it is kept, and whether this made it.

        :param map_label: ``name:version``.
        """
        made = Association(dataset_id, map_label, datetime.now(timezone.utc).isoformat(timespec="milliseconds"), by)
        self._store.create_json(_by_map(map_label, dataset_id), {})
        key = _by_dataset(dataset_id, map_label)
        created = self._store.create_json(key, made.to_dict())
        return (made, True) if created else (self._store.read_as(key, Association.from_dict), False)

    def remove(self, dataset_id: str, map_label: str) -> bool:
        """Whether there was such a pair."""
        key = _by_dataset(dataset_id, map_label)
        was_there = self._store.exists(key)
        self._store.delete(key)
        self._store.delete(_by_map(map_label, dataset_id))
        return was_there

    def remove_all(self, dataset_id: str) -> int:
        """Remove all pairs of a dataset; how many there were."""
        pairs = list(self.of_dataset(dataset_id))
        for pair in pairs:
            self.remove(dataset_id, pair.map)
        return len(pairs)

    def find(self, dataset_id: str, map_label: str) -> Association | None:
        key = _by_dataset(dataset_id, map_label)
        return self._store.read_as(key, Association.from_dict) if self._store.exists(key) else None

    def of_dataset(self, dataset_id: str) -> Iterator[Association]:
        """Sorted by MAP."""
        folder = f"{ROOT}/by-dataset/{safe_name(dataset_id)}"
        names = self._store.children(folder)
        yield from undamaged(names, lambda name: self._store.read_as(f"{folder}/{name}", Association.from_dict))

    def of_map(self, map_label: str) -> Iterator[Association]:
        """Sorted by dataset id."""
        names = self._store.children(f"{ROOT}/by-map/{safe_name(map_label)}")
        yield from undamaged(names, lambda name: self.find(name.removesuffix(".json"), map_label))

    def all(self, after: str = "") -> Iterator[Association]:
        """All pairs by dataset id and MAP.

        :param after: begin behind this dataset id.
        """
        for dataset_id in self._store.children(f"{ROOT}/by-dataset"):
            if dataset_id > after:
                yield from self.of_dataset(dataset_id)


def _by_dataset(dataset_id: str, map_label: str) -> str:
    return f"{ROOT}/by-dataset/{safe_name(dataset_id)}/{safe_name(map_label)}.json"


def _by_map(map_label: str, dataset_id: str) -> str:
    return f"{ROOT}/by-map/{safe_name(map_label)}/{safe_name(dataset_id)}.json"
