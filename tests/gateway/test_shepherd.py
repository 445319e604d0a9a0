"""When a payload is closed, and what is told when that does not work."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.gateway.shepherd import Patience, Shepherd
from airflow_monai.intake.events import EventLog
from airflow_monai.store.intake import Instance, Intake, Placed
from airflow_monai.store.local import LocalStore
from airflow_monai.store.part10 import Identity
from airflow_monai.store.payloads import payload_key
from airflow_monai.types import Payload
from tests.gateway.conftest import wait_for
from tests.gateway.studies import CT, image

_NONE = Patience()


class _Workflows:
    def __init__(self, quiet: float):
        self.quiet = quiet

    def quiet_seconds(self, ae_title: str) -> float:
        return self.quiet


class _Announcer:
    """Fails as often as it is told to."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.routed: list[Payload] = []

    def route(self, payload: Payload) -> float | None:
        if self.failures:
            raise self.failures.pop()
        self.routed.append(payload)
        return None

    def announce(self, payload_id: str) -> float | None:
        return None


class Bench:
    """A shepherd on a store, without a network."""

    def __init__(self, folder: Path, patience: Patience = _NONE, quiet: float = 0.2):
        self.store = LocalStore(folder / "store")
        self.intake = Intake(self.store)
        self.announcer = _Announcer()
        self.file = folder / "events.jsonl"
        parts = _Workflows(quiet), self.announcer, EventLog(self.file)
        self.shepherd = Shepherd(self.intake, *parts, lambda payload: False, patience)  # type: ignore[arg-type]

    def receive(self, number: int = 1, told: bool = True, **attributes: object) -> str:
        file = self.store.spool() / str(number)
        image("1.2", "1.2.9", number, size=64, **attributes).save_as(file, enforce_file_format=True)
        placed = self.intake.add(Instance(Identity("1.2", "1.2.9", f"1.2.9.{number}", CT), "CTLUNG", "CT01"), file)
        if told:
            self.shepherd.received(placed, "CTLUNG")
        return placed.payload_id

    def events(self, kind: str) -> list[dict[str, str]]:
        events = [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []
        return [event for event in events if event["event"] == kind]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("airflow_monai.gateway.shepherd.AFTER_AN_ERROR", 0.1)
    monkeypatch.setattr("airflow_monai.gateway.shepherd.RESCAN_SECONDS", 0.0)
    monkeypatch.setattr("airflow_monai.gateway.shepherd.ADOPTION_GRACE", 0.1)
    bench = Bench(tmp_path)
    bench.shepherd.start()
    yield bench
    bench.shepherd.stop()


def test_whatever_stops_the_closing_is_told_once_without_data_and_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.announcer.failures = [LookupError("DOE^JOHN"), LookupError("DOE^JOHN"), RecursionError("DOE^JOHN")]
    payload_id = bench.receive()
    wait_for(lambda: bench.announcer.routed)
    told = [(event["payload_id"], event["reason"]) for event in bench.events("payload-waiting")]
    assert told == [
        (payload_id, "internal error: RecursionError"),
        (payload_id, "internal error: LookupError"),
    ]
    assert "test_shepherd.py" in caplog.text and "DOE" not in caplog.text
    wait_for(lambda: not list(bench.intake.pending()))


@pytest.mark.parametrize("failure", [StoreError("The bucket is away."), LookupError()])
def test_what_another_gateway_left_is_seen_through_after_a_store_that_was_away(
    bench: Bench, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, pending = [failure], bench.intake.pending

    def away() -> Iterator[str]:
        if failures:
            raise failures.pop()
        return pending()

    monkeypatch.setattr(bench.intake, "pending", away)
    wait_for(lambda: not failures)
    payload_id = bench.receive(told=False)
    wait_for(lambda: [payload.payload_id for payload in bench.announcer.routed] == [payload_id])


def test_a_character_set_that_is_none_does_not_stop_the_closing(bench: Bench) -> None:
    file = bench.store.spool() / "x"
    image("1.2", "1.2.9", 1, size=64, PatientName="M^A").save_as(file, enforce_file_format=True)
    body = file.read_bytes().replace(b"M^A ", b"M\xdcA ")
    charset = b"\x08\x00\x05\x00CS\x04\x00idna"
    file.write_bytes(body.replace(b"\x08\x00\x16\x00UI", charset + b"\x08\x00\x16\x00UI", 1))
    placed = bench.intake.add(Instance(Identity("1.2", "1.2.9", "1.2.9.1", CT), "CTLUNG", "CT01"), file)
    bench.shepherd.received(placed, "CTLUNG")
    (payload,) = wait_for(lambda: bench.announcer.routed)
    assert payload.patient.name == "MÜA"


@pytest.mark.parametrize("told", [True, False], ids=["received here", "received by another gateway"])
def test_a_clock_that_was_set_back_does_not_keep_a_study_open(bench: Bench, told: bool) -> None:
    ahead = time.time() + 3600
    payload_id = bench.receive(told=False)
    for key in bench.store.list(f"payloads/{payload_id}/dcm"):
        os.utime(bench.store.root / key, (ahead, ahead))
    if told:
        bench.shepherd.received(Placed(payload_id, False), "CTLUNG")
    wait_for(lambda: bench.announcer.routed)


def test_a_study_whose_images_go_on_coming_is_closed_all_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Patience(max_open_seconds=1.2), quiet=1.0)
    bench.shepherd.start()
    try:
        payload_ids = []
        for number in range(1, 15):
            payload_ids.append(bench.receive(number))
            time.sleep(0.15)  # never quiet for its second
        wait_for(lambda: sum(len(payload.files) for payload in bench.announcer.routed) == 14)
    finally:
        bench.shepherd.stop()
    first, *later = sorted(bench.announcer.routed, key=lambda payload: payload.sequence)
    assert later and all(payload.is_late for payload in later)
    assert _reason(bench, first) == "open-too-long"


def test_a_payload_may_always_be_open_for_its_quiet_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Patience(max_open_seconds=0.01), quiet=1.0)
    bench.shepherd.start()
    try:
        bench.receive(1)
        bench.receive(2)
        (payload,) = wait_for(lambda: bench.announcer.routed)
    finally:
        bench.shepherd.stop()
    assert len(payload.files) == 2


