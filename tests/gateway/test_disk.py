"""A disk that runs full: refused or held with the reason, and going on by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.gateway import announcer
from airflow_monai.store import space
from airflow_monai.store.space import Space
from tests.gateway import rawscu
from tests.gateway.conftest import Site
from tests.gateway.rawscu import EXPLICIT, RawScu
from tests.gateway.studies import CT, study

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
    disk.free()
    site.wait_for_event("run-created")
    assert len(site.airflow.runs) == 1
    assert len(site.events("payload-waiting")) == 1
