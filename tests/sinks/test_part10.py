"""What is read of a DICOM file before it is sent, in every encoding, and of files that are none."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from airflow_monai.errors import ExportError
from airflow_monai.sinks.dimse.conversion import EXPLICIT_LITTLE, IMPLICIT_LITTLE, converted
from airflow_monai.sinks.part10 import read_head, seek_dataset
from tests.pacs import make_images

FILES = [
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",
    "rtplan.dcm",
    "MR_small_implicit.dcm",
]


@pytest.mark.parametrize("name", FILES)
def test_it_reads_what_pydicom_reads(name: str) -> None:
    found = get_testdata_file(name, download=False)
    if found is None:
        pytest.skip("pydicom came without this file")
    path = Path(str(found))
    head, ds = read_head(path), dcmread(path)
    assert head is not None
    assert head.sop_instance_uid == ds.SOPInstanceUID
    assert head.sop_class_uid == ds.SOPClassUID
    assert head.study_instance_uid == ds.StudyInstanceUID
    assert head.transfer_syntax_uid == ds.file_meta.TransferSyntaxUID
    assert head.patient_id == str(ds.get("PatientID", "")).strip()


def test_a_patient_id_in_another_character_set(tmp_path: Path) -> None:
    (path,) = make_images(tmp_path, 1)
    ds = dcmread(path)
    ds.SpecificCharacterSet, ds.PatientID = "ISO_IR 192", "Müller-7"
    ds.save_as(path)
    head = read_head(path)
    assert head is not None
    assert head.patient_id == "Müller-7"


def test_a_wrong_group_length_is_not_believed(tmp_path: Path) -> None:
    (path,) = make_images(tmp_path, 1)
    data = bytearray(path.read_bytes())
    with open(path, "rb") as file:
        start = seek_dataset(file).tell()
    data[140:144] = b"\x07\0\0\0"
    path.write_bytes(data)
    with open(path, "rb") as file:
        assert seek_dataset(file).tell() == start


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 500])
def test_other_files_are_no_dicom(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert read_head(path) is None


def test_a_file_that_breaks_off_cannot_be_read(tmp_path: Path) -> None:
    (path,) = make_images(tmp_path, 1)
    whole = path.read_bytes()
    for size in (133, 140, 150, 400, 450):
        path.write_bytes(whole[:size])
        try:
            head = read_head(path)
        except ExportError as error:
            assert "cannot be read" in str(error)
        else:
            assert head is None or not (head.sop_instance_uid and head.study_instance_uid)


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def with_elements(tmp_path: Path, *elements: bytes) -> Path:
    """An image whose data set is only these elements, in explicit VR little endian."""
    (path,) = make_images(tmp_path, 1)
    with open(path, "rb") as file:
        head = path.read_bytes()[: seek_dataset(file).tell()]
    path.write_bytes(head + b"".join(elements))
    return path


def test_values_that_pydicom_doubts_are_not_quoted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They may name the patient, and warnings go to the task's log."""
    path = with_elements(
        tmp_path,
        element(0x0008, 0x0005, b"CS", b"ISO_IR 192"),
        element(0x0008, 0x0060, b"CS", b"Doe^Jane lower"),
        element(0x0010, 0x0020, b"LO", b"Doe\xff\x1b-47"),
        element(0x0010, 0x0030, b"DA", b"17 April 1956 "),
        element(0x0020, 0x0013, b"IS", b"Doe123"),
    )
    with warnings.catch_warnings(record=True) as said, caplog.at_level("DEBUG"):
        warnings.simplefilter("always")
        for reader in (lambda path: converted(path, EXPLICIT_LITTLE, IMPLICIT_LITTLE), read_head):
            try:
                reader(path)
            except ExportError as error:
                assert "Doe" not in str(error)
                assert "cannot be read" in str(error)
    assert not [str(warning.message) for warning in said if "Doe" in str(warning.message)]
    assert not [record.getMessage() for record in caplog.records if "Doe" in record.getMessage()]


def test_a_character_set_that_is_none_cannot_be_read(tmp_path: Path) -> None:
    path = with_elements(
        tmp_path, element(0x0008, 0x0005, b"CS", b"hex "), element(0x0010, 0x0020, b"LO", b"M\xfcller-7")
    )
    try:
        head = read_head(path)
    except ExportError as error:
        assert "cannot be read" in str(error)
    else:
        assert head is not None
