"""The Modality (0008,0060) of a DICOM file that an application wrote, without the cost of importing a DICOM library.

It stands among the first elements of a data set (PS3.10 section 7, PS3.5 section 7), so a look at the head is enough,
and however the file is made, it costs no more than that: what is deflated is inflated up to a bound.
"""

from __future__ import annotations

import struct
from pathlib import Path

from airflow_monai.store.elements import DamagedDataSet, Encoding, short_elements
from airflow_monai.store.part10 import mapped

MODALITIES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.2": "MG",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.3.1": "US",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.6.1": "US",
    "1.2.840.10008.5.1.4.1.1.12.1": "XA",
    "1.2.840.10008.5.1.4.1.1.12.2": "RF",
    "1.2.840.10008.5.1.4.1.1.20": "NM",
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "SM",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
    "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE",
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
    "1.2.840.10008.5.1.4.1.1.481.5": "RTPLAN",
}
"""Storage SOP class (PS3.4 section B.5) -> the modality that its instances have."""

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
