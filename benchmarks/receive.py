"""How many images a second the gateway receives from dcmtk's storescu, beside dcmtk's own receiver.

    python benchmarks/receive.py [--images 200] [--kib 514] [--senders 1 4] [--repeat 3] [--json FILE]

Sender and receiver use TCP_NODELAY. ``gateway`` answers after the image is durable (file and folder flushed);
``gateway-nosync`` has the flushing switched off, as dcmtk's storescp, which never flushes. ``disk`` is the limit that
the disk sets: as many threads writing and flushing files of that size. Every image is counted after each run. The kinds
take turns, so that other work on the machine meets all of them.
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
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.table import Row, Unavailable

KINDS = ("dcmtk", "gateway-nosync", "gateway", "disk")
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
def gateway(work: Path, *, sync: bool):
    port = free_port()
    (work / "workflows").mkdir()
    (work / "workflows" / "bench.yaml").write_text(WORKFLOW)
    code = "import os, sys; from airflow_monai.cli.gateway import main; "
    code += "" if sync else "os.fsync = lambda fd: None; "
    code += f"sys.exit(main(['--host', '127.0.0.1', '--port', '{port}']))"
    environment = {
        "AIRFLOW_HOME": str(work / "airflow"),
        "AIRFLOW__MONAI__STORE": str(work / "store"),
        "AIRFLOW__MONAI__WORKFLOW_FOLDER": str(work / "workflows"),
    }
    with process([sys.executable, "-c", code], **environment):
        wait_for_port(port)
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


def rate(kind: str, base: Path, folders: Sequence[Path], images: int) -> float:
    """Images a second of one run."""
    work = Path(tempfile.mkdtemp(dir=base))
    try:
        if kind == "disk":
            return images / disk_limit(work, folders)
        receivers: dict[str, Callable] = {
            "dcmtk": lambda: storescp(work),
            "gateway": lambda: gateway(work, sync=True),
            "gateway-nosync": lambda: gateway(work, sync=False),
        }
        with receivers[kind]() as (port, count):
            seconds = send(port, folders)
            if count() != images:
                raise SystemExit(f"{kind}: {count()} of {images} images are there")
            return images / seconds
    finally:
        shutil.rmtree(work)


def measure(
    images: int, kib: int, senders: Sequence[int], repeat: int, folder: Path | None = None
) -> dict[tuple[str, int], float]:
    """(kind, number of senders) -> median of images a second."""
    base = Path(tempfile.mkdtemp(prefix="receive-", dir=folder))
    try:
        folders = [base / f"in{number}" for number in range(max(senders))]
        for sender in folders:
            make_images(sender, images, kib * 1024)
        cases = [(kind, number) for number in senders for kind in KINDS]
        rates: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
        for _ in range(repeat):
            for kind, number in cases:
                rates[kind, number].append(rate(kind, base, folders[:number], number * images))
        return {case: statistics.median(values) for case, values in rates.items()}
    finally:
        shutil.rmtree(base)


def run(images: int = 150, repeat: int = 3) -> list[Row]:
    """Ours beside the peer at equal durability: not flushed beside dcmtk, flushed beside the disk alone."""
    if not (shutil.which("storescu") and shutil.which("storescp")):
        raise Unavailable("dcmtk is not installed: apt-get install dcmtk")
    rates = measure(images, 514, (1, 4), repeat)
    rows = []
    for senders, bar in ((1, 240), (4, 390)):
        for ours, theirs, peer, how in (
            ("gateway-nosync", "dcmtk", "storescp", "not flushed"),
            ("gateway", "disk", "disk alone", "flushed"),
        ):
            rows.append(
                Row(
                    benchmark="receive",
                    case=f"526 kB images, {senders} senders, {how}",
                    ours=f"{rates[ours, senders]:.0f}/s",
                    theirs=f"{rates[theirs, senders]:.0f}/s",
                    peer=peer,
                    ratio=rates[ours, senders] / rates[theirs, senders],
                    bar=f">= {bar}/s",
                    better="higher",
                )
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="images of each sender")
    parser.add_argument("--kib", type=int, default=514, help="size of an image")
    parser.add_argument("--senders", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the median counts")
    parser.add_argument("--folder", type=Path, help="where to write (default: the folder for temporary files)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rates = measure(options.images, options.kib, tuple(options.senders), options.repeat, options.folder)
    for (kind, senders), value in rates.items():
        print(f"{kind:16} {senders} senders  {value:8.1f} images/s")
    results = {f"{kind}/{senders}": round(value, 1) for (kind, senders), value in rates.items()}
    if options.json:
        report = {"images": options.images, "kib": options.kib, "repeat": options.repeat, "images_per_second": results}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
