"""``defaults`` files: where they are found, and what is wrong with one.

A workflow takes what it does not say from the ``defaults.yaml`` (or ``.yml``, ``.json``) of its folder, then from that
of the folder above, and so on up to the root of the folder of workflows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from airflow_monai.specs.defaults.text import Defaults, ParsedDefaults
from airflow_monai.specs.stamp import FileStamp, stamp_of

STEM = "defaults"
SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 64 * 1024
"""Of a defaults file: its text is in every DAG file that is made from a workflow below it."""
LINK_CODE = "link-out"
LINK_MESSAGE = "the file is a link that leads out of the folder of workflows, and is not followed"
LINK_HINT = "put the file itself here"


def is_defaults_name(name: str) -> bool:
    """Whether a file of this name holds defaults."""
    stem, suffix = os.path.splitext(name)
    return stem == STEM and suffix.lower() in SUFFIXES


@lru_cache(maxsize=256)
def parsed(defaults: Defaults) -> ParsedDefaults:
    """The tree of a defaults file, and everything that is wrong with it."""
    from airflow_monai.specs.defaults.reading import read_defaults

    if defaults.problem:
        return ParsedDefaults(None, (defaults.problem,))
    return read_defaults(defaults.text, defaults.source)


class DefaultsTree:
    """The defaults files of a folder and of those below it, looked at again and again: only what changed is read.

    :param root: no defaults are looked for above it.
    :param name: a file's name in messages.
    """

    def __init__(self, root: Path, name: Callable[[Path], str] = str):
        self.root = root
        self._name = name
        self._read: dict[Path, tuple[FileStamp, Defaults]] = {}
        self._above: dict[Path, tuple[Defaults, ...]] = {}

    def refresh(self) -> None:
        """Look at the folders anew when they are asked for next."""
        self._above.clear()

    def above(self, folder: Path) -> tuple[Defaults, ...]:
        """The defaults of a folder and of those above it, the nearest first."""
        if folder not in self._above:
            own = self._of(folder)
            is_top = folder == self.root or self.root not in folder.parents
            farther = () if is_top else self.above(folder.parent)
            self._above[folder] = (own, *farther) if own else farther
        return self._above[folder]

    def _of(self, folder: Path) -> Defaults | None:
        try:
            found = sorted(name for name in os.listdir(folder) if is_defaults_name(name))
        except OSError:
            return None  # the workflows in it tell
        if not found:
            return None
        if len(found) > 1:
            message = f"the folder holds several files of defaults: {', '.join(found)}"
            return self._refused(folder / found[1], "duplicate-defaults", message, "keep one of them")
        return self._file(folder / found[0])

    def _file(self, path: Path) -> Defaults | None:
        try:
            stamp = stamp_of(path)
        except FileNotFoundError:
            return (
                self._refused(path, "unreadable", "the file cannot be read", "check the link")
                if path.is_symlink()
                else None
            )
        except OSError as error:
            return self._unreadable(path, error)
        if leads_out(path, self.root):
            return self._refused(path, LINK_CODE, LINK_MESSAGE, LINK_HINT)
        known = self._read.get(path)
        if known is None or known[0] != stamp or not stamp.settled():
            now = self._load(path)
            known = stamp, known[1] if known and known[1] == now else now
            self._read[path] = known
        return known[1]

    def _load(self, path: Path) -> Defaults:
        from airflow_monai.specs.tree.loader import LoadError, decode

        try:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            return self._unreadable(path, error)
        if len(data) > MAX_BYTES:
            message = f"the file has more than {MAX_BYTES} bytes, the most that defaults may have"
            return self._refused(path, "too-large", message, "say less in it")
        try:
            return Defaults(self._name(path), decode(data))
        except LoadError as error:
            place = error.line + 1, error.column + 1
            return self._refused(path, error.code, error.message, error.hint, place)

    def _unreadable(self, path: Path, error: OSError) -> Defaults:
        why = error.strerror or type(error).__name__
        return self._refused(path, "unreadable", f"the file cannot be read: {why}", "check its permissions")

    def _refused(self, path: Path, code: str, message: str, hint: str, place: tuple[int, int] = (1, 1)) -> Defaults:
        from airflow_monai.specs.problems import Problem

        source = self._name(path)
        return Defaults(source, problem=Problem(source, *place, code, message, hint))


def defaults_above(path: Path, root: Path | None = None) -> tuple[Defaults, ...]:
    """The defaults that hold for one workflow file, the nearest first.

    :param root: none are looked for above this folder; None for :func:`root_above`.
    """
    folder = Path(os.path.abspath(path)).parent
    name = str if path.is_absolute() else os.path.relpath
    return DefaultsTree(Path(os.path.abspath(root)) if root else root_above(folder), name).above(folder)


def root_above(folder: Path) -> Path:
    """The folder itself or, as long as the next one above has a defaults file, that one."""
    folder = Path(os.path.abspath(folder))
    while folder.parent != folder and _has_defaults(folder.parent):
        folder = folder.parent
    return folder


def _has_defaults(folder: Path) -> bool:
    try:
        return any(map(is_defaults_name, os.listdir(folder)))
    except OSError:
        return False


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a file of a folder is a link to what does not lie below the folder: its text would be shown."""
    if not path.is_symlink():
        return False
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
