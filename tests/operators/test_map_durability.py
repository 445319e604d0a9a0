"""Killed workers, killed applications, people who click: one application for each generation, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.errors import Fenced
from airflow_monai.store.runs import Fence
from tests.operators.conftest import Site
from tests.operators.made_maps import containers_of

STARTS = """
import os, time
with open(os.environ["HOLOSCAN_OUTPUT_PATH"] + "starts", "a") as file:
    file.write("started\\n")
print("ready", flush=True)
end = time.monotonic() + float(os.environ["SECONDS"])
while time.monotonic() < end and not os.path.exists(os.environ["HOLOSCAN_OUTPUT_PATH"] + "enough"):
    time.sleep(0.05)
"""
OUTPUT = [{"name": "starts", "type": "Folder"}]


def slow_task(site: Site, seconds: float, **arguments: object) -> dict[str, object]:
    """Arguments of a task that says ``ready``, sleeps until it is :func:`enough`, and counts its starts."""
    reference = site.maker.make("starts", STARTS)
    return site.arguments(map=reference, outputs=OUTPUT, **arguments) | {"environment": {"SECONDS": str(seconds)}}


def enough(site: Site) -> None:
    """Let its application come to its end."""
    (site.output() / "enough").touch()


def wait_until(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def is_ready(site: Site) -> bool:
    key = site.folder.log_key("segment", -1, 1)
    return site.folder.store.exists(key) and "ready" in site.log()


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def start_and_kill_worker(site: Site, arguments: dict[str, object]) -> int:
    """Kill -9 a worker while its application runs; the id of the orphaned task process."""
    worker, task_process = site.worker(arguments)
    wait_until(lambda: is_ready(site))
    worker.kill()
    worker.wait()
    return task_process


def starts(site: Site) -> int:
    return (site.output() / "starts").read_text().count("started")


def test_new_try_follows_what_a_killed_worker_started(site: Site) -> None:
    arguments = slow_task(site, 60)
    orphan = start_and_kill_worker(site, arguments)

    def end_it() -> None:
        wait_until(lambda: _newest_try(site) == 2)
        time.sleep(1)
        enough(site)

    end = threading.Thread(target=end_it)
    end.start()
    record = site.run(**arguments, try_number=2)
    end.join()
    wait_until(lambda: not is_alive(orphan))
    assert record.stats["reattached"] is True
    assert starts(site) == 1
    assert site.log().splitlines() == ["ready"]
    assert site.traces() == []


def test_orphan_that_wakes_up_late_does_no_harm(site: Site) -> None:
    arguments = slow_task(site, 60)
    worker, orphan = site.worker(arguments)
    wait_until(lambda: is_ready(site))
    os.kill(orphan, signal.SIGSTOP)
    worker.kill()
    worker.wait()
    newer, _ = site.worker(arguments, try_number=2)
    wait_until(lambda: _newest_try(site) == 2)
    os.kill(orphan, signal.SIGCONT)
    wait_until(lambda: not is_alive(orphan))
    enough(site)
    assert newer.wait(120) == 0
    assert site.record().try_number == 2
    assert site.record().stats["reattached"] is True
    assert starts(site) == 1


def _newest_try(site: Site) -> int:
    return Fence(site.folder, "segment", -1, 0).last().try_number


def test_verdict_is_harvested_when_all_ended_meanwhile(site: Site) -> None:
    arguments = slow_task(site, 60)
    orphan = start_and_kill_worker(site, arguments)
    wait_until(lambda: not is_alive(orphan))
    enough(site)
    time.sleep(1)
    record = site.run(**arguments, try_number=2)
    assert record.stats["reattached"] is True
    assert starts(site) == 1
    assert site.log().splitlines() == ["ready"]


def test_time_limit_counts_from_the_start_of_the_application(site: Site) -> None:
    arguments = slow_task(site, 60, timeout_minutes=8 / 60)
    start_and_kill_worker(site, arguments)
    time.sleep(5)
    begun = time.monotonic()
    with pytest.raises(AirflowFailException, match="time limit of 8 s"):
        site.run(**arguments, try_number=2)
    # a try that began the limit anew would take eight seconds, and the grace to stop
    assert time.monotonic() - begun < 8
    assert site.traces() == []


def test_task_that_is_ended_by_airflow_leaves_nothing(site: Site) -> None:
    worker, task_process = site.worker(slow_task(site, 60))
    wait_until(lambda: is_ready(site))
    os.kill(task_process, signal.SIGTERM)
    worker.wait(90)
    assert site.traces() == []


def test_older_try_leaves_the_application_of_a_newer_one_alone(site: Site) -> None:
    arguments = slow_task(site, 60)
    _, task_process = site.worker(arguments)
    wait_until(lambda: is_ready(site))
    Fence(site.folder, "segment", -1, 2).claim()
    os.kill(task_process, signal.SIGTERM)  # its on_kill runs, and its next check tells it that it is fenced
    wait_until(lambda: not is_alive(task_process))
    assert site.traces() != []
    enough(site)
    assert site.run(**arguments, try_number=2).stats["reattached"] is True
    assert starts(site) == 1


def test_cleared_task_ends_the_application_of_its_last_generation(site: Site) -> None:
    arguments = slow_task(site, 60)
    start_and_kill_worker(site, arguments)
    record = site.run(**arguments | {"environment": {"SECONDS": "0"}}, try_number=2, cleared=1)
    assert record.generation == 2
    assert record.stats["reattached"] is False
    assert site.traces() == []


@pytest.mark.parametrize("site", ["process"], indirect=True)
def test_task_that_is_cleared_while_it_runs_on_a_dead_worker_ends_the_application(site: Site) -> None:
    """Airflow counts the next try as a retry then (tests/api/test_clearing.py)."""
    arguments = slow_task(site, 60)
    start_and_kill_worker(site, arguments)
    record = site.run(**arguments | {"environment": {"SECONDS": "0"}}, try_number=2, clears=1)
    assert (record.generation, record.stats["reattached"]) == (2, False)
    assert (site.output(2) / "starts").read_text().count("started") == 1
    assert site.traces() == []


def test_application_killed_from_outside_is_worth_a_retry(site: Site) -> None:
    arguments = slow_task(site, 60)
    worker, _ = site.worker(arguments)
    wait_until(lambda: is_ready(site))
    if site.runner == "docker":
        subprocess.run(["docker", "kill", *containers_of(site.store)], check=True, capture_output=True)
    else:
        _kill_keeper(site)
    assert worker.wait(90) != 0
    assert "was ended from outside" in str(site.record().error_msg)
    assert site.traces() == []
    assert site.run(**arguments | {"environment": {"SECONDS": "0"}}, try_number=2).stats["reattached"] is False


def _kill_keeper(site: Site) -> None:
    import json

    state = site.output().with_name("g1.run")
    os.kill(json.loads((state / "pid.json").read_text())["keeper"]["pid"], signal.SIGKILL)


@pytest.mark.parametrize("site", ["docker"], indirect=True)
def test_created_container_that_never_started_is_started(site: Site) -> None:
    import docker

    arguments = slow_task(site, 0)
    start_and_kill_worker(site, slow_task(site, 60))
    client = docker.from_env(version="auto")
    (name,) = containers_of(site.store)
    container = client.containers.get(name)
    image, labels = container.image.id, container.labels
    mounts = container.attrs["HostConfig"]["Mounts"]
    container.remove(force=True)
    client.api.create_container_from_config(
        {
            "Image": image,
            "Entrypoint": ["python3", "/opt/holoscan/app/main.py"],
            "Env": ["SECONDS=0", "HOLOSCAN_OUTPUT_PATH=/var/holoscan/output/"],
            "Labels": labels,
            "User": "1000:1000",
            "HostConfig": {"Mounts": mounts},
        },
        name,
    )
    record = site.run(**arguments, try_number=2)
    assert record.stats["reattached"] is False
    assert starts(site) == 1


def test_fenced_try_raises_and_writes_no_record(site: Site) -> None:
    Fence(site.folder, "segment", -1, 5).claim()
    with pytest.raises(Fenced):
        site.run(**site.arguments(), try_number=4)
    assert site.folder.record("segment") is None
