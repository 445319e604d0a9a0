"""Storage commitment by a real PACS, and by nodes that report on our association, too late, or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import DeadlinePassed, DestinationError, SinkUnavailable
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.dimse.commitment import PUSH_INSTANCE, PUSH_MODEL
from tests.conftest import require
from tests.pacs import free_port, make_images, orthanc, storescp
from tests.sinks.difficult import trickling
from tests.sinks.test_dicom import News, instance, sink

COMMITMENT = {"verify": "commitment"}


def test_orthanc_commits_itself_to_what_it_has(tmp_path: Path) -> None:
    require("orthanc")
    images = [instance(path) for path in make_images(tmp_path / "in", 3)]
    port = free_port()
    us = {"AET": "MONAI", "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    with orthanc(tmp_path / "pacs", DicomModalities={"monai": us}) as pacs:
        to_pacs = sink(pacs.port, pacs.aet, **COMMITMENT, commitment_port=port, commitment_timeout=60)
        to_pacs.send(images[:2], News())
        found = to_pacs.verify(images)
    assert found == {str(item.sop_instance_uid): item is not images[2] for item in images}


def test_a_report_on_our_own_association_is_enough(tmp_path: Path) -> None:
    images = [instance(path) for path in make_images(tmp_path / "in", 2)]
    with committer(lambda uids: uids[:1]) as port:
        found = sink(port, **COMMITMENT).verify(images)
    assert found == {str(images[0].sop_instance_uid): True, str(images[1].sop_instance_uid): False}


def test_a_report_that_does_not_come_is_an_error_in_time(tmp_path: Path) -> None:
    images = [instance(path) for path in make_images(tmp_path / "in", 1)]
    with committer(lambda _: None) as port:
        start = time.monotonic()
        with pytest.raises(SinkUnavailable, match=r"did not report .* within 0\.5 s .*commitment_port"):
            sink(port, **COMMITMENT, commitment_timeout=0.5).verify(images)
        assert time.monotonic() - start < 30


def test_nodes_that_do_none_refuse_it_or_are_down(tmp_path: Path) -> None:
    require("dcmtk")
    images = [instance(path) for path in make_images(tmp_path / "in", 1)]
    with storescp(tmp_path / "out") as receiver:
        assert sink(receiver.port, receiver.aet, **COMMITMENT).verify(images) is None
    with (
        committer(lambda _: None, status=0x0110) as port,
        pytest.raises(DestinationError, match="refused storage commitment with status 0110"),
    ):
        sink(port, **COMMITMENT).verify(images)
    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        sink(free_port(), **COMMITMENT).verify(images)


def test_half_an_answer_holds_nobody_up(tmp_path: Path) -> None:
    images = [instance(path) for path in make_images(tmp_path / "in", 1)]
    with trickling(b"\x02\x00\x00\x00\x10\x00", 0.2) as port:
        asking = sink(port, **COMMITMENT, connect_timeout=0.5, response_timeout=0.2, commitment_timeout=0.2)
        with pytest.raises(SinkUnavailable, match=r"began an answer .* and did not end it"):
            asking.verify(images)
        asking = sink(port, **COMMITMENT)
        asking.deadline = Deadline(1.0, "the deadline")
        begun = time.monotonic()
        with pytest.raises(DeadlinePassed):
            asking.verify(images)
        assert time.monotonic() - begun < 30


@contextmanager
def committer(commits: Any, status: int = 0x0000) -> Iterator[int]:
    """A node that reports on the request's association; ``commits(uids)`` says for which, None for not at all."""
    from pydicom import Dataset
    from pynetdicom import AE, evt

    def on_action(event: Any) -> tuple[int, None]:
        asked = event.action_information
        uids = [str(item.ReferencedSOPInstanceUID) for item in asked.ReferencedSOPSequence]
        kept = commits(uids)
        if kept is not None:
            report = Dataset()
            report.TransactionUID = asked.TransactionUID
            items = asked.ReferencedSOPSequence
            report.ReferencedSOPSequence = [item for item in items if item.ReferencedSOPInstanceUID in kept]
            report.FailedSOPSequence = [item for item in items if item.ReferencedSOPInstanceUID not in kept]
            for item in report.FailedSOPSequence:
                item.FailureReason = 0x0112
            kind = 2 if report.FailedSOPSequence else 1
            threading.Timer(0.2, event.assoc.send_n_event_report, (report, kind, PUSH_MODEL, PUSH_INSTANCE)).start()
        return status, None

    ae = AE(ae_title="COMMITTER")
    ae.add_supported_context(PUSH_MODEL)
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_ACTION, on_action)])
    try:
        yield port
    finally:
        server.shutdown()
