"""An application gets exactly the cards that its task leased, and gives them back, whatever becomes of the task."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

from airflow_monai.errors import MapInterrupted, NoCard
from airflow_monai.gpu.here import cards_of
from airflow_monai.gpu.inventory import parse_inventory, save_inventory
from airflow_monai.gpu.lease_folder import LeaseFolder
from airflow_monai.gpu.lease_state import State
from airflow_monai.gpu.leases import Holder, Leases, Want
from airflow_monai.maps.runners.docker import config as docker_config
from airflow_monai.maps.runners.docker import runner as docker_runner
from airflow_monai.operators.cards import weight_of
from airflow_monai.operators.map import MapOperator
from airflow_monai.priorities import strategy_name
from airflow_monai.store import open_store
from tests.operators.conftest import Site
from tests.operators.map_tasks import context_of
from tests.operators.test_map_durability import enough, is_alive, slow_task, start_and_kill_worker, wait_until

IDS = ["GPU-00000000-0000-4000-8000-00000000000a", "GPU-00000000-0000-4000-8000-00000000000b"]
HOST = {"hosts": {"gpu01": [{"model": "A100", "memory": 40, "ids": IDS}]}}
SHARE = {"resources": {"gpu_memory": "8Gi"}, "pool": "gpu_a100", "pool_slots": 8}
WHOLE = {"resources": {"gpu": 1}, "pool": "gpu_a100", "pool_slots": 40}
SHOWS = """
import json, os
names = ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
with open(os.environ["HOLOSCAN_OUTPUT_PATH"] + "metadata.json", "w") as file:
    json.dump({name: os.environ.get(name) for name in names}, file)
"""


HAS_CARDS = docker_config.has_cards


@pytest.fixture
def folder(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The leases of a host with two cards, of which the Docker engine here knows nothing: it is not asked for them."""
    path = tmp_path / "leases"
    monkeypatch.setenv("AIRFLOW__MONAI__GPU_LEASE_FOLDER", str(path))
    monkeypatch.setenv("AIRFLOW__MONAI__GPU_WAIT_MINUTES", "0.005")
    save_inventory(open_store(site.store), parse_inventory(HOST))
    monkeypatch.setattr(docker_runner, "container_config", without_devices)
    monkeypatch.setattr(docker_config, "has_cards", lambda container, job: True)
    yield path
    assert state(path).leases == (), "each has given back what it had"


def without_devices(job: Any, **more: Any) -> Any:
    config = docker_config.container_config(job, **more)
    (asked,) = config["HostConfig"].pop("DeviceRequests")
    assert asked["DeviceIDs"] == list(job.devices) and "Count" not in asked
    return config


def state(folder: Path) -> State:
    return LeaseFolder(folder).read()


def take(folder: Path, name: str, share: int, engine: str = "process") -> Leases:
    """Give cards to somebody else."""
    here = cards_of(parse_inventory(HOST).hosts[0])
    leases = Leases(LeaseFolder(folder), here.cards, here.host)
    leases.acquire(Want("a100", 1, share), Holder(name, engine, "/gone"), wait_seconds=0, holds=lambda lease: True)
    return leases


def test_the_application_is_shown_its_card_and_no_other(site: Site, folder: Path) -> None:
    other = take(folder, "other", 40)
    record = site.run(**site.arguments(map=site.maker.make("shows", SHOWS), **WHOLE))
    assert record.result["NVIDIA_VISIBLE_DEVICES"] == IDS[1]
    if site.runner == "process":
        assert record.result["CUDA_VISIBLE_DEVICES"] == IDS[1]
    assert [lease.name for lease in state(folder).leases] == ["other"]
    other.release("other")


