"""Objects of the store as downloads: one, or several as a zip, a block at a time and without a temporary file.

A part of one file (RFC 9110, section 14: a single
range of bytes) is sent where the store is a folder; of a bucket the whole object is, as a server may.
"""

from __future__ import annotations

import os
import re
import stat
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from fastapi.responses import Response, StreamingResponse
from starlette.datastructures import Headers

from airflow_monai.api.common.limits import HEAD
from airflow_monai.api.page import HEADERS
from airflow_monai.store.base import Store

BLOCK = 256 * 1024
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")
_NOT_IN_ZIP = re.compile(r"[^A-Za-z0-9._@+=~ ()-]+")
_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})")


def send_object(store: Store, key: str, *, media_type: str, filename: str, inline: bool = False) -> Response:
    """An object of the store, a block at a time.

    :param filename: as the browser shall save it; what is not plain in it is replaced.
    :param inline: to be looked at rather than saved. Only for what no browser takes for a page with scripts.
    :raises HTTPException: 404 when there is no such object.
    """
    path = store.local_path(key)
    headers = _headers(filename, inline=inline)
    if path is not None:
        return _FileDownload(_Blocks(path), media_type, headers)
    if not store.exists(key):
        raise HTTPException(404, "The file is not in the store any more.")
    length, pieces = store.blocks(key)
    return _Download(pieces, media_type=media_type, headers={**headers, "Content-Length": str(length)})


def send_zip(entries: Iterable[tuple[str, Store, str]], filename: str) -> Response:
    """Objects of the store as one zip archive, made while it is sent.

    One that cannot be read breaks the transfer off: who asked sees that, and never a whole archive that lacks a file.

    :param entries: name in the archive (``folder/file``; what is unsafe in it is replaced), store and key of each. They
        are taken one by one while the archive is sent.
    :param filename: of the archive.
    """
    return _Download(zipped(entries), media_type="application/zip", headers=_headers(filename, inline=False))


def zipped(entries: Iterable[tuple[str, Store, str]]) -> Iterator[bytes]:
    """The bytes of such an archive, in pieces of some :data:`BLOCK`.

    They are deflated without compression: that costs nothing, and unlike stored bytes can be unpacked by who reads the
    archive from its beginning. Large files and many files make it a zip64 archive.
    """
    sink = _Sink()
    names = _Names()
    now = time.gmtime()[:6]
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=0) as archive:  # type: ignore[call-overload]
        for name, store, key in entries:
            length, blocks = _opened(store, key)
            info = zipfile.ZipInfo(names.unique(name), now)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            info._compresslevel = 0  # type: ignore[attr-defined]
            info.file_size = length  # decides on zip64
            with archive.open(info, "w") as target:
                for block in blocks:
                    target.write(block)
                    if sink.size >= BLOCK:
                        yield sink.taken()
    yield sink.taken()


def _opened(store: Store, key: str) -> tuple[int, Iterator[bytes]]:
    path = store.local_path(key)
    if path is None:
        return store.blocks(key)
    blocks = _Blocks(path)
    return blocks.left, blocks


def _headers(filename: str, *, inline: bool) -> dict[str, str]:
    name = _PLAIN.sub("_", filename.rpartition("/")[2])[:150].lstrip(".") or "file"
    shown = f'{"inline" if inline else "attachment"}; filename="{name}"'
    # said, so that Airflow's API server does not compress on the way, which would hold up all others that it serves
    return {**HEADERS, "Content-Disposition": shown, "Content-Encoding": "identity"}


