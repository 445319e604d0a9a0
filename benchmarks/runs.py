"""What the benchmarks on a real Airflow share: a stack with a few DAGs, payloads in its store, batches of runs."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from airflow_monai.local.phantom import generate
from airflow_monai.local.stack import LocalStack, StackOptions
from airflow_monai.store import open_store
from airflow_monai.store.payloads import manifest_key, payload_id_of, payload_key, run_id_of, tags_key
from airflow_monai.types import Payload, PayloadFile

HERE = Path(__file__).parent
AE_TITLE = "BENCH"
POSTS_IN_FLIGHT = 4  # as many as the gateway allows itself


@dataclass(frozen=True, slots=True)
class Batch:
    """How a batch of runs went.

    :param wall: seconds from the first request to the end of the last run.
    :param cpu: seconds of CPU that the whole machine spent meanwhile.
    :param latencies: seconds of each run from its creation to its end, sorted.
    """

    runs: int
    wall: float
    cpu: float
    latencies: tuple[float, ...]

    @property
    def median(self) -> float:
        return self.latencies[len(self.latencies) // 2]


@contextmanager
def stack_with(dag_files: Sequence[str], specs: Sequence[str]) -> Iterator[LocalStack]:
    """A local stack, without gateway and PACS, with these files of ``benchmarks/dags`` and ``benchmarks/specs``."""
    with tempfile.TemporaryDirectory(prefix="airflow-monai-bench-") as name:
        folder = Path(name)
        dags, workflows = folder / "dags", folder / "workflows"
        dags.mkdir()
        workflows.mkdir()
        for file in dag_files:
            shutil.copy(HERE / "dags" / file, dags)
        for file in specs:
            shutil.copy(HERE / "specs" / file, workflows)
        options = StackOptions(
            workflows=workflows, dags=dags, runner="process", usual_ports=False, without=frozenset({"gateway", "pacs"})
        )
        with LocalStack(folder / "state", options) as stack:
            yield stack


def make_payloads(stack: LocalStack, count: int) -> list[str]:
    """Closed payloads of one small CT series each, as the gateway leaves them; returns their ids."""
    store = open_store(str(stack.layout.store))
    with tempfile.TemporaryDirectory() as name:
        study = generate(Path(name), slices=1, rows=64)
        image = next(path for path in Path(name).rglob("*") if path.is_file()).read_bytes()
    ids = []
    now = datetime.now(timezone.utc).isoformat()
    for number in range(count):
        payload_id = payload_id_of(f"{study.study_uid}.{number}", f"{AE_TITLE}{time.monotonic_ns()}", 0)
        series, sop = "1.2.3", f"1.2.3.{number}"
        path = f"dcm/{study.study_uid}/{series}/{sop}.dcm"
        store.write(payload_key(payload_id, *path.split("/")), image)
        file = PayloadFile(path, len(image), sop, "1.2.840.10008.5.1.4.1.1.2", series, "1.2.840.10008.1.2.1")
        payload = Payload(payload_id, study.study_uid, AE_TITLE, ("SCU",), 0, (file,), now, now, now)
        store.write_json(tags_key(payload_id), {series: {"00080060": ["CT"]}})
        store.write_json(manifest_key(payload_id), payload.to_dict())
        ids.append(payload_id)
    return ids


def run_batch(stack: LocalStack, dag_id: str, payload_ids: Sequence[str], *, seconds: float = 900) -> Batch:
    """Create one run for each payload, as the gateway does, and wait until all have ended well."""
    cpu, began = _machine_cpu(), time.monotonic()
    with ThreadPoolExecutor(POSTS_IN_FLIGHT) as pool:
        list(pool.map(lambda payload_id: _create_run(stack, dag_id, payload_id), payload_ids))
    wanted = {run_id_of(payload_id) for payload_id in payload_ids}
    stack.wait_for(
        lambda: _ended(stack, dag_id) >= len(wanted), seconds=seconds, what=f"{len(wanted)} runs of {dag_id}", every=0.3
    )
    wall, cpu = time.monotonic() - began, _machine_cpu() - cpu
    runs = [run for run in stack.runs(dag_id) if run["dag_run_id"] in wanted]
    bad = [run["dag_run_id"] for run in runs if run["state"] != "success"]
    if bad or len(runs) != len(wanted):
        raise RuntimeError(f"{len(bad)} of {len(runs)} runs of {dag_id} failed; {len(wanted)} were wanted: {bad[:3]}")
    latencies = sorted(_seconds(run["queued_at"] or run["start_date"], run["end_date"]) for run in runs)
    _forget(stack, dag_id, wanted)
    return Batch(len(runs), wall, cpu, tuple(latencies))


def _create_run(stack: LocalStack, dag_id: str, payload_id: str) -> None:
    body = {"dag_run_id": run_id_of(payload_id), "partition_key": payload_id, "logical_date": None, "conf": {}}
    stack.api.call("POST", f"/dags/{dag_id}/dagRuns", json=body)


def _ended(stack: LocalStack, dag_id: str) -> int:
    return sum(
        stack.api.call("GET", f"/dags/{dag_id}/dagRuns", state=state, limit=1)["total_entries"]
        for state in ("success", "failed")
    )


def _forget(stack: LocalStack, dag_id: str, run_ids: set[str]) -> None:
    """Remove the runs, so that the next batch counts from nought."""
    for run_id in run_ids:
        stack.api.call("DELETE", f"/dags/{dag_id}/dagRuns/{run_id}")


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _machine_cpu() -> float:
    """Seconds of CPU that all processes of this machine have used since it booted."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, *_ = (int(field) for field in fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
