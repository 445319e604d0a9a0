"""Deliveries to a PACS with every fault it may have: only what is missing is sent again, with a verdict in time.

The PACS is a real Orthanc behind a receiver that misbehaves as a test says, and puts what it takes into Orthanc.
"""

from __future__ import annotations

import itertools
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import DeadlinePassed, DestinationError, ExportError, SinkUnavailable
from airflow_monai.sinks.base import DeliveryState, Destination, Instance
from airflow_monai.sinks.delivery import Deliverer, DeliveryTime
from airflow_monai.sinks.dicom import DicomSink
from airflow_monai.sinks.ledger.again import resendable
from airflow_monai.sinks.ledger.pages import Entry, Ledger
from airflow_monai.sinks.report import SinkReport
from airflow_monai.store.local import LocalStore
from tests.conftest import require
from tests.pacs import Receiver, free_port, make_images, orthanc
from tests.sinks.difficult import Difficult, difficult, silent
from tests.sinks.test_dicom import instance

ACCEPTED, REFUSED, UNKNOWN, PENDING = (
    DeliveryState.ACCEPTED,
    DeliveryState.REFUSED,
    DeliveryState.UNKNOWN,
    DeliveryState.PENDING,
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    require("orthanc")
    with orthanc(tmp_path_factory.mktemp("pacs"), DicomAlwaysAllowFind=True) as running:
        yield running


@dataclass
class Site:
    """A ledger, and instances to deliver; ``attempt`` is what one try of a task does."""

    ledger: Ledger
    instances: dict[str, Instance]
    archive: Receiver
    reports: list[SinkReport] = field(default_factory=list)

    def attempt(self, port: int, *, minutes: float | None = None, **extra: Any) -> SinkReport:
        settings = {
            "called_aet": "PACS",
            "connect_timeout": 20,
            "response_timeout": 20,
            "query": f"{self.archive.aet}@127.0.0.1:{self.archive.port}",
            **extra,
        }
        sink = DicomSink(Destination("PACS", "dicom", "127.0.0.1", port, settings))
        report = SinkReport("PACS")
        self.reports.append(report)
        limit = None if minutes is None else DeliveryTime(minutes * 60, f"the deadline of {minutes:g} minutes")
        deliverer = Deliverer(
            sink, self.instances, self.ledger, report, task="dag/run/task", before_request=lambda: None, time=limit
        )
        deliverer.run()
        return report

    def states(self) -> Counter[str]:
        """What the last report says."""
        return Counter(news.state.value for news in self.reports[-1].verdicts.values())

    def in_archive(self) -> Counter[str]:
        return Counter(uid for uid in self.archive.sop_uids() if uid in self.instances)


@pytest.fixture
def site(archive: Receiver, tmp_path: Path) -> Site:
    found = [instance(path) for path in make_images(tmp_path / "in", 12)]
    ledger = Ledger(LocalStore(tmp_path / "store"), str(uuid.uuid4()), "PACS")
    return Site(ledger, {str(item.sop_instance_uid): item for item in found}, archive)


Fault = Callable[[Difficult, Any], "int | None"]
"""Called with each request before it is stored: a status to answer, or None to store it and say so."""


@contextmanager
def pacs(archive: Receiver, before: Fault = lambda *_: None, after: Fault = lambda *_: None) -> Iterator[Difficult]:
    """The PACS with a fault before, or after, it has stored an image."""

    def take(receiver: Difficult, event: Any) -> int:
        status = before(receiver, event)
        if status is not None:
            return status
        data = event.encoded_dataset()
        request = urllib.request.Request(f"{archive.http}/instances", data=data, method="POST")
        urllib.request.urlopen(request, timeout=60).read()
        return after(receiver, event) or 0

    with difficult(take) as receiver:
        yield receiver


def test_a_pacs_that_is_down_gets_everything_once_it_is_up(site: Site) -> None:
    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        site.attempt(free_port())
    assert site.states() == {"pending": 12}
    with pacs(site.archive) as receiver:
        assert site.attempt(receiver.port).complete
        assert site.attempt(receiver.port).before == 12
        assert Counter(receiver.seen) == dict.fromkeys(site.instances, 1)
    assert site.in_archive() == dict.fromkeys(site.instances, 1)


def test_a_pacs_that_does_not_know_us_is_an_error_for_good(site: Site) -> None:
    with difficult(lambda *_: 0, aet="OTHER") as receiver, pytest.raises(DestinationError, match="called_aet"):
        site.attempt(receiver.port)
    assert dict(site.ledger.entries()) == {}


def test_a_pacs_that_says_nothing_ends_in_time(site: Site) -> None:
    with silent() as port:
        start = time.monotonic()
        with pytest.raises(SinkUnavailable, match="did not answer the association"):
            site.attempt(port, connect_timeout=1)
        assert time.monotonic() - start < 30


@pytest.mark.parametrize("associations", [1, 3])
def test_a_pacs_that_drops_after_some_images_gets_the_rest_only(site: Site, associations: int) -> None:
    """Every fourth request ends its association before anything is stored."""
    requests = itertools.count(1)

    def drop(receiver: Difficult, event: Any) -> int | None:
        if next(requests) % 4 == 0:  # not by what was seen: several associations see it grow at the same time
            event.assoc.abort()
            return 0xC001
        return None

    with pacs(site.archive, drop) as receiver:
        assert site.attempt(receiver.port, associations=associations).complete
        sent_twice = [uid for uid, count in Counter(receiver.seen).items() if count > 1]
        assert len(receiver.seen) - len(site.instances) == len(receiver.seen) // 4
        assert len(sent_twice) <= len(receiver.seen) // 4
    assert site.in_archive() == dict.fromkeys(site.instances, 1)


def test_a_pacs_without_room_for_some_gets_those_again(site: Site) -> None:
    """A700 for three images in the first try; the next try sends these three and no other."""
    no_room = set(list(site.instances)[2:8:2])
    with pacs(
        site.archive, lambda _, event: 0xA700 if event.request.AffectedSOPInstanceUID in no_room else None
    ) as full:
        report = site.attempt(full.port)
        assert site.states() == {"accepted": 9, "refused": 3}
        assert {news.status for news in report.failed().values()} == {"A700"}
    with pacs(site.archive) as receiver:
        assert site.attempt(receiver.port).complete
        assert set(receiver.seen) == no_room
    assert site.in_archive() == dict.fromkeys(site.instances, 1)


def test_a_slow_pacs_gets_what_fits_before_the_deadline_and_the_rest_when_asked_to(site: Site) -> None:
    """The first three are quick."""
    may_go_on = threading.Event()

    def slow(receiver: Difficult, _: Any) -> None:
        if len(receiver.seen) > 3:
            may_go_on.wait(0.5)

    with pacs(site.archive, slow) as receiver:
        start = time.monotonic()
        with pytest.raises(DeadlinePassed, match=r"the deadline of 0\.05"):
            site.attempt(receiver.port, minutes=0.05)  # 3 s
        assert time.monotonic() - start < 20
        in_time = site.states()
        assert 1 <= in_time["accepted"] < 12
        assert in_time["accepted"] + in_time["pending"] + in_time["unknown"] == 12
        first = len(receiver.seen)
        with pytest.raises(DeadlinePassed):
            site.attempt(receiver.port, minutes=0)
        assert site.states() == in_time
        assert len(receiver.seen) == first
        may_go_on.set()
        assert site.attempt(receiver.port).complete
        assert len(receiver.seen) - first <= 12 - in_time["accepted"]
    assert site.in_archive() == dict.fromkeys(site.instances, 1)


def test_a_pacs_that_takes_and_never_answers_is_asked(site: Site) -> None:
    """It hangs after it has stored: no image is sent twice, as each is found there."""
    released = threading.Event()

    def hang(receiver: Difficult, _: Any) -> None:
        if len(receiver.seen) % 6 == 0:
            released.wait(60)

    with pacs(site.archive, after=hang) as receiver:
        report = site.attempt(receiver.port, response_timeout=2)
        released.set()
        assert report.complete
        assert Counter(receiver.seen) == dict.fromkeys(site.instances, 1)
    assert sum(entry.verified for _, entry in site.ledger.entries()) == 2
    assert site.in_archive() == dict.fromkeys(site.instances, 1)


def test_where_nobody_can_be_asked_it_is_sent_again_and_held_once(site: Site) -> None:
    with pacs(site.archive, after=lambda _, event: event.assoc.abort()) as receiver:
        with pytest.raises(SinkUnavailable, match="5 attempts in a row"):
            site.attempt(receiver.port, query="never")
        assert len(receiver.seen) == 5
    assert site.states() == {"unknown": 2, "pending": 10}
    with pacs(site.archive) as receiver:
        assert site.attempt(receiver.port, query="never").complete
        assert Counter(receiver.seen) == dict.fromkeys(site.instances, 1)
    assert site.in_archive() == dict.fromkeys(site.instances, 1)


def test_what_a_killed_worker_left_as_sent_is_asked_for_by_the_next_try(site: Site) -> None:
    first, second, *rest = site.instances.values()
    with pacs(site.archive) as receiver:
        elsewhere = Site(
            Ledger(site.ledger.store, str(uuid.uuid4()), "PACS"), {str(first.sop_instance_uid): first}, site.archive
        )
        elsewhere.attempt(receiver.port)
        sent = Entry(DeliveryState.SENT, attempts=1)
        site.ledger.write_page("a", {str(item.sop_instance_uid): sent for item in (first, second)})
        receiver.seen.clear()
        report = site.attempt(receiver.port)
        assert report.complete
        assert sorted(receiver.seen) == sorted(str(item.sop_instance_uid) for item in (second, *rest))
    assert "had arrived" in report.verdicts[str(first.sop_instance_uid)].message


def test_what_could_be_other_content_is_not_taken_for_ours(site: Site) -> None:
    """The same name was sent with other content before: that it is there proves nothing."""
    name, item = next(iter(site.instances.items()))
    site.instances = {name: item}
    site.ledger.write_page("a", {name: Entry(DeliveryState.SENT, attempts=2, mixed=True)})
    with pacs(site.archive) as receiver:
        assert site.attempt(receiver.port).complete
        assert receiver.seen == [name]


def test_new_content_goes_only_where_the_unanswered_old_one_has_not_arrived(site: Site) -> None:
    """Both were sent with other content and never answered; one of them had arrived."""
    arrived, lost = list(site.instances.values())[:2]
    with pacs(site.archive) as receiver:
        elsewhere = Site(
            Ledger(site.ledger.store, str(uuid.uuid4()), "PACS"), {str(arrived.sop_instance_uid): arrived}, site.archive
        )
        elsewhere.attempt(receiver.port)
        receiver.seen.clear()
        site.instances = {str(item.sop_instance_uid): replace(item, digest="new") for item in (arrived, lost)}
        old = Entry(DeliveryState.SENT, attempts=1, digest="old")
        site.ledger.write_page("a", dict.fromkeys(site.instances, old))
        report = site.attempt(receiver.port)
        assert receiver.seen == [lost.sop_instance_uid]
        (refused,) = report.failed().values()
        assert refused.identity == arrived.sop_instance_uid and "may have arrived" in refused.message
        assert site.attempt(receiver.port, query="never", resend_changed=True).complete
    assert site.attempt(1).complete, "all of it is known to be there"


def test_a_deadline_ends_a_hanging_pacs_with_a_verdict_on_each(site: Site) -> None:
    released = threading.Event()

    def hang(*_: Any) -> int:
        released.wait(60)
        return 0

    with pacs(site.archive, hang) as receiver:
        start = time.monotonic()
        with pytest.raises(ExportError):
            site.attempt(receiver.port, minutes=0.05, response_timeout=60)  # 3 s
        assert time.monotonic() - start < 30
        released.set()
    assert site.states() == {"unknown": 1, "pending": 11}
    assert "did not answer before the deadline" in str(site.reports[-1])


def test_a_slow_trickle_does_not_outlast_the_deadline(site: Site) -> None:
    """A peer that takes a few bytes now and then makes progress for ever."""
    import socket

    site.instances = dict(list(site.instances.items())[:1])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)

        def trickle() -> None:
            near, _ = listener.accept()
            with near:
                near.settimeout(0.2)
                end = time.monotonic() + 60
                while time.monotonic() < end:
                    try:
                        if not near.recv(16):
                            return
                        near.sendall(b"\2")
                    except OSError:
                        return
                    time.sleep(0.1)

        thread = threading.Thread(target=trickle)
        thread.start()
        start = time.monotonic()
        with pytest.raises((DeadlinePassed, SinkUnavailable)):
            site.attempt(listener.getsockname()[1], minutes=0.02, connect_timeout=30)
        assert time.monotonic() - start < 30
        thread.join()


