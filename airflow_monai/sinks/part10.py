"""DICOM files (PS3.10): what an export must know of one, and where its data set begins."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from airflow_monai.errors import ExportError

_LONG_VRS = frozenset((b"OB", b"OW", b"UN", b"UT", b"SQ", b"OF", b"OD", b"OL", b"OV", b"UC", b"UR", b"SV", b"UV"))
_UNREADABLE = (ValueError, LookupError, EOFError, AttributeError, TypeError, NotImplementedError, struct.error)


@dataclass(frozen=True, slots=True)
class Head:
    """The attributes of an instance that an export looks at; empty where the file lacks them."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    patient_id: str


def read_head(path: Path) -> Head | None:
    """The file's attributes, None when it is no DICOM file.

    :raises ExportError: when it begins like one but cannot be read.
    """
    with open(path, "rb") as file:
        if file.read(132)[128:] != b"DICM":
            return None
    from pydicom import dcmread
    from pydicom.errors import BytesLengthException, InvalidDicomError

    tags = ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "PatientID"]
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=tags)
        values = [str(dataset.get(tag) or "") for tag in tags]
        syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    except (*_UNREADABLE, InvalidDicomError, BytesLengthException) as error:
        raise ExportError(f"it begins as a DICOM file but cannot be read ({type(error).__name__})") from None
    sop_instance, sop_class, study, patient = values
    return Head(sop_instance, sop_class, syntax, study, patient)


def seek_dataset(file: BinaryIO) -> BinaryIO:
    """Move to the first byte of the data set, behind the file meta information; the file itself is returned.

    The elements are walked rather than their group length (0002,0000) believed, because some writers get it wrong.
    """
    file.seek(132)
    while True:
        start = file.tell()
        head = file.read(8)
        if len(head) < 8 or head[:2] != b"\x02\x00":
            file.seek(start)
            return file
        if head[4:6] in _LONG_VRS:
            (length,) = struct.unpack("<I", file.read(4))
        else:
            (length,) = struct.unpack("<H", head[6:8])
        file.seek(length, 1)


def as_implicit(path: Path) -> bytes:
    """The data set of a file in explicit VR little endian, written in implicit VR; pixel data stay as they are."""
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, True
    write_dataset(out, dcmread(path))
    return bytes(out.getvalue())
