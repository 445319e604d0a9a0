"""Large uploads to a server in a process of its own: memory stays bounded, and a kill in the middle leaves nothing.

``LARGE_UPLOAD_MB=2048`` makes them as large.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import load_payload
from tests.api.app_server.conftest import dicom, left_in, study_files

MEGABYTES = int(os.environ.get("LARGE_UPLOAD_MB", "64"))
MOST_GROWTH = 32 << 20
"""Of the server's memory while it takes a large upload: buffers, and what the allocator keeps."""
PIECE = 1 << 20
DICOM = {"content-type": "application/dicom"}


@dataclass
class Server:
    process: subprocess.Popen[str]
    url: str
    headers: dict[str, str]

    def post(self, path: str, data: Any, headers: dict[str, str]) -> requests.Response:
        return requests.post(f"{self.url}{path}", data=data, headers={**self.headers, **headers}, timeout=600)

    def peak(self) -> int:
        """The most memory that it has had so far, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start(people: Callable[[str], str]) -> Server:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.api.app_server.server"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    lines = (line.strip() for line in process.stdout)
    port = next(line for line in lines if line.isdecimal())
    url = f"http://127.0.0.1:{port}/monai/app-server"
    return Server(process, url, {"Authorization": f"Bearer {people('op')}"})


@pytest.fixture
def server(airflow_tables: str, site_store: LocalStore, people: Callable[[str], str]) -> Iterator[Server]:
    running = start(people)
    yield running
    running.kill()


def large() -> Iterator[bytes]:
    """An image of so many megabytes, as one with very many frames is."""
    size = MEGABYTES << 20
    data = dicom()
    at = data.rindex(b"\xe0\x7f\x10\x00OW")
    yield data[:at] + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<L", size)
    block = os.urandom(PIECE)
    for _ in range(MEGABYTES):
        yield block


def large_form() -> Iterator[bytes]:
    yield b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a.dcm"\r\n\r\n'
    yield from large()
    yield b"\r\n--XX--\r\n"


def large_zip() -> Iterator[bytes]:
    """Stored, in the form of archives that are written as a stream."""
    crc = size = 0
    yield struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 8, 0, 0, 33, 0, 0, 0, 5, 0) + b"a.dcm"
    for piece in large():
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        yield piece
    descriptor = struct.pack("<4s3L", b"PK\x07\x08", crc, size, size)
    entry = (
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 8, 0, 0, 33, crc, size, size, 5, 0, 0, 0, 0, 0, 0) + b"a.dcm"
    )
    yield descriptor + entry
    yield struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), 35 + size + len(descriptor), 0)


def test_large_uploads_stream_in_bounded_memory(server: Server, site_store: LocalStore) -> None:
    small = server.post("/datasets", dicom(), DICOM)
    assert small.status_code == 201, small.text
    before = server.peak()
    ways = {
        "raw": (large, "application/dicom"),
        "form": (large_form, "multipart/form-data; boundary=XX"),
        "archive": (large_zip, "application/zip"),
    }
    for way, (pieces, kind) in ways.items():
        answer = server.post("/datasets", pieces(), {"content-type": kind})
        assert answer.status_code == 201, (way, answer.text)
        assert answer.json()["size"] > MEGABYTES << 20
        growth = server.peak() - before
        print(f"{way}: memory grew by {growth / PIECE:.1f} MiB for {MEGABYTES} MiB")
        assert growth < MOST_GROWTH, way
        assert requests.delete(f"{server.url}/datasets/{answer.json()['id']}", headers=server.headers, timeout=60).ok
    assert not [key for key in left_in(site_store) if key.startswith("incoming")]


def test_a_server_that_is_killed_in_the_middle_leaves_nothing_to_be_seen(
    server: Server, site_store: LocalStore, people: Callable[[str], str]
) -> None:
    files = study_files(3)
    form = [("files", (name, data)) for name, data in files.items()]

    def cut() -> Iterator[bytes]:
        for number, piece in enumerate(large_form()):
            yield piece
            if number == MEGABYTES // 2:
                server.process.send_signal(signal.SIGKILL)
                time.sleep(0.2)

    with pytest.raises(requests.ConnectionError):
        server.post("/datasets", cut(), {"content-type": "multipart/form-data; boundary=XX"})
    assert [key for key in left_in(site_store) if not key.startswith("incoming")] == []
    assert left_in(site_store)  # what it had in its spool

    after = start(people)
    try:
        answer = requests.post(f"{after.url}/datasets", files=form, headers=after.headers, timeout=60)
        assert answer.status_code == 201, answer.text
        assert [key for key in left_in(site_store) if key.startswith("incoming")] == []
        assert len([key for key in left_in(site_store) if key.endswith(".dcm")]) == 3
    finally:
        after.kill()


def test_two_servers_take_the_same_studies_and_one_is_killed(
    server: Server, site_store: LocalStore, people: Callable[[str], str]
) -> None:
    """Every study is one dataset in the end, with all of its files, and nothing is left over."""
    studies = [[("files", (name, data)) for name, data in study_files(3).items()] for _ in range(12)]
    other = start(people)
    lock, answered = threading.Lock(), 0

    def send(to: Server, files: Any) -> str:
        nonlocal answered
        try:
            answer = requests.post(f"{to.url}/datasets", files=files, headers=to.headers, timeout=60)
            while answer.status_code == 429:  # all come to the one that is left
                time.sleep(0.05)
                answer = requests.post(f"{to.url}/datasets", files=files, headers=to.headers, timeout=60)
        except requests.RequestException:
            return ""
        assert answer.status_code in (200, 201), answer.text
        with lock:
            answered += 1
            if answered == len(studies) * 2 // 3:  # not before the others, however slowly this process goes on
                other.kill()
        return str(answer.json()["id"])

    try:
        with ThreadPoolExecutor(6) as pool:
            both = [pool.submit(send, to, files) for files in studies for to in (server, other)]
            told = [future.result() for future in both]
        assert "" in told and any(told)  # some were cut, some were not
        ids = [send(server, files) for files in studies]
        assert len(set(ids)) == len(studies)
        assert set(told) - {""} <= set(ids)  # what was promised is kept
        page = Datasets(site_store).page(0, 100)
        assert sorted(dataset.id for dataset in page.datasets) == sorted(ids) and page.total == len(ids)
        assert {len(load_payload(site_store, dataset_id).files) for dataset_id in ids} == {3}
        assert len([key for key in left_in(site_store) if key.endswith(".dcm")]) == 3 * len(studies)
        assert list(site_store.children("datasets/unfinished")) == []
    finally:
        other.kill()
