"""`airflow monai datasets` against a server."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from airflow_monai import settings
from airflow_monai.cli.standalone import main
from airflow_monai.store import open_store
from airflow_monai.store.payloads import run_key
from tests.api.app_server.conftest import Served, study_files, zipped


@pytest.fixture
def here(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where the environment says who asks whom."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MONAI_URL", f"http://127.0.0.1:{served.port}")
    monkeypatch.setenv("MONAI_USER", "op")
    monkeypatch.setenv("MONAI_PASSWORD", "op")
    monkeypatch.delenv("MONAI_TOKEN", raising=False)
    return folder


def command(*words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(("datasets", *words))
    assert (ended.value.code or 0) == code


def test_a_dataset_from_folder_to_archive(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "study" / "series").mkdir(parents=True)
    for name, data in study_files(3).items():
        (here / "study" / "series" / name).write_bytes(data)
    (here / "more.zip").write_bytes(zipped(study_files(2)))

    command("upload", "study", "more.zip", "--name", "phantom", "--json")
    made = json.loads(capsys.readouterr().out)
    assert (made["files"], made["name"], len(made["studies"])) == (5, "phantom", 2)
    command("upload", "study", "more.zip")
    assert "there already" in capsys.readouterr().out
    command("list")
    assert made["id"] in capsys.readouterr().out
    command("describe", made["id"], "--patient")
    assert "SECRET-ID" in capsys.readouterr().out
    command("download", made["id"], "--output", "back.zip")
    assert len(zipfile.ZipFile(io.BytesIO((here / "back.zip").read_bytes())).namelist()) == 5
    command("associate", made["id"], "none:1.0", code=1)
    capsys.readouterr()
    store = open_store(settings.load().store)
    result = f"{run_key(made['id'], 'lung', 'x')}/t/g1/result.txt"
    store.write(result, b"42")
    command("delete", made["id"], code=1)
    told = capsys.readouterr().err
    assert "say --with-results to delete them too" in told and "with_results" not in told
    store.delete(result)
    command("delete", made["id"], "--json")
    assert json.loads(capsys.readouterr().out) == {"id": made["id"]}
    command("describe", made["id"], code=1)
    assert "no such dataset" in capsys.readouterr().err


def test_what_is_refused_is_told_by_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data in study_files(1).items():
        (here / name).write_bytes(data)
    (here / "2.dcm").write_bytes(b"no image")
    command("upload", "1.dcm", "2.dcm", code=1)
    assert "2.dcm: it is named as DICOM" in capsys.readouterr().err
    command("upload", "1.dcm", "2.dcm", "--partial")
    told = capsys.readouterr()
    assert "1 files" in told.out and "refused: 2.dcm" in told.err


def test_nothing_that_can_be_done(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("upload", "nowhere.dcm", code=2)
    command("list", "--url", "http://127.0.0.1:9", code=2)
    monkeypatch.setenv("MONAI_PASSWORD", "wrong")
    command("list", code=2)
    monkeypatch.delenv("MONAI_URL")
    command("list", code=2)
