"""What a lease costs: to take cards and to give them back, on a disk of this machine, and the first one in a process.

The first is measured in processes of their own, with the modules that only leases need still to be imported; those
that a task has anyhow are there. Beside the time that passes stands the time of the processor, which a busy machine
does not change.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row, print_table

TIMES = 200
PROCESSES = 8
CARDS = 8
LIMIT_MS = 20.0

FIRST = """
import sys, time
import airflow_monai.errors, airflow_monai.settings, airflow_monai.types
import dataclasses, json, random, secrets, threading, contextlib, pathlib
begun, spent = time.perf_counter(), time.process_time()
from pathlib import Path
from airflow_monai.gpu.lease_folder import LeaseFolder
from airflow_monai.gpu.leases import Holder, Leases, Want
from airflow_monai.gpu.choice import Card
cards = [Card(f"GPU-{index}", "a100", 40) for index in range(8)]
held = Leases(LeaseFolder(Path(sys.argv[1])), cards, "here")
held.acquire(Want("a100", 1, 8), Holder(sys.argv[2], "bench", "/none"), wait_seconds=0, holds=lambda lease: True)
print(1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - spent))
held.release(sys.argv[2])
"""


def run(times: int = TIMES, processes: int = PROCESSES) -> list[Row]:
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".leases-") as folder:
        alone = _takes(Path(folder) / "alone", times)
        busy = _takes(Path(folder) / "busy", times, others=CARDS * 4)
        first = [_first(Path(folder) / "first", f"job {number}") for number in range(processes)]
    return [
        _row("taking a card", alone),
        _row(f"taking a card, {CARDS * 4} other leases", busy),
        _row("the first in a process, imports included", first),
    ]


def _takes(folder: Path, times: int, others: int = 0) -> list[tuple[float, float]]:
    """Of each the milliseconds that passed, and those of the processor."""
    from airflow_monai.gpu.choice import Card
    from airflow_monai.gpu.lease_folder import LeaseFolder
    from airflow_monai.gpu.leases import Holder, Leases, Want

    cards = [Card(f"GPU-{index}", "a100", 40) for index in range(CARDS)]
    held = Leases(LeaseFolder(folder), cards, "here")

    def take(name: str) -> None:
        holder = Holder(name, "bench", "/none")
        held.acquire(Want("a100", 1, 8), holder, wait_seconds=0, holds=lambda lease: True)

    for number in range(others):
        take(f"other {number}")
    took = []
    for number in range(times):
        begun, spent = time.perf_counter(), time.process_time()
        take(f"job {number}")
        took.append((1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - spent)))
        held.release(f"job {number}")
    return took


def _first(folder: Path, name: str) -> tuple[float, float]:
    command = [sys.executable, "-c", FIRST, str(folder), name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    passed, spent = done.stdout.split()
    return float(passed), float(spent)


def _row(case: str, took: list[tuple[float, float]]) -> Row:
    ordered = sorted(passed for passed, _ in took)
    spent = statistics.median(spent for _, spent in took)
    median, late = statistics.median(ordered), ordered[int(0.95 * (len(ordered) - 1))]
    return Row(
        benchmark="lease_cost",
        case=case,
        ours=f"median {median:.1f} ms, 95 of 100 within {late:.1f} ms, {spent:.1f} ms of CPU",
        peer="the limit",
        theirs=f"{LIMIT_MS:.0f} ms",
        ratio=median / LIMIT_MS,
        bar="<= 1",
        better="lower",
    )


if __name__ == "__main__":
    print_table(run())
