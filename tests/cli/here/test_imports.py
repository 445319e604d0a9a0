"""``airflow monai import``: from a folder into the store and to the runs, with and without a gateway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_monai.cli import commands
from airflow_monai.cli.standalone import main
from airflow_monai.gateway.service import Gateway, GatewayOptions
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_engine import AirflowEngine
from airflow_monai.store.history import newest
from airflow_monai.store.local import LocalStore
from tests.gateway.conftest import wait_for, write_workflow
from tests.gateway.standin import StandInAirflow
from tests.gateway.studies import study


class Here:
    """A store, a workflow folder and an Airflow that the command is told of."""

    def __init__(self, folder: Path, airflow: StandInAirflow, capsys: pytest.CaptureFixture[str]):
        self.capsys = capsys
        self.folder = folder
        self.airflow = airflow
        self.store = LocalStore(folder / "store")
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.getcwd(),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__MONAI__STORE": str(folder / "store"),
            "AIRFLOW__MONAI__WORKFLOW_FOLDER": str(folder / "workflows"),
            "AIRFLOW_CONN_MONAI_AIRFLOW": airflow.connection,
            "AIRFLOW__MONAI__DISK_USED_PERCENT": "100",
            "AIRFLOW__MONAI__DISK_RESERVE": "0",
        }
        write_workflow(folder / "workflows", quiet=60)

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "airflow_monai", *words]
        return subprocess.Popen(
            command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output and error of the command."""
        with pytest.raises(SystemExit) as ended:
            main(words)
        told = self.capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    standin = StandInAirflow()
    here = Here(tmp_path, standin, capsys)
    for name, value in here.environment.items():
        monkeypatch.setenv(name, value)
    yield here
    standin.stop()


def test_the_command_is_there() -> None:
    names = {command.name for command in commands.MONAI.commands}
    assert {"import", "send"} <= names


def test_a_folder_is_imported_and_its_runs_are_created_without_a_gateway(here: Here) -> None:
    folder = here.folder / "cd"
    study(folder / "a", 3)
    study(folder / "b", 2)
    (folder / "README").write_text("hello")
    code, out, err = here.run("import", str(folder), "--called", "CTLUNG", "--announce", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["images"], told["passed_over"], told["refused"]) == (5, ["README"], [])
    assert {payload["images"] for payload in told["payloads"]} == {3, 2}
    assert all(payload["announced"] == ["ct-lung"] for payload in told["payloads"])
    assert {run for _, run in here.airflow.runs} == {f"monai__{payload_id}" for payload_id in told["payload_ids"]}
    assert list(here.store.children("pending")) == []
    assert "SECRET" not in out + err

    code, out, err = here.run("import", str(folder), "--called", "CTLUNG", "--announce")
    assert code == 0, err
    assert "0 images taken in, 5 were there already" in out
    assert len(here.airflow.posts) == 2


def test_without_a_gateway_it_waits_in_the_store_and_what_is_refused_is_said(here: Here) -> None:
    files = study(here.folder / "s", 2)
    with zipfile.ZipFile(here.folder / "s.zip", "w") as archive:
        archive.write(files[0], "one.dcm")
        archive.writestr("two.dcm", files[1].read_bytes()[:-100])
    code, out, err = here.run("import", str(here.folder / "s.zip"), "--called", "CTLUNG", "--calling", "CT01")
    assert code == 1, err
    assert "1 images taken in, 1 refused" in out and "refused: s.zip/two.dcm: it breaks off" in out
    (summary,) = newest(here.store, 5)
    assert (summary.state, summary.calling_aets, summary.images) == ("open", ("CT01",), 1)
    assert list(here.store.children("pending")) == [summary.payload_id]
    assert here.airflow.runs == {}


def test_nothing_to_import_and_a_wrong_title_end_with_2(here: Here) -> None:
    (here.folder / "empty").mkdir()
    code, out, err = here.run("import", str(here.folder / "empty"), "--called", "CTLUNG")
    assert code == 2 and "0 images" in out
    code, _, err = here.run("import", str(here.folder / "nowhere"), "--called", "CTLUNG")
    assert code == 2 and "There is no file or folder" in err
    study(here.folder / "s", 1)
    code, _, err = here.run("import", str(here.folder / "s"), "--called", "MUCH-TOO-LONG-A-TITLE")
    assert code == 2 and "is no AE title" in err


def test_an_ae_title_that_nobody_listens_to_is_warned_of(here: Here) -> None:
    study(here.folder / "s", 1)
    code, _, err = here.run("import", str(here.folder / "s"), "--called", "NOBODY")
    assert code == 0 and "no workflow listens to AE title 'NOBODY' (there are: CTLUNG)" in err


def test_a_full_disk_is_said_and_takes_nothing(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    study(here.folder / "s", 1)
    monkeypatch.setenv("AIRFLOW__MONAI__DISK_RESERVE", "900 TB")
    code, _, err = here.run("import", str(here.folder / "s"), "--called", "CTLUNG")
    assert code == 2 and "disk_reserve" in err


def test_ctrl_c_and_once_more_is_as_good_as_once(here: Here) -> None:
    study(here.folder / "s", 300, size=65536)
    process = here.start("import", str(here.folder / "s"), "--called", "CTLUNG")
    wait_for(lambda: sum(1 for key in here.store.list("payloads") if "/dcm/" in key) > 20, 60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    if process.returncode != 0:  # it was not so quick that it had ended
        assert process.returncode == 130 and "Run it again" in err, err
    code, _, err = here.run("import", str(here.folder / "s"), "--called", "CTLUNG", "--announce")
    assert code == 0, err
    (summary,) = newest(here.store, 5)
    assert (summary.images, summary.announced) == (300, ("ct-lung",))
    assert [path for path in here.store.spool().rglob("*") if path.is_file() and path.name != "lock"] == []


def test_wait_ends_when_a_gateway_has_created_the_runs(here: Here) -> None:
    study(here.folder / "s", 2)
    options = GatewayOptions(str(here.folder / "workflows"), "127.0.0.1", 0, 60)
    gateway = Gateway(here.store, options, AirflowEngine(AirflowApi("monai_airflow")))
    gateway.start()
    try:
        code, out, err = here.run("import", str(here.folder / "s"), "--called", "CTLUNG", "--wait")
    finally:
        gateway.stop()
    assert code == 0, err
    (summary,) = newest(here.store, 5)
    assert f"ct-lung: run monai__{summary.payload_id}" in out
