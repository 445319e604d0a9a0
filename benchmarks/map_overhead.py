"""What a MAP task costs beyond its container: MapOperator's ``execute`` against a bare ``docker run``, in turns.

``python benchmarks/map_overhead.py [rounds]`` prints a table and JSON; :func:`run` gives the rows. Both run the quick
sample MAP with the same mounts. Like Airflow's workers, the benchmark forks a process for each task out of one that has
the DAG's imports already; the clock runs from the call of ``execute`` to its return, with the imports that it makes,
the store, the log, the checks of the outputs and the container's removal.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from airflow_monai.operators.map import MapOperator
from benchmarks.table import Row, Unavailable, print_table
from tests.operators.map_tasks import context_of, make_payload

IMAGE = "noop:1.0.0"
BUILD = Path(__file__).resolve().parents[1] / "examples" / "maps" / "build.py"
BAR_SECONDS = 0.5
GOAL_SECONDS = 0.2


def run(rounds: int = 9) -> list[Row]:
    """One row: the medians, and how many seconds more the task takes."""
    if shutil.which("docker") is None or subprocess.run(["docker", "version"], capture_output=True).returncode:
        raise Unavailable("no Docker engine answers: install docker.io and start dockerd")
    built = subprocess.run([sys.executable, BUILD], capture_output=True, text=True)
    if built.returncode:
        raise Unavailable(built.stderr.strip().splitlines()[-1])
    with TemporaryDirectory() as scratch, _site(f"{scratch}/store"):
        payload_id = make_payload(f"{scratch}/store")
        study = Path(scratch) / "store" / "payloads" / payload_id / "dcm"
        _task(payload_id, 0)  # reads the image's manifest, which later tasks find in the store
        bare, task = [], []
        for number in range(1, rounds + 1):
            bare.append(_docker_run(study, Path(scratch) / f"out{number}"))
            task.append(_task(payload_id, number))
    return [_row(statistics.median(task), statistics.median(bare))]


def _row(task: float, bare: float) -> Row:
    return Row(
        benchmark="map_overhead",
        case=f"MAP task, no-op image: {task - bare:+.3f} s (bar {BAR_SECONDS:+.1f}, goal {GOAL_SECONDS:+.1f})",
        ours=f"{task:.3f} s",
        peer="docker run --rm",
        theirs=f"{bare:.3f} s",
        ratio=task / bare,
        bar=f"<= {(bare + BAR_SECONDS) / bare:.2f}",
        better="lower",
    )


@contextlib.contextmanager
def _site(store: str) -> Iterator[None]:
    settings = {"AIRFLOW__MONAI__STORE": store, "AIRFLOW__MONAI__RUNNER": "docker"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _docker_run(study: Path, output: Path) -> float:
    output.mkdir()
    output.chmod(0o777)
    mounts = ["-v", f"{study}:/var/holoscan/input:ro", "-v", f"{output}:/var/holoscan/output"]
    begun = time.monotonic()
    subprocess.run(["docker", "run", "--rm", "--network", "none", *mounts, IMAGE], check=True, capture_output=True)
    return time.monotonic() - begun


def _task(payload_id: str, number: int) -> float:
    """Seconds of one ``execute`` in a forked process."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        operator = MapOperator(task_id=f"task{number}", map=IMAGE, outputs=[{"name": "all", "type": "Folder"}])
        context = context_of(operator, payload_id)
        begun = time.monotonic()
        try:
            operator.execute(context)
            os.write(writer, str(time.monotonic() - begun).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        seconds = answer.read()
    os.wait()
    if not seconds:
        raise RuntimeError("the MAP task failed")
    return float(seconds)


if __name__ == "__main__":
    rows = run(*map(int, sys.argv[1:]))
    print_table(rows)
    print(json.dumps(rows, indent=2))
