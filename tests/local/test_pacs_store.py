"""The small DICOM store keeps what it accepts, whole and counted, and misbehaves on request."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from airflow_monai.local.pacs_store import Behaviour, CannotListen, PacsStore, received
from airflow_monai.local.phantom import StudyInfo, generate
from tests.conftest import require

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyInfo:
    return generate(tmp_path_factory.mktemp("study"), slices=6, rows=32)


def _send(port: int, images: Sequence[Dataset]) -> list[int]:
    ae = AE(ae_title="SENDER")
    ae.add_requested_context(CT)
    assoc = ae.associate("127.0.0.1", port, ae_title="PACS")
    assert assoc.is_established
    try:
        return [assoc.send_c_store(ds).Status for ds in images]
    finally:
        assoc.release()


def test_keeps_each_instance_under_its_study_as_it_came(tmp_path: Path, study: StudyInfo) -> None:
    with PacsStore(tmp_path).listening(0) as port:
        assert _send(port, [pydicom.dcmread(path) for path in study.files]) == [0] * 6
    kept = tmp_path / study.study_uid / f"{study.sop_uids[2]}.dcm"
    assert pydicom.dcmread(kept) == pydicom.dcmread(study.files[2])
    assert received(tmp_path) == dict.fromkeys(study.sop_uids, 1)
    assert not list(tmp_path.rglob("*.part"))


def test_an_instance_sent_twice_counts_twice(tmp_path: Path, study: StudyInfo) -> None:
    image = pydicom.dcmread(study.files[0])
    with PacsStore(tmp_path).listening(0) as port:
        _send(port, [image])
        _send(port, [image])
    assert received(tmp_path)[study.sop_uids[0]] == 2


def test_refuses_every_nth_and_does_not_keep_it(tmp_path: Path, study: StudyInfo) -> None:
    store = PacsStore(tmp_path, behaviour=Behaviour(refuse_every=3))
    with store.listening(0) as port:
        statuses = _send(port, [pydicom.dcmread(path) for path in study.files])
    assert statuses == [0, 0, 0xA700, 0, 0, 0xA700]
    assert set(received(tmp_path)) == {uid for index, uid in enumerate(study.sop_uids) if index % 3 != 2}


def test_answers_late_on_request(tmp_path: Path, study: StudyInfo) -> None:
    began = time.monotonic()
    with PacsStore(tmp_path, behaviour=Behaviour(delay_seconds=0.3)).listening(0) as port:
        _send(port, [pydicom.dcmread(study.files[0])])
    assert time.monotonic() - began >= 0.3


def test_a_uid_is_no_path(tmp_path: Path, study: StudyInfo) -> None:
    image = pydicom.dcmread(study.files[0])
    image.StudyInstanceUID = "../../elsewhere"
    with PacsStore(tmp_path / "pacs").listening(0) as port:
        assert _send(port, [image]) == [0xC000]
    assert [path.name for path in tmp_path.rglob("*")] == ["pacs", "received.log"]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}"), PacsStore(tmp_path).listening(port):
            pass


def test_nothing_received_is_an_empty_count(tmp_path: Path) -> None:
    assert received(tmp_path / "nowhere") == {}


def test_as_a_program_with_dcmtk(tmp_path: Path, study: StudyInfo, free_port: int) -> None:
    require("dcmtk")
    folder = tmp_path / "pacs"
    options = ["--port", str(free_port), "--folder", str(folder), "--aet", "STORE"]
    store = subprocess.Popen(
        [sys.executable, "-m", "airflow_monai.local.pacs_store", *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert store.stdout is not None
        assert "STORE listens" in store.stdout.readline()
        subprocess.run(["echoscu", "-aec", "STORE", "127.0.0.1", str(free_port)], check=True)
        subprocess.run(["storescu", "127.0.0.1", str(free_port), *map(str, study.files)], check=True)
    finally:
        store.send_signal(signal.SIGTERM)
        assert store.wait(60) == 0
    assert received(folder).total() == 6
