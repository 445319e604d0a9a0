"""How fast results leave: our C-STORE against dcmtk's storescu, to the same receiver, in the same run.

``python benchmarks/send.py [images] [rounds]`` prints a table and JSON; :func:`run` gives the rows. ``sender`` is the
DICOM sink alone, ``sender with ledger`` also enters every instance into the ledger before its request and after it.
The receiver is dcmtk's storescp, which writes every file; both ends have TCP_NODELAY on, and once more the receiver has
not, as Debian ships it.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from airflow_monai.sinks.base import Destination, Instance
from airflow_monai.sinks.dicom import DicomSink
from airflow_monai.sinks.ledger import Ledger
from airflow_monai.sinks.part10 import read_head
from airflow_monai.sinks.recorder import Recorder
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import payload_key
from benchmarks.table import Row, Unavailable, print_table
from tests.pacs import Receiver, make_images, storescp

ROWS = 512  # 526 kB an image
Sender = Callable[[Receiver, Sequence[Path], Path], None]


def run(images: int = 200, rounds: int = 3) -> list[Row]:
    """One row for each of our ways to send and each kind of receiver; all are medians of images a second."""
    if not (shutil.which("storescu") and shutil.which("storescp")):
        raise Unavailable("dcmtk is not installed: apt-get install dcmtk")
    with TemporaryDirectory() as scratch:
        files = make_images(Path(scratch) / "in", images, rows=ROWS)
        rows: list[Row] = []
        for nodelay in (True, False):
            rates = _rates(Path(scratch), files, rounds if nodelay else 1, nodelay)
            rows += [_row(name, nodelay, rates) for name in rates if name != "storescu"]
        return rows


def _row(name: str, nodelay: bool, rates: dict[str, float]) -> Row:
    return Row(
        benchmark="send",
        case=f"{name}, receiver's TCP_NODELAY {'on' if nodelay else 'off'}",
        ours=f"{rates[name]:.0f} images/s",
        peer="storescu",
        theirs=f"{rates['storescu']:.0f} images/s",
        ratio=rates[name] / rates["storescu"],
        bar=">= 0.8",
        better="higher",
    )


def _rates(folder: Path, files: Sequence[Path], rounds: int, nodelay: bool) -> dict[str, float]:
    """Images/s of each sender: the median of several rounds, in turn, so that a busy moment hits all alike."""
    senders: dict[str, Sender] = {"storescu": _storescu, "sender": _sink, "sender with ledger": _sink_with_ledger}
    seconds: dict[str, list[float]] = {name: [] for name in senders}
    for _ in range(rounds):
        for name, send in senders.items():
            place = folder / str(uuid.uuid4())
            (place / "store" / payload_key(place.name)).mkdir(parents=True)  # a payload is there before its export
            with storescp(place / "out", nodelay=nodelay) as receiver:
                start = time.perf_counter()
                send(receiver, files, place)
                seconds[name].append(time.perf_counter() - start)
                if len(receiver.files()) != len(files):
                    raise SystemExit(f"{name} lost images: {len(receiver.files())} of {len(files)} arrived")
    return {name: len(files) / statistics.median(times) for name, times in seconds.items()}


def _storescu(receiver: Receiver, files: Sequence[Path], _: Path) -> None:
    command = ["storescu", "-aec", receiver.aet, receiver.host, str(receiver.port), *map(str, files)]
    subprocess.run(command, check=True, env=os.environ | {"TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL)


def _sink(receiver: Receiver, files: Sequence[Path], _: Path) -> None:
    _open(receiver).send([_instance(path) for path in files], lambda news: None)


def _sink_with_ledger(receiver: Receiver, files: Sequence[Path], place: Path) -> None:
    instances = [_instance(path) for path in files]
    ledger = Ledger(LocalStore(place / "store"), place.name, "PACS")
    digests = {str(instance.sop_instance_uid): None for instance in instances}
    with Recorder(ledger, digests, task="benchmark", before_request=lambda: None) as record:
        _open(receiver).send(instances, record)


def _open(receiver: Receiver) -> DicomSink:
    return DicomSink(Destination("PACS", "dicom", receiver.host, receiver.port, {"called_aet": receiver.aet}))


def _instance(path: Path) -> Instance:
    head = read_head(path)
    assert head is not None
    return Instance(path.name, path, path.name, head.sop_instance_uid, head.sop_class_uid, head.transfer_syntax_uid)


def main() -> None:
    rows = run(*map(int, sys.argv[1:]))
    print_table(rows)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
