"""Senders killed with -9 again and again: each try sends what is missing, and in the end the receiver has all of it.

``KILLED_SENDER_IMAGES`` (default 150) and ``KILLED_SENDER_SEED`` make a longer or another one.
"""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance
from airflow_monai.sinks.delivery import Deliverer
from airflow_monai.sinks.dicom import DicomSink
from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.sinks.report import SinkReport
from airflow_monai.store.local import LocalStore
from tests.conftest import require
from tests.pacs import make_images, orthanc
from tests.sinks.test_dicom import instance

IMAGES = int(os.environ.get("KILLED_SENDER_IMAGES", "150"))
SEED = int(os.environ.get("KILLED_SENDER_SEED", "1"))


@pytest.mark.parametrize("query", ["same", "never"])
def test_what_killed_senders_leave_is_completed_once(tmp_path: Path, query: str) -> None:
    require("orthanc")
    images = {path.stem: instance(path) for path in make_images(tmp_path / "in", IMAGES)}
    ledger = Ledger(LocalStore(tmp_path / "store"), str(uuid.uuid4()), "PACS")
    rng, kills = random.Random(SEED), 0
    with orthanc(tmp_path / "pacs", DicomAlwaysAllowFind=True) as pacs:

        def deliver(associations: int) -> None:
            extra = {"called_aet": pacs.aet, "associations": associations, "query": query}
            sink = NotingSink(Destination("PACS", "dicom", pacs.host, pacs.port, extra), tmp_path / "sent")
            report = SinkReport("PACS")
            Deliverer(sink, images, ledger, report, task="d/r/t", before_request=lambda: None).run()
            assert report.complete

        known: set[str] = set()
        for attempt in range(200):
            process = _forked(lambda n=1 + attempt % 3: deliver(n))  # type: ignore[misc]
            time.sleep(rng.uniform(0.03, 0.2))
            os.kill(process, signal.SIGKILL)
            if os.waitpid(process, 0)[1] == 0:
                break
            kills += 1
            assert not known & _sent(tmp_path), "what the ledger knew to be accepted was sent again"
            known = _accepted(ledger)
            assert known <= set(pacs.sop_uids())
        deliver(2)
        assert not known & _sent(tmp_path), "what the ledger knew to be accepted was sent again"
        assert pacs.sop_uids() == sorted(images)
    entries = dict(ledger.entries())
    assert {entry.state for entry in entries.values()} == {DeliveryState.ACCEPTED}
    assert set(entries) == set(images)
    assert kills > 0
    print(f"\n{len(images)} images, {kills} kills, each held once (query: {query})")


class NotingSink(DicomSink):
    """Notes what it sends, so that it is known also of a process that is killed."""

    def __init__(self, destination: Destination, notes: Path):
        super().__init__(destination)
        self._notes = notes

    def send(self, instances: Sequence[Instance], on_result: Callable[[Delivery], None]) -> None:
        with open(self._notes, "ab", buffering=0) as notes:

            def noted(delivery: Delivery) -> None:
                if delivery.state is DeliveryState.SENT:
                    notes.write(f"{delivery.identity}\n".encode())
                on_result(delivery)

            super().send(instances, noted)


def _sent(folder: Path) -> set[str]:
    """What was sent since this was asked last."""
    notes = folder / "sent"
    sent = set(notes.read_text().split()) if notes.exists() else set()
    notes.unlink(missing_ok=True)
    return sent


def _accepted(ledger: Ledger) -> set[str]:
    return {uid for uid, entry in ledger.entries() if entry.state is DeliveryState.ACCEPTED}


def _forked(work: object) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()  # type: ignore[operator]
        code = 0
    finally:
        os._exit(code)
