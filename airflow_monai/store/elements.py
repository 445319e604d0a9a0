"""A scanner of DICOM data sets (PS3.5 section 7) for what the gateway needs: short elements of the top level.

It decodes nothing that it does not yield and skips nested data without recursion, so that a file from the network,
however it is made, costs at most one pass over its header.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_monai.errors import StoreError

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
"""Deflated Explicit VR Little Endian and the JPIP syntaxes that deflate the data set too (PS3.5 annex A)."""
GE_IMPLICIT = "1.2.840.113619.5.2"
"""A private syntax in wide use: implicit little endian with pixel data in big endian."""

PIXEL_GROUP = 0x7FE00000
SHORT_BYTES = 1024
"""Longer values are bulk data to us; no attribute that a condition could compare is longer."""
INFLATED_HEADER_BYTES = 8 * 2**20
MOST_NESTED = 1000
"""Sequences within one another, which cost memory; hardly any data set has ten."""
_STANDARD = "1.2.840.10008."
_LOW_GROUP = 0x0020
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


class DamagedDataSet(StoreError):
    """The data set ends in the middle of an element, or is none."""


@dataclass(frozen=True, slots=True)
class Element:
    """A short element of the top level. ``vr`` is None in implicit data sets."""

    tag: int
    vr: str | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a transfer syntax encodes elements (every encapsulated one as explicit little endian)."""

    implicit: bool
    big_endian: bool
    deflated: bool

    @classmethod
    def of(cls, transfer_syntax_uid: str) -> Encoding:
        return cls(
            implicit=transfer_syntax_uid in (IMPLICIT_LITTLE, GE_IMPLICIT),
            big_endian=transfer_syntax_uid == EXPLICIT_BIG,
            deflated=transfer_syntax_uid in DEFLATED,
        )

    @classmethod
    def shown(cls, transfer_syntax_uid: str, data: bytes | memoryview, start: int = 0) -> Encoding:
        """Likewise, where a private syntax, about which nothing is known, is seen by how the data set begins.

        The first elements of a data set are of a low group, and a VR is two capital letters; what is neither is taken
        for deflated.
        """
        if transfer_syntax_uid.startswith(_STANDARD) or transfer_syntax_uid in ("", GE_IMPLICIT):
            return cls.of(transfer_syntax_uid)
        head = bytes(data[start : start + 6])
        little, big = int.from_bytes(head[:2], "little"), int.from_bytes(head[:2], "big")
        if min(little, big) > _LOW_GROUP:
            return cls(implicit=False, big_endian=False, deflated=True)
        explicit = head[4:6].isalpha() and head[4:6].isupper()
        return cls(implicit=not explicit, big_endian=big < little, deflated=False)


def short_elements(
    data: bytes | memoryview, encoding: Encoding, *, start: int = 0, stop: int = PIXEL_GROUP
) -> Iterator[Element]:
    """Elements below tag ``stop`` with a value of at most :data:`SHORT_BYTES`, without sequences and group lengths.

    :raises DamagedDataSet: where the data set breaks off; all elements before have been yielded.
    """
    if encoding.deflated:
        data, start = _inflate(data[start:]), 0
    reader = _Reader(data, encoding)
    position, end = start, len(data)
    while position < end:
        tag, vr, length, value_at = reader.header(position)
        if tag >= stop:
            return
        if length == _UNDEFINED:
            position = reader.after_undefined(value_at, implicit=vr == b"UN")
            continue
        position = value_at + length
        if position > end:
            raise DamagedDataSet(f"The data set ends within element {tag:08X}.")
        if length <= SHORT_BYTES and vr != b"SQ" and tag & 0xFFFF:
            yield Element(tag, vr.decode("latin-1") if vr else None, bytes(data[value_at:position]))


def whole_until(data: bytes | memoryview, encoding: Encoding, start: int = 0) -> int:
    """Where the last whole element of the top level ends, pixel data and what follows them included.

    Less than the length of the data where they break off. What is deflated is not looked into: it counts as whole.
    """
    if encoding.deflated:
        return len(data)
    reader = _Reader(data, encoding)
    position, end = start, len(data)
    while position < end:
        try:
            _, vr, length, value_at = reader.header(position)
            undefined = length == _UNDEFINED
            after = reader.after_undefined(value_at, implicit=vr == b"UN") if undefined else value_at + length
        except DamagedDataSet:
            break
        if after > end:
            break
        position = after
    return position


def _inflate(data: bytes | memoryview) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, INFLATED_HEADER_BYTES)
    except zlib.error as error:
        raise DamagedDataSet("The deflated data set cannot be inflated.") from error


class _Reader:
    """Element headers of one data set."""

    def __init__(self, data: bytes | memoryview, encoding: Encoding):
        self._data = data
        self._implicit = encoding.implicit
        order = ">" if encoding.big_endian else "<"
        self._tag = struct.Struct(order + "HH").unpack_from
        self._implicit_head = struct.Struct(order + "HHL").unpack_from
        self._explicit_head = struct.Struct(order + "HH2sH").unpack_from
        self._length = struct.Struct(order + "L").unpack_from

    def header(self, position: int, implicit: bool | None = None) -> tuple[int, bytes | None, int, int]:
        """Tag, VR (None where it is implicit), length and the value's position of the element at ``position``."""
        try:
            if self._implicit if implicit is None else implicit:
                group, element, length = self._implicit_head(self._data, position)
                return group << 16 | element, None, length, position + 8
            group, element, vr, length = self._explicit_head(self._data, position)
            if vr in _LONG_VRS:
                return group << 16 | element, vr, self._length(self._data, position + 8)[0], position + 12
            return group << 16 | element, vr, length, position + 8
        except struct.error:
            raise DamagedDataSet(f"The data set ends within an element's header, at byte {position}.") from None

    def after_undefined(self, position: int, implicit: bool) -> int:
        """Where a value of undefined length that begins at ``position`` ends: nested items are passed over.

        UN of undefined length holds implicit little endian (PS3.5 section 6.2.2, note 2).
        """
        modes = [self._implicit or implicit]
        while modes:
            if len(modes) > MOST_NESTED:
                raise DamagedDataSet(f"The data set has sequences nested more than {MOST_NESTED} deep.")
            tag, length, value_at = self._item(position)
            if tag == _ITEM:
                position = value_at if length == _UNDEFINED else value_at + length
                if length == _UNDEFINED:
                    modes.append(modes[-1])
            elif tag in (_ITEM_END, _SEQUENCE_END):
                modes.pop()
                position = value_at
            else:
                _, vr, length, value_at = self.header(position, modes[-1])
                position = value_at if length == _UNDEFINED else value_at + length
                if length == _UNDEFINED:
                    modes.append(modes[-1] or vr == b"UN")
        return position

    def _item(self, position: int) -> tuple[int, int, int]:
        """Items and delimiters have no VR in any syntax."""
        try:
            group, element, length = self._implicit_head(self._data, position)
        except struct.error:
            raise DamagedDataSet(f"The data set ends within a sequence, at byte {position}.") from None
        return group << 16 | element, length, position + 8
