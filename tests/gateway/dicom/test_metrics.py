"""What a monitoring system hears of the receiver, and what not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.observability import stats

from airflow_monai.gateway.dicom.settings import DicomOptions
from tests.gateway import rawscu
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.gateway.rawscu import EXPLICIT, RELEASE, RawScu
from tests.gateway.studies import CT, study

CONTEXTS = [(CT, EXPLICIT)]
ENDS = ("associations_released", "associations_rejected", "connections_failed")


class Monitor:
    """Takes metrics as StatsD would."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[str, int] = {}
        self.timings: dict[str, float] = {}
        self.tags: list[dict[str, str]] = []

    def incr(self, stat: str, count: int = 1, tags: dict[str, str] | None = None, **_: Any) -> None:
        with self.lock:
            self.counts[stat] = self.counts.get(stat, 0) + count
            self.tags.append(tags or {})

    def timing(self, stat: str, dt: float, tags: dict[str, str] | None = None, **_: Any) -> None:
        self.timings[stat] = dt
        self.tags.append(tags or {})


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    monitor = Monitor()
    stats.initialize(factory=lambda: monitor, export_legacy_names=False)
    yield monitor
    stats.initialize(factory=lambda: Monitor(), export_legacy_names=False)


def test_images_associations_and_times_are_counted(site: Site, tmp_path: Path, monitor: Monitor) -> None:
    write_workflow(site.workflows, "odd", ae="ODD TITLE!")
    gateway = site.gateway(dicom=DicomOptions(max_file=50_000))
    small, large = study(tmp_path / "a", 2), study(tmp_path / "b", 1, size=60_000)
    for called in ("CTLUNG", "ODD TITLE!"):
        with RawScu(gateway.port) as scu:
            scu.associate(called, contexts=CONTEXTS)
            for file in (*small, *large):
                scu.send(rawscu.store_file(1, file))
                scu.status()
            scu.send(RELEASE)
            scu.ends()
    with RawScu(gateway.port) as scu:
        scu.rejection("NOBODY", "SECRET", CONTEXTS)
    with RawScu(gateway.port) as scu:
        scu.send(bytes(100))
        scu.ends()
    wait_for(lambda: sum(monitor.counts.get(f"monai.dicom.{name}", 0) for name in ENDS) >= 4)
    size = wait_for(lambda: monitor.counts.get("monai.dicom.bytes_received"))
    expected = {
        "monai.dicom.associations_released": 2,
        "monai.dicom.associations_rejected": 1,
        "monai.dicom.connections_failed": 1,
        "monai.dicom.images_received": 4,
        "monai.dicom.images_refused": 2,
        "monai.dicom.bytes_received": size,
    }
    # the thread of an association counts what came when its end was told
    wait_for(lambda: {**monitor.counts, "monai.dicom.bytes_received": size} == expected)
    assert set(monitor.timings) == {"monai.dicom.association_duration", "monai.dicom.image_keep_duration"}
    assert {tag for tags in monitor.tags for tag in tags.items()} == {("called_aet", "CTLUNG"), ("called_aet", "other")}
