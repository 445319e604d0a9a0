"""Copy results into a folder of this host, or of a file share mounted on it."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from airflow_monai.errors import SinkUnavailable
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance, OnResult, Sink
from airflow_monai.sinks.files import digest_of
from airflow_monai.store.base import check_key, safe_name
from airflow_monai.store.local import TEMPORARY_PREFIX, fsync_folder

_CHUNK = 1 << 20


class FolderSink(Sink):
    """Copies files to ``<path>/<payload id>/<workflow>/<task>/...``, what a cleared task made anew to ``.../g<N>``.

    The connection's extra ``path`` (or its host) is the folder. It is never made: a share that is not mounted must not
    become a folder of this host. ``overwrite`` allows to replace a file of other
    content under the same name, which is refused otherwise. A reader never sees half a file.
    """

    def __init__(self, destination: Destination):
        super().__init__(destination)
        path = destination.text("path") or destination.host
        if not path.startswith("/"):
            raise destination.error(f"its path {path!r} is no absolute folder")
        self.root = Path(path)
        self.overwrite = destination.flag("overwrite")

    def identity(self, instance: Instance) -> str:
        return safe_name(instance.name)

    def send(self, instances: Sequence[Instance], on_result: OnResult) -> None:
        for instance in instances:
            on_result(Delivery(self.identity(instance), DeliveryState.SENT))
            with self._told():
                on_result(self._deliver(instance))

    def ask(self, instances: Sequence[Instance]) -> Mapping[str, bool] | None:
        """A file of this name and content is there."""
        with self._told():
            return {self.identity(instance): self._has(instance) for instance in instances}

    def test(self) -> str:
        with self._told():
            probe = self.root / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
            probe.write_bytes(b"test")
            probe.unlink()
        return f"{self.root} can be written to."

    def _has(self, instance: Instance) -> bool:
        self.deadline.check()
        target = self.root / check_key(instance.name)
        try:
            if target.stat().st_size != instance.path.stat().st_size:
                return False
        except FileNotFoundError:
            self.root.stat()  # a share that is not mounted is no folder without the file
            return False
        return digest_of(target) == (instance.digest or digest_of(instance.path))

    def _piece(self, count: int) -> None:
        """Before so many bytes are copied."""
        self.deadline.check()
        if self.throttle is not None:
            self.throttle.take(count)

    def _deliver(self, instance: Instance) -> Delivery:
        target = self.root / check_key(instance.name)
        self._make_below(target.parent)
        temporary = target.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        try:
            digest = _copy(instance.path, temporary, self._piece)
            return self._publish(self.identity(instance), temporary, target, digest)
        finally:
            temporary.unlink(missing_ok=True)

    def _make_below(self, folder: Path) -> None:
        """Make a folder and those above it, but not the root: should that go meanwhile, this fails."""
        if folder == self.root or folder.is_dir():
            return
        self._make_below(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
            fsync_folder(folder.parent)

    def _publish(self, identity: str, temporary: Path, target: Path, digest: str) -> Delivery:
        """Give the finished copy its name, unless another file has it."""
        if not _link(temporary, target):
            if digest_of(target) == digest:
                fsync_folder(target.parent)  # an earlier attempt may have died before it had done so
                return Delivery(identity, DeliveryState.ACCEPTED, message="was there already")
            if not self.overwrite:
                message = "a file of this name and other content is there; remove it, or set overwrite in the extra"
                return Delivery(identity, DeliveryState.REFUSED, message=message)
            os.replace(temporary, target)
        fsync_folder(target.parent)
        return Delivery(identity, DeliveryState.ACCEPTED, message="copied")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SinkUnavailable(
                f"The folder {self.root} cannot be written to ({error.strerror or error}): check that it is there or "
                "mounted (it is not made here), has space, and belongs to the worker's user."
            ) from error


def _link(temporary: Path, target: Path) -> bool:
    """Name the file ``target`` and return True, or leave an existing one alone and return False."""
    try:
        os.link(temporary, target)  # unlike rename, link refuses to replace
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if target.exists():
            return False
        os.rename(temporary, target)
    return True


def _copy(source: Path, target: Path, pace: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with open(source, "rb") as reader, open(target, "xb") as writer:
        while chunk := reader.read(_CHUNK):
            pace(len(chunk))
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest()
