"""Reads the folder of workflow files, and reads again only what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_monai.bundles.snapshot import Snapshot, SpecEntry, snapshot_of
from airflow_monai.specs.defaults.lookup import Defaults, DefaultsTree
from airflow_monai.specs.stamp import FileStamp, stamp_of

if TYPE_CHECKING:
    from airflow_monai.specs.registered import RegisteredText

_NO_STAMP = FileStamp()


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was last read, and what tells that it would be read the same again."""

    entry: SpecEntry
    stamp: FileStamp = _NO_STAMP
    defaults: tuple[Defaults, ...] = ()


class SpecFolderReader:
    """The folder of workflow files, scanned again and again.

    :param folder: may come into being later; until then it holds nothing.
    :param registered: gives the registered workflows, which come after those of the folder.
    """

    def __init__(self, folder: Path, registered: Callable[[], Iterable[RegisteredText]] | None = None):
        self.folder = folder
        self._registered = registered
        self._made: dict[RegisteredText, SpecEntry] = {}
        self._entries: list[SpecEntry] = []
        self._known: dict[Path, _Read] = {}
        self._snapshot: Snapshot | None = None
        self._defaults = DefaultsTree(folder, self._source)

    def scan(self) -> Snapshot:
        """The files as they are now; the very same object when nothing changed."""
        from airflow_monai.specs.folder import spec_paths

        self._defaults.refresh()
        known = {}
        for path in spec_paths(self.folder):
            read = self._read(path)
            if read is not None:
                known[path] = read
        entries = [*(read.entry for read in known.values()), *self._of_registered()]
        self._known = known
        if self._snapshot is None or entries != self._entries:
            self._snapshot = snapshot_of(entries)
        self._entries = entries
        return self._snapshot

    def _of_registered(self) -> list[SpecEntry]:
        texts = self._registered() if self._registered else ()
        self._made = {text: self._made.get(text) or _entry_of_registered(text) for text in texts}
        return list(self._made.values())

    def _read(self, path: Path) -> _Read | None:
        """The file, from memory when it and its defaults are as before; None when it has just gone."""
        from airflow_monai.specs.folder import LINK_CODE, LINK_HINT, LINK_MESSAGE, leads_out

        try:
            stamp = stamp_of(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _Read(self._unreadable(path, error))
        if leads_out(path, self.folder):
            told = f"{self._source(path)}:1:1: {LINK_MESSAGE} [{LINK_CODE}] - {LINK_HINT}"
            return _Read(SpecEntry(self._source(path), "", told))
        defaults = self._defaults.above(path.parent)
        before = self._known.get(path)
        if before is not None and (before.stamp, before.defaults) == (stamp, defaults) and stamp.settled():
            return before
        entry = self._entry(path, defaults)
        if entry is None:
            return None
        return _Read(before.entry if before is not None and before.entry == entry else entry, stamp, defaults)

    def _entry(self, path: Path, defaults: Sequence[Defaults]) -> SpecEntry | None:
        from airflow_monai.specs.tree.loader import MAX_BYTES, LoadError, decode

        source = self._source(path)
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._unreadable(path, error)
        try:
            return entry_of(decode(data), source, defaults)
        except LoadError as error:
            hint = f" - {error.hint}" if error.hint else ""
            told = f"{source}:{error.line + 1}:{error.column + 1}: {error.message} [{error.code}]{hint}"
            return SpecEntry(source, "", told)

    def _unreadable(self, path: Path, error: OSError) -> SpecEntry:
        source = self._source(path)
        why = error.strerror or type(error).__name__
        told = f"{source}:1:1: the file cannot be read: {why} [unreadable] - check its permissions"
        return SpecEntry(source, "", told)

    def _source(self, path: Path) -> str:
        """The path within the folder, as text that Airflow's database can hold whatever bytes the name has."""
        return "".join(map(_printable, path.relative_to(self.folder).as_posix()))


def entry_of(text: str, source: str, defaults: Sequence[Defaults] = ()) -> SpecEntry:
    """The entry of a text, with its plan where it has one; its problems show when its DAG file is loaded.

    :param defaults: what it takes where it does not say it, the nearest first.
    """
    from airflow_monai.errors import SpecError
    from airflow_monai.factory.cache import plan_record
    from airflow_monai.factory.compile import compile_plan, told

    texts = tuple((one.source, one.text) for one in defaults)
    unreadable = [one.problem for one in defaults if one.problem]
    if unreadable:
        return SpecEntry(source, text, told(source, unreadable), defaults=texts)
    try:
        plan = plan_record(text, compile_plan(text, source, defaults), defaults)
        return SpecEntry(source, text, plan=plan, defaults=texts)
    except SpecError:
        return SpecEntry(source, text, defaults=texts)


def _entry_of_registered(text: RegisteredText) -> SpecEntry:
    if text.problem:
        told = f"{text.source}:1:1: {text.problem} [registered-workflow]"
        return SpecEntry(text.source, "", told)
    entry = entry_of(text.text, text.source)
    return replace(entry, closing=True) if text.closing else entry


def _printable(char: str) -> str:
    return char if char.isprintable() else ascii(char)[1:-1]
