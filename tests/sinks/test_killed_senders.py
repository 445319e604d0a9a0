"""Senders killed with -9 again and again: each try sends what is missing, and in the end the receiver has all of it.

``KILLED_SENDER_IMAGES`` (default 150) and ``KILLED_SENDER_SEED`` make a longer or another one.
"""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from pathlib import Path

import pytest

from airflow_monai.sinks.base import DeliveryState, Destination
from airflow_monai.sinks.delivery import Deliverer
from airflow_monai.sinks.dicom import DicomSink
from airflow_monai.sinks.ledger import Ledger
from airflow_monai.sinks.recorder import AHEAD
from airflow_monai.sinks.report import SinkReport
from airflow_monai.store.local import LocalStore
from tests.conftest import require
from tests.pacs import Receiver, make_images, orthanc
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
            sink = DicomSink(Destination("PACS", "dicom", pacs.host, pacs.port, extra))
            report = SinkReport("PACS")
            Deliverer(sink, images, ledger, report, task="d/r/t", before_request=lambda: None).run()
            assert report.complete

        for attempt in range(200):
            process = _forked(lambda n=1 + attempt % 3: deliver(n))  # type: ignore[misc]
            time.sleep(rng.uniform(0.05, 0.6))
            os.kill(process, signal.SIGKILL)
            if os.waitpid(process, 0)[1] == 0:
                break
            kills += 1
            _nothing_is_claimed_that_is_not_there(ledger, pacs)
        deliver(2)
        assert pacs.sop_uids() == sorted(images)
    entries = dict(ledger.entries())
    assert {entry.state for entry in entries.values()} == {DeliveryState.ACCEPTED}
    assert set(entries) == set(images)
    assert kills > 0
    again = sum(entry.attempts for entry in entries.values()) - len(images)
    assert again <= kills * AHEAD, "more was sent again than the page that was open at each kill"
    print(f"\n{len(images)} images, {kills} kills, {again} sent again (query: {query}), each held once")


def _nothing_is_claimed_that_is_not_there(ledger: Ledger, pacs: Receiver) -> None:
    accepted = {uid for uid, entry in ledger.entries() if entry.state is DeliveryState.ACCEPTED}
    assert accepted <= set(pacs.sop_uids())


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
