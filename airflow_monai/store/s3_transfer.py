"""Files to and from a bucket: many at once, large ones in parts, each checked by its checksum.

Two bounded pools of threads: one for files, one for the parts of large ones, which never wait for another.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from airflow_monai.errors import StoreError
from airflow_monai.store import s3_access
from airflow_monai.store.base import whole_file
from airflow_monai.store.s3_errors import code, status, told, was_retried

THREADS = 16
PART_BYTES = 8 * 2**20
LARGE_BYTES = 16 * 2**20
"""Larger files go in parts. Memory for these: :data:`PART_BYTES` for each of the threads."""
FIRST_BYTES = 8 * 2**20
"""So much of an object the first request asks for: what is larger comes in parts, and nothing comes twice."""
MAX_PARTS = 10_000
BODY_TRIES = 3
"""Of a download that breaks off in its middle, which boto3 does not retry."""
CONFLICT_TRIES, CONFLICT_SECONDS = 6, 0.1
_BLOCK = 1 << 20
_WAITING = 4 * THREADS
_NEW = {"IfNoneMatch": "*"}
_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class _Part:
    """So many bytes of a file."""

    file: Path
    start: int
    size: int


@dataclass
class Transfers:
    """Moves bytes between one bucket and this host.

    :param client: boto3's, shared by all threads.
    :param endpoint: for messages.
    """

    client: Any
    bucket: str
    endpoint: str
    _files: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "s3"))
    _parts: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "s3-part"))

    def each(self, work: Callable[[_Item], _Made], items: Iterable[_Item]) -> Iterator[_Made]:
        """What ``work`` makes of each item, in their order, many at once; the first failure ends it and is raised.

        As many results as are under way are kept, no more, however slowly they are taken.
        """
        waiting: deque[Future[_Made]] = deque()
        try:
            for item in items:
                waiting.append(self._files.submit(work, item))
                if len(waiting) >= _WAITING:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            for future in waiting:
                if not future.cancelled():
                    future.exception()  # nothing goes on behind the caller's back

    def put(self, name: str, data: bytes, *, new: bool = False) -> bool:
        """Write an object; whether it was written, which ``new`` refuses where there is one."""
        return self._put(name, lambda: data, new=new)

    def put_file(self, name: str, file: Path, *, new: bool = False) -> bool:
        """:meth:`put` with a file's content, in parts where it is large."""
        size = file.stat().st_size
        if size <= LARGE_BYTES:
            return self._put(name, lambda: _read(file, 0, size), new=new)
        return self._put_in_parts(name, file, size, new=new)

    def get_file(self, name: str, file: Path) -> None:
        """Copy an object into a file, which is seen whole or not at all."""
        with whole_file(file) as unfinished, open(unfinished, "xb") as opened:
            size, tag = self._get_first(name, opened.fileno())
            if size > FIRST_BYTES:
                self._get_parts(name, size, tag, opened.fileno())

    def start(self, name: str, size: int) -> bytes:
        """The first bytes of an object."""
        from botocore.exceptions import ClientError

        try:
            return self._body(name, {"Range": f"bytes=0-{size - 1}"})
        except ClientError as error:
            if status(error) == 416:  # it is empty
                return b""
            raise

    def read(self, name: str) -> bytes:
        return self._body(name, {})

    def _put(self, name: str, body: Callable[[], bytes], *, new: bool) -> bool:
        token = uuid.uuid4().hex
        asked = {"Bucket": self.bucket, "Key": name, "ChecksumAlgorithm": "CRC32", "Metadata": {"writer": token}}

        def put() -> None:
            self.client.put_object(**asked, Body=body(), **(_NEW if new else {}))

        return self._unless_there(name, token, put)

    def _unless_there(self, name: str, token: str, write: Callable[[], object]) -> bool:
        """Whether the write was done. An answer that got lost must not make its own retry say that it was not."""
        from botocore.exceptions import ClientError

        for number in range(CONFLICT_TRIES):
            try:
                write()
                return True
            except ClientError as error:
                if status(error) == 412 or code(error) == "NoSuchUpload":
                    return was_retried(error) and self._is_by(name, token)
                if code(error) != "ConditionalRequestConflict" or number == CONFLICT_TRIES - 1:
                    raise
            time.sleep(CONFLICT_SECONDS * 2**number)  # somebody else is just writing it
        raise AssertionError

    def _is_by(self, name: str, token: str) -> bool:
        head = self.client.head_object(Bucket=self.bucket, Key=name)
        return head.get("Metadata", {}).get("writer") == token

    def _put_in_parts(self, name: str, file: Path, size: int, *, new: bool) -> bool:
        part_size = max(PART_BYTES, -(-size // MAX_PARTS))
        starts = range(0, size, part_size)
        return self.put_parts(name, [_Part(file, start, min(part_size, size - start)) for start in starts], new=new)

    def put_parts(self, name: str, parts: Sequence[bytes | _Part], *, new: bool = False) -> bool:
        """:meth:`put` in parts, each of which but the last has 5 MiB or more."""
        token, where = uuid.uuid4().hex, {"Bucket": self.bucket, "Key": name}
        begun = self.client.create_multipart_upload(**where, ChecksumAlgorithm="CRC32", Metadata={"writer": token})
        upload = {**where, "UploadId": begun["UploadId"]}
        failed = threading.Event()

        def send(number: int) -> dict[str, Any]:
            if failed.is_set():
                raise StoreError("Another part of it failed.")
            part = parts[number]
            data = part if isinstance(part, bytes) else _read(part.file, part.start, part.size)
            sent = self.client.upload_part(**upload, PartNumber=number + 1, Body=data, ChecksumAlgorithm="CRC32")
            return {"PartNumber": number + 1, "ETag": sent["ETag"], **_checksum(sent)}

        done = False
        try:
            whole = {"Parts": self._all_parts(send, len(parts), failed)}

            def complete() -> None:
                self.client.complete_multipart_upload(**upload, MultipartUpload=whole, **(_NEW if new else {}))

            done = self._unless_there(name, token, complete)
            return done
        finally:
            if not done:
                self._files.submit(self._abort, upload)  # which would wait as long again for a service that hangs

    def _all_parts(self, part: Callable[[int], _Made], count: int, failed: threading.Event) -> list[_Made]:
        futures = [self._parts.submit(part, number) for number in range(count)]
        try:
            return [future.result() for future in futures]
        except BaseException:
            failed.set()
            for future in futures:
                future.cancel()
            for future in futures:
                if not future.cancelled():
                    future.exception()
            raise

    def _abort(self, upload: dict[str, Any]) -> None:
        """The bucket's lifecycle rule removes what this cannot."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client.abort_multipart_upload(**upload)
        except (BotoCoreError, ClientError):
            return

    def _get_first(self, name: str, fd: int) -> tuple[int, str]:
        """Write the first bytes of an object, which are all of most; size and tag of the whole."""
        from botocore.exceptions import ClientError

        try:
            answer = self._get(name, {"Range": f"bytes=0-{FIRST_BYTES - 1}"}, fd, 0)
        except ClientError as error:
            if status(error) == 416:  # it is empty
                return 0, ""
            raise
        whole = str(answer.get("ContentRange", "")).rpartition("/")[2]
        # a service that knows no ranges has given all of it
        return int(whole) if whole.isdecimal() else 0, str(answer.get("ETag", ""))

    def _get(self, name: str, more: dict[str, Any], fd: int, offset: int) -> dict[str, Any]:
        """Write an object's bytes, or those of a range, to a file at ``offset``; the answer's head."""
        began = time.monotonic()
        for number in range(BODY_TRIES):
            answer = self.client.get_object(Bucket=self.bucket, Key=name, **more)
            body = answer["Body"]
            try:
                if _copied(body, fd, offset) == int(answer["ContentLength"]):
                    return dict(answer)
            except _broken_off():
                if number == BODY_TRIES - 1 or time.monotonic() - began > s3_access.PATIENCE_SECONDS:
                    raise
            finally:
                body.close()
        raise OSError("the download broke off again and again")

    def _get_parts(self, name: str, size: int, tag: str, fd: int) -> None:
        """The rest, in parts of the object that the first bytes were of."""
        failed = threading.Event()

        def part(number: int) -> None:
            if failed.is_set():
                raise StoreError("Another part of it failed.")
            start = FIRST_BYTES + number * PART_BYTES
            asked = {"Range": f"bytes={start}-{min(size, start + PART_BYTES) - 1}", "IfMatch": tag}
            self._get(name, asked, fd, start)

        self._all_parts(part, -(-(size - FIRST_BYTES) // PART_BYTES), failed)

    def _body(self, name: str, more: dict[str, Any]) -> bytes:
        began = time.monotonic()
        for number in range(BODY_TRIES):
            answer = self.client.get_object(Bucket=self.bucket, Key=name, **more)
            try:
                data = bytes(answer["Body"].read())
            except _broken_off():
                if number == BODY_TRIES - 1 or time.monotonic() - began > s3_access.PATIENCE_SECONDS:
                    raise
                continue
            return data
        raise AssertionError

    def told(self, key: str) -> Any:
        """A block whose failures name the object."""
        return told(key, self.endpoint)


def _broken_off() -> tuple[type[Exception], ...]:
    from botocore.exceptions import HTTPClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    return IncompleteReadError, ReadTimeoutError, ResponseStreamingError, HTTPClientError


def _copied(body: Any, fd: int, offset: int) -> int:
    begin = offset
    while block := body.read(_BLOCK):
        view = memoryview(block)
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written
    return offset - begin


def _read(file: Path, start: int, size: int) -> bytes:
    with open(file, "rb", buffering=0) as opened:
        data = os.pread(opened.fileno(), size, start)
        while len(data) < size:  # hardly ever: a signal came, or more than a read may give was asked for
            more = os.pread(opened.fileno(), size - len(data), start + len(data))
            if not more:
                raise OSError(f"{file.name} became shorter while it was read")
            data += more
    return data


def _checksum(sent: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in sent.items() if name == "ChecksumCRC32"}
