"""How fast results leave by STOW-RS: our sink against plain ``requests``, to the same server, in the same run.

``python benchmarks/stow.py [images] [rounds]`` prints a table and JSON; :func:`run` gives the rows. The peer sends the
same files in as many requests of the same size, by as many threads, each body put together in memory as the library
does it; ours reads it from the files, and enters each instance into the ledger in the rows that say so. The servers are
a stub that reads and answers, and Orthanc with its DICOMweb plug-in, which stores.
"""

from __future__ import annotations

import json
import os
import re
import socketserver
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from airflow_monai.sinks.base import DeliveryState, Destination, Instance
from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.sinks.ledger.recorder import Recorder
from airflow_monai.sinks.part10 import read_head
from airflow_monai.sinks.stow import StowSink
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import payload_key
from benchmarks.table import Row, Unavailable, print_table
from tests.conftest import ORTHANC_DICOMWEB
from tests.pacs import make_images, orthanc

ROWS = 512  # 0.5 MB an image
PER_REQUEST, CONNECTIONS = (5, 50), (1, 4)
_MARK = re.compile(rb"\x08\x00\x18\x00UI(..)")  # SOP Instance UID (0008,0018) in explicit VR little endian
_STUB = "from benchmarks.stow import serve; serve()"


@dataclass(frozen=True, slots=True)
class Case:
    """One way to send.

    :param url: of the DICOMweb service.
    """

    url: str
    files: Sequence[Path]
    per_request: int
    connections: int


Sender = Callable[[Case, Path], None]


def run(images: int = 150, rounds: int = 3) -> list[Row]:
    """Rows for each server, size of requests and number of connections, with and without the ledger; medians."""
    with TemporaryDirectory() as scratch:
        files = make_images(Path(scratch) / "in", images, rows=ROWS)
        rows: list[Row] = []
        for name, server in (("stub", _stub), ("Orthanc", _orthanc)):
            if name == "Orthanc" and not os.path.exists(ORTHANC_DICOMWEB):
                raise Unavailable("Orthanc's DICOMweb is not installed: apt-get install orthanc orthanc-dicomweb")
            for per_request in PER_REQUEST:
                for connections in CONNECTIONS:
                    rows += _rows(Path(scratch), name, server, Case("", files, per_request, connections), rounds)
        return rows


def _rows(folder: Path, name: str, server: Callable, case: Case, rounds: int) -> list[Row]:
    rates = _rates(folder, server, case, rounds)
    what = f"{name}, {case.per_request} a request, {case.connections} connection{'s'[: case.connections > 1]}"
    return [
        Row(
            benchmark="stow",
            case=f"{what}{extra}",
            ours=f"{rates[sender]:.0f} images/s",
            peer="requests",
            theirs=f"{rates['requests']:.0f} images/s",
            ratio=rates[sender] / rates["requests"],
            bar=">= 0.8",
            better="higher",
        )
        for sender, extra in (("sink", ""), ("sink with ledger", ", with ledger"))
    ]


def _rates(folder: Path, server: Callable, case: Case, rounds: int) -> dict[str, float]:
    """Images/s of each sender: the median of several rounds, in turn, so that a busy moment hits all alike."""
    senders: dict[str, Sender] = {"requests": _requests, "sink": _sink, "sink with ledger": _sink_with_ledger}
    seconds: dict[str, list[float]] = {name: [] for name in senders}
    for _ in range(rounds):
        for name, send in senders.items():
            place = folder / uuid.uuid4().hex
            (place / "store" / payload_key(place.name)).mkdir(parents=True)  # a payload is there before its export
            with server(place) as url:
                start = time.perf_counter()
                send(Case(url, case.files, case.per_request, case.connections), place)
                seconds[name].append(time.perf_counter() - start)
    return {name: len(case.files) / statistics.median(times) for name, times in seconds.items()}


def _requests(case: Case, _: Path) -> None:
    import requests

    local = threading.local()

    def post(files: Sequence[Path]) -> int:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(head + path.read_bytes() + b"\r\n" for path in files) + f"--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        answer = local.session.post(f"{case.url}/studies", data=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return len(answer.json()["00081199"]["Value"])

    batches = [case.files[start : start + case.per_request] for start in range(0, len(case.files), case.per_request)]
    with ThreadPoolExecutor(case.connections) as pool:
        if sum(pool.map(post, batches)) != len(case.files):
            raise SystemExit("requests lost images")


def _sink(case: Case, _: Path) -> None:
    accepted = set()

    def on_result(news) -> None:
        if news.state is DeliveryState.ACCEPTED:
            accepted.add(news.identity)

    _open(case).send([_instance(path) for path in case.files], on_result)
    if len(accepted) != len(case.files):
        raise SystemExit(f"the sink lost images: {len(accepted)} of {len(case.files)} were accepted")


def _sink_with_ledger(case: Case, place: Path) -> None:
    instances = [_instance(path) for path in case.files]
    ledger = Ledger(LocalStore(place / "store"), place.name, "WEB")
    digests = {str(instance.sop_instance_uid): None for instance in instances}
    with Recorder(ledger, digests, task="benchmark", before_request=lambda: None) as record:
        _open(case).send(instances, record)


def _open(case: Case) -> StowSink:
    extra = {"instances_per_request": case.per_request, "connections": case.connections, "mb_per_request": 100}
    return StowSink(Destination("WEB", "monai_dicomweb", case.url, extra=extra))


def _instance(path: Path) -> Instance:
    head = read_head(path)
    assert head is not None
    return Instance(path.name, path, path.name, head.sop_instance_uid, head.sop_class_uid, head.transfer_syntax_uid)


@contextmanager
def _orthanc(place: Path) -> Iterator[str]:
    with orthanc(place / "pacs", dicomweb=True) as pacs:
        yield f"{pacs.http}/dicom-web"


@contextmanager
def _stub(_: Path) -> Iterator[str]:
    """The stub in a process of its own, so that it takes nothing of the senders' interpreter."""
    process = subprocess.Popen(
        [sys.executable, "-c", _STUB],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[1],
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def serve() -> None:
    """Read STOW-RS requests and answer that all is stored, until the standard input ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        rbufsize, wbufsize = 1 << 20, -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            uids = []
            for found in _MARK.finditer(body):
                end = found.end() + int.from_bytes(found[1], "little")
                uids.append(body[found.end() : end].decode("ascii", "replace").strip("\0"))
            items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
            answer = json.dumps({"00081199": {"vr": "SQ", "Value": items}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


def main() -> None:
    rows = run(*map(int, sys.argv[1:]))
    print_table(rows)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
