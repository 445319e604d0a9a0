"""DICOM files (PS3.10): what an export must know of one, and where its data set begins."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from airflow_monai.errors import ExportError
from airflow_monai.store.elements import DamagedDataSet, Encoding, short_elements
from airflow_monai.store.part10 import mapped

_LONG_VRS = frozenset((b"OB", b"OW", b"UN", b"UT", b"SQ", b"OF", b"OD", b"OL", b"OV", b"UC", b"UR", b"SV", b"UV"))
_TAGS = (0x00080018, 0x00080016, 0x0020000D, 0x0020000E, 0x00100020)
"""SOP Instance, SOP Class, Study and Series Instance UID, and Patient ID."""


_BEGINNING = 16_384  # bytes that hold what is looked for, in nearly all files
_ELEMENT_HEAD = 8


@dataclass(frozen=True, slots=True)
class Head:
    """The attributes of an instance that an export looks at; empty where the file lacks them."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient_id: str


def read_head(path: Path) -> Head | None:
    """The file's attributes, None when it is no DICOM file.

    :raises ExportError: when it begins like one but cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        beginning = file.read(_BEGINNING)
    if beginning[128:132] != b"DICM":
        return None
    is_whole = len(beginning) < _BEGINNING
    try:
        syntax, found = _looked_for(beginning)
    except (DamagedDataSet, struct.error, ValueError):
        syntax, found = "", {}
    if len(found) < len(_TAGS) and not is_whole:
        with mapped(path) as data:
            syntax, found = _told(data)
    elif len(found) < len(_TAGS):
        syntax, found = _told(beginning)
    sop_instance, sop_class, study, series, patient = (found.get(tag, b"") for tag in _TAGS)
    patient_id = _text(patient) if patient.isascii() else _decoded_patient_id(path)
    return Head(_text(sop_instance), _text(sop_class), syntax, _text(study), _text(series), patient_id)


def _told(data: bytes | memoryview) -> tuple[str, dict[int, bytes]]:
    try:
        return _looked_for(data)
    except (DamagedDataSet, struct.error, ValueError):
        raise ExportError("it begins as a DICOM file but cannot be read") from None


def _looked_for(data: bytes | memoryview) -> tuple[str, dict[int, bytes]]:
    """Transfer syntax and the values of :data:`_TAGS` that a file begins with."""
    syntax, start = _after_meta(data)
    elements = short_elements(data, Encoding.of(syntax), start=start, stop=max(_TAGS) + 1)
    return syntax, {element.tag: element.value for element in elements if element.tag in _TAGS}


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")


def _decoded_patient_id(path: Path) -> str:
    """A PatientID in another character set than ASCII (PS3.5 section 6.1.2)."""
    from pydicom import dcmread

    with discreet():
        return str(dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"]).get("PatientID") or "").strip()


def seek_dataset(file: BinaryIO) -> BinaryIO:
    """Move to the first byte of the data set, behind the file meta information; the file itself is returned."""
    size = _BEGINNING // 4
    while True:
        file.seek(0)
        beginning = file.read(size)
        start = _after_meta(beginning)[1]
        if start + _ELEMENT_HEAD <= len(beginning) or len(beginning) < size:
            file.seek(min(start, len(beginning)))
            return file
        size *= 4


def _after_meta(data: bytes | memoryview) -> tuple[str, int]:
    """The Transfer Syntax UID (0002,0010) of the file meta information, or an empty text, and where that ends.

    The elements are walked rather than their group length (0002,0000) believed, because some writers get it wrong.
    """
    syntax, position = "", 132
    while position + _ELEMENT_HEAD <= len(data) and data[position : position + 2] == b"\x02\x00":
        if bytes(data[position + 4 : position + 6]) in _LONG_VRS:
            start, (length,) = position + 12, struct.unpack_from("<I", data, position + 8)
        else:
            start, (length,) = position + 8, struct.unpack_from("<H", data, position + 6)
        if data[position + 2 : position + 4] == b"\x10\x00":
            syntax = _text(bytes(data[start : start + length]))
        position = start + length
    return syntax, position


@contextmanager
def discreet() -> Iterator[None]:
    """Keep what pydicom says of a value from the log, because it quotes the value, which may name the patient.

    :raises ExportError: in place of what pydicom raises, which quotes it as well.
    """
    logger = logging.getLogger("pydicom")  # what it warns of, it logs as well
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error, EOFError) as error:
            raise ExportError(f"its attributes cannot be read ({type(error).__name__})") from None
        finally:
            logger.setLevel(level)