class _Sink:
    """Takes what a zip archive writes until somebody takes it away; it cannot be sought in."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def taken(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces, self.size = [], 0
        return data


class _Names:
    """Names in an archive: relative, plain, and none twice, also where case does not count."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}  # the last number behind a name, else many of one name cost its square

    def unique(self, name: str) -> str:
        parts = (_NOT_IN_ZIP.sub("_", part).strip(" .")[:150] for part in name.replace("\\", "/").split("/"))
        plain = "/".join(part for part in parts if part) or "file"
        found, number = plain, self._numbers.get(plain.lower(), 1)
        while found.lower() in self._used:
            number += 1
            self._numbers[plain.lower()] = number
            stem, dot, ending = plain.rpartition(".")
            found = f"{stem}-{number}.{ending}" if dot and "/" not in ending else f"{plain}-{number}"
        self._used.add(found.lower())
        return found


class _Download(StreamingResponse):
    """Is not even read for ``HEAD``."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if HEAD in scope:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body"})
        else:
            await super().__call__(scope, receive, send)


class _FileDownload(_Download):
    """A file of this host, of which a part may be asked for."""

    def __init__(self, blocks: _Blocks, media_type: str, headers: dict[str, str]):
        modified = formatdate(blocks.modified, usegmt=True)
        more = {"Accept-Ranges": "bytes", "ETag": blocks.tag, "Last-Modified": modified}
        length = {"Content-Length": str(blocks.left)}
        super().__init__(blocks, media_type=media_type, headers={**headers, **more, **length})
        self._blocks = blocks

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        asked = Headers(scope=scope)
        unchanged = asked.get("if-range", self._blocks.tag) == self._blocks.tag
        size = self._blocks.left
        wanted = Part.of(asked.get("range", ""), size) if unchanged and HEAD not in scope else None
        if wanted is None:
            await super().__call__(scope, receive, send)
        elif not wanted.length:
            self._blocks.close()
            refused = Response(status_code=416, headers={**HEADERS, "Content-Range": f"bytes */{size}"})
            await refused(scope, receive, send)
        else:
            self._blocks.only(wanted)
            self.status_code = 206
            last = wanted.first + wanted.length - 1
            self.headers["Content-Range"] = f"bytes {wanted.first}-{last}/{size}"
            self.headers["Content-Length"] = str(wanted.length)
            await super().__call__(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file; of length 0 where it has none such."""

    first: int
    length: int

    @classmethod
    def of(cls, header: str, size: int) -> Part | None:
        """What a ``Range`` header asks for; None where it asks for several parts, or for what nobody understands."""
        found = _RANGE.fullmatch(header.replace(" ", ""))
        if found is None or not (found["first"] or found["last"]):
            return None
        if not found["first"]:
            length = min(int(found["last"]), size)
            return cls(size - length, length)
        first = int(found["first"])
        last = min(int(found["last"]) if found["last"] else size - 1, size - 1)
        if found["last"] and int(found["last"]) < first:
            return None
        return cls(first, max(0, last - first + 1))


class _Blocks:
    """The bytes of a file, a block at a time. It is closed when nobody has this any more: who asked may have gone
    before the first block was wanted, and then nobody ever begins to read.

    :ivar left: bytes still to come.
    :raises HTTPException: when there is no such file.
    """

    _descriptor: int | None = None  # also where there is no file: it is closed all the same

    def __init__(self, path: Path):
        try:
            # what an application made is no file that waits for somebody to write into it
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            raise HTTPException(404, "The file is not in the store any more.") from None
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self.left = found.st_size
        self.modified = found.st_mtime
        self.tag = f'"{found.st_size:x}-{found.st_mtime_ns:x}"'
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise HTTPException(404, "The store holds something else there than a file.")

    def only(self, part: Part) -> None:
        """Give this part and no more."""
        assert self._descriptor is not None
        os.lseek(self._descriptor, part.first, os.SEEK_SET)
        self.left = part.length

    def __iter__(self) -> _Blocks:
        return self

    def __next__(self) -> bytes:
        block = b"" if self._descriptor is None else os.read(self._descriptor, min(BLOCK, self.left))
        self.left -= len(block)
        if not block:
            self.close()
            raise StopIteration
        return block

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    __del__ = close
