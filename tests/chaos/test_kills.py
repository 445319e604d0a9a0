"""Studies arrive while every part of the stack is killed again and again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from airflow_monai.local.stack import LocalStack
from airflow_monai.sinks.ledger.pages import Ledger
from tests.chaos.conftest import amount, report
from tests.chaos.killer import Killer
from tests.e2e.helpers import (
    Auditor,
    Maps,
    Study,
    add_workflows,
    export,
    make_studies,
    payloads_of,
    store_of,
    storescu,
    work,
    workflow,
)

AET, DAG_ID, SENDERS = "CHAOS", "chaos", 4
IS_CT = "{{ context.dicom.series.any('0008','0060') }} == 'CT'"


def test_every_study_is_worked_on_once_whatever_is_killed(
    stack: LocalStack, maps: Maps, auditor: Auditor, tmp_path: Path
) -> None:
    count, seconds = amount("CHAOS_STUDIES", 200), amount("CHAOS_SECONDS", 900)
    route = {"id": "route", "type": "router", "task_destinations": [{"name": "work", "conditions": [IS_CT]}]}
    # quiet for longer than a gateway needs to come back: what is sent again then joins what came before
    add_workflows(
        stack, workflow(DAG_ID, AET, route, work(maps.reference("ok", "1"), retries=20), export(retries=20), quiet=30)
    )
    studies = make_studies(tmp_path, AET, count)
    started = time.monotonic()
    with Killer(stack, amount("CHAOS_SEED", 1)) as killer:
        resent = send_for(stack, studies, seconds * 0.8)
        while time.monotonic() < started + seconds and not killer.failed:
            time.sleep(1)
    wait_for_all(stack, studies, seconds=300 + 5 * count)
    took = time.monotonic() - started

    deliveries = auditor.deliveries()
    again = 0
    for study in studies:
        (payload,) = [item for item in payloads_of(stack, AET) if item["study_instance_uid"] == study.uid]
        assert sorted(file["sop_instance_uid"] for file in payload["files"]) == sorted(study.sop_uids)
        (result,) = auditor.results_of(study.uid)
        assert result in stack.pacs_instances()
        entry = Ledger(store_of(stack), study.payload_id, "AUDIT").entry(result)
        assert entry is not None and deliveries[result] <= entry.attempts, "delivered more often than the ledger says"
        again += deliveries[result] - 1
    report(
        f"""{count} studies in {took:.0f} s while parts were killed with -9 and started again ({killer}): {count}
        payloads, {count} runs in success, {count} results in the PACS, none lost, none doubled. Senders had to send
        {resent} studies again; {again} deliveries were repeated (same SOP Instance UID, killed before the answer was
        noted)."""
    )


def send_for(stack: LocalStack, studies: list[Study], seconds: float) -> int:
    """Send all, spread over so many seconds, each until it is taken as a modality does; how many needed that."""
    started, again = time.monotonic(), Counter[str]()
    lock = threading.Lock()

    def send_one(number: int) -> None:
        study = studies[number]
        time.sleep(max(0.0, started + seconds * number / len(studies) - time.monotonic()))
        while storescu(stack, AET, study.files).returncode != 0:
            with lock:
                again[study.uid] += 1
            time.sleep(1)

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(send_one, range(len(studies))))
    return len(again)


def wait_for_all(stack: LocalStack, studies: list[Study], seconds: float) -> None:
    """Wait until every study has its run and all have ended, and see that they ended well."""

    def ended() -> dict[str, str] | None:
        try:
            states = {run["dag_run_id"]: run["state"] for run in stack.runs(DAG_ID)}
        except requests.RequestException:
            return None  # the API server is just coming back
        done = all(state in ("success", "failed") for state in states.values())
        return states if done and len(states) >= len(studies) else None

    states = stack.wait_for(ended, seconds=seconds, what=f"{len(studies)} runs to end", every=2)
    assert states == {study.run_id: "success" for study in studies}
