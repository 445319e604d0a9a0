"""A task that waits too long for a card, on a real Airflow: it gives its slots back and loses neither try nor age."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_monai.gpu.choice import Card
from airflow_monai.gpu.inventory import INVENTORY_KEY, load_inventory, parse_inventory, save_inventory, with_hosts
from airflow_monai.gpu.lease_folder import LeaseFolder
from airflow_monai.gpu.leases import Holder, Leases, Want
from airflow_monai.local.stack import LocalStack
from tests.conftest import require
from tests.e2e.helpers import Maps, store_of, task_log, wait_for_state
from tests.operators.map_tasks import make_payload

DAG_ID, POOL, HOST = "cards-wait", "gpu_e2e-cards", "e2e-cards"
CARD = "GPU-00000000-0000-4000-8000-0000000000e2"
DAG_FILE = """
import os

os.environ["AIRFLOW__MONAI__GPU_LEASE_FOLDER"] = {folder!r}
os.environ["AIRFLOW__MONAI__GPU_HOST"] = {host!r}
os.environ["AIRFLOW__MONAI__GPU_WAIT_MINUTES"] = "0.05"

from airflow.sdk import DAG
from airflow_monai.operators.map import MapOperator

with DAG({dag!r}, schedule=None, is_paused_upon_creation=False):
    MapOperator(
        task_id="work", map={reference!r}, runner="process", resources={{"gpu_memory": "8Gi"}}, retries=0,
        pool={pool!r}, pool_slots=8,
    )
"""


@pytest.fixture
def leases(stack: LocalStack, maps: Maps, tmp_path: Path) -> Iterator[Leases]:
    """A host with one card, known to a DAG of its own; its card is somebody else's."""
    require("bubblewrap")
    store = store_of(stack)
    before = store.read(INVENTORY_KEY) if store.exists(INVENTORY_KEY) else None
    host = parse_inventory({"hosts": {HOST: [{"model": "e2e cards", "memory": 16, "ids": [CARD]}]}}).hosts
    save_inventory(store, with_hosts(load_inventory(store), host))
    stack.api.call("POST", "/pools", {"name": POOL, "slots": 16, "include_deferred": True})
    text = DAG_FILE.format(
        folder=str(tmp_path / "leases"),
        host=HOST,
        dag=DAG_ID,
        pool=POOL,
        reference=maps.reference("ok", "1", runner="process"),
    )
    assert stack.options.dags is not None
    (stack.options.dags / "cards_wait.py").write_text(text)
    held = Leases(LeaseFolder(tmp_path / "leases"), (Card(CARD, "e2e-cards", 16),), HOST)
    job = Holder("somebody-else", "process", "/nowhere")
    held.acquire(Want("e2e-cards", 1, 16), job, wait_seconds=0, holds=lambda lease: True)
    yield held
    if before is None:
        store.delete(INVENTORY_KEY)
    else:
        store.write(INVENTORY_KEY, before)


def test_the_slots_are_given_back_and_the_same_try_goes_on(stack: LocalStack, leases: Leases) -> None:
    stack.wait_for_dag(DAG_ID)
    run_id = "cards-wait"
    run = {"dag_run_id": run_id, "conf": {"payload_id": make_payload(store_of(stack).url)}, "logical_date": None}
    stack.api.call("POST", f"/dags/{DAG_ID}/dagRuns", run)
    waiting = wait_for_state(stack, DAG_ID, run_id, "work", "up_for_reschedule", "failed", "success", seconds=180)
    assert waiting["state"] == "up_for_reschedule"

    def is_away() -> bool:  # it comes back every now and then
        pool = stack.api.call("GET", f"/pools/{POOL}")
        (ticket,) = leases.folder.read().tickets
        is_free = (pool["occupied_slots"], pool["open_slots"]) == (0, 16)
        return is_free and ticket.owner == "" and ticket.back_at is not None

    stack.wait_for(is_away, seconds=60, what="its slots and its place to be given back", every=0.1)
    leases.release("somebody-else")
    done = wait_for_state(stack, DAG_ID, run_id, "work", "failed", "success", seconds=240)
    assert (done["state"], done["try_number"], done["max_tries"]) == ("success", 1, 0)
    assert leases.folder.read().leases == leases.folder.read().tickets == ()
    log = task_log(stack, DAG_ID, run_id, "work")
    assert "Waiting for 8 GiB on one of 1 x e2e-cards: position 1; held by somebody-else" in log
    assert f"Got {CARD} (8 GiB each)" in log
