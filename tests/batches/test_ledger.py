"""Each payload of a batch gets exactly one run, whatever is repeated, happens at once, or is cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_monai.batches.claims import PayloadClaims
from airflow_monai.batches.ledger import BatchPlan, BatchRuns, load_plan
from airflow_monai.engine import Job, JobState, JobStatus
from airflow_monai.errors import MonaiError, StoreError
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import payload_id_of
from airflow_monai.types import FailureKind

PAYLOADS = tuple(payload_id_of(f"1.2.{number}", "LUNGS", 0) for number in range(12))


_STATES = {"success": JobState.SUCCEEDED, "failed": JobState.FAILED}


class Airflow:
    """Runs by id, as Airflow's database has them: one for each id. ``trouble`` is raised before, or after, the work."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.calls: Counter[str] = Counter()
        self.trouble: dict[str, str] = {}
        self.lock = threading.Lock()

    def launch(self, job: Job) -> bool:
        run_id = job.name
        with self.lock:
            self.calls[run_id] += 1
            when = self.trouble.pop("create", "")
            if when == "before":
                raise Away
            is_new = run_id not in self.states
            self.states.setdefault(run_id, "running")
            if when == "after":
                raise Away
            return is_new

    def status(self, job: Job) -> JobStatus | None:
        if self.trouble.pop("ask", ""):
            raise Away
        state = self.states.get(job.name)
        return JobStatus(_STATES.get(state, JobState.RUNNING)) if state else None

    def end(self, state: str = "success", *run_ids: str) -> None:
        for run_id in run_ids or [run for run, now in self.states.items() if now == "running"]:
            self.states[run_id] = state


class Away(MonaiError):
    failure = FailureKind.CONNECTION


def plan_of(batch: str = "one", *, include: bool = False, version: str = "1", payloads: tuple = PAYLOADS) -> BatchPlan:
    return BatchPlan("lungs", batch, version, include, payloads)


def begin(store: LocalStore, airflow: Airflow, plan: BatchPlan, active: int = 4) -> BatchRuns:
    return BatchRuns(store, plan.keep(store), airflow, active).resume()


def first_runs() -> set[str]:
    return {f"monai__{payload}__b1" for payload in PAYLOADS}


def test_so_many_at_once_in_order_and_a_failure_stops_no_other(store: LocalStore) -> None:
    airflow = Airflow()
    runs = begin(store, airflow, plan_of())
    seen = []
    while not runs.is_done:
        runs.step()
        assert len(runs.active) <= 4
        seen.append(runs.told())
        airflow.end("failed" if len(seen) == 1 else "success")
    assert list(airflow.states) == [f"monai__{payload}__b1" for payload in PAYLOADS]
    assert seen == [
        "0 of 12 done, 4 running",
        "4 of 12 done, 4 failed, 4 running",
        "8 of 12 done, 4 failed, 4 running",
        "12 of 12 done, 4 failed",
    ]
    assert runs.counts() | {"of": 12, "succeeded": 8, "failed": 4, "waiting": 0} == runs.counts()
    assert sorted(runs.failed_runs()) == sorted(list(airflow.states)[:4])


def test_a_second_batch_of_the_same_version_passes_over_what_the_first_did(store: LocalStore) -> None:
    airflow = Airflow()
    begin(store, airflow, plan_of("one"), active=20).step()
    again = begin(store, airflow, plan_of("two"), active=20)
    again.step()
    assert set(airflow.states) == first_runs()
    assert again.is_done and again.counts()["passed_over"] == 12


def test_a_new_version_and_a_wanted_repetition_get_runs_of_their_own(store: LocalStore) -> None:
    airflow = Airflow()
    for batch, version, include in (("one", "1", False), ("two", "2", False), ("three", "2", True)):
        begin(store, airflow, plan_of(batch, version=version, include=include, payloads=PAYLOADS[:1]), 1).step()
    assert set(airflow.states) == {f"monai__{PAYLOADS[0]}__b{number}" for number in (1, 2, 3)}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_trouble_while_a_run_is_made_makes_no_second_one(store: LocalStore, when: str) -> None:
    airflow = Airflow()
    runs = begin(store, airflow, plan_of(), active=20)
    airflow.trouble["create"] = when
    with pytest.raises(Away):
        runs.step()
    resumed = begin(store, airflow, plan_of(), active=20)  # as after a triggerer's death
    for one in (resumed, runs):
        one.step()
    assert set(airflow.states) == first_runs()