def test_a_verification_finds_what_the_pacs_has_lost_and_sends_it_again(site: Site, monkeypatch: Any) -> None:
    monkeypatch.setattr("airflow_monai.sinks.delivery.LOOKS", (0.0, 0.1))
    lost = list(site.instances)[5]

    def lose(receiver: Difficult, event: Any) -> int | None:
        return 0 if event.request.AffectedSOPInstanceUID == lost and receiver.seen.count(lost) == 1 else None

    with pacs(site.archive, lose) as receiver:
        assert site.attempt(receiver.port, verify="query").complete
        assert Counter(receiver.seen) == {**dict.fromkeys(site.instances, 1), lost: 2}
        assert all(entry.verified for _, entry in site.ledger.entries())
        receiver.seen.clear()
        assert site.attempt(receiver.port, verify="query").complete
        assert receiver.seen == []
    assert site.in_archive() == dict.fromkeys(site.instances, 1)


def test_a_verification_that_fails_is_no_success(site: Site, monkeypatch: Any) -> None:
    monkeypatch.setattr("airflow_monai.sinks.delivery.LOOKS", (0.0,))
    with pacs(site.archive, lambda *_: 0) as receiver:  # says yes and keeps nothing
        report = site.attempt(receiver.port, verify="query")
        assert not report.complete
        assert set(Counter(receiver.seen).values()) == {2}
    assert site.states() == {"unknown": 12}
    assert "accepted, but not there when asked for" in str(report)
    with pacs(site.archive) as receiver, pytest.raises(DestinationError, match="verify is 'query', but"):
        site.attempt(receiver.port, verify="query", query="never")


