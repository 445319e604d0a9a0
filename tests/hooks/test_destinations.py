"""Connections become destinations, and their Test button tells what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_monai.errors import DestinationError
from airflow_monai.hooks.base import destination
from airflow_monai.hooks.dicom import DicomHook
from airflow_monai.hooks.dicom import connection_type as dicom_form
from airflow_monai.hooks.folder import FolderHook
from airflow_monai.hooks.folder import connection_type as folder_form
from tests.conftest import require
from tests.pacs import orthanc, storescp


def test_the_dicom_test_button_is_an_echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    require("dcmtk")
    with storescp(tmp_path / "out") as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_PACS", receiver.connection())
        assert DicomHook("PACS").test_connection() == (
            True,
            f"STORESCP at 127.0.0.1:{receiver.port} answered C-ECHO to MONAI.",
        )
    monkeypatch.setenv("AIRFLOW_CONN_PACS", json.dumps({"conn_type": "dicom", "host": "127.0.0.1", "port": free_port}))
    ok, message = DicomHook("PACS").test_connection()
    assert not ok
    assert message.endswith("cannot be reached (Connection refused): is it running?")


def test_a_wrong_called_ae_title_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("orthanc")
    with orthanc(tmp_path / "pacs") as pacs:
        monkeypatch.setenv("AIRFLOW_CONN_PACS", pacs.connection())
        assert DicomHook("PACS").test_connection()[0]
        monkeypatch.setenv("AIRFLOW_CONN_PACS", pacs.connection(called_aet="WRONG"))
        ok, message = DicomHook("PACS").test_connection()
    assert not ok
    assert "rejected the association of MONAI: Called AE title not recognised" in message


def test_the_folder_test_button_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_ARCHIVE", json.dumps({"conn_type": "monai_folder", "extra": {"path": str(tmp_path)}})
    )
    assert FolderHook("ARCHIVE").test_connection() == (True, f"{tmp_path} can be written to.")
    monkeypatch.setenv("AIRFLOW_CONN_ARCHIVE", json.dumps({"conn_type": "monai_folder", "extra": {}}))
    ok, message = FolderHook("ARCHIVE").test_connection()
    assert not ok
    assert "no absolute folder. Correct the Airflow connection 'ARCHIVE'" in message


def test_a_connection_of_another_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PACS", json.dumps({"conn_type": "http", "host": "pacs"}))
    ok, message = DicomHook("PACS").test_connection()
    assert not ok
    assert "has the type 'http', and results can be delivered to dicom, monai_folder" in message


def test_a_missing_connection_is_named() -> None:
    with pytest.raises(DestinationError, match="there is no Airflow connection 'NOWHERE'"):
        destination("NOWHERE")


def test_the_forms_name_the_hooks_that_exist() -> None:
    for form, hook in ((dicom_form(), DicomHook), (folder_form(), FolderHook)):
        assert form["hook-class-name"] == f"{hook.__module__}.{hook.__name__}"
        assert (form["connection-type"], form["hook-name"]) == (hook.conn_type, hook.hook_name)
