"""How many images a second the gateway receives from dcmtk's storescu, beside dcmtk's own receiver.

    python benchmarks/receive.py [--kib 32 514] [--senders 1 4] [--repeat 3] [--processes 1 2] [--json FILE]

Sender and receiver use TCP_NODELAY. ``flushed`` answers after the image is durable (file and folder flushed), as the
gateway does; ``not flushed`` has that switched off, as dcmtk's storescp, which never flushes. ``disk`` is the limit of
the disk: as many threads writing and flushing files of that size. Every image is counted after each run: one that
is lost ends the benchmark. The receivers take turns, so that other work on the machine meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.table import Row, Unavailable, print_table

IMAGES = {32: 600, 514: 150}
"""Size in KiB -> how many each sender sends."""
BARS = {1: 240, 4: 390}
"""Senders -> images of 514 KiB a second, flushed or not."""
NO_FLUSH = "import os\nos.fsync = lambda fd: None\n"
WORKFLOW = """
name: bench
version: 1.0.0
informatics_gateway: {ae_title: BENCH, quiet_seconds: 3600}
tasks: [{id: route, type: router}]
"""


def make_images(folder: Path, count: int, size: int) -> None:
    """CT-like images of about ``size`` bytes, all of one study."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    for number in range(count):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        ds.SOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = study, series, "CT", number
        ds.PatientID, ds.PatientName = "BENCH", "BENCH"
        ds.Rows = ds.Columns = 512
        ds.BitsAllocated = 16
        ds.PixelData = os.urandom(size // 2 * 2)
        ds.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for_port(port: int) -> None:
    for _ in range(600):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens at port {port}")


@contextmanager
def process(command: Sequence[str], **environment: str):
    env = {**os.environ, "TCP_NODELAY": "1", **environment}
    running = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)


@contextmanager
def gateway(work: Path, processes: int, flushed: bool):
    port = free_port()
    (work / "workflows").mkdir()
    (work / "workflows" / "bench.yaml").write_text(WORKFLOW)
    environment = {
        "AIRFLOW_HOME": str(work / "airflow"),
        "AIRFLOW__MONAI__STORE": str(work / "store"),
        "AIRFLOW__MONAI__WORKFLOW_FOLDER": str(work / "workflows"),
        "AIRFLOW__MONAI__DICOM_PROCESSES": str(processes),
        "AIRFLOW__MONAI__DISK_USED_PERCENT": "100",
        "AIRFLOW__MONAI__DISK_RESERVE": "0",
    }
    if not flushed:  # in each of its processes
        (work / "patch").mkdir()
        (work / "patch" / "sitecustomize.py").write_text(NO_FLUSH)
        environment["PYTHONPATH"] = str(work / "patch")
    events = work / "events.jsonl"
    command = [sys.executable, "-m", "airflow_monai.gateway.command", "--host", "127.0.0.1", "--port", str(port)]
    with process([*command, "--events", str(events)], **environment) as running:
        while running.poll() is None and not (events.exists() and "gateway-started" in events.read_text()):
            time.sleep(0.1)
        yield port, lambda: sum(1 for _ in (work / "store" / "payloads").rglob("*.dcm"))


@contextmanager
def storescp(work: Path):
    port = free_port()
    (work / "received").mkdir()
    with process(["storescp", "--fork", "-od", str(work / "received"), "-uf", str(port)]):
        wait_for_port(port)
        yield port, lambda: sum(1 for _ in (work / "received").iterdir())


def send(port: int, folders: Sequence[Path]) -> float:
    """Send each folder by a sender of its own, in parallel; seconds until all have ended."""
    env = {**os.environ, "TCP_NODELAY": "1"}
    command = ["storescu", "-aec", "BENCH", "-aet", "SENDER", "+sd", "127.0.0.1", str(port)]
    started = time.perf_counter()
    senders = [subprocess.Popen([*command, str(folder)], env=env) for folder in folders]
    if any(sender.wait() for sender in senders):
        raise SystemExit("storescu failed")
    return time.perf_counter() - started


