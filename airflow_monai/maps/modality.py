"""The Modality (0008,0060) of a DICOM file that an application wrote, without the cost of importing a DICOM library.

It stands among the first elements of a data set (PS3.10 section 7, PS3.5 section 7), so a look at the head is enough,
and however the file is made, it costs no more than that: what is deflated is inflated up to a bound.
"""

from __future__ import annotations

import struct
from pathlib import Path

from airflow_monai.store.elements import DamagedDataSet, Encoding, short_elements
from airflow_monai.store.part10 import mapped

HEAD_BYTES = 4 * 2**20
_MAGIC, _MAGIC_AT = b"DICM", 128
_LONG_VRS = frozenset((b"OB", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"))
_META_GROUP, _TRANSFER_SYNTAX = 0x0002, 0x0010
_MODALITY = 0x00080060


def read_modality(path: Path) -> str | None:
    """The modality, an empty text for a DICOM file that has none, None for a file that is no DICOM (PS3.10) file."""
    if path.stat().st_size < _MAGIC_AT + len(_MAGIC):
        return None
    with mapped(path) as data, data[:HEAD_BYTES] as head:
        if head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
            return None
        try:
            return _modality(head)
        except (DamagedDataSet, struct.error):
            return ""


def _modality(head: memoryview) -> str:
    syntax, start = _meta(head)
    for element in short_elements(head, Encoding.of(syntax), start=start, stop=_MODALITY + 1):
        if element.tag == _MODALITY:
            return _text(element.value)
    return ""


def _meta(head: memoryview) -> tuple[str, int]:
    """Transfer syntax and end of the file meta information, which is explicit little endian in every file.

    Its group length is not used: applications write wrong ones.
    """
    syntax, position = "", _MAGIC_AT + len(_MAGIC)
    while position + 8 <= len(head):
        group, element, vr, length = struct.unpack_from("<HH2sH", head, position)
        if group != _META_GROUP:
            break
        position += 8
        if vr in _LONG_VRS:
            length = struct.unpack_from("<L", head, position)[0]
            position += 4
        if element == _TRANSFER_SYNTAX:
            syntax = _text(head[position : position + length])
        position += length
    return syntax, position


def _text(value: bytes | memoryview) -> str:
    return bytes(value).decode("ascii", "replace").strip("\0 ")
