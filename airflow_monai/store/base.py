"""The store interface: objects by key in a folder or a bucket, the only state of this package.

A key is a relative POSIX path of safe parts (``payloads/<id>/payload.json``). Objects are written whole: a reader sees
the old object or the new one, never half of one, and what a writer was told is written survives a power cut.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from airflow_monai.errors import DamagedObject, StoreError, UnsafeKey
from airflow_monai.store.shapes import check_shape, what_is_wrong

T = TypeVar("T")
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_PART = re.compile(r"[A-Za-z0-9._@+=~ -]{1,255}\Z")


def check_key(key: str) -> str:
    """Return the key, or raise :class:`UnsafeKey` when it could leave the store or cannot be an object's name."""
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") or not _PART.match(part) for part in parts):
        raise UnsafeKey(f"{key!r} is not a safe store key: it must be a relative path of plain names.")
    return key


def safe_name(text: str) -> str:
    """A file name for any text: itself where it is plain, else a readable part and a hash that keeps it unique."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", text):
        return text
    import hashlib

    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:80] or "x"
    return f"{plain}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing has it.

    :param size: in bytes.
    :param modified: when it was written, seconds since the epoch; a bucket knows whole seconds and rounds up.
    """

    key: str
    size: int
    modified: float


class Store(ABC):
    """Objects by key. Every method raises :class:`StoreError` with the key and the cause when it cannot do its work."""

    url: str

    @property
    def identity(self) -> str:
        """Tells this store from all others: what runs for it, and what hosts keep for it, is known by that."""
        return self.url

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The object's bytes; :class:`StoreError` when there is none."""

    @abstractmethod
    def write(self, key: str, data: bytes, durable: bool = True) -> None:
        """Create or replace the object, whole and durable.

        :param durable: False for an object that can be made again: it outlives this process, but a power cut may leave
            the old object, none, or an empty one.
        """

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Create the object if there is none: True for the one caller that made it, False for all others."""

    def create_from(self, key: str, file: Path) -> bool:
        """:meth:`create` with a local file's content. The file stays; it must not be changed any more.

        When this returns, the object is durable, whoever created it.
        """
        return self.create(key, file.read_bytes())

    def create_all(self, pairs: Iterable[tuple[Path, str]], check: Callable[[], None] = lambda: None) -> None:
        """:meth:`create_from` for many files; those that are there stay. All are durable when this returns.

        :param check: asked now and then; what it raises ends the writing between two files.
        """
        for file, key in pairs:
            check()
            self.create_from(key, file)

    def share(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Make objects with the content of others, and leave those that are there. All are durable when this returns.

        :param pairs: key of an object that does not change any more, and the new key.
        """
        for source, target in pairs:
            if not self.exists(target):
                self.create(target, self.read(source))

    def append(self, key: str, data: bytes) -> None:
        """Add a line to an object that only informs: it may get lost in a power cut.

        :param key: ends with ``.jsonl``.
        """
        self.write(key, (self.read(key) if self.exists(key) else b"") + data)

    def spool(self) -> Path:
        """A local folder for unfinished files from which :meth:`create_from` is cheap."""
        import tempfile

        return Path(tempfile.gettempdir())

    @abstractmethod
    def exists(self, key: str) -> bool: ...

    @abstractmethod
    def size(self, key: str) -> int: ...

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """Keys below a folder (``prefix`` names a folder, without a final slash), sorted."""

    @abstractmethod
    def entries(self, prefix: str) -> Iterator[Entry]:
        """The objects below a folder as :meth:`list` names them; one that is removed meanwhile may be left out."""

    @abstractmethod
    def children(self, prefix: str) -> Iterator[str]:
        """Names of the direct children of a folder, sorted; nothing when there is no such folder."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""

    @abstractmethod
    def delete_tree(self, prefix: str) -> None:
        """Remove a folder and everything below; an object of that name stays."""

    @abstractmethod
    def local_path(self, key: str) -> Path | None:
        """Where the object or folder lies on this host, for a mount without a copy; None for a remote store."""

    def blocks(self, key: str) -> tuple[int, Iterator[bytes]]:
        """The object's size, and its bytes in pieces that fit in memory whatever its size."""
        data = self.read(key)
        return len(data), iter((data,))

    def starts(self, keys: Iterable[str], size: int) -> Iterator[bytes]:
        """The first ``size`` bytes of each object, fewer where it is shorter, in the order of the keys."""
        for key in keys:
            yield self.read(key)[:size]

    def same(self, key: str, file: Path) -> bool:
        """Whether the object holds what a local file does; False when there is none."""
        if not self.exists(key):
            return False
        if self.size(key) != file.stat().st_size:
            return False
        return self.read(key) == file.read_bytes()

    def fetch(self, key: str, file: Path) -> None:
        """Copy an object into a local file, which is seen whole or not at all; one that is there is replaced."""
        self.fetch_all([(key, file)])

    def fetch_all(self, pairs: Iterable[tuple[str, Path]]) -> None:
        """:meth:`fetch` many, in parallel where that helps. The first failure ends it and is raised."""
        for key, file in pairs:
            with whole_file(file) as unfinished:
                unfinished.write_bytes(self.read(key))

    def fetch_tree(self, prefix: str, folder: Path) -> None:
        """Copy everything below a folder of the store into a local folder, under the same names."""
        self.fetch_all((key, folder / key[len(prefix) + 1 :]) for key in self.list(prefix))

    def put_all(self, pairs: Iterable[tuple[Path, str]], check: Callable[[], None] = lambda: None) -> None:
        """Create or replace objects with the content of local files; all are durable when this returns.

        :param check: asked now and then; what it raises ends the writing between two files.
        """
        for file, key in pairs:
            check()
            self.write(key, file.read_bytes())

    def put_tree(self, folder: Path, prefix: str, check: Callable[[], None] = lambda: None) -> None:
        """:meth:`put_all` for all plain files below a local folder, under the same names below ``prefix``."""
        self.put_all(((file, f"{prefix}/{file.relative_to(folder).as_posix()}") for file in plain_files(folder)), check)

    def read_json(self, key: str) -> Any:
        """:raises DamagedObject: when the object is no JSON; :class:`StoreError` when it is not there."""
        data = self.read(key)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DamagedObject(key, what_is_wrong(error) if data else "it is empty") from error

    def read_as(self, key: str, make: Callable[[Any], T]) -> T:
        """What ``make`` makes of an object's JSON, with values of the types that its dataclass names.

        :raises DamagedObject: when it holds something else; :class:`StoreError` when it is not there.
        """
        value = self.read_json(key)
        try:
            return check_shape(make(value))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DamagedObject(key, what_is_wrong(error)) from error

    def read_if_there(self, key: str, make: Callable[[Any], T]) -> T | None:
        """As :meth:`read_as`; None where there is no such object, or no more."""
        try:
            return self.read_as(key, make) if self.exists(key) else None
        except DamagedObject:
            raise
        except StoreError:
            if self.exists(key):
                raise
            return None

    def read_dict(self, key: str) -> dict[str, Any]:
        """A JSON object; errors as :meth:`read_as`."""
        return self.read_as(key, as_dict)

    def write_json(self, key: str, value: Any, durable: bool = True) -> None:
        self.write(key, _to_json(value).encode(), durable)

    def create_json(self, key: str, value: Any) -> bool:
        return self.create(key, _to_json(value).encode())


def as_dict(value: Any) -> dict[str, Any]:
    """:raises TypeError: when it is no JSON object."""
    if not isinstance(value, dict):
        raise TypeError(f"it is a {type(value).__name__}, not an object with names")
    return value


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A path to write to; what is there at the end of the block becomes ``file``, at once. Folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        yield unfinished
        os.replace(unfinished, file)
    finally:
        with suppress(OSError):
            unfinished.unlink()


def plain_files(folder: Path) -> Iterator[Path]:
    """All files below a folder, sorted. Links are no files of it."""
    for top, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(top, name)
            if path.is_file() and not path.is_symlink():
                yield path


def same_content(one: Path, other: Path) -> bool:
    """Whether two local files hold the same; False when one of them is not there (any more)."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except FileNotFoundError:
        return False


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content; the target is seen whole or not at all."""
    with whole_file(target) as unfinished:
        shutil.copyfile(source, unfinished)
