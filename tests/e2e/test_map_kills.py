"""Ten MAP tasks on scarce cards while what runs them is killed: the short form of tests/chaos/test_maps.py."""

from __future__ import annotations

from pathlib import Path

from airflow_monai.local.processes import wait_until
from airflow_monai.local.stack import LocalStack
from tests.chaos.map_killer import MapKiller
from tests.chaos.map_runs import MapRuns
from tests.conftest import require
from tests.e2e.helpers import Maps

VICTIMS = ("worker", "application", "task process", "scheduler")
"""The worker first: the others have their turn while Airflow's heartbeat time-out runs."""


def test_every_task_ends_once_and_no_card_is_used_twice(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    require("bubblewrap")
    reference = maps.reference(runner="process")
    with MapRuns(stack, "kills", ["process"], seconds=2.0, map=reference).prepared() as runs:
        killer = MapKiller(stack, seed=1, patience=90.0)
        with runs.observed(tmp_path) as seen:
            runs.start(10)
            for victim in VICTIMS:
                killer._strike(victim)
            assert set(killer.kills) == set(VICTIMS)
            runs.wait(seconds=400)
            gone = wait_until(lambda: not runs.left(), 120, every=0.5)
        assert seen["wrong"] == []
        assert gone, runs.left()
        assert seen["most"]["leases"] >= 2 and seen["most"]["applications"] >= 2, "they were busy"
