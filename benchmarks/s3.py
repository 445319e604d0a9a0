"""How fast files go to a store in a bucket and come back: ours against plain boto3 in 16 threads, in the same run.

``python benchmarks/s3.py [rounds]`` prints a table and JSON; :func:`run` gives the rows. Both talk to moto's server on
the loopback, which is the limit for both, so what is compared is what each adds. The store in a folder of the same
machine, durable, is shown for information.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from airflow_monai.store import Store
from airflow_monai.store.local import LocalStore
from benchmarks.table import Row, Unavailable, print_table
from tests.s3_server import S3Server, s3_server

THREADS = 16


@dataclass(frozen=True)
class Case:
    """So many files of such a size."""

    count: int
    size: int

    def __str__(self) -> str:
        size = f"{self.size / 1e6:.0f} MB" if self.size >= 1e6 else f"{self.size / 1e3:.0f} kB"
        return f"{self.count} x {size}"


CASES = (Case(200, 526_000), Case(4, 64 * 2**20))
Way = tuple[Callable[[], None], Callable[[], None]]
"""Takes all files up, and all of them down."""


def run(rounds: int = 3) -> list[Row]:
    """Rows for each case, up and down: medians of the rounds, in MB/s."""
    for name in ("boto3", "moto", "flask"):
        if importlib.util.find_spec(name) is None:
            raise Unavailable(f"{name} is not installed: pip install 'moto[server]' boto3")
    rows: list[Row] = []
    with TemporaryDirectory() as folder, s3_server(Path(folder)) as server:
        for number, case in enumerate(CASES):
            rows += _case(Path(folder) / str(number), server, case, rounds)
    return rows


def _case(folder: Path, server: S3Server, case: Case, rounds: int) -> list[Row]:
    source = folder / "in"
    source.mkdir(parents=True)
    files = []
    for number in range(case.count):
        files.append(source / f"{number:04d}")
        files[-1].write_bytes(os.urandom(case.size))
    seconds: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(rounds):
        place = folder / uuid.uuid4().hex
        ways: dict[str, Way] = {
            "boto3": _boto3(server, files, place / "boto3"),
            "ours": _store(server.store(folder), files, place / "ours"),
            "folder": _store(LocalStore(place / "store"), files, place / "folder"),
        }
        for name, (up, down) in ways.items():
            took = seconds.setdefault(name, ([], []))
            took[0].append(_timed(up))
            took[1].append(_timed(down))
            for file in files:
                if (place / name / file.name).stat().st_size != case.size:
                    raise SystemExit(f"{name} lost bytes of {file.name}")
        shutil.rmtree(place)
    shutil.rmtree(source)
    return [row for index, what in enumerate(("up", "down")) for row in _rows(case, index, what, seconds)]


def _rows(case: Case, index: int, what: str, seconds: dict[str, tuple[list[float], list[float]]]) -> list[Row]:
    rate = {name: case.count * case.size / 1e6 / statistics.median(took[index]) for name, took in seconds.items()}
    return [
        Row(
            benchmark="s3",
            case=f"{case} {what}",
            ours=f"{rate['ours']:.0f} MB/s",
            peer=f"boto3, {THREADS} threads",
            theirs=f"{rate['boto3']:.0f} MB/s",
            ratio=rate["ours"] / rate["boto3"],
            bar=">= 0.9",
            better="higher",
        ),
        Row(
            benchmark="s3",
            case=f"{case} {what}, store in a folder",
            ours=f"{rate['folder']:.0f} MB/s",
            peer="ours in the bucket",
            theirs=f"{rate['ours']:.0f} MB/s",
            ratio=rate["folder"] / rate["ours"],
            bar="for information",
            better="higher",
        ),
    ]


def _timed(act: Callable[[], None]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _store(store: Store, files: Sequence[Path], target: Path) -> Way:
    pairs = [(f"payloads/x/dcm/{file.name}", target / file.name) for file in files]
    return (
        lambda: store.put_all((file, key) for file, (key, _) in zip(files, pairs, strict=True)),
        lambda: store.fetch_all(pairs),
    )


def _boto3(server: S3Server, files: Sequence[Path], target: Path) -> Way:
    from boto3.s3.transfer import TransferConfig

    client, bucket = server.client(), server.bucket()
    config = TransferConfig(max_concurrency=THREADS)
    target.mkdir(parents=True)

    def each(act: Callable[[Path], Any]) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(act, files))

    return (
        lambda: each(lambda file: client.upload_file(str(file), bucket, file.name, Config=config)),
        lambda: each(lambda file: client.download_file(bucket, file.name, str(target / file.name), Config=config)),
    )


if __name__ == "__main__":
    found = run(*map(int, sys.argv[1:2]))
    print_table(found)
    print(json.dumps(found, indent=1))
