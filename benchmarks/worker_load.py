"""What a task costs a worker before it begins: its bundle's version made ready, and its one workflow loaded.

Neither may grow with the number of workflows beside it. A process of its own each time; seconds are of CPU, beyond
those of its imports.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.table import Row
from benchmarks.yaml_to_dag import SPEC

SIZES = (1, 50, 200, 1000)
ROUNDS = 7
BAR = "about 1"

# As Airflow's task runner does: the bundle of the run's version, then the file of the task's DAG.
WORKER = """\
import sys, time
import airflow_monai.factory.builder, airflow_monai.operators.map, airflow_monai.operators.export
from airflow_monai.bundles.workflow_folder import WorkflowSpecBundle

version, name = sys.argv[1:]
began = time.process_time()
bundle = WorkflowSpecBundle(name="workflows", version=version)
bundle.initialize()
path = bundle.path / name
names = {"__file__": str(path), "__name__": "worker"}
exec(compile(path.read_bytes(), str(path), "exec"), names)
print(time.process_time() - began, names["dag"].dag_id)
"""


def run(sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """One row for each number of workflows, against a worker that has only the one."""
    with tempfile.TemporaryDirectory(prefix="monai-worker-load-") as folder:
        seconds = {size: _seconds(Path(folder) / str(size), size) for size in sizes}
    alone = seconds[sizes[0]]
    return [_row(size, seconds[size], alone) for size in sizes[1:]]


def _row(size: int, ours: float, alone: float) -> Row:
    return {
        "benchmark": "worker loads its workflow",
        "case": f"beside {size - 1} others",
        "ours": f"{ours * 1000:.2f} ms of CPU",
        "peer": "the only one",
        "theirs": f"{alone * 1000:.2f} ms of CPU",
        "ratio": ours / alone,
        "bar": BAR,
        "better": "lower",
    }


def _seconds(home: Path, size: int) -> float:
    """Median of several workers, for the workflow in the middle."""
    specs = home / "specs"
    specs.mkdir(parents=True)
    for number in range(size):
        (specs / f"lung-{number}.yaml").write_text(SPEC.format(n=number))
    environment = _environment(home)
    version = _published(environment)
    words = [sys.executable, "-c", WORKER, version, f"lung-{size // 2}.yaml.py"]
    times = []
    for _ in range(ROUNDS):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        seconds, dag_id = done.stdout.split()[-2:]
        assert dag_id == f"lung-{size // 2}"
        times.append(float(seconds))
    return statistics.median(times)


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    bundle = {
        "name": "workflows",
        "classpath": "airflow_monai.bundles.workflow_folder.WorkflowSpecBundle",
        "kwargs": {},
    }
    return {
        **kept,
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
        "AIRFLOW__MONAI__STORE": str(home / "store"),
        "AIRFLOW__MONAI__WORKFLOW_FOLDER": str(home / "specs"),
    }


def _published(environment: dict[str, str]) -> str:
    """The version of the folder, published as the DAG processor does it."""
    code = (
        "from airflow_monai.bundles.workflow_folder import WorkflowSpecBundle as B\n"
        "bundle = B(name='workflows')\nbundle.initialize()\nprint(bundle.get_current_version().version)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]