def test_who_asks_for_no_card_sees_none(site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_runner, "container_config", docker_config.container_config)
    record = site.run(**site.arguments(map=site.maker.make("shows", SHOWS), resources={"gpu": 0}))
    assert record.result["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert not folder.exists(), "and it pays nothing for leases"


def test_the_wait_for_a_card_gives_the_slots_back_and_costs_no_try(site: Site, folder: Path) -> None:
    others = [take(folder, name, 40) for name in ("one", "two")]
    operator = MapOperator(**site.arguments(retries=0, **SHARE))
    with pytest.raises(AirflowRescheduleException) as caught:
        operator.execute(context_of(operator, site.payload_id))
    assert 0 < caught.value.reschedule_date.timestamp() - time.time() < 60
    assert site.folder.record("segment") is None, "it has not failed"
    (ticket,) = state(folder).tickets
    assert ticket.name.startswith("monai-segment-")
    others[0].release("one")
    record = site.run(**site.arguments(retries=0, **SHARE))
    assert record.status == "Succeeded" and state(folder).tickets == ()
    others[1].release("two")


def test_the_wait_ends_in_a_failure_that_says_for_want_of_what(site: Site, folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__GPU_WAIT_TOTAL_MINUTES", "0.002")
    monkeypatch.setenv("AIRFLOW__MONAI__GPU_WAIT_MINUTES", "1")
    others = [take(folder, name, 40) for name in ("one", "two")]
    operator = MapOperator(**site.arguments(retries=0, **SHARE))
    with pytest.raises(AirflowFailException, match=r"held by one, two .*gpu_wait_total_minutes"):
        operator.execute(context_of(operator, site.payload_id))
    record = site.folder.record("segment")
    assert record is not None and record.status == "Failed" and record.stats["error_kind"] == "no_card"
    assert state(folder).tickets == ()
    patient = MapOperator(**site.arguments(retries=1, failure_policy={"no_card": "retry"}, **SHARE))
    with pytest.raises(NoCard):
        patient.execute(context_of(patient, site.payload_id))
    for other in others:
        for name in ("one", "two"):
            other.release(name)


def test_a_task_that_a_person_ends_while_it_waits_gives_up_its_place(site: Site, folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__GPU_WAIT_MINUTES", "1")
    others = [take(folder, name, 40) for name in ("one", "two")]
    operator = MapOperator(**site.arguments(retries=0, **SHARE))

    def end_it() -> None:
        wait_until(lambda: bool(state(folder).tickets))
        operator.on_kill()

    person = threading.Thread(target=end_it)
    person.start()
    with pytest.raises(MapInterrupted, match="was ended from outside"):
        operator.execute(context_of(operator, site.payload_id))
    person.join()
    assert state(folder).tickets == ()
    for held, name in zip(others, ("one", "two"), strict=True):
        held.release(name)


def test_what_this_host_can_never_give_is_final(site: Site, folder: Path) -> None:
    two_hosts = {"hosts": {**HOST["hosts"], "gpu02": [{"model": "H200", "memory": 141, "count": 8}]}}
    save_inventory(open_store(site.store), parse_inventory(two_hosts))
    os.environ["AIRFLOW__MONAI__GPU_HOST"] = "gpu01"
    try:
        with pytest.raises(AirflowFailException, match=r"100 GiB on one of class h200 can never be had on this host"):
            site.run(**site.arguments(resources={"gpu_memory": "100Gi"}, pool="gpu_h200", pool_slots=100))
        os.environ["AIRFLOW__MONAI__GPU_HOST"] = "gpu03"
        with pytest.raises(AirflowFailException, match=r"no host gpu03 \(it has gpu01, gpu02\).*pools sync --detect"):
            site.run(**site.arguments(**SHARE), cleared=1, try_number=2)
    finally:
        del os.environ["AIRFLOW__MONAI__GPU_HOST"]


def test_a_failed_application_gives_its_cards_back(site: Site, folder: Path) -> None:
    with pytest.raises(AirflowFailException):
        site.run(**site.arguments(mode="exit7", **WHOLE))


def test_slices_that_nobody_can_name_are_not_given_out(site: Site, folder: Path) -> None:
    slices = {"hosts": {"gpu01": [{"model": "A100", "mig": "1g.5gb", "memory": "4.75 GiB", "count": 7}]}}
    save_inventory(open_store(site.store), parse_inventory(slices))
    with pytest.raises(AirflowFailException, match=r"a100-1g.5gb of gpu01 are called.*pools sync --detect"):
        site.run(**site.arguments(resources={"gpu": 1}, pool="gpu_a100-1g.5gb"))


@pytest.mark.parametrize("site", ["process"], indirect=True)
def test_a_killed_worker_s_card_is_its_application_s_until_that_is_gone(site: Site, folder: Path) -> None:
    orphan = start_and_kill_worker(site, slow_task(site, 60, **WHOLE))
    wait_until(lambda: not is_alive(orphan))
    (held,) = state(folder).leases
    take(folder, "other", 40)
    waiting = MapOperator(**{**site.arguments(retries=0, **WHOLE), "task_id": "waits"})
    with pytest.raises(AirflowRescheduleException):
        waiting.execute(context_of(waiting, site.payload_id))
    assert state(folder).lease(held.name) is not None, "it still runs"
    enough(site)
    record = site.run(**slow_task(site, 60, **WHOLE), try_number=2)
    assert record.stats["reattached"]
    assert state(folder).lease(held.name) is None
    _forget(folder)


def _forget(folder: Path) -> None:
    with LeaseFolder(folder).change() as change:
        change.state = replace(change.state, leases=(), tickets=())


@pytest.mark.parametrize("site", ["docker"], indirect=True)
def test_a_container_that_is_there_keeps_its_cards_and_one_that_is_gone_does_not(site: Site, folder: Path) -> None:
    import docker

    client = docker.from_env(version="auto")
    engine = f"docker {os.environ.get('AIRFLOW__MONAI__DOCKER_URL', 'unix:///var/run/docker.sock')}"
    container = client.containers.create("noop:1.0.0", name=f"monai-other-{os.getpid()}")
    try:
        for name in (container.name, "monai-never-made"):
            process = multiprocessing.get_context("fork").Process(target=take, args=(folder, name, 40, engine))
            process.start()
            process.join()
        record = site.run(**site.arguments(**WHOLE))
        assert record.status == "Succeeded"
        assert [lease.name for lease in state(folder).leases] == [container.name]
    finally:
        container.remove()
    _forget(folder)


@pytest.mark.parametrize("site", ["docker"], indirect=True)
def test_a_container_that_was_only_made_with_other_cards_is_made_anew(site: Site, folder: Path, monkeypatch) -> None:
    """The engine may finish a request of a worker that is dead, whose lease then is somebody else's."""
    monkeypatch.setattr(docker_config, "has_cards", HAS_CARDS)
    made: list[str] = []

    def first_made_by_the_dead(job: Any, **more: Any) -> Any:
        config = docker_config.container_config(job, **more)
        made.append(job.name)
        if len(made) == 1:
            dead = docker_config.container_config(replace(job, devices=(IDS[1],)), **more)
            runner = docker_runner.DockerRunner(settings_now(), open_store(site.store))
            assert runner.engine.create(job.name, dead)
        else:
            del config["HostConfig"]["DeviceRequests"]
        return config

    monkeypatch.setattr(docker_runner, "container_config", first_made_by_the_dead)
    assert site.run(**site.arguments(**WHOLE)).status == "Succeeded"
    assert len(made) == 2


def settings_now() -> Any:
    from airflow_monai import settings

    return settings.load()


@pytest.mark.parametrize(
    ("run_id", "priority", "weight"),
    [("monai__p", 20, 20), ("monai__p", 30, 30), ("monai__p__b7", 30, 5), ("monai__p__b7", 10, 5)],
)
def test_the_queue_for_cards_is_ordered_as_the_scheduler_orders(run_id: str, priority: int, weight: int) -> None:
    operator = MapOperator(
        task_id="t", map="m:1", priority_weight=priority, weight_rule=strategy_name("batch"), inputs=[]
    )
    assert weight_of(operator, run_id) == weight
