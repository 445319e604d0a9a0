"""The quick MAP writes a DICOM file that others take, and fails in the ways it is asked to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from airflow_monai.local.phantom import StudyInfo, generate
from tests.conftest import require
from tests.fixtures_maps import MAPS_FOLDER, run_image, run_map


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyInfo:
    return generate(tmp_path_factory.mktemp("study"), slices=2, rows=32, patient_name="Müller^Änne")


def test_result_belongs_to_the_study_and_is_new_each_time(tmp_path: Path, study: StudyInfo) -> None:
    results = []
    for run in ("one", "two"):
        done = run_map("noop", study.folder, tmp_path / run)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / run / "metadata.json").read_text()) == {"volume_ml": 1234, "ok": True}
        results.append(pydicom.dcmread(tmp_path / run / "result.dcm"))
    for ds in results:
        assert (ds.StudyInstanceUID, ds.PatientID, ds.PatientName) == (study.study_uid, study.patient_id, "Müller^Änne")
        assert ds.pixel_array.shape == (8, 8)
    assert results[0].SOPInstanceUID != results[1].SOPInstanceUID
    assert results[0].SeriesInstanceUID != results[1].SeriesInstanceUID


def test_result_without_any_input_is_valid_too(tmp_path: Path) -> None:
    require("dcmtk")
    assert run_map("noop", tmp_path / "nothing", tmp_path / "out").returncode == 0
    dumped = subprocess.run(["dcmdump", "-q", str(tmp_path / "out" / "result.dcm")], capture_output=True, text=True)
    assert (dumped.returncode, dumped.stderr) == (0, "")


def test_implicit_vr_input_is_understood(tmp_path: Path, study: StudyInfo) -> None:
    ds = pydicom.dcmread(study.files[0])
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    (tmp_path / "in").mkdir()
    ds.save_as(tmp_path / "in" / "image.dcm", implicit_vr=True, little_endian=True)
    assert run_map("noop", tmp_path / "in", tmp_path / "out").returncode == 0
    assert pydicom.dcmread(tmp_path / "out" / "result.dcm").StudyInstanceUID == study.study_uid


def test_needs_no_module_that_python_minimal_lacks(tmp_path: Path) -> None:
    app = str(MAPS_FOLDER / "noop" / "app")
    script = (
        f"import sys; before = set(sys.modules); sys.path.insert(0, {app!r}); sys.argv[1:] = ['-o', sys.argv[2]]\n"
        f"try: exec(compile(open({app!r} + '/__main__.py').read(), 'app', 'exec'))\n"
        "except SystemExit: pass\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-c", script, "x", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert set(done.stdout.splitlines()[-1].split()) <= {"dicom", "struct", "_struct", "time"}


@pytest.mark.parametrize(
    ("mode", "exit_code", "outputs"),
    [("ok", 0, 2), ("exit7", 7, 0), ("no-output", 0, 0), ("spam", 0, 2), ("leak", 0, 2), ("bogus", 2, 0)],
)
def test_modes(tmp_path: Path, study: StudyInfo, mode: str, exit_code: int, outputs: int) -> None:
    done = run_map("noop", study.folder, tmp_path / "out", {"NOOP_MODE": mode})
    assert done.returncode == exit_code
    assert len(list(tmp_path.glob("out/*"))) == outputs
    assert ("Müller^Änne" in done.stdout) == (mode == "leak")
    assert (len(done.stdout.splitlines()) > 10_000) == (mode == "spam")


def test_memory_mode_dies_where_the_address_space_is_limited(tmp_path: Path) -> None:
    app = str(MAPS_FOLDER / "noop" / "app")
    command = f"ulimit -v 300000; exec {sys.executable} -B {app} -o {tmp_path}/out"
    done = subprocess.run(["bash", "-c", command], env={"NOOP_MODE": "memory"}, capture_output=True, timeout=180)
    assert done.returncode == -9


@pytest.mark.docker
def test_image(tmp_path: Path, study: StudyInfo, map_images: dict[str, str]) -> None:
    tag = map_images["noop"]
    done = run_image(tag, study.folder, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert pydicom.dcmread(tmp_path / "out" / "result.dcm").StudyInstanceUID == study.study_uid
    assert run_image(tag, study.folder, tmp_path / "o", environment={"NOOP_MODE": "exit7"}).returncode == 7
    killed = run_image(tag, study.folder, tmp_path / "o", "--memory", "64m", environment={"NOOP_MODE": "memory"})
    assert killed.returncode == 137
