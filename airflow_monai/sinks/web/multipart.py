"""Files as the parts of one multipart/related body (RFC 2387, PS3.18 section 8.6.1.2), a piece at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow_monai.sinks.files import became_shorter, unreadable

PIECE = 262_144
"""Bytes that are read and sent at a time: what a request of any size needs of memory."""
_WORTH_SENDING = 65_536  # bytes; what is smaller goes together with what follows


class MultipartBody:
    """The body of one request, which may be sent more than once.

    :param paths: one part each, in this order.
    :param media_type: of every part.
    :raises ExportError: a file is not there.
    """

    def __init__(self, paths: Sequence[Path], media_type: str):
        self._boundary = uuid.uuid4().hex
        self._paths = list(paths)
        self._head = f"--{self._boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode()
        self._tail = f"--{self._boundary}--\r\n".encode()
        self.content_type = f'multipart/related; type="{media_type}"; boundary={self._boundary}'
        self._sizes = [_size(path) for path in paths]
        self.length = sum(self._sizes) + len(paths) * (len(self._head) + 2) + len(self._tail)

    def pieces(self) -> Iterator[bytes]:
        """The body's bytes, ``length`` in all; the small ones are put together with those that follow.

        :raises ExportError: a file cannot be read, or has changed its size meanwhile.
        """
        pending = b""
        for path, size in zip(self._paths, self._sizes, strict=True):
            pending += self._head
            for piece in _file(path, size):
                pending = pending + piece if pending else piece
                if len(pending) >= _WORTH_SENDING:
                    yield pending
                    pending = b""
            pending += b"\r\n"
        yield pending + self._tail


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise unreadable(error) from error


def _file(path: Path, size: int) -> Iterator[bytes]:
    left = size
    try:
        with open(path, "rb") as file:
            while left and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise unreadable(error) from error
    if left:
        raise became_shorter()
