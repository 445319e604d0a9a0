"""`airflow monai workflows` on this host's store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_monai.cli.standalone import main
from airflow_monai.workflows.catalog import fixed_id
from tests.cli.studies import write_study
from tests.workflows.definitions import simple


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MONAI_URL", "MONAI_USER", "MONAI_PASSWORD", "MONAI_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    monkeypatch.setenv("AIRFLOW__MONAI__WORKFLOW_FOLDER", str(tmp_path / "workflows"))
    (tmp_path / "workflows").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(("workflows", *words))
    assert (ended.value.code or 0) == code


def file(name: str, content: dict[str, Any] | str) -> str:
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content))
    return name


def test_the_life_of_a_workflow(capsys: pytest.CaptureFixture[str]) -> None:
    command("validate", file("ct.json", simple("ct")))
    command("register", "ct.json", "--json")
    known = json.loads(capsys.readouterr().out.partition("\n")[2])["workflow_id"]
    command("update", "CT", file("more.yaml", "description: newer\n"))
    assert known in capsys.readouterr().out
    command("show", known, "--json")
    shown = json.loads(capsys.readouterr().out)
    assert shown["workflow"] == {**simple("ct"), "description": "newer"}
    assert [one["revision"] for one in shown["revisions"]] == [1, 2]
    command("show", "ct")
    assert yaml.safe_load(capsys.readouterr().out) == shown["workflow"]
    file("workflows/mr.yaml", simple("mr"))
    command("list", "--json")
    assert [(one["name"], one["origin"]) for one in json.loads(capsys.readouterr().out)] == [
        ("ct", "registered"),
        ("mr", "file"),
    ]
    command("list")
    assert known in capsys.readouterr().out
    command("delete", "ct")
    command("delete", "ct", code=1)
    assert "no workflow 'ct'" in capsys.readouterr().err
    command("delete", fixed_id("mr"), code=1)
    assert "change that file" in capsys.readouterr().err


def test_a_batch_takes_by_a_registered_workflow_too(capsys: pytest.CaptureFixture[str]) -> None:
    command("register", file("ct.json", {**simple("ct"), "schedule": {"cron": "0 22 * * *"}}))
    with pytest.raises(SystemExit) as ended:
        main(("batch", "ct"))
    assert not ended.value.code and "0 of 0 payloads" in capsys.readouterr().out


def test_a_study_is_explained_by_a_registered_workflow_too(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("register", file("ct.json", simple("ct")))
    write_study(site / "study")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(("explain", "--study", str(site / "study"), "--called", "CTLUNG", "--json"))
    (answer,) = json.loads(capsys.readouterr().out)["studies"][0]["answers"]
    assert not ended.value.code and [(w["workflow"], w["wanted"]) for w in answer["workflows"]] == [("ct", True)]


def test_what_is_wrong_is_told_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    bad = yaml.safe_dump({**simple("ct"), "versoin": "1"}, sort_keys=False)
    for words in (("register", file("bad.yaml", bad)), ("validate", "bad.yaml")):
        command(*words, code=1)
        told = capsys.readouterr()
        assert "bad.yaml:16:1: versoin: unknown field 'versoin'" in told.out + told.err
    command("validate", "bad.yaml", file("good.json", simple("mr")), "--json", code=1)
    (problem,) = json.loads(capsys.readouterr().out)
    assert (problem["file"], problem["field"], problem["line"]) == ("bad.yaml", "versoin", 16)
    command("list", "--json")
    assert json.loads(capsys.readouterr().out) == []
    command("register", "none.yaml", code=2)
    assert "cannot be read" in capsys.readouterr().err


def test_a_server_wants_to_know_who_asks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command("list", "--url", "http://127.0.0.1:9", code=2)
    assert "MONAI_PASSWORD" in capsys.readouterr().err
    monkeypatch.setenv("MONAI_PASSWORD", "geheim")
    command("list", "--url", "http://127.0.0.1:9", "--user", "ann", code=2)
    told = capsys.readouterr().err
    assert "127.0.0.1:9 does not answer" in told and "geheim" not in told
    command("list", "--url", "ftp://x", "--user", "ann", code=2)
