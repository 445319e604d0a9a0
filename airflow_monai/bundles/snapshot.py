"""One version of the workflow folder: what every file said, and the DAG files made of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from airflow_monai import __version__
from airflow_monai.bundles.generate import dag_file_text
from airflow_monai.factory.cache import PLAN_FORMAT
from airflow_monai.factory.versions import FORMAT, KeptEntry, kept_entries
from airflow_monai.specs.claims import REGISTERED_SUFFIXES, Claim, Claims

MAX_NAME_BYTES = 200


@dataclass(frozen=True)
class SpecEntry:
    """One workflow file as it was read.

    :param source: its path within the folder.
    :param text: what it says, or as much of it as can be shown.
    :param refused: why it cannot be used whatever its text says, or an empty text.
    :param plan: its plan as :func:`airflow_monai.factory.cache.plan_record` writes it; None where it has none.
    :param defaults: path and text of the defaults files above it, the nearest first.
    :param closing: nothing starts it any more; it is there for the runs that it still has.
    """

    source: str
    text: str
    refused: str = ""
    plan: Mapping[str, Any] | None = None
    defaults: tuple[tuple[str, str], ...] = ()
    closing: bool = False

    @property
    def is_registered(self) -> bool:
        """Whether it is no file, but registered, or made of a registered MAP."""
        return self.source.endswith(REGISTERED_SUFFIXES)

    def dag_files(self) -> Iterator[tuple[str, bytes]]:
        """Path and content of the files made of it: the DAG file, and beside it the plan."""
        name = dag_name(self.source)
        batch = bool(self.plan and self.plan["plan"].get("schedule"))
        text = dag_file_text(
            self.text,
            self.source,
            self.refused,
            self.defaults,
            batch=batch,
            closing=self.closing,
        )
        yield f"{name}.py", text.encode()
        if self.plan is not None and not self.refused:
            yield f"{name}.plan.json", json.dumps(self.plan, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Snapshot:
    """All workflow files of one moment, in the order of their paths."""

    entries: tuple[SpecEntry, ...]

    @cached_property
    def version(self) -> str:
        """A hash of what the files say and of the versions that turn them into DAGs."""
        texts = [
            (
                entry.source,
                entry.text,
                entry.refused,
                *([entry.defaults] if entry.defaults else []),
                *(["closing"] if entry.closing else []),
            )
            for entry in self.entries
        ]
        facts = [FORMAT, PLAN_FORMAT, __version__, texts]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]

    def dag_files(self) -> dict[str, bytes]:
        """Path within the bundle -> content, of all generated files."""
        return {path: content for entry in self.entries for path, content in entry.dag_files()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data; a defaults file that several workflows take is in it once."""
        defaults = {one: place for place, one in enumerate(dict.fromkeys(d for e in self.entries for d in e.defaults))}
        entries = [
            KeptEntry(entry.source, entry.text, entry.refused, entry.plan, [defaults[one] for one in entry.defaults])
            for entry in self.entries
        ]
        closing = [entry.source for entry in self.entries if entry.closing]
        return {
            "format": FORMAT,
            "entries": [entry.to_list() for entry in entries],
            **({"defaults": list(defaults)} if defaults else {}),
            **({"closing": closing} if closing else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Snapshot:
        """The snapshot that ``to_dict`` made this of.

        :raises KeyError: or IndexError, ValueError, TypeError: when the data is none.
        """
        kept = kept_entries(data)
        defaults = [(name, text) for name, text in data.get("defaults", ())]
        closing = frozenset(data.get("closing", ()))
        return cls(
            tuple(
                SpecEntry(
                    entry.source,
                    entry.text,
                    entry.refused,
                    entry.plan,
                    tuple(defaults[place] for place in entry.defaults),
                    entry.source in closing,
                )
                for entry in kept
            )
        )


def dag_name(source: str) -> str:
    """Path of the generated files without their suffix: that of the workflow file, its suffix included, so that no two
    files meet; a name that would be too long for a file system ends in its hash."""
    *folders, name = source.split("/")
    if len(name.encode()) > MAX_NAME_BYTES:
        name = f"{name[:50]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    # A folder must not have the name of a generated file
    return "/".join([*(re.sub(r"\.(py|json)\Z", r"%2E\1", folder) for folder in folders), name])


def snapshot_of(entries: Iterable[SpecEntry]) -> Snapshot:
    """The snapshot of files as read; of two that lay claim to the same the later is refused.

    One that is only there for its runs gives way to any other: they are on versions of their own.
    """
    claims = Claims()
    kept = []
    for entry in sorted(entries, key=lambda entry: (entry.closing, entry.is_registered, entry.source.split("/"))):
        claim = _claim(entry)
        conflict = claims.take(claim) if claim else None
        if conflict and entry.closing:
            continue
        if conflict:
            told = f"{entry.source}:1:1: {conflict.message} [{conflict.code}] - {conflict.hint}"
            entry = replace(entry, refused=told, plan=None)
        kept.append(entry)
    return Snapshot(tuple(kept))


def _claim(entry: SpecEntry) -> Claim | None:
    if entry.plan is None or entry.refused:
        return None
    plan = entry.plan["plan"]
    return Claim(plan["name"], plan["dag_id"], plan["ae_title"], plan.get("grouping"), entry.source)
