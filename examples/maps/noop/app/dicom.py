"""As much of DICOM as the quick MAP needs, by hand: read the study's attributes, write one Secondary Capture image.

PS3.10 section 7 (file meta information), PS3.5 section 7.1 (explicit VR little endian), PS3.3 section A.8.1 (the
modules of the Secondary Capture Image IOD).
"""

from __future__ import annotations

import os
import struct
import time

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLEMENTATION_CLASS_UID = "2.25.298431066327713164385391271186211740263"
LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
STUDY_INSTANCE_UID = (0x0020, 0x000D)
SPECIFIC_CHARACTER_SET = (0x0008, 0x0005)
PATIENT_NAME = (0x0010, 0x0010)
# what a result has in common with the study it belongs to
COPIED = {
    SPECIFIC_CHARACTER_SET: b"CS",
    (0x0008, 0x0020): b"DA",
    (0x0008, 0x0030): b"TM",
    (0x0008, 0x0050): b"SH",
    (0x0008, 0x0090): b"PN",
    PATIENT_NAME: b"PN",
    (0x0010, 0x0020): b"LO",
    (0x0010, 0x0030): b"DA",
    (0x0010, 0x0040): b"CS",
    STUDY_INSTANCE_UID: b"UI",
    (0x0020, 0x0010): b"SH",
}
HEADER_BYTES = 64 * 1024
LONGEST_VALUE = 1024
SIDE = 8


def new_uid() -> str:
    """A new UID from random bits (PS3.5 section B.2)."""
    return f"2.25.{int.from_bytes(os.urandom(16), 'big')}"


def read_study(folder: str) -> dict[tuple[int, int], bytes]:
    """The values of the ``COPIED`` attributes in the first DICOM file under ``folder``; empty where there is none."""
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(names):
            with open(os.path.join(parent, name), "rb") as file:
                head = file.read(HEADER_BYTES)
            if head[128:132] == b"DICM":
                return {tag: _value(head, tag, vr) for tag, vr in COPIED.items()}
    return {}


def _refuse(error: OSError) -> None:
    """A folder that may not be read is an error; one that is not there is only empty."""
    if isinstance(error, PermissionError):
        raise error


def _value(head: bytes, tag: tuple[int, int], vr: bytes) -> bytes:
    """Search the bytes rather than parse them: explicit or implicit VR, and no nested data set to trip over."""
    pattern = struct.pack("<HH", *tag)
    at = head.find(pattern + vr, 132)
    if at >= 0:
        (length,) = struct.unpack_from("<H", head, at + 6)
    else:
        at = head.find(pattern, 132, len(head) - 8)
        if at < 0:
            return b""
        (length,) = struct.unpack_from("<I", head, at + 4)
    return head[at + 8 : at + 8 + length] if length <= LONGEST_VALUE else b""


def secondary_capture(study: dict[tuple[int, int], bytes]) -> bytes:
    """A whole DICOM file: one 8 x 8 image in a series of its own, of the study that :func:`read_study` found."""
    now = time.localtime()
    sop_uid = new_uid()
    attributes: dict[tuple[int, int], tuple[bytes, str | int | bytes]] = {
        (0x0008, 0x0016): (b"UI", SECONDARY_CAPTURE),
        (0x0008, 0x0018): (b"UI", sop_uid),
        (0x0008, 0x0023): (b"DA", time.strftime("%Y%m%d", now)),
        (0x0008, 0x0033): (b"TM", time.strftime("%H%M%S", now)),
        (0x0008, 0x0060): (b"CS", "OT"),
        (0x0008, 0x0064): (b"CS", "WSD"),
        (0x0008, 0x0070): (b"LO", "airflow-monai"),
        (0x0008, 0x103E): (b"LO", "no-op MAP"),
        (0x0020, 0x000E): (b"UI", new_uid()),
        (0x0020, 0x0011): (b"IS", "9000"),
        (0x0020, 0x0013): (b"IS", "1"),
        (0x0020, 0x0020): (b"CS", ""),
        (0x0028, 0x0002): (b"US", 1),
        (0x0028, 0x0004): (b"CS", "MONOCHROME2"),
        (0x0028, 0x0010): (b"US", SIDE),
        (0x0028, 0x0011): (b"US", SIDE),
        (0x0028, 0x0100): (b"US", 8),
        (0x0028, 0x0101): (b"US", 8),
        (0x0028, 0x0102): (b"US", 7),
        (0x0028, 0x0103): (b"US", 0),
        (0x7FE0, 0x0010): (b"OB", bytes(range(0, 256, 4))),
    }
    attributes.update({tag: (vr, study.get(tag, b"")) for tag, vr in COPIED.items()})
    if not study.get(SPECIFIC_CHARACTER_SET):
        del attributes[SPECIFIC_CHARACTER_SET]
    if not study.get(STUDY_INSTANCE_UID):
        attributes[STUDY_INSTANCE_UID] = (b"UI", new_uid())
    return _file_meta(sop_uid) + b"".join(_element(*tag, *attributes[tag]) for tag in sorted(attributes))


def _file_meta(sop_uid: str) -> bytes:
    meta = b"".join(
        _element(*attribute)
        for attribute in (
            (0x0002, 0x0001, b"OB", b"\0\1"),
            (0x0002, 0x0002, b"UI", SECONDARY_CAPTURE),
            (0x0002, 0x0003, b"UI", sop_uid),
            (0x0002, 0x0010, b"UI", EXPLICIT_LITTLE_ENDIAN),
            (0x0002, 0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        )
    )
    length = struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(meta))
    return b"\0" * 128 + b"DICM" + length + meta


def _element(group: int, element: int, vr: bytes, value: str | int | bytes) -> bytes:
    """One data element, padded to even length as its VR wants (PS3.5 section 6.2)."""
    if isinstance(value, int):
        data = struct.pack("<H", value)
    elif isinstance(value, str):
        data = value.encode("ascii")
    else:
        data = value
    if len(data) % 2:
        data += b"\0" if vr in (b"UI", b"OB") else b" "
    head = struct.pack("<HH2s", group, element, vr)
    if vr in LONG_VRS:
        return head + b"\0\0" + struct.pack("<I", len(data)) + data
    return head + struct.pack("<H", len(data)) + data