def test_an_image_is_on_one_association_at_a_time(site: Site) -> None:
    running: set[str] = set()
    doubled: list[str] = []

    def watch(_: Difficult, event: Any) -> None:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in running:
            doubled.append(uid)
        running.add(uid)
        time.sleep(0.02)
        running.discard(uid)

    with pacs(site.archive, watch) as receiver:
        assert site.attempt(receiver.port, associations=4).complete
        assert 2 <= receiver.associations <= 4
        assert Counter(receiver.seen) == dict.fromkeys(site.instances, 1)
    assert doubled == []


@pytest.mark.parametrize("says", [None, 0x0111], ids=["takes it", "calls it a duplicate"])
def test_what_a_pacs_has_lost_is_sent_again_when_a_person_wants_it(site: Site, says: int | None) -> None:
    with pacs(site.archive) as receiver:
        assert site.attempt(receiver.port).complete
        receiver.seen.clear()
        resendable(site.ledger).mark("wanted again by a test")
        assert resendable(site.ledger).mark("and once more") == 0
    with pacs(site.archive, lambda *_: says) as receiver:
        report = site.attempt(receiver.port)
        assert report.complete
        assert sorted(receiver.seen) == sorted(site.instances)
        receiver.seen.clear()
        assert site.attempt(receiver.port).complete
        assert receiver.seen == []
    assert {(entry.attempts, entry.again) for _, entry in site.ledger.entries()} == {(2, False)}
    assert site.in_archive() == dict.fromkeys(site.instances, 1)


def test_being_there_does_not_do_for_what_a_person_wants_sent_again(site: Site) -> None:
    """The PACS' index still has what its disks have lost, and the first attempt is never answered."""
    with pacs(site.archive) as receiver:
        assert site.attempt(receiver.port).complete
    resendable(site.ledger).mark("wanted again by a test")
    with pacs(site.archive, lambda _, event: event.assoc.abort()) as receiver:
        assert not site.attempt(receiver.port).complete
    assert site.states() == {"unknown": 12}
    with pacs(site.archive) as receiver:
        assert site.attempt(receiver.port).complete
        assert sorted(receiver.seen) == sorted(site.instances)


def test_new_content_is_no_more_sent_than_before_when_the_old_is_wanted_again(site: Site) -> None:
    with pacs(site.archive) as receiver:
        assert site.attempt(receiver.port).complete
        resendable(site.ledger).mark("wanted again by a test")
        receiver.seen.clear()
        site.instances = {name: replace(item, digest="new") for name, item in site.instances.items()}
        report = site.attempt(receiver.port)
        assert receiver.seen == []
    assert set(report.failed()) == set(site.instances)
    assert "may have arrived" in str(report)
