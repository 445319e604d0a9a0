"""Connections become destinations, and their Test button tells what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_monai.errors import DestinationError
from airflow_monai.get_provider_info import get_provider_info
from airflow_monai.hooks.base import destination
from airflow_monai.hooks.dicom import DicomHook
from airflow_monai.hooks.dicom import connection_type as dicom_form
from airflow_monai.hooks.dicomweb import DicomWebHook
from airflow_monai.hooks.dicomweb import connection_type as dicomweb_form
from airflow_monai.hooks.folder import FolderHook
from airflow_monai.hooks.folder import connection_type as folder_form
from airflow_monai.hooks.mllp import MllpHook
from airflow_monai.hooks.mllp import connection_type as mllp_form
from airflow_monai.hooks.pull import PullHook
from airflow_monai.hooks.pull import connection_type as pull_form
from airflow_monai.hooks.s3 import S3Hook
from airflow_monai.hooks.s3 import connection_type as s3_form
from airflow_monai.sinks.registry import SINKS
from tests.conftest import require
from tests.pacs import orthanc, storescp
from tests.s3_server import KEY, S3Server, s3  # noqa: F401 - a fixture
from tests.sinks.mllp_listener import listening
from tests.sinks.stow_server import stow_server


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
    assert "has the type 'http', and results can be delivered to dicom, monai_" in message


def test_a_missing_connection_is_named() -> None:
    with pytest.raises(DestinationError, match="there is no Airflow connection 'NOWHERE'"):
        destination("NOWHERE")


def test_the_dicomweb_test_button_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stow_server() as server:
        server.authorization = "Bearer tok"
        connection = {"conn_type": "monai_dicomweb", "host": "127.0.0.1", "port": server.port, "schema": "http"}
        connection |= {"password": "tok", "extra": {"path": "/dicom-web"}}
        monkeypatch.setenv("AIRFLOW_CONN_WEB", json.dumps(connection))
        ok, message = DicomWebHook("WEB").test_connection()
        assert ok, message
        assert message.startswith(f"WEB at http://127.0.0.1:{server.port} answers QIDO-RS queries.")
        monkeypatch.setenv("AIRFLOW_CONN_WEB", json.dumps(connection | {"password": "wrong"}))
        ok, message = DicomWebHook("WEB").test_connection()
        assert (ok, "login is refused" in message, "wrong" in message) == (False, True, False)
        monkeypatch.setenv("AIRFLOW_CONN_WEB", json.dumps(connection | {"extra": {"path": "/elsewhere"}}))
        server.has_queries = False
        ok, message = DicomWebHook("WEB").test_connection()
    assert (ok, "check host, port and path" in message) == (False, True)


def test_the_bucket_test_button_writes(monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> None:  # noqa: F811
    bucket = s3.bucket()
    connection = {"conn_type": "monai_s3", "host": bucket, "login": KEY, "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_CLOUD", json.dumps(connection | {"extra": {"endpoint_url": s3.url}}))
    assert S3Hook("CLOUD").test_connection() == (True, f"CLOUD (bucket {bucket} at {s3.url}) can be written to.")
    missing = connection | {"host": "nothing-here", "extra": {"endpoint_url": s3.url}}
    monkeypatch.setenv("AIRFLOW_CONN_CLOUD", json.dumps(missing))
    ok, message = S3Hook("CLOUD").test_connection()
    assert (ok, "there is no such bucket" in message) == (False, True)


def test_the_mllp_test_button_connects(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    with listening() as listener:
        connection = {"conn_type": "monai_mllp", "host": "127.0.0.1", "port": listener.port}
        monkeypatch.setenv("AIRFLOW_CONN_HIS", json.dumps(connection))
        ok, message = MllpHook("HIS").test_connection()
        assert (ok, listener.received) == (True, []), message
    monkeypatch.setenv("AIRFLOW_CONN_HIS", json.dumps(connection | {"port": free_port}))
    ok, message = MllpHook("HIS").test_connection()
    assert (ok, "is it running?" in message) == (False, True)


def test_the_command_line_tests_a_destination_too(tmp_path: Path) -> None:
    """``airflow connections test``, which Airflow's configuration has to allow, as it has to the button."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env |= {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}
    (tmp_path / "results").mkdir()
    for path, said in ((tmp_path / "results", "Connection success!"), (Path("results"), "is no absolute folder")):
        connection = json.dumps({"conn_type": "monai_folder", "extra": {"path": str(path)}})
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "connections", "test", "ARCHIVE"],
            env=env | {"AIRFLOW_CONN_ARCHIVE": connection},
            capture_output=True,
            text=True,
        )
        assert said in done.stdout, done.stderr


def test_the_forms_name_the_hooks_that_exist() -> None:
    pairs = (
        (dicom_form(), DicomHook),
        (dicomweb_form(), DicomWebHook),
        (folder_form(), FolderHook),
        (s3_form(), S3Hook),
        (mllp_form(), MllpHook),
        (pull_form(), PullHook),
    )
    for form, hook in pairs:
        assert form["hook-class-name"] == f"{hook.__module__}.{hook.__name__}"
        assert (form["connection-type"], form["hook-name"]) == (hook.conn_type, hook.hook_name)


def test_every_sink_has_a_form_whose_fields_it_knows() -> None:
    """What a form offers is read by the sink, or by the operator, under this very name."""
    root = Path(__file__).parents[2] / "airflow_monai"
    sources = "".join(path.read_text() for folder in ("sinks", "operators") for path in (root / folder).rglob("*.py"))
    forms = {form["connection-type"]: form for form in get_provider_info()["connection-types"]}
    for kind in SINKS:
        for name in forms[kind]["conn-fields"]:
            assert name in sources, f"{kind}: nothing reads {name}"
