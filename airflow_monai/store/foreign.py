"""DICOM files of other writers (PS3.10): which are images, whose, and as the gateway keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_monai.store.elements import DamagedDataSet, Encoding, short_elements, whole_until
from airflow_monai.store.part10 import Identity, NotIdentified, data_set_of, file_meta, identify

HEAD_BYTES = 132
"""So much of a file tells whether it is worth looking at the rest."""
_DICOMDIR = b"1.2.840.10008.1.3.10"
_META_SOP_CLASS = 0x00020002
_NAMED_DICOM = (".dcm", ".dicom", ".ima")
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"Rar!")
_LOOK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """An image in a file.

    :param data_at: where its data set begins there.
    :param size: of the file that the gateway keeps of it, in bytes.
    """

    identity: Identity
    transfer_syntax: str
    data_at: int
    size: int

    @property
    def meta(self) -> bytes:
        """What the gateway's file begins with, as if the image had come by C-STORE; the data set follows as it is."""
        return file_meta(self.identity.sop_class, self.identity.sop, self.transfer_syntax)


def begins_as_dicom(head: bytes) -> bool:
    """Whether a file that begins so has the header of PS3.10."""
    return head[128:HEAD_BYTES] == b"DICM"


def is_archive(head: bytes) -> bool:
    """Whether a file that begins so may hold other files."""
    return head.startswith(_ARCHIVES)


def problem_of_stranger(name: str, head: bytes) -> str:
    """What is wrong with a file without the header of PS3.10; empty where it can be passed over as no image at all.

    :param head: its first :data:`HEAD_BYTES` bytes.
    """
    if Path(name).suffix.lower() in _NAMED_DICOM:
        return "it is named as DICOM but does not begin as a DICOM file (PS3.10)"
    if len(head) > 8 and head[0] in (2, 8) and head[1] == 0 and head[3] == 0:
        return "it seems to be DICOM without the header that a file must begin with (PS3.10)"
    return ""


def recognise(data: bytes | memoryview) -> Found | None:
    """The image in a file that begins as DICOM; None for the directory of a medium (DICOMDIR).

    :raises NotIdentified: when it does not say which image it is.
    :raises DamagedDataSet: when it cannot be read.
    """
    syntax, start = data_set_of(data if isinstance(data, memoryview) else memoryview(data))
    if not syntax:
        raise NotIdentified("its meta information names no transfer syntax")
    if _is_dicomdir(data[:start]):
        return None
    who = identify(data, start, syntax)
    return Found(who, syntax, start, len(file_meta(who.sop_class, who.sop, syntax)) + len(data) - start)


def check_whole(data: memoryview, start: int, transfer_syntax: str) -> None:
    """Look whether a file breaks off, as one that was copied half. Zeros at its end do no harm.

    :param start: where its data set begins.
    :raises DamagedDataSet: when it does.
    """
    end = whole_until(data, Encoding.of(transfer_syntax), start)
    if any(bytes(data[end : end + _LOOK_BYTES])):
        raise DamagedDataSet(f"it breaks off: its last whole element ends at byte {end} of {len(data)}")


def _is_dicomdir(meta: bytes | memoryview) -> bool:
    elements = short_elements(meta, Encoding.of(""), start=HEAD_BYTES)
    return any(one.tag == _META_SOP_CLASS and one.value.strip(b" \0") == _DICOMDIR for one in elements)
