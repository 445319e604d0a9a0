"""`make demo` as a user runs it: a whole run, a PACS that is not there, Ctrl-C in the middle, a bad folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from airflow_monai.local import demo as local_demo
from airflow_monai.local.phantom import generate
from airflow_monai.local.processes import wait_until
from airflow_monai.local.stack import project_folder
from tests.conftest import PARTS

FIELDS = {
    "runner", "runner_reason", "payload_id", "dag_id", "run_id", "images_received", "tasks", "exported", "picture",
    "seconds",
}  # fmt: skip
SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"


def make(target: str, folder: Path, **variables: str) -> subprocess.Popen[str]:
    """Start `make <target>` with its state in this folder and the Python of the tests; nothing is installed."""
    (folder / "demo").mkdir(exist_ok=True)
    settings = {
        "PY": sys.executable, "STATE": str(folder / "demo" / "state"), "REPORT": str(folder / "report.json"),
        **variables,
    }  # fmt: skip
    return subprocess.Popen(
        ["make", "--old-file=.venv/.installed-demo", target, *(f"{name}={value}" for name, value in settings.items())],
        cwd=project_folder(), env=_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def _environment() -> Mapping[str, str]:
    """Without what a `make test` around this test hands on to another make."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


def left_behind(folder: Path) -> list[str]:
    """Processes whose Airflow or data are in this folder, and containers that mount something of it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [process.environ().get("AIRFLOW_HOME", ""), *process.cmdline()]
        except (psutil.Error, OSError):
            continue
        if any(str(folder / "demo") in word for word in words):
            found.append(f"{process.pid} {' '.join(words[1:])}")
    if PARTS["docker"]() is None:
        ids = subprocess.run(["docker", "ps", "-aq"], capture_output=True, text=True, check=True).stdout.split()
        details = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True).stdout if ids else "[]"
        found += [item["Name"] for item in json.loads(details or "[]") if str(folder / "demo") in json.dumps(item)]
    return found


def test_a_study_goes_through_the_whole_chain(tmp_path: Path) -> None:
    with make("demo", tmp_path) as demo:
        output, _ = demo.communicate(timeout=580)
    assert demo.returncode == 0, output
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) == FIELDS
    assert report["images_received"] == 60
    assert report["dag_id"] == "ct-lung" and report["run_id"] == f"monai__{report['payload_id']}"
    assert {task["state"] for task in report["tasks"]} == {"success"}, report["tasks"]
    assert {"route", "segment", "to-pacs", "archive"} <= {task["id"] for task in report["tasks"]}
    assert all(seconds > 0 for seconds in report["seconds"].values()), report["seconds"]
    assert report["seconds"]["receive"] >= 3, "the quiet time is part of it"
    delivered = {(item["sink"], item["status"]) for item in report["exported"]}
    assert delivered == {("PACS", "accepted"), ("ARCHIVE", "accepted")}
    assert len({item["SOPInstanceUID"] for item in report["exported"]}) == 2, "SEG and SR"
    assert Path(report["picture"]).read_bytes().startswith(b"\x89PNG")
    assert report["runner"] == ("docker" if PARTS["docker"]() is None else "process"), report["runner_reason"]
    _check_archive(tmp_path / "demo" / "state" / "archive")
    for line in ("60 of 60 images received", "study complete", "workflow ct-lung started", "task segment: success"):
        assert line in output
    assert f"{report['run_id']} of ct-lung; Airflow is stopped now" in output
    assert left_behind(tmp_path) == []


def _check_archive(folder: Path) -> None:
    from pydicom import dcmread

    assert SEGMENTATION_STORAGE in {dcmread(path).SOPClassUID for path in folder.rglob("*.dcm")}


def test_without_a_pacs_it_fails_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, to give it the sample workflow without its retries, which take a minute."""
    generate(tmp_path / "ct", slices=12, rows=128)
    options = replace(
        local_demo.stack_options("none"), workflows=_without_retries(tmp_path / "specs"), usual_ports=False
    )
    monkeypatch.setattr(local_demo, "stack_options", lambda pacs: options)
    wishes = local_demo.DemoOptions(
        tmp_path / "demo" / "state", study=tmp_path / "ct", runner="process", report=tmp_path / "report.json"
    )
    assert local_demo.Demo(wishes).run() != 0
    output = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images_received"] == 12
    assert "to-pacs" in report["error"]
    assert "task to-pacs: failed" in output
    assert "The demo failed" in output and "All logs:" in output
    assert left_behind(tmp_path) == []


def _without_retries(folder: Path) -> Path:
    text = (project_folder() / "workflow_specs" / "ct-lung.yaml").read_text()
    folder.mkdir()
    (folder / "ct-lung.yaml").write_text(
        text.replace("retries: 1", "retries: 0").replace("quiet_seconds: 3", "quiet_seconds: 1")
    )
    return folder


@pytest.mark.chaos
def test_ctrl_c_ends_everything_also_a_map_that_runs(tmp_path: Path) -> None:
    with make("demo", tmp_path) as demo:
        assert demo.stdout is not None
        seen = []
        deadline = time.monotonic() + 300
        while "task segment: running" not in "".join(seen[-1:]):
            seen.append(demo.stdout.readline())
            assert seen[-1] and time.monotonic() < deadline, "".join(seen)
        os.killpg(demo.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches make and what it started
        output, _ = demo.communicate(timeout=180)
    assert demo.returncode != 0
    assert "interrupted" in output
    assert wait_until(lambda: left_behind(tmp_path) == [], 60), left_behind(tmp_path)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.write_text("not DICOM"), "this is a file"),
        (lambda folder: (folder.mkdir(), (folder / "notes.txt").write_text("not DICOM")), "no DICOM image"),
        (lambda folder: [generate(folder / name, slices=1, rows=8) for name in "ab"], "2 studies"),
    ],
    ids=["missing", "a file", "no DICOM", "several studies"],
)
def test_a_folder_that_is_no_study_is_refused_before_anything_starts(tmp_path: Path, prepare, words: str) -> None:
    prepare(tmp_path / "given")
    with make("demo", tmp_path, STUDY=str(tmp_path / "given")) as demo:
        output, _ = demo.communicate(timeout=180)
    assert demo.returncode != 0
    assert words in output and str(tmp_path / "given") in output
    assert not (tmp_path / "demo" / "state").exists()