def disk_limit(work: Path, folders: Sequence[Path]) -> float:
    """Seconds to write and flush the images with one thread a folder, two flushes each."""

    def write(folder: Path) -> None:
        target = work / folder.name
        target.mkdir()
        handle = os.open(target, os.O_RDONLY)
        for file in folder.iterdir():
            with open(target / file.name, "wb") as out:
                out.write(file.read_bytes())
                out.flush()
                os.fsync(out.fileno())
            os.fsync(handle)
        os.close(handle)

    threads = [threading.Thread(target=write, args=(folder,)) for folder in folders]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Kind:
    """What receives: dcmtk, the gateway with so many processes, or the disk alone."""

    name: str
    processes: int = 0
    flushed: bool = False

    def __str__(self) -> str:
        if not self.processes:
            return self.name
        return f"{self.name} x{self.processes} {'flushed' if self.flushed else 'not flushed'}"


def kinds(processes: Sequence[int]) -> list[Kind]:
    ours = [Kind("gateway", number, flushed) for number in processes for flushed in (False, True)]
    return [Kind("dcmtk"), *ours, Kind("disk", flushed=True)]


def rate(kind: Kind, base: Path, folders: Sequence[Path], images: int) -> float:
    """Images a second of one run."""
    work = Path(tempfile.mkdtemp(dir=base))
    try:
        if kind.name == "disk":
            return images / disk_limit(work, folders)
        receiver = gateway(work, kind.processes, kind.flushed) if kind.processes else storescp(work)
        with receiver as (port, count):
            seconds = send(port, folders)
            if count() != images:
                raise SystemExit(f"{kind}: {count()} of {images} images are there")
            return images / seconds
    finally:
        shutil.rmtree(work)


def measure(
    kib: int, senders: Sequence[int], processes: Sequence[int], repeat: int, images: int, folder: Path | None = None
) -> dict[tuple[Kind, int], float]:
    """(what receives, number of senders) -> median of images a second, for images of one size."""
    base = Path(tempfile.mkdtemp(prefix="receive-", dir=folder))
    try:
        folders = [base / f"in{number}" for number in range(max(senders))]
        for sender in folders:
            make_images(sender, images, kib * 1024)
        cases = [(kind, number) for number in senders for kind in kinds(processes)]
        rates: dict[tuple[Kind, int], list[float]] = {case: [] for case in cases}
        for _ in range(repeat):
            for kind, number in cases:
                rates[kind, number].append(rate(kind, base, folders[:number], number * images))
        return {case: statistics.median(values) for case, values in rates.items()}
    finally:
        shutil.rmtree(base)


def rows_of(kib: int, rates: dict[tuple[Kind, int], float]) -> list[Row]:
    """Ours beside the peer at equal durability: not flushed beside dcmtk, flushed beside the disk alone."""
    rows = []
    for (kind, senders), ours in rates.items():
        if not kind.processes:
            continue
        peer = Kind("disk", flushed=True) if kind.flushed else Kind("dcmtk")
        theirs = rates[peer, senders]
        bar = BARS.get(senders) if kib == 514 else None
        rows.append(
            Row(
                benchmark="receive",
                case=f"{kib} KiB, {senders} {'sender' if senders == 1 else 'senders'}, {kind}",
                ours=f"{ours:.0f}/s",
                theirs=f"{theirs:.0f}/s",
                peer="disk alone" if kind.flushed else "storescp",
                ratio=ours / theirs,
                bar=f">= {bar}/s" if bar else "",
                better="higher",
            )
        )
    return rows


def default_processes() -> tuple[int, ...]:
    """One, and as many as a site would use on these cores."""
    return tuple(sorted({1, min(4, os.cpu_count() or 1)}))


def run(repeat: int = 3) -> list[Row]:
    if not (shutil.which("storescu") and shutil.which("storescp")):
        raise Unavailable("dcmtk is not installed: apt-get install dcmtk")
    rows = []
    for kib, images in IMAGES.items():
        rows += rows_of(kib, measure(kib, (1, 4), default_processes(), repeat, images))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help="images of each sender (default: by their size)")
    parser.add_argument("--kib", type=int, nargs="+", default=list(IMAGES), help="sizes of an image")
    parser.add_argument("--senders", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--processes", type=int, nargs="+", default=list(default_processes()), help="of the gateway")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the median counts")
    parser.add_argument("--folder", type=Path, help="where to write (default: the folder for temporary files)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, results = [], {}
    for kib in options.kib:
        images = options.images or IMAGES.get(kib, 150)
        rates = measure(kib, options.senders, options.processes, options.repeat, images, options.folder)
        rows += rows_of(kib, rates)
        results |= {f"{kib} KiB/{kind}/{number}": round(value, 1) for (kind, number), value in rates.items()}
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"repeat": options.repeat, "images_per_second": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