def test_the_end_of_an_association_shortens_the_wait_and_an_image_after_it_does_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Patience(association_end_seconds=1.0), quiet=60)
    bench.shepherd.start()
    try:
        payload_id = bench.receive(1)
        bench.shepherd.sender_left(payload_id)
        bench.receive(2)
        time.sleep(2.0)
        assert bench.announcer.routed == []
        bench.shepherd.sender_left(payload_id)
        (payload,) = wait_for(lambda: bench.announcer.routed)
    finally:
        bench.shepherd.stop()
    assert len(payload.files) == 2
    assert _reason(bench, payload) == "association-end"


def test_the_end_of_an_association_says_nothing_unless_it_is_told_to(tmp_path: Path) -> None:
    bench = Bench(tmp_path, quiet=60)
    bench.shepherd.start()
    try:
        bench.shepherd.sender_left(bench.receive(1))
        time.sleep(0.5)
        assert bench.announcer.routed == []
    finally:
        bench.shepherd.stop()


def test_a_deposit_that_is_whole_is_closed_at_once_also_by_a_later_gateway(tmp_path: Path) -> None:
    bench = Bench(tmp_path, quiet=60)
    payload_id = bench.receive(1, told=False)
    assert bench.intake.tell_whole(payload_id)
    bench.shepherd.start()
    try:
        (payload,) = wait_for(lambda: bench.announcer.routed)
    finally:
        bench.shepherd.stop()
    assert _reason(bench, payload) == "whole"


def _reason(bench: Bench, payload: Payload) -> str:
    return bench.store.read_json(payload_key(payload.payload_id, "closing.json"))["reason"]


def test_what_was_opened_long_ago_and_got_no_image_is_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.gateway.shepherd.EMPTY_SECONDS", 1.0)
    bench.store.create_json(f"pending/{uuid.uuid4()}", {"since": "2020-01-01T00:00:00+00:00"})
    wait_for(lambda: not list(bench.intake.pending()))
