"""Real receivers for tests (dcmtk's storescp, Orthanc), and images to send to them.

Each is a context manager that starts the program on a free port of the loopback and ends it with its block.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_monai.local.ports import choose
from tests.conftest import ORTHANC_DICOMWEB

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


@dataclass(frozen=True)
class Receiver:
    """A running receiver.

    :param folder: where storescp writes, or Orthanc keeps its data.
    """

    host: str
    port: int
    aet: str
    folder: Path
    pid: int
    http: str = ""

    def connection(self, **extra: Any) -> str:
        """The receiver as an Airflow connection in JSON, for ``AIRFLOW_CONN_<NAME>``."""
        return json.dumps(
            {
                "conn_type": "dicom",
                "host": self.host,
                "port": self.port,
                "extra": {"called_aet": self.aet, "calling_aet": "MONAI", **extra},
            }
        )

    def files(self) -> list[Path]:
        """What storescp has written."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def rest(self, path: str) -> Any:
        """The answer of Orthanc's REST API to a GET."""
        with urllib.request.urlopen(f"{self.http}{path}", timeout=60) as answer:
            return json.loads(answer.read())

    def sop_uids(self) -> list[str]:
        """SOP Instance UIDs that Orthanc holds, sorted."""
        return sorted(item["MainDicomTags"]["SOPInstanceUID"] for item in self.rest("/instances?expand"))


_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, another one each time; no connection of this host gets it meanwhile."""
    while (port := choose()) in _given:
        pass
    _given.add(port)
    return port


@contextmanager
def storescp(
    folder: Path, *, aet: str = "STORESCP", options: Sequence[str] = (), nodelay: bool = True
) -> Iterator[Receiver]:
    """dcmtk's receiver; it takes every AE title and writes each image to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    env = dict(os.environ, TCP_NODELAY="1") if nodelay else dict(os.environ)
    command = ["storescp", "--fork", "+xa", "-aet", aet, "-od", str(folder), *options, str(port)]
    if "--single-process" in options:
        command.remove("--fork")
    with _running(command, folder.parent / f"storescp-{port}.log", env, lambda: _listens(port)) as pid:
        yield Receiver("127.0.0.1", port, aet, folder, pid)


@contextmanager
def orthanc(folder: Path, *, aet: str = "ORTHANC", dicomweb: bool = False, **configuration: Any) -> Iterator[Receiver]:
    """Orthanc with an empty database under ``folder``; more of its configuration as keywords.

    :param dicomweb: whether it does DICOMweb, below ``/dicom-web``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, http = free_port(), free_port()
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": port,
        "DicomAet": aet,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "Plugins": [ORTHANC_DICOMWEB] if dicomweb else [],
        **configuration,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings))
    command, log = ["Orthanc", str(file)], folder / "orthanc.log"
    # ended at once: when it is asked to end, it takes three seconds
    with _running(command, log, dict(os.environ), lambda: _listens(http, port), ends=(signal.SIGKILL,)) as pid:
        yield Receiver("127.0.0.1", port, aet, folder, pid, f"http://127.0.0.1:{http}")


@contextmanager
def _running(
    command: Sequence[str],
    log: Path,
    env: dict[str, str],
    ready: Callable[[], bool],
    ends: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGKILL),
) -> Iterator[int]:
    """A program in a process group of its own, ended with the block."""
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield process.pid
    finally:
        _end(process, ends)


def _end(process: subprocess.Popen[bytes], signals: Sequence[signal.Signals]) -> None:
    for number in signals:
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=20)
            return
        except ProcessLookupError:
            process.wait()
            return
        except subprocess.TimeoutExpired:
            continue


def _listens(*ports: int) -> bool:
    for port in ports:
        with socket.socket() as sock:
            sock.settimeout(0.5)
            if sock.connect_ex(("127.0.0.1", port)):
                return False
    return True


def make_images(
    folder: Path,
    count: int,
    *,
    rows: int = 64,
    study: str | None = None,
    sop_class: str = CT,
    transfer_syntax: str = EXPLICIT_LITTLE,
    patient_id: str = "P1",
) -> list[Path]:
    """``count`` small CT images of one series, with random pixels; named by their SOP Instance UID."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    study, series = study or generate_uid(prefix=None), generate_uid(prefix=None)
    paths = []
    for number in range(1, count + 1):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = transfer_syntax
        ds = Dataset()
        ds.file_meta = meta
        ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid(prefix=None)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.PatientID, ds.PatientName, ds.Modality = patient_id, "Doe^Jane", "CT"
        ds.InstanceNumber = number
        ds.Rows = ds.Columns = rows
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.PixelData = os.urandom(rows * rows * 2)
        path = folder / f"{ds.SOPInstanceUID}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
