"""How fast results leave: our C-STORE against dcmtk's storescu, to the same receiver, in the same run.

    python benchmarks/send.py [--images 200] [--repeat 3] [--rows 128 512] [--associations 1 4]

Prints a table and JSON; :func:`run` gives the rows. ``sender`` is the DICOM sink alone, ``with ledger`` also enters
every instance into the ledger before its request and after it. With 4 associations storescu runs four times side by
side, each with a quarter of the images. The receiver is dcmtk's storescp, which writes every file and flushes none;
both ends have TCP_NODELAY on, and in the last rows the receiver has not, as Debian ships it. After each run the
receiver's files are counted; one that is missing ends the benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from airflow_monai.sinks.base import Destination, Instance
from airflow_monai.sinks.dicom import DicomSink
from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.sinks.ledger.recorder import Recorder
from airflow_monai.sinks.part10 import read_head
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import payload_key
from benchmarks.table import Row, Unavailable, print_table
from tests.pacs import Receiver, make_images, storescp

SIZES = (128, 512)  # rows and columns: 33 kB and 526 kB an image
ASSOCIATIONS = (1, 4)


@dataclass(frozen=True)
class Case:
    rows: int
    associations: int
    nodelay: bool = True

    def __str__(self) -> str:
        delays = "" if self.nodelay else ", receiver's TCP_NODELAY off"
        size, many = self.rows * self.rows * 2 / 1000, "s" if self.associations > 1 else ""
        return f"{size:.0f} kB, {self.associations} association{many}{delays}"


Sender = Callable[[Receiver, Sequence[Path], Path, Case], None]


def run(
    images: int = 200,
    repeat: int = 3,
    rows: Sequence[int] = SIZES,
    associations: Sequence[int] = ASSOCIATIONS,
) -> list[Row]:
    """Two rows for each case, without and with the ledger; all are medians of images a second."""
    if not (shutil.which("storescu") and shutil.which("storescp")):
        raise Unavailable("dcmtk is not installed: apt-get install dcmtk")
    cases = [Case(size, count) for size in rows for count in associations]
    found: list[Row] = []
    with TemporaryDirectory() as scratch:
        for case in [*cases, Case(max(rows), 1, nodelay=False)]:
            folder = Path(scratch) / str(uuid.uuid4())
            count = images if case.rows > 256 else images * 3
            files = make_images(folder / "in", count, rows=case.rows)
            rates = _rates(folder, files, repeat, case)
            found += [_row(name, case, rates) for name in rates if name != "storescu"]
            shutil.rmtree(folder)
    return found


def _row(name: str, case: Case, rates: dict[str, float]) -> Row:
    return Row(
        benchmark="send",
        case=f"{name}, {case}",
        ours=f"{rates[name]:.0f} images/s",
        peer="storescu",
        theirs=f"{rates['storescu']:.0f} images/s",
        ratio=rates[name] / rates["storescu"],
        bar=">= 0.8",
        better="higher",
    )


def _rates(folder: Path, files: Sequence[Path], repeat: int, case: Case) -> dict[str, float]:
    """Images/s of each sender: the median of several rounds, in turn, so that a busy moment hits all alike."""
    senders: dict[str, Sender] = {"storescu": _storescu, "sender": _sink, "sender with ledger": _sink_with_ledger}
    seconds: dict[str, list[float]] = {name: [] for name in senders}
    for _ in range(repeat):
        for name, send in senders.items():
            place = folder / str(uuid.uuid4())
            (place / "store" / payload_key(place.name)).mkdir(parents=True)  # a payload is there before its export
            with storescp(place / "out", nodelay=case.nodelay) as receiver:
                start = time.perf_counter()
                send(receiver, files, place, case)
                seconds[name].append(time.perf_counter() - start)
                if len(receiver.files()) != len(files):
                    raise SystemExit(f"{name} lost images: {len(receiver.files())} of {len(files)} arrived")
            shutil.rmtree(place)
    return {name: len(files) / statistics.median(times) for name, times in seconds.items()}


def _storescu(receiver: Receiver, files: Sequence[Path], _: Path, case: Case) -> None:
    command = ["storescu", "-aec", receiver.aet, receiver.host, str(receiver.port)]
    environment = os.environ | {"TCP_NODELAY": "1"}
    running = [
        subprocess.Popen([*command, *map(str, files[start :: case.associations])], env=environment)
        for start in range(case.associations)
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("storescu failed")


def _sink(receiver: Receiver, files: Sequence[Path], _: Path, case: Case) -> None:
    _open(receiver, case).send([_instance(path) for path in files], lambda news: None)


def _sink_with_ledger(receiver: Receiver, files: Sequence[Path], place: Path, case: Case) -> None:
    instances = [_instance(path) for path in files]
    ledger = Ledger(LocalStore(place / "store"), place.name, "PACS")
    digests = {str(instance.sop_instance_uid): None for instance in instances}
    with Recorder(ledger, digests, task="benchmark", before_request=lambda: None) as record:
        _open(receiver, case).send(instances, record)


def _open(receiver: Receiver, case: Case) -> DicomSink:
    extra = {"called_aet": receiver.aet, "associations": case.associations}
    return DicomSink(Destination("PACS", "dicom", receiver.host, receiver.port, extra))


def _instance(path: Path) -> Instance:
    head = read_head(path)
    assert head is not None
    return Instance(path.name, path, path.name, head.sop_instance_uid, head.sop_class_uid, head.transfer_syntax_uid)


def main() -> None:
    parser = argparse.ArgumentParser(description="C-STORE sent, against dcmtk's storescu.")
    parser.add_argument("--images", type=int, default=200, help="of 526 kB; three times as many small ones")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="rows and columns of an image")
    parser.add_argument("--associations", type=int, nargs="+", default=ASSOCIATIONS)
    args = parser.parse_args()
    rows = run(args.images, args.repeat, args.rows, args.associations)
    print_table(rows)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
