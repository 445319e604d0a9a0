"""The parts of a multipart body (RFC 2046, RFC 7578), read one after the other and never whole."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from airflow_monai.errors import MonaiError
from airflow_monai.store.spooling import Source
from airflow_monai.types import FailureKind

MAX_HEADERS, MAX_HEADER_BYTES = 16, 8192
"""Of one part, and of one line of them."""
MAX_FIELD_BYTES = 4096
MAX_BOUNDARY = 200
"""RFC 2046 section 5.1.1 allows 70 characters; Orthanc sends 73."""
_BLOCK = 256 * 1024
logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings repeat what was sent


class BadMultipart(MonaiError):
    """The body is none that its content type says; the message tells what is wrong."""

    failure = FailureKind.INVALID


def boundary_of(content_type: str) -> bytes:
    """The boundary that a content type names.

    :raises BadMultipart: when it names none.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= MAX_BOUNDARY:
        raise BadMultipart(f"The content type names no boundary of 1 to {MAX_BOUNDARY} characters between the parts.")
    return boundary


class Part:
    """A part; read it before the next one is asked for.

    :param headers: by their names in lower case.
    """

    def __init__(self, headers: Mapping[str, str], parts: _Parts):
        self.headers = headers
        self._parts = parts
        _, options = parse_options_header(headers.get("content-disposition", ""))
        self.field = options.get(b"name", b"").decode("utf-8", "replace")
        self.filename = options.get(b"filename", b"").decode("utf-8", "replace")

    @property
    def content_type(self) -> str:
        """Without its parameters; empty where the part says none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def read(self, size: int) -> bytes:
        """
        :raises BadMultipart: when the body is damaged, or ends here.
        """
        return self._parts.data(size)

    def text(self) -> str:
        """All of a short field.

        :raises BadMultipart: when it is not short.
        """
        data = b""
        while piece := self.read(MAX_FIELD_BYTES + 1):
            data += piece
            if len(data) > MAX_FIELD_BYTES:
                raise BadMultipart(f"The field {self.field[:50]!r} is longer than {MAX_FIELD_BYTES} bytes.")
        return data.decode("utf-8", "replace")


def parts(source: Source, boundary: bytes, max_parts: int) -> Iterator[Part]:
    """The parts of a body.

    :raises BadMultipart: at any time: also when the body ends before its closing boundary.
    """
    reader = _Parts(source, boundary)
    number = 0
    while (headers := reader.next()) is not None:
        number += 1
        if number > max_parts:
            raise BadMultipart(f"There are more than {max_parts} parts.")
        yield Part(headers, reader)
    if number == 0:
        raise BadMultipart("There is no part in the body.")


class _Parts:
    """Turns what the parser tells into what is asked for. It feeds the parser no more than one block ahead."""

    def __init__(self, source: Source, boundary: bytes):
        self._source = source
        self._events: deque[bytes | dict[str, str] | None] = deque()  # headers of a part, its data, None for its end
        self._field = self._value = b""
        self._headers: dict[str, str] = {}
        self._ended = False  # the parser has seen the closing boundary
        self._in_part = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": lambda: self._events.append(self._headers),
                    "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                    "on_part_end": lambda: self._events.append(None),
                    "on_end": self._end,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise BadMultipart(f"The body cannot be taken apart: {error}.") from None

    def next(self) -> dict[str, str] | None:
        """Headers of the next part, after the rest of this one; None when there is none."""
        while True:
            event = self._event()
            if isinstance(event, dict):
                self._in_part = True
                return event
            if event is None and not self._events and self._ended:
                return None

    def data(self, size: int) -> bytes:
        """Some bytes of the part; empty at its end."""
        while self._in_part:
            event = self._event()
            if event is None:
                self._in_part = False
            elif isinstance(event, bytes) and event:
                if len(event) > size:
                    self._events.appendleft(event[size:])
                    event = event[:size]
                return event
        return b""

    def _event(self) -> bytes | dict[str, str] | None:
        while not self._events:
            if self._ended:
                return None
            data = self._source.read(_BLOCK)
            if not data:
                raise BadMultipart("The body ends before its closing boundary: it was cut, or has another boundary.")
            try:
                self._parser.write(data)
            except FormParserError as error:
                raise BadMultipart(f"The body cannot be taken apart: {error}.") from None
        return self._events.popleft()

    def _begin(self) -> None:
        self._headers, self._field, self._value = {}, b"", b""

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("latin-1").strip()
        self._field = self._value = b""

    def _end(self) -> None:
        self._ended = True
