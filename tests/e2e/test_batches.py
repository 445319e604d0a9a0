"""Batches and runs by hand on a real Airflow: by the clock, by the form, capped, exactly once, behind live studies."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_monai.local.phantom import generate
from airflow_monai.local.stack import LocalStack
from airflow_monai.store.payloads import batch_run_id, dicom_key, manifest_key, payload_id_of, tags_key
from airflow_monai.types import Payload, PayloadFile
from tests.e2e.helpers import (
    Maps,
    add_workflows,
    make_study,
    send,
    store_of,
    task_log,
    wait_for_runs,
    wait_for_state,
    workflow,
    write_spec,
)

MAX_ACTIVE = 2
NEVER = "0 0 1 1 *"
SECONDS = 240
PARAMS = {
    "mode": {"default": "ok", "choices": ["ok", "fail"]},
    "seconds": {"type": "number", "default": 0.5, "minimum": 0},
}


def reprocessing(
    name: str, maps: Maps, version: str = "1.0.0", cron: str = NEVER, max_active: int = MAX_ACTIVE, **schedule: Any
) -> dict[str, Any]:
    """A MAP whose behaviour is a matter of parameters, also run on what is in the store."""
    task = {
        "id": "work",
        "type": "map",
        "args": {
            "map": maps.reference(),
            "env_NOOP_MODE": "{{ context.params.mode }}",
            "env_NOOP_SECONDS": "{{ context.params.seconds }}",
        },
        "artifacts": {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]},
        "retries": 0,
    }
    spec = workflow(name, name.upper(), task, params=PARAMS, quiet=0.5)
    return {**spec, "version": version, "schedule": {"cron": cron, "max_active": max_active, **schedule}}


def put(stack: LocalStack, folder: Path, aet: str, count: int) -> list[str]:
    """Payloads as the gateway leaves them, of studies that came before there was a workflow; the oldest first."""
    store = store_of(stack)
    made = generate(folder / uuid.uuid4().hex, slices=1, rows=16)
    found = []
    for number in range(count):
        uid, closed = f"2.25.{uuid.uuid4().int}", f"2026-03-01T10:00:{number:02}+00:00"
        payload_id = payload_id_of(uid, aet, 0)
        path = f"{uid}/1.2.3/1.2.{number}.dcm"
        data = made.files[0].read_bytes()
        store.write(f"{dicom_key(payload_id)}/{path}", data)
        file = PayloadFile(f"dcm/{path}", len(data), f"1.2.{number}", "1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2")
        payload = Payload(payload_id, uid, aet, ("CT01",), 0, (file,), closed, closed, closed)
        store.write_json(tags_key(payload_id), {"1.2.3": {"00080060": ["CT"]}})
        store.write_json(manifest_key(payload_id), payload.to_dict())
        found.append(payload_id)
    return found


def trigger(stack: LocalStack, dag_id: str, partition_key: str | None = None, **conf: Any) -> str:
    """Start a run by hand, as the form in the UI does; returns its id."""
    run_id = f"by-hand-{uuid.uuid4().hex[:8]}"
    body = {"dag_run_id": run_id, "logical_date": None, "conf": conf, "partition_key": partition_key}
    stack.api.call("POST", f"/dags/{dag_id}/dagRuns", body)
    return run_id


def runs_of(stack: LocalStack, dag_id: str) -> dict[str, str]:
    """Run id -> state."""
    return {run["dag_run_id"]: run["state"] for run in stack.runs(dag_id)}


def names(payloads: list[str], number: int) -> set[str]:
    return {batch_run_id(payload_id, number) for payload_id in payloads}


def test_by_hand_by_the_clock_and_through_a_killed_triggerer(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    payloads = put(stack, tmp_path, "COHORT", 5)
    add_workflows(stack, reprocessing("cohort", maps))
    stack.wait_for_dag("cohort.batch")

    dry = trigger(stack, "cohort.batch", dry_run=True)
    assert stack.wait_for_run("cohort.batch", dry)["state"] == "success"
    assert stack.states("cohort.batch", dry) == {"select": "success", "start": "skipped"}
    assert stack.api.xcom("cohort.batch", dry, "select")["taken"] == 5
    assert runs_of(stack, "cohort") == {}

    batch, most = trigger(stack, "cohort.batch"), 0

    def has(count: int) -> bool:
        nonlocal most
        states = runs_of(stack, "cohort").values()
        most = max(most, sum(state in ("queued", "running") for state in states))
        return len(states) >= count

    stack.wait_for(partial(has, 2), seconds=SECONDS, what="two runs of the batch")
    stack.kill("triggerer")
    stack.restart("triggerer")
    stack.wait_for(partial(has, 5), seconds=SECONDS, what="all runs of the batch", every=0.3)
    assert stack.wait_for_run("cohort.batch", batch)["state"] == "success"
    assert runs_of(stack, "cohort") == dict.fromkeys(names(payloads, 1), "success")
    assert most == MAX_ACTIVE
    assert "5 of 5 done" in task_log(stack, "cohort.batch", batch, "start")

    again = trigger(stack, "cohort.batch")
    assert stack.wait_for_run("cohort.batch", again)["state"] == "success"
    assert stack.states("cohort.batch", again)["start"] == "skipped"
    assert set(runs_of(stack, "cohort")) == names(payloads, 1)

    write_spec(stack, reprocessing("cohort", maps, "2.0.0", cron="* * * * *", max_active=5, limit=2))
    try:
        wait_for_runs(stack, "cohort", 7, seconds=SECONDS)
    finally:
        write_spec(stack, reprocessing("cohort", maps, "2.0.0"))
    assert names(payloads[:2], 2) <= set(runs_of(stack, "cohort")), "the oldest first"
    assert any(run["run_type"] == "scheduled" for run in stack.runs("cohort.batch"))


@contextmanager
def slots(stack: LocalStack, number: int) -> Iterator[None]:
    before = stack.api.call("GET", "/pools/default_pool")["slots"]
    stack.api.call("PATCH", "/pools/default_pool", {"slots": number}, update_mask="slots")
    try:
        yield
    finally:
        stack.api.call("PATCH", "/pools/default_pool", {"slots": before}, update_mask="slots")


def test_a_live_study_goes_before_a_batch_that_waits(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    payloads = put(stack, tmp_path, "RANKED", 3)
    add_workflows(stack, reprocessing("ranked", maps, max_active=3))
    stack.wait_for_dag("ranked.batch")
    study = make_study(tmp_path, "RANKED")
    with slots(stack, 1):
        trigger(stack, "ranked.batch")
        stack.wait_for(lambda: len(runs_of(stack, "ranked")) == 3, seconds=SECONDS, what="the batch", every=0.2)
        with slots(stack, 0):  # what has begun goes on, and nothing else begins before the study is there
            send(stack, study)
            wait_for_state(stack, "ranked", study.run_id, "work", "scheduled", seconds=SECONDS)
        wait_for_runs(stack, "ranked", 4, seconds=SECONDS)
    began = {
        run_id: ti["start_date"]
        for run_id in runs_of(stack, "ranked")
        for ti in stack.task_instances("ranked", run_id)
        if ti["task_id"] == "work"
    }
    order = sorted(began, key=lambda run_id: began[run_id])
    assert set(order) == {study.run_id, *names(payloads, 1)}
    assert order.index(study.run_id) < 3, f"the live study came last: {order}"
    weights = {ti["priority_weight"] for run_id in order for ti in stack.task_instances("ranked", run_id)}
    assert weights == {20, 5}


def test_by_hand_on_any_payload_with_other_params(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    add_workflows(stack, reprocessing("form", maps))
    (payload,) = put(stack, tmp_path, "ELSEWHERE", 1)
    good = trigger(stack, "form", payload_id=payload, seconds=0)
    by_key = trigger(stack, "form", partition_key=payload, payload_id=None)
    bad = trigger(stack, "form", payload_id=payload, mode="fail", seconds=0)
    unknown = trigger(stack, "form", payload_id=payload_id_of("1.2", "NOWHERE", 0))
    with pytest.raises(requests.HTTPError, match=r"400.*payload_id"):
        trigger(stack, "form", payload_id="the last one")
    runs = {run_id: run["state"] for run_id, run in wait_for_runs(stack, "form", 4).items()}
    assert runs == {good: "success", by_key: "success", bad: "failed", unknown: "failed"}
    assert "ended with exit code" in task_log(stack, "form", bad, "work")
    assert "There is no payload" in task_log(stack, "form", unknown, "work")
