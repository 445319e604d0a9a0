"""The Modality (0008,0060) of a DICOM file, without the cost of importing a DICOM library.

It stands among the first elements of a data set (PS3.10 section 7, PS3.5 section 7), so a few kilobytes are enough.
Files in the rare deflated or big-endian syntaxes go to pydicom.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

HEAD_BYTES = 64 * 1024
_MAGIC = b"DICM"
_IMPLICIT = "1.2.840.10008.1.2"
_OTHER_ENCODINGS = ("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
_TRANSFER_SYNTAX = (0x0002, 0x0010)
_MODALITY = (0x0008, 0x0060)
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_UNDEFINED = 0xFFFFFFFF


def read_modality(path: Path) -> str | None:
    """The modality, an empty text for a DICOM file that has none, None for a file that is no DICOM (PS3.10) file."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head[128:132] != _MAGIC:
        return None
    try:
        return _from_head(head)
    except (_NeedsLibrary, struct.error):
        return _with_library(path)


class _NeedsLibrary(Exception):
    """The head of the file cannot be read here."""


def _from_head(head: bytes) -> str:
    start, syntax = 132, ""
    for tag, value, end in _elements(head, 132, implicit=False):
        if tag[0] != 2:
            break
        start = end
        if tag == _TRANSFER_SYNTAX:
            syntax = value.decode("ascii", "replace").strip("\0 ")
    if syntax in _OTHER_ENCODINGS:
        raise _NeedsLibrary
    for tag, value, _ in _elements(head, start, implicit=syntax == _IMPLICIT):
        if tag == _MODALITY:
            return value.decode("ascii", "replace").strip("\0 ")
        if tag > _MODALITY:
            return ""
    raise _NeedsLibrary


def _elements(head: bytes, offset: int, *, implicit: bool) -> Iterator[tuple[tuple[int, int], bytes, int]]:
    """(tag, value, offset behind it) of the elements in the head of a little-endian file."""
    while offset < len(head):
        group, element = struct.unpack_from("<HH", head, offset)
        if implicit:
            length, begin = struct.unpack_from("<I", head, offset + 4)[0], offset + 8
        elif head[offset + 4 : offset + 6] in _LONG_VRS:
            length, begin = struct.unpack_from("<I", head, offset + 8)[0], offset + 12
        else:
            length, begin = struct.unpack_from("<H", head, offset + 6)[0], offset + 8
        if length == _UNDEFINED and (group, element) < _MODALITY:
            raise _NeedsLibrary
        yield (group, element), head[begin : begin + length], begin + length
        offset = begin + length


def _with_library(path: Path) -> str | None:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return str(dcmread(path, specific_tags=["Modality"], stop_before_pixels=True).get("Modality", ""))
    except (InvalidDicomError, OSError, ValueError, EOFError, KeyError):
        return None