def test_a_trouble_while_asking_loses_no_run(store: LocalStore) -> None:
    airflow = Airflow()
    runs = begin(store, airflow, plan_of(), active=2)
    runs.step()
    airflow.end()
    airflow.trouble["ask"] = "yes"
    with pytest.raises(Away):
        runs.step()
    assert len(runs.active) == 2
    runs.step()
    assert runs.counts()["succeeded"] == 2


def test_two_that_drive_one_batch_at_once_make_each_run_once(store: LocalStore) -> None:
    airflow = Airflow()
    both = [begin(store, airflow, plan_of(), active=12) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(BatchRuns.step, both))
    assert set(airflow.states) == first_runs()


def test_two_batches_at_once_never_claim_the_same_run(store: LocalStore) -> None:
    def take(batch: str) -> list[str]:
        claims = [PayloadClaims(store, payload, "lungs") for payload in PAYLOADS]
        return [claim.take(batch, "1").run_id(claim.payload_id) for claim in claims]

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, ["a", "b", "c", "a"]))
    assert taken[0] == taken[3], "the same batch finds its own claims again"
    assert len({run for runs in taken[:3] for run in runs}) == 3 * len(PAYLOADS)


def test_of_two_lists_of_one_batch_the_first_counts(store: LocalStore) -> None:
    first = plan_of().keep(store)
    assert plan_of(payloads=PAYLOADS[:3]).keep(store) == first == load_plan(store, "lungs", "one")


def test_a_stopped_batch_starts_nothing_more(store: LocalStore) -> None:
    airflow = Airflow()
    runs = begin(store, airflow, plan_of(), active=2)
    runs.step()
    airflow.end()
    runs.stop()
    runs.step()
    assert len(airflow.states) == 2 and not runs.is_done


def test_a_run_that_a_person_deleted_is_not_waited_for(store: LocalStore) -> None:
    airflow = Airflow()
    runs = begin(store, airflow, plan_of(payloads=PAYLOADS[:1]))
    runs.step()
    airflow.states.clear()
    runs.step()
    assert runs.is_done and runs.told() == "1 of 1 done, 1 deleted by a person"
    begin(store, airflow, plan_of(payloads=PAYLOADS[:1])).step()
    assert not airflow.states, "and it is not made again"


def test_a_power_cut_that_loses_the_progress_loses_no_run(store: LocalStore) -> None:
    airflow = Airflow()
    runs = begin(store, airflow, plan_of(), active=4)
    runs.step()
    airflow.end()
    runs.step()
    key = "batches/lungs/one/progress.jsonl"
    store.write(key, store.read(key)[:60])
    resumed = begin(store, airflow, plan_of(), active=4)
    while not resumed.is_done:
        resumed.step()
        airflow.end()
    assert resumed.counts()["succeeded"] == 12 and set(airflow.calls) == first_runs()


def test_a_damaged_list_is_told(store: LocalStore) -> None:
    plan_of().keep(store)
    store.write("batches/lungs/one/plan.json", b"{}")
    with pytest.raises(StoreError, match=r"batches/lungs/one/plan\.json is damaged"):
        load_plan(store, "lungs", "one")


DRIVER = """
import json, os, sys
from pathlib import Path
from airflow_monai.batches.ledger import BatchPlan, BatchRuns
from airflow_monai.engine import JobState, JobStatus
from airflow_monai.store.local import LocalStore
folder, store, payloads = Path(sys.argv[1]), LocalStore(sys.argv[2]), tuple(json.loads(sys.argv[3]))

class Airflow:
    def launch(self, job):
        with open(folder / "calls", "a") as calls:
            calls.write(job.name + "\\n")
        try:
            os.close(os.open(folder / job.name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True
    def status(self, job):
        return JobStatus(JobState.RUNNING)

plan = BatchPlan("lungs", "one", "1", False, payloads).keep(store)
print("go", flush=True)
BatchRuns(store, plan, Airflow(), len(payloads)).resume().step()
"""


def test_killed_again_and_again_it_makes_every_run_once(store: LocalStore, tmp_path: Path) -> None:
    """By SIGKILL at moments spread over the work, as a triggerer is killed; the last one may finish."""
    payloads = [payload_id_of(f"1.3.{number}", "LUNGS", 0) for number in range(60)]
    airflow = tmp_path / "airflow"
    airflow.mkdir()
    words = [sys.executable, "-c", DRIVER, str(airflow), str(store.root), json.dumps(payloads)]
    kills = 0
    for delay in (0.002, 0.01, 0.02, 0.03, 0.05, None):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, env=os.environ)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        process.stdout.close()
    made = sorted(path.name for path in airflow.iterdir() if path.name != "calls")
    assert made == sorted(f"monai__{payload}__b1" for payload in payloads)
    assert kills >= 2, "it is too quick to be killed in its middle"
