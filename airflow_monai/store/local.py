"""The store in a folder of this host (or of a shared file system with atomic rename and link)."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from airflow_monai.errors import StoreError, disk_error
from airflow_monai.store.base import Entry, Store, check_key, copy_file, same_content

TEMPORARY_PREFIX = ".tmp-"
"""Names of unfinished files begin so; they are no objects and may be removed when nobody writes."""
_FLUSHERS = 8
"""Files that are flushed at a time: a disk takes many for hardly more than one."""


class LocalStore(Store):
    """Objects as files. Writes go to a temporary file, are flushed, and get their name by rename or link."""

    def __init__(self, root: str | os.PathLike[str]):
        self.root = Path(root).absolute()
        self.url = str(self.root)
        self._durable_folders: set[Path] = set()

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def read(self, key: str) -> bytes:
        with _told(key):
            return self._path(key).read_bytes()

    def write(self, key: str, data: bytes, durable: bool = True) -> None:
        path = self._path(key)
        with _told(key):
            os.replace(_temporary(path, data, durable), path)
            if durable:
                fsync_folder(path.parent)

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with _told(key):
            created = not _is_there(path)
            if created:
                temporary = _temporary(path, data)
                try:
                    os.link(temporary, path)  # unlike rename, link refuses to replace: one creator wins
                except FileExistsError:
                    created = False
                finally:
                    os.unlink(temporary)
            if not created:  # the other writer may not have come so far yet
                self._make_durable(path.parent)
            fsync_folder(path.parent)
            return created

    def create_from(self, key: str, file: Path) -> bool:
        path = self._path(key)
        with _told(key):
            self._make_durable(path.parent)
            created = not _is_there(path)
            if created:
                _fsync_file(file)
                try:
                    os.link(file, path)
                except FileExistsError:
                    created = False
            fsync_folder(path.parent)  # also where another writer was first: it may not have come so far yet
            return created

    def create_all(self, pairs: Iterable[tuple[Path, str]], check: Callable[[], None] = lambda: None) -> None:
        """Each file is flushed by itself, each folder once."""
        folders = set()
        for file, key in pairs:
            check()
            path = self._path(key)
            with _told(key):
                if path.parent not in folders:
                    self._make_durable(path.parent)
                    folders.add(path.parent)
                if not _is_there(path):
                    _fsync_file(file)
                    with suppress(FileExistsError):
                        os.link(file, path)
        for folder in folders:
            with _told(folder.name):
                fsync_folder(folder)

    def share(self, pairs: Iterable[tuple[str, str]]) -> None:
        """The objects are the same files: each costs a name."""
        folders = set()
        for source, target in pairs:
            path = self._path(target)
            with _told(source):
                if path.parent not in folders:
                    self._make_durable(path.parent)
                    folders.add(path.parent)
                with suppress(FileExistsError):
                    os.link(self._path(source), path)
        for folder in folders:
            fsync_folder(folder)

    def append(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _told(key):
            make_folder(path.parent)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(fd, data)
            finally:
                os.close(fd)

    def spool(self) -> Path:
        folder = self.root / "incoming"
        try:
            make_folder(folder)
        except OSError as error:
            raise disk_error(f"The store {self.root} cannot be made", error) from error
        return folder

    def _make_durable(self, folder: Path) -> None:
        """:func:`make_folder`, and flush also those that another process has just made, once for each folder."""
        if folder in self._durable_folders and folder.is_dir():
            return
        make_folder(folder)
        missing = folder
        while missing != self.root and missing not in self._durable_folders:
            fsync_folder(missing.parent)
            missing = missing.parent
        if len(self._durable_folders) > 100_000:
            self._durable_folders.clear()
        self._durable_folders.update((folder, *(part for part in folder.parents if part.is_relative_to(self.root))))

    def exists(self, key: str) -> bool:
        with _told(key):
            return _is_there(f"{self.root}/{check_key(key)}")  # often asked; Path would double its cost

    def size(self, key: str) -> int:
        with _told(key):
            return self._path(key).stat().st_size

    def list(self, prefix: str) -> Iterator[str]:
        top = self._path(prefix)
        for folder, folders, names in os.walk(top, onerror=_raise_unless_gone):
            folders.sort()
            base = Path(folder).relative_to(self.root).as_posix()
            for name in sorted(names):
                if not name.startswith(TEMPORARY_PREFIX):
                    yield f"{base}/{name}"

    def entries(self, prefix: str) -> Iterator[Entry]:
        for key in self.list(prefix):
            try:
                status = os.stat(f"{self.root}/{key}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"The store cannot handle {key!r}: {error.strerror or error}.") from error
            yield Entry(key, status.st_size, status.st_mtime)

    def children(self, prefix: str) -> Iterator[str]:
        with _told(prefix):
            try:
                names = sorted(os.listdir(self._path(prefix)))
            except (FileNotFoundError, NotADirectoryError):
                return
        yield from (name for name in names if not name.startswith(TEMPORARY_PREFIX))

    def delete(self, key: str) -> None:
        with _told(key):
            self._path(key).unlink(missing_ok=True)

    def delete_tree(self, prefix: str) -> None:
        path = self._path(prefix)
        with _told(prefix):
            if _is_there(path) and os.path.isdir(path):
                shutil.rmtree(path)

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def starts(self, keys: Iterable[str], size: int) -> Iterator[bytes]:
        for key in keys:
            with _told(key), open(self._path(key), "rb") as file:
                start = file.read(size)
            yield start

    def same(self, key: str, file: Path) -> bool:
        with _told(key):
            return same_content(self._path(key), file)

    def fetch_all(self, pairs: Iterable[tuple[str, Path]]) -> None:
        for key, file in pairs:
            with _told(key):
                copy_file(self._path(key), file)

    def put_all(self, pairs: Iterable[tuple[Path, str]], check: Callable[[], None] = lambda: None) -> None:
        folders = set()
        for source, key in pairs:
            check()
            path = self._path(key)
            with _told(key):
                self._make_durable(path.parent)
                temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
                try:
                    shutil.copyfile(source, temporary)
                    _fsync_file(temporary)
                    os.replace(temporary, path)
                finally:
                    temporary.unlink(missing_ok=True)
            folders.add(path.parent)
        for folder in folders:
            fsync_folder(folder)


def fsync_folder(folder: Path) -> None:
    """Make a rename or link in ``folder`` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def flush_tree(folder: Path) -> None:
    """Make a folder and everything below it survive a power cut, whoever has written it.

    :raises StoreError: when something of it cannot be flushed; links are passed over.
    """
    with _told(folder.name), ThreadPoolExecutor(_FLUSHERS, thread_name_prefix="flush") as pool:
        for top, _, names in os.walk(folder, onerror=_raise_unless_gone):
            files = (Path(top, name) for name in names)
            for _ in pool.map(_fsync_file, (file for file in files if not file.is_symlink())):
                pass
            fsync_folder(Path(top))
        fsync_folder(folder.parent)


def make_folder(folder: Path) -> None:
    """Create ``folder`` with its parents, each new one flushed into its parent."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        return
    fsync_folder(folder.parent)


def _is_there(path: str | Path) -> bool:
    """Whether the file exists. An error of the disk is no answer: it is raised, never taken for a no."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _raise_unless_gone(error: OSError) -> None:
    """For a walk: a folder that cannot be read must not look empty."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise StoreError(f"The store cannot list {error.filename}: {error.strerror or error}.") from error


def _fsync_file(file: Path) -> None:
    fd = os.open(file, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _temporary(path: Path, data: bytes, durable: bool = True) -> Path:
    make_folder(path.parent)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


@contextmanager
def _told(key: str) -> Iterator[None]:
    """Turn the operating system's errors into ones that name the object."""
    try:
        yield
    except FileNotFoundError:
        raise StoreError(f"The store holds no object {key!r}.") from None
    except OSError as error:
        raise disk_error(f"The store cannot handle {key!r}", error) from error
