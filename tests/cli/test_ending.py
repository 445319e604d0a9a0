"""How commands end where what they need is not there: one line that says what to do, never a traceback."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from airflow_monai.cli.ending import ends
from airflow_monai.cli.standalone import main


def ended(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command says that cannot be done."""
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    "words",
    [
        ("register", "template.yaml"),
        ("delete", "segment"),
        ("launch", "segment"),
        ("status", "x"),
        ("cancel", "x"),
    ],
    ids=" ".join,
)
def test_without_its_connection_argo_says_to_add_it(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    line = ended(capsys, "argo", *words)
    assert "no Airflow connection 'argo_default': add one of type argo" in line
    assert "AIRFLOW_CONN_ARGO_DEFAULT" in line


@pytest.mark.parametrize("words", [("import", "study", "--called", "A"), ("payloads", "start", "x")], ids=" ".join)
def test_a_store_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "study").mkdir()
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "file" / "store"))
    monkeypatch.chdir(tmp_path)
    assert f"The store {tmp_path}/file/store cannot be made" in ended(capsys, *words)


def test_airflow_does_not_warn_of_short_passwords_among_what_a_command_prints(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow._shared.secrets_masker import secrets_masker
    from airflow.models import Connection

    def warned() -> bool:
        monkeypatch.setattr(secrets_masker.SecretsMasker, "_has_warned_short_secret", False)
        caplog.clear()
        Connection.get_connection_from_secrets("short")
        return "Skipping masking" in caplog.text

    monkeypatch.setenv("AIRFLOW_CONN_SHORT", json.dumps({"conn_type": "dicom", "password": "abc"}))
    masker = logging.getLogger(secrets_masker.__name__)
    monkeypatch.setattr(masker, "filters", [])
    monkeypatch.setattr(masker, "propagate", True)
    assert warned(), "else this shows nothing"
    with pytest.raises(SystemExit):
        ends()(lambda _: int(warned()) * 3)(None)  # type: ignore[arg-type]
    assert not warned()
