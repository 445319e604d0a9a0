"""The phantom is a CT series that other software takes for one, with lungs where lungs are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from airflow_monai.local.phantom import Lung, generate, truth
from tests.conftest import require

# attributes of the CT Image IOD (PS3.3 section A.3): type 1, or of type 2 and 3 but needed by every viewer
WITH_VALUE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "PatientPosition",
)
# type 2
PRESENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "SeriesNumber",
    "PositionReferenceIndicator",
    "Manufacturer",
    "InstanceNumber",
    "AcquisitionNumber",
    "SliceThickness",
    "KVP",
)


def test_dcmdump_accepts_every_image(tmp_path: Path) -> None:
    require("dcmtk")
    study = generate(tmp_path, slices=4, rows=64)
    done = subprocess.run(["dcmdump", "-q", *map(str, study.files)], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""


def test_full_size_study_has_all_attributes_of_a_ct(tmp_path: Path) -> None:
    study = generate(tmp_path, slices=2)
    ds = pydicom.dcmread(study.files[0])
    assert (ds.Rows, ds.Columns, ds.Modality, ds.BodyPartExamined) == (512, 512, "CT", "CHEST")
    assert ds.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert [keyword for keyword in WITH_VALUE if ds.get(keyword) in (None, "")] == []
    assert [keyword for keyword in PRESENT if keyword not in ds] == []


def test_slices_form_one_regular_stack(tmp_path: Path) -> None:
    study = generate(tmp_path, slices=12, rows=32)
    images = [pydicom.dcmread(path) for path in study.files]
    heights = [float(ds.ImagePositionPatient[2]) for ds in images]
    assert np.allclose(np.diff(heights), 300 / 12)
    assert len({ds.SOPInstanceUID for ds in images}) == 12
    assert {ds.SeriesInstanceUID for ds in images} == {study.series_uid}
    assert {ds.StudyInstanceUID for ds in images} == {study.study_uid}
    assert study.sop_uids == tuple(ds.SOPInstanceUID for ds in images)


def test_lungs_are_air_where_the_truth_says_and_right_lung_is_on_the_patients_right(tmp_path: Path) -> None:
    study = generate(tmp_path, slices=10, rows=128, seed=3)
    images = [pydicom.dcmread(path) for path in study.files]
    hu = np.stack([ds.pixel_array + float(ds.RescaleIntercept) for ds in images])
    labels = truth(slices=10, rows=128)
    assert np.median(hu[labels > 0]) == pytest.approx(-840, abs=10)
    columns = {lung: np.nonzero(labels == lung)[2].mean() for lung in Lung}
    assert columns[Lung.RIGHT] < 64 < columns[Lung.LEFT]  # x grows to the patient's left
    voxel_ml = float(np.prod(images[0].PixelSpacing)) * 30 / 1000
    assert study.left_ml == pytest.approx(np.count_nonzero(labels == Lung.LEFT) * voxel_ml, rel=1e-4)
    assert study.volume_ml == pytest.approx(np.count_nonzero(labels) * voxel_ml, rel=1e-4)


def test_volumes_hardly_depend_on_the_grid(tmp_path: Path) -> None:
    coarse = generate(tmp_path / "coarse", slices=30, rows=64)
    fine = generate(tmp_path / "fine", slices=60, rows=256)
    assert coarse.left_ml == pytest.approx(fine.left_ml, rel=0.03)
    assert coarse.right_ml == pytest.approx(fine.right_ml, rel=0.03)


def test_each_call_is_another_study_and_the_seed_only_sets_the_noise(tmp_path: Path) -> None:
    one = generate(tmp_path / "one", slices=2, rows=32, seed=5)
    two = generate(tmp_path / "two", slices=2, rows=32, seed=5)
    assert one.study_uid != two.study_uid
    assert not set(one.sop_uids) & set(two.sop_uids)
    assert pydicom.dcmread(one.files[1]).PixelData == pydicom.dcmread(two.files[1]).PixelData


def test_a_second_series_can_join_a_study(tmp_path: Path) -> None:
    first = generate(tmp_path / "a", slices=1, rows=16, patient_id="P1")
    second = generate(tmp_path / "b", slices=1, rows=16, patient_id="P1", study_uid=first.study_uid)
    assert second.study_uid == first.study_uid
    assert second.series_uid != first.series_uid


@pytest.mark.parametrize(("slices", "rows"), [(0, 64), (1, 4), (1, 5000)])
def test_an_impossible_size_is_refused(tmp_path: Path, slices: int, rows: int) -> None:
    with pytest.raises(ValueError, match=f"slices={slices}, rows={rows}"):
        generate(tmp_path, slices=slices, rows=rows)


def test_command_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "airflow_monai.local.phantom",
        str(tmp_path / "out"),
        "--slices",
        "3",
        "--rows",
        "32",
    ]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert told["files"] == 3 == len(list((tmp_path / "out").glob("*.dcm")))
