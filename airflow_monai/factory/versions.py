"""Versions of bundles as the store holds them: ``bundles/<bundle>/<version>.json``, written once each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from airflow_monai.store.base import Store

FORMAT = 1
"""Of the generated files and of what is stored; a new one makes a new version of every bundle."""
_FOLDER = "bundles"


class KeptEntry(NamedTuple):
    """A workflow file as a version keeps it, in this order.

    :param source: its path within the folder, and the rest as :class:`airflow_monai.bundles.snapshot.SpecEntry` has it.
    :param defaults: places of its defaults files among those of the version.
    """

    source: str
    text: str
    refused: str
    plan: Mapping[str, Any] | None
    defaults: Sequence[int] = ()

    def to_list(self) -> list[Any]:
        return list(self if self.defaults else self[:-1])


def version_key(bundle: str, version: str) -> str:
    from airflow_monai.store.base import safe_name

    return f"{_FOLDER}/{safe_name(bundle)}/{safe_name(version)}.json"


def keys_of(store: Store, version: str) -> Iterator[str]:
    """Where a version may lie, of whichever bundle it is: versions are hashes."""
    return (version_key(bundle, version) for bundle in store.children(_FOLDER))


def kept_entries(data: Mapping[str, Any]) -> list[KeptEntry]:
    """What is in a version.

    :raises KeyError: or ValueError, TypeError: when the data is none that this release can read.
    """
    if data["format"] != FORMAT:
        raise ValueError(f"it has format {data['format']}, this version of airflow_monai reads {FORMAT}")
    return [KeptEntry(*entry) for entry in data["entries"]]
