"""`airflow monai run`: from the command to the first task, against importing Airflow alone in the same minute.

The workflow is one router, the study six small images, the database is there already (a warm start). The peer is what
no command that runs a task in this process can do without.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row

ROUNDS = 5
BAR_SECONDS = 5.0
SPEC = """\
name: start
version: 1.0.0
informatics_gateway: {ae_title: START}
tasks: [{id: only, type: router}]
"""
IMPORTS = "import airflow, airflow.models.dagbag, airflow.api_fastapi.execution_api.routes"


def run() -> list[Row]:
    """Median of several starts, the first of which makes the database and does not count."""
    from airflow_monai.local.phantom import generate

    folder = Path(tempfile.mkdtemp(prefix="monai-trial-"))
    try:
        generate(folder / "study", slices=6, rows=128, seed=1)
        (folder / "start.yaml").write_text(SPEC)
        first = _trial(folder)
        starts, peers = [], []
        for _ in range(ROUNDS):
            starts.append(_trial(folder))
            peers.append(_imports(folder))
    finally:
        shutil.rmtree(folder)
    start = statistics.median(report["start_seconds"] for report in starts)
    whole = statistics.median(report["wall"] for report in starts)
    peer = statistics.median(peers)
    print(f"  the first start, which makes the database: {first['start_seconds']:.1f} s", file=sys.stderr)
    return [
        _row("to the first task, warm", start, peer, f"<= {BAR_SECONDS:g} s"),
        _row("whole command, warm", whole, peer, ""),
    ]


def _row(case: str, ours: float, theirs: float, bar: str) -> Row:
    return {
        "benchmark": "trial run",
        "case": case,
        "ours": f"{ours:.2f} s",
        "peer": "importing Airflow",
        "theirs": f"{theirs:.2f} s",
        "ratio": ours / theirs,
        "bar": bar,
        "better": "lower",
    }


def _trial(folder: Path) -> dict[str, float]:
    began = time.monotonic()
    command = [sys.executable, "-m", "airflow_monai", "run", "start.yaml", "--study", "study", "--json"]
    done = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout), "wall": time.monotonic() - began}


def _imports(folder: Path) -> float:
    (folder / "home").mkdir(exist_ok=True)
    (folder / "home" / "airflow.cfg").touch()
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORTS], env=_environment(folder), capture_output=True, check=True)
    return time.monotonic() - began


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "AIRFLOW_HOME": str(folder / "home")}


if __name__ == "__main__":
    from benchmarks.table import print_table

    print_table(run())
