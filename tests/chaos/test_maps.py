"""MAP tasks on scarce cards while everything that runs them is killed again and again."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_monai.local.processes import wait_until
from airflow_monai.local.stack import LocalStack, StackOptions
from tests.chaos.conftest import amount, report
from tests.chaos.map_killer import MapKiller
from tests.chaos.map_runs import MapRuns
from tests.conftest import PARTS, require
from tests.e2e.conftest import ENVIRONMENT, HEARTBEAT_TIMEOUT
from tests.own_docker import OwnEngine

HOOK = "nvidia-container-runtime-hook"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine | None]:
    """An engine of the test's own that believes it can give containers cards; None where none can be started.

    An engine takes requests for NVIDIA's cards when it finds the program that would show these to a container. Here
    that is one that does nothing: the container gets a card's id, and no card.
    """
    if PARTS["docker"]() is not None or shutil.which("dockerd") is None:
        yield None
        return
    folder = tmp_path_factory.mktemp("engine")
    (folder / "programs").mkdir()
    (folder / "programs" / HOOK).write_text("#!/bin/sh\nexit 0\n")
    (folder / "programs" / HOOK).chmod(0o755)
    found = OwnEngine(folder / "own", driver="overlay2", programs=folder / "programs")
    found.start()
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture(scope="module")
def map_stack(
    engine: OwnEngine | None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalStack]:
    """Airflow with a Docker engine that may be killed."""
    require("bubblewrap")
    environment = {**ENVIRONMENT, "AIRFLOW__MONAI__IMAGE_PULL": "never"}
    if engine is not None:
        request.getfixturevalue("map_images")
        copy = f"docker save noop:1.0.0 | docker -H {engine.socket} load"
        subprocess.run(["sh", "-c", copy], check=True, capture_output=True, timeout=300)
        environment["AIRFLOW__MONAI__DOCKER_URL"] = engine.socket
    options = StackOptions(
        workflows=tmp_path_factory.mktemp("workflows"),
        dags=tmp_path_factory.mktemp("dags"),
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        environment=environment,
        usual_ports=False,
        without=frozenset({"gateway", "pacs", "triggerer"}),
    )
    with LocalStack(tmp_path_factory.mktemp("stack") / "state", options) as running:
        yield running


def test_every_task_ends_once_and_no_card_is_used_twice(
    map_stack: LocalStack, engine: OwnEngine | None, tmp_path: Path
) -> None:
    count, seed = amount("CHAOS_MAPS", 200), amount("CHAOS_SEED", 1)
    runners = ["process", "docker"] if engine else ["process"]
    with MapRuns(map_stack, "chaos-map", runners).prepared() as runs:
        begun = time.monotonic()
        with runs.observed(tmp_path) as seen:
            with MapKiller(map_stack, seed, engine=engine) as killer:
                runs.start(count)
                # until most have ended; the rest goes on in peace, else the last one might never
                while _ended(runs) < 0.9 * count and not killer.failed:
                    assert time.monotonic() - begun < 3 * 3600, "too slow"
                    time.sleep(2)
            runs.wait(seconds=600)
            took = time.monotonic() - begun
            gone = wait_until(lambda: not runs.left(), 60, every=1)
        assert seen["wrong"] == []
        assert gone, runs.left()
        assert engine is None or engine.containers() == []
        tries, starts = runs.tries(), Counter(seen["starts"].values())
    report(
        f"""{count} MAP tasks ({" and ".join(runners)} runner, 1 or 2 of the 4 slots of two cards, every sixth fails on
        purpose) in {took:.0f} s under kill -9 ({killer}): each ended once as it should. Tries a task:
        {dict(sorted(tries.items()))}; starts of an application that were seen: {dict(sorted(starts.items()))}. An
        observer outside looked {seen["looks"]["leases"]} times at the leases and {seen["looks"]["applications"]} times
        at the processes: at most {seen["most"]}; no card beyond its slots, no job twice, none without its lease.
        Afterwards no lease, no application, no container was left."""
    )


def _ended(runs: MapRuns) -> int:
    return sum(state in ("success", "failed") for state in runs.states().values())
