"""A disk that runs full: refused or held with the reason, and going on by itself."""

from __future__ import annotations

import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest

from airflow_monai.gateway.dicom import desk
from airflow_monai.intake import announcer
from airflow_monai.store import space
from airflow_monai.store.history import history_of
from airflow_monai.store.payloads import load_payload
from airflow_monai.store.space import Space
from tests.gateway import rawscu
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.gateway.rawscu import EXPLICIT, RawScu
from tests.gateway.studies import CT, study
from tests.small_disk import mounted

CONTEXTS = [(CT, EXPLICIT)]
GB = 10**9


class Disk:
    """What the guard believes of the disk."""

    def __init__(self) -> None:
        self.used = 0

    def look(self, folder: Path) -> Space:
        return Space(self.used, 1000 * GB - self.used)

    def fill(self) -> None:
        self.used = 990 * GB

    def free(self) -> None:
        self.used = 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(Space, "of", disk.look)
    monkeypatch.setattr(space, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(announcer, "DISK_RETRY", 0.2)
    return disk


def test_runs_are_held_and_started_when_there_is_space_again(site: Site, tmp_path: Path, disk: Disk) -> None:
    write_workflow(site.workflows, quiet=2.5)  # the disk is full by then
    gateway = site.gateway(disk_used_percent=85.0, disk_reserve="100 GB")
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        for file in study(tmp_path / "in", 2):
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0
    disk.fill()
    (event,) = site.wait_for_event("payload-waiting")
    assert "disk_used_percent = 85" in event["reason"] and "disk_reserve = 100 GB" in event["reason"]
    assert not site.airflow.posts
    waits = wait_for(lambda: history_of(site.store, event["payload_id"]).waiting)
    assert [waiting.reason for waiting in waits] == [event["reason"]]  # as `payloads show` has it
    disk.used += GB
    threading.Event().wait(0.5)
    disk.free()
    site.wait_for_event("run-created")
    assert len(site.airflow.runs) == 1
    assert len(site.events("payload-waiting")) == 1


def test_senders_are_refused_until_there_is_space_and_what_has_begun_is_finished(
    site: Site, tmp_path: Path, disk: Disk
) -> None:
    gateway = site.gateway(disk_used_percent=85.0, disk_reserve="100 GB")
    first, second, third = study(tmp_path / "in", 3, size=64_000)
    data = rawscu.store_file(1, first)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        scu.send(data[:30_000])
        wait_for(site.unfinished)
        disk.fill()
        with RawScu(gateway.port) as other:
            assert other.rejection("CTLUNG", "CT01", CONTEXTS) == (2, 3, 2)  # transient: local limit exceeded
        with RawScu(gateway.port) as echo:
            echo.associate(contexts=[("1.2.840.10008.1.1", EXPLICIT)])
        scu.send(data[30_000:])
        assert scu.status() == 0
        scu.send(rawscu.store_file(1, second))
        assert scu.status() == 0xA700
        disk.free()
        scu.send(rawscu.store_file(1, third))
        assert scu.status() == 0
    assert len(site.files()) == 2 and not site.unfinished()
    for event in [*site.wait_for_event("association-rejected"), *site.wait_for_event("image-refused")]:
        assert "99.0 % full with 10 GB free" in event["reason"]
        assert "disk_used_percent = 85 and disk_reserve = 100 GB" in event["reason"]
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        scu.send(rawscu.store_file(1, second))
        assert scu.status() == 0


def test_a_large_image_is_not_let_in_to_the_end_when_the_disk_runs_full_meanwhile(
    site: Site, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "_GUARDED_BYTES", 500_000)
    gateway = site.gateway(disk_used_percent=85.0, disk_reserve="100 GB")
    (large,) = study(tmp_path / "in", 1, size=3_000_000)
    data = rawscu.store_file(1, large)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        scu.send(data[:1_000_000])
        wait_for(site.unfinished)
        disk.fill()
        scu.send(data[1_000_000:2_000_000])
        wait_for(lambda: not site.unfinished_bytes())
        scu.send(data[2_000_000:])
        assert scu.status() == 0xA700
        disk.free()
        scu.send(data)
        assert scu.status() == 0
    (event,) = site.wait_for_event("image-refused")
    assert "99.0 % full with 10 GB free" in event["reason"]
    assert len(site.files()) == 1 and not site.unfinished()


def test_a_real_disk_that_fills_is_guarded_before_it_is_full(site: Site, tmp_path: Path) -> None:
    with mounted(tmp_path / "store", "20m"), closing(site):
        write_workflow(site.workflows, quiet=4.0)
        gateway = site.gateway(disk_used_percent=50.0)
        files = study(tmp_path / "in", 20, size=1_000_000)
        statuses = []
        with RawScu(gateway.port) as scu:
            scu.associate(contexts=CONTEXTS)
            for file in files:
                scu.send(rawscu.store_file(1, file))
                statuses.append(scu.status())
                threading.Event().wait(0.15)  # the guard looks once a second
        taken = statuses.count(0)
        assert set(statuses) == {0, 0xA700} and 10 <= taken < 19
        assert len(site.files()) == taken and not site.unfinished()
        site.wait_for_event("payload-waiting")
        assert not site.airflow.posts
        subprocess.run(["mount", "-o", "remount,size=200m", str(tmp_path / "store")], check=True)
        (created,) = site.wait_for_event("run-created")
        assert len(load_payload(site.store, created["payload_id"]).files) == taken
