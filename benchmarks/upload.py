"""How fast datasets come in by HTTP: our route against a plain FastAPI one, in one server, in the same run.

``python benchmarks/upload.py [rounds]`` prints a table and JSON; :func:`run` gives the rows. The plain route is what a
FastAPI tutorial shows: an ``UploadFile`` is copied to a file, which is flushed to the disk as ours are. Ours besides
looks into every file, hashes it, keeps it under its UIDs and writes a manifest. Both get the same bytes, in turns. Who
calls is a stand-in (Airflow's log-in and audit log need its database and cost both routes the same); all else of our
route is real.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastapi import FastAPI, UploadFile

from benchmarks.table import Row, print_table
from tests.pacs import make_images

ROWS = 512  # 0.5 MB an image
STUDY, LARGE_ROWS = 200, 8192
BOUNDARY = "benchmark-boundary-0123456789"


@dataclass(frozen=True, slots=True)
class Case:
    """One upload.

    :param body: a file with what is sent.
    :param store: of the server; what an upload left there is removed between two.
    """

    name: str
    body: Path
    content_type: str
    store: Path

    @property
    def size(self) -> int:
        return self.body.stat().st_size


def run(rounds: int = 5) -> list[Row]:
    """Rows for a study of many images and for one large file; medians."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store, plain = folder / "store", folder / "plain"
        study = _form(make_images(folder / "study", STUDY, rows=ROWS), folder / "study.body")
        large = _form(make_images(folder / "large", 1, rows=LARGE_ROWS), folder / "large.body")
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        with _server(store, plain) as port:
            cases = (
                Case(f"{STUDY} images of 0.5 MB", study, kind, store),
                Case(f"one file of {large.stat().st_size >> 20} MiB", large, kind, store),
            )
            return [_row(case, port, plain, rounds) for case in cases]


def _row(case: Case, port: int, plain: Path, rounds: int) -> Row:
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds + 1):
        for path, rates in (("/plain", theirs), ("/monai/app-server/datasets", ours)):
            seconds = _send(port, path, case)
            if number:  # the first one warms up
                rates.append(case.size / seconds)
            for left in (plain, case.store / "payloads", case.store / "datasets"):
                shutil.rmtree(left, ignore_errors=True)
            plain.mkdir(exist_ok=True)
            os.sync()  # what one left to be written must not slow down the other
    rate, peer = statistics.median(ours), statistics.median(theirs)
    return Row(
        benchmark="upload",
        case=case.name,
        ours=f"{rate / 1e6:.0f} MB/s",
        theirs=f"{peer / 1e6:.0f} MB/s",
        peer="plain FastAPI, fsync",
        ratio=rate / peer,
        bar=">= 0.8",
        better="higher",
    )


def _send(port: int, path: str, case: Case) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600, blocksize=1 << 20)
    began = time.monotonic()
    with open(case.body, "rb") as body:
        connection.request("POST", path, body, {"Content-Type": case.content_type, "Content-Length": str(case.size)})
        answer = connection.getresponse()
        told = answer.read()
    seconds = time.monotonic() - began
    connection.close()
    assert answer.status in (200, 201), (answer.status, told[:500])
    return seconds


def _form(files: list[Path], target: Path) -> Path:
    with open(target, "wb") as body:
        for file in files:
            head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{file.name}"\r\n'
            body.write(f"{head}Content-Type: application/dicom\r\n\r\n".encode() + file.read_bytes() + b"\r\n")
        body.write(f"--{BOUNDARY}--\r\n".encode())
    return target


@contextmanager
def _server(store: Path, plain: Path) -> Iterator[int]:
    plain.mkdir()
    env = {
        **os.environ,
        "AIRFLOW__MONAI__STORE": str(store),
        "AIRFLOW__MONAI__DISK_USED_PERCENT": "100",
        "AIRFLOW__MONAI__DISK_RESERVE": "0",
        "AIRFLOW__MONAI__API_RATE": "0",
        "TMPDIR": str(plain.parent),  # the plain route's temporary files are on the same disk
    }
    code = "from benchmarks.upload import serve; import sys; serve(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", code, str(plain)], stdout=subprocess.PIPE, env=env, text=True)
    try:
        assert process.stdout is not None
        yield next(int(line) for line in process.stdout if line.strip().isdecimal())
    finally:
        process.kill()
        process.wait()


def serve(folder: str) -> None:
    """The server: both routes, on a free port that it prints."""
    import uvicorn

    from airflow_monai.api.app_server import datasets
    from airflow_monai.api.common.access import Caller, caller_of
    from airflow_monai.api.common.problems import handle_errors

    class Anybody(Caller):
        name = "benchmark"

        def may(self, *_: Any) -> bool:
            return True

    silent: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    datasets.note = silent  # type: ignore[assignment]
    ours = FastAPI()
    handle_errors(ours)
    ours.include_router(datasets.router)
    ours.dependency_overrides[caller_of] = lambda: Anybody(user=None)  # type: ignore[arg-type]
    site = FastAPI()

    @site.post("/plain")
    def plain(files: list[UploadFile]) -> dict[str, int]:
        for number, file in enumerate(files):
            with open(Path(folder) / f"{number}.dcm", "wb") as target:
                shutil.copyfileobj(file.file, target)
                target.flush()
                os.fsync(target.fileno())
        return {"files": len(files)}

    site.mount("/monai", ours)
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(site, log_level="error")).run([listening])


if __name__ == "__main__":
    rows = run(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    print_table(rows)
    print(json.dumps(rows, indent=1))
