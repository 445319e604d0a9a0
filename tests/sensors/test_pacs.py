"""The sensor of studies asks a real PACS, by C-FIND and by QIDO-RS."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from airflow_monai.sensors.pacs import StudyInPacsSensor
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import manifest_key, payload_id_of
from airflow_monai.triggers.pacs import StudyInPacsTrigger
from airflow_monai.types import Payload
from tests.conftest import require
from tests.pacs import Receiver, make_images, orthanc

from .conftest import event_of

STUDY, OTHER = "2.25.4711", "2.25.4712"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    require("orthanc-dicomweb", "dcmtk")
    with orthanc(tmp_path_factory.mktemp("pacs"), dicomweb=True, DicomAlwaysAllowFind=True) as running:
        yield running


@pytest.fixture(params=["dicom", "monai_dicomweb"])
def connection(request: pytest.FixtureRequest, pacs: Receiver, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same PACS as a DICOM node and as a DICOMweb server."""
    web = {"conn_type": "monai_dicomweb", "host": f"{pacs.http}/dicom-web"}
    described = pacs.connection() if request.param == "dicom" else json.dumps(web)
    monkeypatch.setenv("AIRFLOW_CONN_ASKED", described)
    return "ASKED"


def send(pacs: Receiver, *files: Path) -> None:
    command = ["storescu", "-aec", pacs.aet, pacs.host, str(pacs.port), *map(str, files)]
    subprocess.run(command, check=True, timeout=180, env={**os.environ, "TCP_NODELAY": "1"}, capture_output=True)


def trigger(connection: str, study: str, at_least: int = 1, stable: float = 0.3) -> StudyInPacsTrigger:
    return StudyInPacsTrigger(
        connection=connection,
        study_instance_uid=study,
        at_least=at_least,
        stable_seconds=stable,
        poll_interval=0.05,
    )


def test_a_study_of_two_series_is_counted_when_it_is_there(pacs: Receiver, connection: str, tmp_path: Path) -> None:
    study = f"{STUDY}.{time.monotonic_ns()}"
    with pytest.raises(asyncio.TimeoutError):
        event_of(trigger(connection, study), 1)
    send(pacs, *make_images(tmp_path / "a", 3, study=study), *make_images(tmp_path / "b", 2, study=study))
    send(pacs, *make_images(tmp_path / "c", 4, study=f"{study}.1"))
    assert event_of(trigger(connection, study)) == {"found": 5}
    with pytest.raises(asyncio.TimeoutError):
        event_of(trigger(connection, study, at_least=6), 1)


def test_a_study_that_still_grows_is_waited_for(pacs: Receiver, connection: str, tmp_path: Path) -> None:
    study = f"{OTHER}.{time.monotonic_ns()}"
    files = make_images(tmp_path, 4, study=study)

    def slowly() -> None:
        for file in files:
            send(pacs, file)
            time.sleep(0.4)

    sender = threading.Thread(target=slowly)
    sender.start()
    assert event_of(trigger(connection, study, stable=3), 120) == {"found": 4}
    sender.join()


def test_the_study_of_a_payload_can_be_meant(
    pacs: Receiver, connection: str, store: LocalStore, tmp_path: Path
) -> None:
    study = f"{STUDY}.{time.monotonic_ns()}"
    send(pacs, *make_images(tmp_path / "images", 2, study=study))
    now = datetime.now(timezone.utc).isoformat()
    payload = Payload(payload_id_of(study, "CTLUNG", 0), study, "CTLUNG", ("CT01",), 0, (), now, now, now)
    store.write_json(manifest_key(payload.payload_id), payload.to_dict())
    asking = StudyInPacsTrigger(
        connection=connection, payload_id=payload.payload_id, stable_seconds=0, poll_interval=0.05
    )
    assert event_of(asking) == {"found": 2}


def test_a_pacs_that_is_away_is_asked_again(pacs: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    away = json.dumps({"conn_type": "dicom", "host": "127.0.0.1", "port": 1})
    monkeypatch.setenv("AIRFLOW_CONN_ASKED", away)
    with pytest.raises(asyncio.TimeoutError):
        event_of(trigger("ASKED", STUDY), 0.5)


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"conn_type": "dicom", "host": "127.0.0.1", "port": 1, "extra": {"query": "never"}}, "cannot be asked"),
        ({"conn_type": "monai_folder", "extra": {"path": "/tmp/results"}}, "cannot be asked"),
        ({"conn_type": "dicom", "host": "127.0.0.1"}, "no port"),
        ({"conn_type": "http", "host": "127.0.0.1"}, "type"),
        (None, "no Airflow connection"),
    ],
)
def test_what_can_never_be_asked_ends_the_waiting(
    described: dict[str, object] | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if described:
        monkeypatch.setenv("AIRFLOW_CONN_ASKED", json.dumps(described))
    assert words in event_of(trigger("ASKED", STUDY))["failed"]


def test_the_sensor_starts_in_the_triggerer() -> None:
    arguments = StudyInPacsSensor(task_id="there", connection="PACS", study_instance_uid=STUDY).start_trigger_args
    rebuilt = StudyInPacsTrigger(**arguments.trigger_kwargs)
    assert rebuilt.serialize() == (arguments.trigger_cls, arguments.trigger_kwargs)
    with pytest.raises(ValueError, match="either"):
        StudyInPacsSensor(task_id="there", connection="PACS")
