"""What the chaos of MAP tasks needs: made-up cards, a DAG for each kind of task, runs of it, and the observer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from airflow_monai.gpu.inventory import INVENTORY_KEY, parse_inventory, save_inventory
from airflow_monai.local.stack import LocalStack
from airflow_monai.store import open_store
from airflow_monai.store.runs import RunFolder
from tests.chaos.observer import applications
from tests.operators.map_tasks import make_payload

POOL = "gpu_fake"
SLOTS = {"GPU-a": 2, "GPU-b": 2}
"""Two cards that nobody has: nothing but leases keeps applications from them."""
SIZES = {"small": 1, "large": 2}
ENDS = {"ok": "success", "exit7": "failed"}
"""What an application does -> how its run has to end."""

DAGS = """
from datetime import timedelta

from airflow.sdk import DAG
from airflow_monai.operators.map import MapOperator

for runner in {runners!r}:
    for size, slots in {sizes!r}.items():
        for end in {ends!r}:
            dag_id = f"{prefix}-{{runner}}-{{size}}-{{end}}"
            with DAG(dag_id, schedule=None, is_paused_upon_creation=False, max_active_runs=500, max_active_tasks=500):
                MapOperator(
                    task_id="make", map={map!r}, runner=runner, pool={pool!r}, pool_slots=slots,
                    resources={{"gpu_memory": f"{{slots}}Gi"}}, outputs=[{{"name": "result", "type": "OT"}}],
                    environment={{"NOOP_MODE": end, "NOOP_SECONDS": {seconds!r}, "CHAOS_SHARE": str(slots)}},
                    retries=50, retry_delay=timedelta(seconds=2),
                )
"""


@dataclass
class MapRuns:
    """Runs of one-task DAGs over one payload.

    :param prefix: of the DAG ids.
    :param map: the quick MAP, or what has its options.
    """

    stack: LocalStack
    prefix: str
    runners: Sequence[str]
    seconds: float = 1.0
    map: str = "noop:1.0.0"
    runs: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def leases(self) -> Path:
        return self.stack.layout.airflow_home / "monai-gpu-leases"

    @contextmanager
    def prepared(self) -> Iterator[MapRuns]:
        """The cards, their pool, the DAGs and the payload; the cards are gone afterwards."""
        store = open_store(str(self.stack.layout.store))
        card = {"class": "fake", "memory": "2 GiB", "count": len(SLOTS), "ids": list(SLOTS)}
        save_inventory(store, parse_inventory({"hosts": {"here": [card]}}))
        with suppress(requests.HTTPError):  # it is there
            pool = {
                "name": POOL,
                "slots": sum(SLOTS.values()),
                "description": "made-up cards",
                "include_deferred": False,
            }
            self.stack.api.call("POST", "/pools", pool)
        self.payload_id = make_payload(str(self.stack.layout.store))
        assert self.stack.options.dags is not None
        text = DAGS.format(
            runners=list(self.runners), sizes=SIZES, ends=list(ENDS), prefix=self.prefix, pool=POOL,
            seconds=str(self.seconds), map=self.map,
        )  # fmt: skip
        (self.stack.options.dags / f"{self.prefix.replace('-', '_')}.py").write_text(text)
        for dag_id in self.dag_ids:
            self.stack.wait_for_dag(dag_id, seconds=120)
        try:
            yield self
        finally:
            store.delete(INVENTORY_KEY)

    @property
    def dag_ids(self) -> list[str]:
        return [f"{self.prefix}-{runner}-{size}-{end}" for runner in self.runners for size in SIZES for end in ENDS]

    def start(self, count: int, *, every_nth_fails: int = 6) -> None:
        """Start so many runs, of all runners and sizes in turn."""
        for number in range(count):
            runner = self.runners[number % len(self.runners)]
            size = list(SIZES)[number // len(self.runners) % len(SIZES)]
            end = "exit7" if number % every_nth_fails == every_nth_fails - 1 else "ok"
            dag_id, run_id = f"{self.prefix}-{runner}-{size}-{end}", f"{self.prefix}__{number}"
            body = {"dag_run_id": run_id, "logical_date": None, "conf": {"payload_id": self.payload_id}}
            self.stack.api.call("POST", f"/dags/{dag_id}/dagRuns", body)
            self.runs[dag_id, run_id] = ENDS[end]

    def states(self) -> dict[tuple[str, str], str]:
        return {
            (dag_id, run["dag_run_id"]): run["state"] for dag_id in self.dag_ids for run in self.stack.api.runs(dag_id)
        }

    def wait(self, seconds: float) -> None:
        """Wait until all have ended, and see that each ended as it should, and once."""

        def ended() -> Mapping[tuple[str, str], str]:
            states = self.states()
            return states if all(states.get(run) in ("success", "failed") for run in self.runs) else {}

        states = self.stack.wait_for(ended, seconds=seconds, what=f"{len(self.runs)} runs to end", every=2)
        wrong = {run: state for run, state in states.items() if run in self.runs and state != self.runs[run]}
        assert not wrong, wrong
        for (dag_id, run_id), state in self.runs.items():
            record = RunFolder(open_store(str(self.stack.layout.store)), self.payload_id, dag_id, run_id).record("make")
            assert record is not None and record.generation == 1, (dag_id, run_id)
            kinds = {"success": None, "failed": "exit_code"}
            assert record.stats.get("error_kind") == kinds[state], (dag_id, run_id, record)
            assert len(record.artifacts.get("result", ())) == (state == "success"), (dag_id, run_id)

    def tries(self) -> Counter[int]:
        """How many tries the tasks took -> of how many tasks."""
        found = (ti for dag_id, run_id in self.runs for ti in self.stack.task_instances(dag_id, run_id))
        return Counter(ti["try_number"] for ti in found)

    def left(self) -> list[str]:
        """What is left of the tasks: leases and places in the queue, applications, state folders."""
        state: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            state = json.loads((self.leases / "leases.json").read_bytes())
        names = [item["name"] for what in ("leases", "tickets") for item in state.get(what, ())]
        folders = self.stack.layout.store.glob(f"payloads/*/workflows/{self.prefix}*/*/make/g*.*")
        return [
            *names,
            *(f"application {item.job}" for item in applications()),
            *(str(path) for path in folders if path.suffix in (".run", ".in", ".place")),
        ]

    @contextmanager
    def observed(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Watch from outside while the block runs; what was seen is in the dict afterwards."""
        config = folder / "observer.json"
        where = {"leases": str(self.leases), "store": str(self.stack.layout.store), "slots": SLOTS}
        config.write_text(json.dumps(where))
        words = [sys.executable, "-m", "tests.chaos.observer", str(config)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        seen: dict[str, Any] = {}
        try:
            yield seen
        finally:
            process.terminate()
            text, _ = process.communicate(timeout=30)
            seen.update(json.loads(text))
