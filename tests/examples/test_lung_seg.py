"""lung-seg finds the phantom's lungs in the patient's coordinates, whatever the order and direction of the slices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from airflow_monai.local.phantom import FIELD_OF_VIEW_MM, LENGTH_MM, Lung, StudyInfo, generate, truth
from tests.conftest import require
from tests.fixtures_maps import MAPS_FOLDER, Segmented, run_image, run_map
from tests.pacs import free_port as another_port

SLICES, ROWS = 30, 128
PIXEL_MM, SLICE_MM = FIELD_OF_VIEW_MM / ROWS, LENGTH_MM / SLICES


def _in_phantom_grid(seg_path: Path) -> np.ndarray:
    """Put every set voxel of a SEG where its position and orientation say, on the grid of the phantom (z, y, x)."""
    seg = pydicom.dcmread(seg_path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    spacing = [float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing]
    labels = np.zeros((SLICES, ROWS, ROWS), dtype=np.uint8)
    sides = {int(item.SegmentNumber): Lung[item.SegmentLabel.split()[0].upper()] for item in seg.SegmentSequence}
    for item, frame in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        position = np.array(item.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        rows, columns = np.nonzero(frame)
        points = (
            position + np.outer(columns * spacing[1], orientation[:3]) + np.outer(rows * spacing[0], orientation[3:])
        )
        x, y = ((points[:, axis] + FIELD_OF_VIEW_MM / 2) / PIXEL_MM - 0.5 for axis in (0, 1))
        z = (points[:, 2] + LENGTH_MM / 2) / SLICE_MM - 0.5
        index = tuple(np.rint(axis).astype(int) for axis in (z, y, x))
        labels[index] = sides[int(item.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
    return labels


def _dice(found: np.ndarray, lung: Lung) -> float:
    true = truth(slices=SLICES, rows=ROWS) == lung
    ours = found == lung
    return 2 * np.count_nonzero(ours & true) / (np.count_nonzero(ours) + np.count_nonzero(true))


def _assert_found(output: Path) -> None:
    found = _in_phantom_grid(output / "seg.dcm")
    for lung in Lung:
        assert _dice(found, lung) > 0.95, lung


def _volume(study: StudyInfo) -> np.ndarray:
    return np.stack([pydicom.dcmread(path).pixel_array for path in study.files])


def _write_planes(
    study: StudyInfo,
    folder: Path,
    planes: np.ndarray,
    orientation: list[int],
    positions: list[list[float]],
    mm: list[float],
) -> Path:
    """The voxels of a study as another series: other planes, other directions."""
    folder.mkdir()
    for index, (plane, position) in enumerate(zip(planes, positions, strict=True)):
        ds = pydicom.dcmread(study.files[0])
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.SeriesInstanceUID = f"{study.series_uid}.1"
        ds.InstanceNumber = len(planes) - index
        ds.Rows, ds.Columns = plane.shape
        ds.ImageOrientationPatient, ds.ImagePositionPatient, ds.PixelSpacing = orientation, position, mm
        ds.PixelData = np.ascontiguousarray(plane).tobytes()
        ds.save_as(folder / f"{index * 7919 % 1000:04d}.dcm")
    return folder


@pytest.fixture(scope="module")
def study(segmented: Segmented) -> StudyInfo:
    return segmented.study


def test_lungs_and_volumes_match_the_truth(segmented: Segmented) -> None:
    _assert_found(segmented.output)
    numbers = json.loads((segmented.output / "metadata.json").read_text())
    assert numbers["left_ml"] == pytest.approx(segmented.study.left_ml, rel=0.03)
    assert numbers["right_ml"] == pytest.approx(segmented.study.right_ml, rel=0.03)
    assert numbers["volume_ml"] == pytest.approx(numbers["left_ml"] + numbers["right_ml"], abs=0.11)
    assert numbers["slices"] == SLICES
    assert numbers["algorithm"].startswith("lung-seg 1.0.0")


def test_seg_refers_to_its_images_and_names_its_segments(segmented: Segmented) -> None:
    seg = pydicom.dcmread(segmented.output / "seg.dcm")
    image = pydicom.dcmread(segmented.study.files[0])
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "AccessionNumber"):
        assert seg[keyword].value == image[keyword].value
    references = seg.ReferencedSeriesSequence[0]
    assert references.SeriesInstanceUID == segmented.study.series_uid
    uids = {item.ReferencedSOPInstanceUID for item in references.ReferencedInstanceSequence}
    assert uids == set(segmented.study.sop_uids)
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in seg.SegmentSequence]
    assert [item.CodeValue for item in types] == ["39607008", "39607008"]  # SCT Lung
    sides = [item.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning for item in types]
    assert sides == ["Left", "Right"]


def test_report_holds_the_volumes_and_dcmtk_reads_it(segmented: Segmented) -> None:
    require("dcmtk")
    command = ["dsrdump", str(segmented.output / "sr.dcm")]
    shown = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert shown.returncode == 0, shown.stderr
    numbers = json.loads((segmented.output / "metadata.json").read_text())
    for side in ("left_ml", "right_ml"):
        assert str(numbers[side]) in shown.stdout


def test_flipped_images_keep_left_and_right_of_the_patient(study: StudyInfo, tmp_path: Path) -> None:
    first, last = -FIELD_OF_VIEW_MM / 2 + PIXEL_MM / 2, FIELD_OF_VIEW_MM / 2 - PIXEL_MM / 2
    heights = [(index + 0.5) * SLICE_MM - LENGTH_MM / 2 for index in range(SLICES)]
    planes = _volume(study)[::-1, :, ::-1]
    positions = [[last, first, height] for height in reversed(heights)]
    source = _write_planes(study, tmp_path / "in", planes, [-1, 0, 0, 0, 1, 0], positions, [PIXEL_MM, PIXEL_MM])
    assert run_map("lung-seg", source, tmp_path / "out").returncode == 0
    _assert_found(tmp_path / "out")


def test_coronal_images(study: StudyInfo, tmp_path: Path) -> None:
    first = -FIELD_OF_VIEW_MM / 2 + PIXEL_MM / 2
    planes = _volume(study).transpose(1, 0, 2)[:, ::-1]
    positions = [[first, first + index * PIXEL_MM, LENGTH_MM / 2 - SLICE_MM / 2] for index in range(ROWS)]
    source = _write_planes(study, tmp_path / "in", planes, [1, 0, 0, 0, 0, -1], positions, [SLICE_MM, PIXEL_MM])
    assert run_map("lung-seg", source, tmp_path / "out").returncode == 0
    _assert_found(tmp_path / "out")


def test_lungs_that_touch_are_parted(study: StudyInfo, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    middle = np.s_[ROWS // 2 - 3 : ROWS // 2 + 3, ROWS // 2 - 12 : ROWS // 2 + 12]
    for index, path in enumerate(study.files):
        ds = pydicom.dcmread(path)
        if 14 <= index < 17:
            pixels = ds.pixel_array.copy()
            pixels[middle] = 1024 - 840
            ds.PixelData = pixels.tobytes()
        ds.save_as(source / path.name)
    assert run_map("lung-seg", source, tmp_path / "out").returncode == 0
    _assert_found(tmp_path / "out")


def test_the_largest_ct_series_is_taken_and_the_rest_ignored(study: StudyInfo, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for path in study.files:
        os.link(path, tmp_path / "in" / "deep" / path.name)
    generate(tmp_path / "in" / "scout", slices=3, rows=64, study_uid=study.study_uid)
    (tmp_path / "in" / "readme.txt").write_text("not DICOM")
    (tmp_path / "in" / "empty").touch()
    assert run_map("lung-seg", tmp_path / "in", tmp_path / "out").returncode == 0
    _assert_found(tmp_path / "out")


def test_slices_sent_twice_count_once(study: StudyInfo, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for path in study.files:
        ds = pydicom.dcmread(path)
        ds.save_as(tmp_path / "in" / path.name)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.save_as(tmp_path / "in" / f"again-{path.name}")
    assert run_map("lung-seg", tmp_path / "in", tmp_path / "out").returncode == 0
    assert json.loads((tmp_path / "out" / "metadata.json").read_text())["slices"] == SLICES
    _assert_found(tmp_path / "out")


@pytest.mark.parametrize("value", [None, "", "?"])
def test_a_careless_header_does_not_cost_the_result(tmp_path: Path, value: str | None) -> None:
    for path in generate(tmp_path / "in", slices=10, rows=64).files:
        ds = pydicom.dcmread(path)
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyID",
            "StudyTime",
        ):
            if value is None:
                del ds[keyword]
            else:
                with pydicom.config.disable_value_validation():
                    setattr(ds, keyword, value)
        ds.save_as(path)
    done = run_map("lung-seg", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr


def _no_ct(folder: Path) -> None:
    (folder / "note.txt").write_text("hello")


def _mr(folder: Path) -> None:
    pydicom.dcmread(get_testdata_file("MR_small.dcm")).save_as(folder / "mr.dcm")


def _ct_of_something_else(folder: Path) -> None:
    pydicom.dcmread(get_testdata_file("CT_small.dcm")).save_as(folder / "ct.dcm")


def _broken_pixels(folder: Path) -> None:
    for path in generate(folder, slices=2, rows=32).files:
        ds = pydicom.dcmread(path)
        ds.PixelData = ds.PixelData[:100]
        ds.save_as(path)


@pytest.mark.parametrize(
    ("prepare", "exit_code", "name"),
    [
        (_no_ct, 3, "NoCt"),
        (_mr, 3, "NoCt"),
        (_ct_of_something_else, 4, "NoLungs"),
        (_broken_pixels, 5, "Undecodable"),
    ],
)
def test_what_cannot_be_segmented_is_told(tmp_path: Path, prepare, exit_code: int, name: str) -> None:
    (tmp_path / "in").mkdir()
    prepare(tmp_path / "in")
    done = run_map("lung-seg", tmp_path / "in", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert (done.returncode, told["exception"]) == (exit_code, name)
    assert told["exception_message"] in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*.dcm"))


@pytest.mark.parametrize("break_it", [False, True])
def test_says_nothing_of_the_patient(tmp_path: Path, break_it: bool) -> None:
    study = generate(tmp_path / "in", slices=10, rows=64, patient_name="SECRETNAME^X", patient_id="SECRETID")
    for path in study.files:  # values that pydicom warns of, and one that it fails on
        ds = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            ds.PatientBirthDate, ds.AccessionNumber = "SECRETDATE", "SECRETNUMBERTHATISTOOLONG"
            if break_it:
                ds["SliceThickness"] = pydicom.DataElement("SliceThickness", "DS", "1")
                ds["SliceThickness"]._value = "SECRETFLOAT"
                ds["RescaleSlope"]._value = "SECRETSLOPE"
            ds.save_as(path)
    done = run_map("lung-seg", tmp_path / "in", tmp_path / "out")
    assert done.returncode == (1 if break_it else 0), done.stderr
    assert "SECRET" not in done.stdout + done.stderr + (tmp_path / "out" / "metadata.json").read_text()


@pytest.mark.parametrize(
    "names", [("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"), ("MONAI_INPUTPATH", "MONAI_OUTPUTPATH")]
)
def test_folders_from_the_environment_of_both_generations(tmp_path: Path, names: tuple[str, str]) -> None:
    generate(tmp_path / "in", slices=6, rows=64)
    environment = dict(zip(names, (str(tmp_path / "in"), str(tmp_path / "out")), strict=True))
    command = [sys.executable, "-B", str(MAPS_FOLDER / "lung-seg" / "app")]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"seg.dcm", "sr.dcm", "metadata.json"}


@pytest.mark.docker
def test_image_finds_the_same_in_a_locked_container(
    segmented: Segmented, tmp_path: Path, map_images: dict[str, str]
) -> None:
    limits = ("--memory", "2g", "--cpus", "1", "--pids-limit", "64")
    done = run_image(map_images["lung-seg"], segmented.study.folder, tmp_path / "out", *limits)
    assert done.returncode == 0, done.stderr
    _assert_found(tmp_path / "out")
    ours, theirs = (json.loads((f / "metadata.json").read_text()) for f in (segmented.output, tmp_path / "out"))
    assert ours == theirs
    (tmp_path / "nothing").mkdir()
    assert run_image(map_images["lung-seg"], tmp_path / "nothing", tmp_path / "none").returncode == 3


@pytest.mark.docker
def test_input_that_the_containers_user_may_not_read_is_told(tmp_path: Path, map_images: dict[str, str]) -> None:
    (tmp_path / "in" / "closed").mkdir(parents=True, mode=0o700)
    for name in ("lung-seg", "noop"):
        done = run_image(map_images[name], tmp_path / "in", tmp_path / name)
        assert done.returncode == {"lung-seg": 6, "noop": 1}[name]
        assert {"lung-seg": "may not be read by user 1000", "noop": "PermissionError"}[name] in done.stderr


@contextmanager
def _orthanc(folder: Path, dicom_port: int, http_port: int) -> Iterator[None]:
    """A bare Orthanc, until the block ends."""
    database = str(folder / "db")
    settings = {"StorageDirectory": database, "IndexDirectory": database, "Plugins": [], "HttpPort": http_port}
    settings |= {"DicomPort": dicom_port, "DicomAlwaysAllowStore": True, "RemoteAccessAllowed": False}
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("w") as log:
        server = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        for _ in range(600):
            if subprocess.run(["echoscu", "127.0.0.1", str(dicom_port)], capture_output=True).returncode == 0:
                break
            assert server.poll() is None, (folder / "orthanc.log").read_text()
            time.sleep(0.1)
        yield
    finally:
        server.kill()  # asked to end, it takes three seconds
        server.wait(30)


def test_orthanc_accepts_the_results_of_both_maps(segmented: Segmented, tmp_path: Path, free_port: int) -> None:
    require("dcmtk", "orthanc")
    assert run_map("noop", segmented.study.folder, tmp_path / "noop").returncode == 0
    results = [segmented.output / "seg.dcm", segmented.output / "sr.dcm", tmp_path / "noop" / "result.dcm"]
    with _orthanc(tmp_path, dicom_port := another_port(), free_port):
        command = ["storescu", "-R", "127.0.0.1", str(dicom_port), *map(str, results)]
        sent = subprocess.run(command, capture_output=True, text=True)
        assert sent.returncode == 0, sent.stderr
