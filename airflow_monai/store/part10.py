"""DICOM files as the gateway keeps them (PS3.10): preamble, file meta information, the data set as it was received."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from airflow_monai.errors import StoreError
from airflow_monai.store.elements import DamagedDataSet, Element, Encoding, short_elements
from airflow_monai.store.tags import as_text

IMPLEMENTATION_CLASS_UID = "2.25.187105834462513604917352630512487193355"
IMPLEMENTATION_VERSION_NAME = "AIRFLOW_MONAI"
_PREAMBLE = b"\0" * 128 + b"DICM"
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*\Z")
_TRANSFER_SYNTAX, _SERIES = 0x00020010, 0x0020000E
_LONG_VRS = frozenset({b"OB", b"OW", b"UN", b"UT", b"SQ", b"UC", b"UR"})


class NotIdentified(StoreError):
    """A data set does not say which instance of which series and study it is, or says it wrongly."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The UIDs of an instance, each checked to be a plain UID, so that it may become part of a file name.

    :param patient_id: and ``issuer``: whose it is, where it says so.
    """

    study: str
    series: str
    sop: str
    sop_class: str
    patient_id: str = field(default="", repr=False)  # PatientID (0010,0020)
    issuer: str = field(default="", repr=False)  # IssuerOfPatientID (0010,0021)


def check_uid(text: str, attribute: str) -> str:
    """The UID, or :class:`NotIdentified` when it is none (PS3.5 section 9.1; leading zeros are let pass).

    :param attribute: what the UID is, for the message, which does not repeat the value.
    """
    if len(text) > 64 or not _UID.match(text):
        raise NotIdentified(f"{attribute} is not a valid UID")
    return text


def file_meta(sop_class: str, sop: str, transfer_syntax: str) -> bytes:
    """Preamble and file meta information of a file that holds a data set received by C-STORE.

    It does not say who sent it: the same instance from two senders is the same file.
    """
    elements = b"".join(
        (
            b"\x02\x00\x01\x00OB\0\0\x02\0\0\0\0\x01",
            _meta(0x0002, "UI", sop_class),
            _meta(0x0003, "UI", sop),
            _meta(0x0010, "UI", transfer_syntax),
            _meta(0x0012, "UI", IMPLEMENTATION_CLASS_UID),
            _meta(0x0013, "SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return _PREAMBLE + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(elements)) + elements


def _meta(element: int, vr: str, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return struct.pack("<HH2sH", 2, element, vr.encode(), len(value)) + value


def identify(data: bytes | memoryview, start: int, transfer_syntax: str) -> Identity:
    """Who the data set at ``start`` says that it is; :class:`NotIdentified` when a UID is missing or malformed."""
    found: dict[int, bytes] = {}
    try:
        encoding = Encoding.shown(transfer_syntax, data, start)
        for element in short_elements(data, encoding, start=start, stop=_SERIES + 1):
            if element.tag in _NOTED:
                found[element.tag] = element.value
    except DamagedDataSet as error:
        raise NotIdentified("the data set cannot be parsed") from error
    uids = {
        name: check_uid(found.get(tag, b"").decode("latin-1").strip(" \0"), keyword)
        for tag, (name, keyword) in _IDENTITY.items()
    }
    return Identity(**uids, patient_id=_text(found, _PATIENT_ID), issuer=_text(found, _ISSUER))


def _text(found: dict[int, bytes], tag: int) -> str:
    value = found.get(tag, b"")
    if value.isascii():
        return value.decode("ascii").strip(" \0")
    text = as_text(value, "LO", found.get(_CHARSET, b""))
    return "\\".join(text) if isinstance(text, list) else (text or "").strip(" \0")


_IDENTITY = {
    0x00080016: ("sop_class", "SOPClassUID"),
    0x00080018: ("sop", "SOPInstanceUID"),
    0x0020000D: ("study", "StudyInstanceUID"),
    _SERIES: ("series", "SeriesInstanceUID"),
}
_CHARSET, _PATIENT_ID, _ISSUER = 0x00080005, 0x00100020, 0x00100021
_NOTED = frozenset({*_IDENTITY, _CHARSET, _PATIENT_ID, _ISSUER})


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """A file's bytes without reading it: only the pages that are looked at come into memory."""
    with open(path, "rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        view = memoryview(pages)
        try:
            yield view
        finally:
            view.release()
            with suppress(BufferError):  # the traceback of an error may hold a part of it, and frees it in the end
                pages.close()


def file_elements(data: memoryview) -> Iterator[Element]:
    """Short elements of a file that this module's :func:`file_meta` begins: those of its meta group, then the others.

    :raises DamagedDataSet: where it breaks off.
    """
    if bytes(data[128:132]) != b"DICM" or len(data) < 144:
        raise DamagedDataSet("The file has no DICOM header.")
    start = 144 + struct.unpack_from("<L", data, 140)[0]
    syntax = ""
    for element in short_elements(data[:start], Encoding.of(""), start=144):
        if element.tag == _TRANSFER_SYNTAX:
            syntax = element.value.decode("latin-1").strip(" \0")
        yield element
    yield from short_elements(data, Encoding.shown(syntax, data, start), start=start)


def data_set_of(data: memoryview) -> tuple[str, int]:
    """Transfer Syntax UID (0002,0010) of a file of any writer, and where its data set begins.

    The elements are walked rather than their group length (0002,0000) believed, because some writers get it wrong.

    :raises DamagedDataSet: when it has no DICOM header, or that breaks off.
    """
    if bytes(data[128:132]) != b"DICM":
        raise DamagedDataSet("The file has no DICOM header.")
    syntax, position = "", 132
    while bytes(data[position : position + 2]) == b"\x02\x00":
        is_long = bytes(data[position + 4 : position + 6]) in _LONG_VRS
        try:
            (length,) = struct.unpack_from("<L" if is_long else "<H", data, position + (8 if is_long else 6))
        except struct.error:
            raise DamagedDataSet("The file ends within its meta information.") from None
        value_at = position + (12 if is_long else 8)
        if bytes(data[position + 2 : position + 4]) == b"\x10\x00":
            syntax = bytes(data[value_at : value_at + length]).decode("latin-1").strip(" \0")
        position = value_at + length
    if position > len(data):
        raise DamagedDataSet("The file ends within its meta information.")
    return syntax, position
