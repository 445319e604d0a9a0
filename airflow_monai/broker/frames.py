"""Reads messages whose headers pika cannot decode, so that one of them does not end the connection of all.

pika makes Python values of a message's headers while it takes the frame apart. A time beyond the year 9999, a number
that is none or a type of another protocol version is an error there, in the midst of the stream; and the message would
come again after each reconnection, until RabbitMQ's delivery limit, with everything else behind it. Here such a message
comes without its headers and says so, and whoever handles it can put it among the dead letters with the reason.
"""

from __future__ import annotations

import struct
from typing import Any

import pika
from pika import spec
from pika.data import encode_value
from pika.exceptions import AMQPError, InvalidFrameError, UnsupportedAMQPFieldException
from pika.frame import Header

UNREADABLE = "x-monai-unreadable"
"""Stands in place of headers that cannot be read."""
_UNDECODABLE = (ValueError, ArithmeticError, OSError, RecursionError, struct.error, AMQPError)
_BASIC = 60
_FRAME = struct.Struct(">BHL")
_HEAD = struct.Struct(">HHQ")
_LENGTH = struct.Struct(">I")


class Connection(pika.SelectConnection):
    """pika's, but for headers that cannot be decoded."""

    def _read_frame(self) -> Any:
        try:
            return super()._read_frame()
        except InvalidFrameError:
            raise  # not a message, but a stream that is out of step
        except _UNDECODABLE:
            frame = without_headers(bytes(self._frame_buffer))
            if frame is None:
                raise
            return frame


def without_headers(data: bytes) -> tuple[int, Header] | None:
    """The header frame at the beginning of ``data``, with :data:`UNREADABLE` for its headers, and its length.

    None when it is no such frame, or has no headers.
    """
    kind, channel, size = _FRAME.unpack_from(data)
    body = data[_FRAME.size : _FRAME.size + size]
    if kind != spec.FRAME_HEADER or len(body) < _HEAD.size:
        return None
    class_id, _, length = _HEAD.unpack_from(body)
    encoded = body[_HEAD.size :]
    if class_id != _BASIC:
        return None
    try:
        start, end = _headers(encoded)
        properties = spec.BasicProperties().decode(encoded[:start] + _LENGTH.pack(0) + encoded[end:])
    except _UNDECODABLE:
        return None
    properties.headers = {UNREADABLE: True}
    return _FRAME.size + size + spec.FRAME_END_SIZE, Header(channel, length, properties)


def can_be_encoded(value: Any) -> bool:
    """Whether pika can write what it has read: a number of more than 64 bits, for one, it cannot."""
    try:
        encode_value([], value)
    except (*_UNDECODABLE, UnsupportedAMQPFieldException, TypeError):
        return False
    return True


def _headers(encoded: bytes) -> tuple[int, int]:
    """Where the table of headers begins and ends, in properties as they are encoded (AMQP 0-9-1 section 4.2.6.1).

    :raises ValueError: when there is none.
    """
    properties = spec.BasicProperties
    (flags,), at = struct.unpack_from(">H", encoded), 2
    word = flags
    while word & 1:
        (word,), at = struct.unpack_from(">H", encoded, at), at + 2
    if not flags & properties.FLAG_HEADERS:
        raise ValueError("no headers")
    for flag in (properties.FLAG_CONTENT_TYPE, properties.FLAG_CONTENT_ENCODING):
        if flags & flag:
            at += 1 + encoded[at]
    end = at + _LENGTH.size + _LENGTH.unpack_from(encoded, at)[0]
    if end > len(encoded):
        raise ValueError("the headers are not whole")
    return at, end
