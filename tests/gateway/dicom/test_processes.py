"""A gateway that receives with several processes: the same promises, and one that dies costs only its associations."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from airflow_monai.errors import StoreError
from airflow_monai.gateway.dicom.board import Board
from airflow_monai.gateway.dicom.settings import DicomOptions
from airflow_monai.gateway.shepherd import Shepherd
from airflow_monai.store.payloads import load_payload
from tests.conftest import require
from tests.gateway import rawscu
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.gateway.rawscu import EXPLICIT, RawScu
from tests.gateway.studies import CT, storescu, study

CONTEXTS = [(CT, EXPLICIT)]


def receivers(parent: int | None = None) -> list[psutil.Process]:
    """The receiving processes of a process, this one by default."""
    return [child for child in psutil.Process(parent).children() if "spawn_main" in command_of(child)]


def command_of(process: psutil.Process) -> str:
    """A process's command line; empty for one that has ended, as a test before this one may leave."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_four_senders_and_their_studies(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway(dicom=DicomOptions(processes=2))
    studies = [study(tmp_path / str(number), 5, size=100_000) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda files: storescu(gateway.port, files), studies))
    assert [result.returncode for result in sent] == [0] * 8
    ids = [event["payload_id"] for event in site.wait_for_event("run-created", 8)]
    assert {len(load_payload(site.store, payload_id).files) for payload_id in ids} == {5}
    assert len(site.airflow.runs) == 8
    assert sum(event["count"] for event in site.events("image-received")) == 40
    assert len(site.events("association-ended")) == 8
    gateway.stop(5)
    wait_for(lambda: not receivers())
    assert not list(site.store.spool().iterdir())


def test_limits_hold_for_all_processes_together(site: Site) -> None:
    gateway = site.gateway(dicom=DicomOptions(processes=3, associations=4, associations_of_caller=2))
    with ExitStack() as stack:
        for calling in ("CT01", "CT01", "CT02", "CT03"):
            stack.enter_context(RawScu(gateway.port)).associate(contexts=CONTEXTS, calling=calling)
        with RawScu(gateway.port) as scu:
            assert scu.rejection("CTLUNG", "CT04", CONTEXTS) == (2, 3, 2)
    assert "more than 4 associations" in site.wait_for_event("association-rejected")[0]["reason"]


def test_a_study_is_not_closed_while_another_process_takes_one_of_its_images(site: Site, tmp_path: Path) -> None:
    write_workflow(site.workflows, quiet=1.5)
    gateway = site.gateway(dicom=DicomOptions(processes=2))
    first, second, third = study(tmp_path / "in", 3, size=64_000)
    with RawScu(gateway.port) as one, RawScu(gateway.port) as two:
        for scu, file in ((one, first), (two, second)):  # the one with fewer associations takes the next
            scu.associate(contexts=CONTEXTS)
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0
        data = rawscu.store_file(1, third)
        two.send(data[:30_000])
        wait_for(site.unfinished)
        with pytest.raises(AssertionError):
            wait_for(lambda: site.events("study-complete"), 4.0)
        two.send(data[30_000:])
        assert two.status() == 0
    (event,) = site.wait_for_event("run-created")
    assert len(load_payload(site.store, event["payload_id"]).files) == 3


def test_a_process_that_is_killed_is_replaced_and_nothing_is_lost(site: Site, tmp_path: Path) -> None:
    gateway = site.gateway(dicom=DicomOptions(processes=2, associations=3))
    files = study(tmp_path / "in", 4, size=64_000)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        for file in files[:2]:
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0
        scu.send(rawscu.store_file(1, files[2])[:30_000])
        wait_for(site.unfinished)
        for process in receivers():
            os.kill(process.pid, signal.SIGKILL)
        scu.ends()
    site.wait_for_event("receiver-died", 2)
    with ExitStack() as stack:  # their slots are free again
        for _ in range(3):
            scu = stack.enter_context(RawScu(gateway.port))
            scu.associate(contexts=CONTEXTS)
        for file in files[2:]:
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0
    wait_for(lambda: not list(site.store.children("pending")))
    ids = list(site.store.children("payloads"))
    assert sum(len(load_payload(site.store, payload_id).files) for payload_id in ids) == 4
    assert not site.unfinished() and len(site.airflow.runs) == len(ids)


def test_a_gateway_that_is_killed_takes_its_processes_along(site: Site, tmp_path: Path, free_port: int) -> None:
    process = site.process(free_port, AIRFLOW__MONAI__DICOM_PROCESSES="2")
    children = receivers(process.pid)
    assert len(children) == 2
    with RawScu(free_port) as scu:
        scu.associate(contexts=CONTEXTS)
        for file in study(tmp_path / "in", 2):
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0
        process.kill()
        process.wait()
        scu.ends()
    wait_for(lambda: not any(command_of(child) for child in children))
    site.process(free_port, AIRFLOW__MONAI__DICOM_PROCESSES="2")
    (event,) = site.wait_for_event("run-created", seconds=90)
    assert len(load_payload(site.store, event["payload_id"]).files) == 2


def test_a_gateway_that_cannot_start_leaves_no_process_behind(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on receiving what nobody sees through, and keep its parent from ending."""

    def away(shepherd: Shepherd) -> None:
        raise StoreError("The bucket is away.")

    monkeypatch.setattr(Shepherd, "start", away)
    with pytest.raises(StoreError):
        site.gateway(dicom=DicomOptions(processes=2))
    wait_for(lambda: not receivers())
    assert not list(site.store.spool().iterdir())


def test_the_board_counts_for_all_and_forgets_the_dead() -> None:
    memory = bytearray(Board.size(2, 3))
    one, two = Board(memory, 2, 3, 0), Board(memory, 2, 3, 1)
    slots = [one.enter("CT01", 3, 2), two.enter("CT01", 3, 2)]
    assert slots == [0, 0]
    assert (one.enter("CT01", 3, 2), two.enter("CT02", 3, 2), one.enter("CT03", 3, 2)) == ("title", 1, "all")
    two.clear(1)
    assert one.count() == 1
    one.leave(0)
    assert two.count() == 0
    assert two.enter("", 3, 2) == 0 and one.count() == 1
