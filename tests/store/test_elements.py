"""The header scanner against pydicom, and against nonsense."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_monai.store.elements import DamagedDataSet, Encoding, short_elements
from airflow_monai.store.part10 import NotIdentified, check_uid, file_elements, file_meta, identify

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def _readable(path: Path) -> pydicom.Dataset | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            declared = ds.file_meta.TransferSyntaxUID.is_implicit_VR
            return ds if path.read_bytes()[128:136] == b"DICM\2\0\0\0" and ds.is_implicit_VR == declared else None
        except Exception:  # noqa: BLE001 - broken on purpose
            return None


DAMAGED = {"SC_rgb_jpeg.dcm", "rtplan_truncated.dcm"}  # on purpose: pydicom guesses where we refuse
FILES = [
    path
    for path in sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))
    if path.name not in DAMAGED and _readable(path)
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_same_short_elements_as_pydicom(path: Path) -> None:
    ds = _readable(path)
    assert ds is not None
    expected = {
        int(tag): raw.value or b""
        for tag in ds.keys()  # noqa: SIM118 - pydicom's keys give tags, not keywords
        if (raw := ds.get_item(tag)) and raw.VR != "SQ" and tag.element and len(raw.value or b"") <= 1024
    }
    found = {element.tag: element.value for element in file_elements(memoryview(path.read_bytes()))}
    for tag, value in expected.items():
        if isinstance(value, bytes) and tag < 0x7FE00000:
            assert found.get(tag, value) == value
    missing = {tag for tag in expected if tag < 0x7FE00000} - set(found)
    assert not missing, sorted(f"{tag:08X}" for tag in missing)


@given(st.binary(max_size=400), st.sampled_from([EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]))
@settings(max_examples=400, deadline=None)
def test_nonsense_is_damage_and_nothing_else(data: bytes, syntax: str) -> None:
    try:
        list(short_elements(data, Encoding.of(syntax)))
    except DamagedDataSet:
        pass


def test_deeply_nested_sequences_do_no_harm() -> None:
    nested = struct.pack("<HHL", 0x0008, 0x1111, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(DamagedDataSet):
        list(short_elements(nested * 100_000, Encoding.of(IMPLICIT)))


def test_nesting_without_end_costs_no_memory() -> None:
    """Eight bytes of a file would else be eight of memory, for as many gigabytes as a sender cares to send."""
    begin = struct.pack("<HHL", 0x0008, 0x1111, 0xFFFFFFFF)
    data = begin + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) * 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(DamagedDataSet, match="nested more than"):
            list(short_elements(data, Encoding.of(IMPLICIT)))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_deflated_bomb_is_read_in_part_only() -> None:
    import zlib

    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflater.compress(bytes(50_000_000)) + deflater.flush()
    with pytest.raises(NotIdentified):
        identify(bomb, 0, "1.2.840.10008.1.2.1.99")


@pytest.mark.parametrize("uid", ["1", "1.2.840.10008.1.2", "0.0.1", "2.25.007", "1" * 64])
def test_good_uids(uid: str) -> None:
    assert check_uid(uid, "UID") == uid


@pytest.mark.parametrize("uid", ["", ".", "..", "1.", ".1", "1..2", "1" * 65, "a", "1 2", "1/2", "1\n", "１", "-1"])
def test_bad_uids_are_refused_without_being_repeated(uid: str) -> None:
    with pytest.raises(NotIdentified) as caught:
        check_uid(uid, "StudyInstanceUID")
    assert str(caught.value) == "StudyInstanceUID is not a valid UID"


def test_the_file_meta_information_is_what_pydicom_expects(tmp_path: Path) -> None:
    data = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 4) + b"ID1 "
    (tmp_path / "x.dcm").write_bytes(file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT) + data)
    ds = pydicom.dcmread(tmp_path / "x.dcm")
    assert ds.PatientID == "ID1"
    assert (ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPInstanceUID) == (EXPLICIT, "1.2.3")
    assert (
        ds.file_meta.FileMetaInformationGroupLength
        == len(file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT)) - 144
    )
