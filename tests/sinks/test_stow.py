"""STOW-RS: one verdict for each instance, whatever the server does, and nothing sent again that is there."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import DeadlinePassed, DestinationError, Fenced, SinkUnavailable
from airflow_monai.local.processes import wait_until
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.delivery import Deliverer
from airflow_monai.sinks.ledger.pages import Entry, Ledger
from airflow_monai.sinks.part10 import read_head
from airflow_monai.sinks.report import SinkReport
from airflow_monai.sinks.stow import StowSink
from airflow_monai.sinks.web import auth as http_auth
from airflow_monai.store.local import LocalStore
from tests.conftest import require
from tests.pacs import make_images, orthanc
from tests.sinks.difficult import proxy, silent, trickling
from tests.sinks.stow_server import Reply, StowServer, good, report, stow_server

ACCEPTED, REFUSED, UNKNOWN = DeliveryState.ACCEPTED, DeliveryState.REFUSED, DeliveryState.UNKNOWN


@pytest.fixture(autouse=True)
def no_pauses_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.sinks.tries.PAUSES", (0.0, 0.0, 0.0))


class News(list[Delivery]):
    """What a sink reported."""

    def __call__(self, delivery: Delivery) -> None:
        self.append(delivery)

    @property
    def last(self) -> dict[str, Delivery]:
        return {news.identity: news for news in self}

    def states(self) -> Counter[str]:
        return Counter(news.state.value for news in self.last.values())

    def requests(self, uid: str) -> int:
        return sum(news.identity == uid and news.state is DeliveryState.SENT for news in self)


def images(folder: Path, count: int = 6, **arguments: Any) -> list[Instance]:
    found = []
    for path in make_images(folder / "in", count, **arguments):
        head = read_head(path)
        assert head is not None
        found.append(
            Instance(path.name, path, path.name, head.sop_instance_uid, head.sop_class_uid, head.transfer_syntax_uid)
        )
    return found


def uids(instances: list[Instance]) -> list[str]:
    return [str(one.sop_instance_uid) for one in instances]


def once(first: Callable[[StowServer, list[tuple[str, str]]], Reply]) -> Callable[..., Reply]:
    """Behave so on the first request only."""

    def behave(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        return first(server, parts) if len(server.requests) == 1 else good(server, parts)

    return behave


def test_everything_arrives_in_few_requests(tmp_path: Path) -> None:
    instances, news = images(tmp_path, 25), News()
    with stow_server() as server:
        StowSink(server.destination(instances_per_request=10, connections=2)).send(instances, news)
        assert sorted(server.stored) == sorted(uids(instances))
        assert sorted(map(len, server.requests)) == [5, 10, 10]
        assert server.queries == []
    assert {(item.state, item.status) for item in news.last.values()} == {(ACCEPTED, "0000")}
    for uid in uids(instances):
        assert [item.state for item in news if item.identity == uid] == [DeliveryState.SENT, ACCEPTED]


def test_requests_are_limited_by_bytes_too(tmp_path: Path) -> None:
    instances = images(tmp_path, 6)  # 8.9 kB each
    with stow_server() as server:
        StowSink(server.destination(mb_per_request=0.02, connections=1)).send(instances, News())
        assert [len(request) for request in server.requests] == [2, 2, 2]
    with stow_server() as server:
        StowSink(server.destination(mb_per_request=0.001, connections=1)).send(instances, News())
        assert [len(request) for request in server.requests] == [1] * 6


def test_several_requests_go_at_a_time(tmp_path: Path) -> None:
    def slow(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        assert wait_until(lambda: server.most_at_a_time >= 4, 10)
        time.sleep(0.1)  # is there one more?
        return good(server, parts)

    with stow_server(slow) as server:
        StowSink(server.destination(instances_per_request=1, connections=4)).send(images(tmp_path, 8), News())
        assert server.most_at_a_time == 4


def test_a_failure_of_some_is_told_with_its_reason(tmp_path: Path) -> None:
    """202 with both lists; A700 is tried again, 0122 and A900 are not."""
    instances, news = images(tmp_path), News()
    names = uids(instances)

    def some(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        failed = {names[0]: 0x0122, names[1]: 0xA900, names[2]: 0xA700, names[3]: 0xC122}
        there = [part for part in parts if part[0] in names[4:]]
        server.store(there)
        body = report([names[4]], {uid: why for uid, why in failed.items() if uid in dict(parts)}, {names[5]: 0xB000})
        return Reply(202, body)

    with stow_server(some) as server:
        StowSink(server.destination()).send(instances, news)
        assert server.requests == [names, [names[2]], [names[2]]]
    told = {uid: (item.state, item.status) for uid, item in news.last.items()}
    assert told == {
        names[0]: (REFUSED, "0122"),
        names[1]: (REFUSED, "A900"),
        names[2]: (REFUSED, "A700"),
        names[3]: (REFUSED, "C122"),
        names[4]: (ACCEPTED, "0000"),
        names[5]: (ACCEPTED, "B000"),
    }
    assert news.last[names[2]].retry
    assert not news.last[names[0]].retry
    assert news.last[names[3]].message == "status C122: Referenced transfer syntax not supported"


XML = """<?xml version="1.0"?>
<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
  <DicomAttribute tag="00081198" vr="SQ"><Item number="1">
    <DicomAttribute tag="00081155" vr="UI"><Value number="1">{failed}</Value></DicomAttribute>
    <DicomAttribute tag="00081197" vr="US"><Value number="1">43264</Value></DicomAttribute>
  </Item></DicomAttribute>
  <DicomAttribute tag="00081199" vr="SQ"><Item number="1">
    <DicomAttribute tag="00081155" vr="UI"><Value number="1">{stored}</Value></DicomAttribute>
  </Item></DicomAttribute>
</NativeDicomModel>"""


def test_an_answer_in_xml_is_read(tmp_path: Path) -> None:
    instances, news = images(tmp_path, 2), News()
    first, second = uids(instances)

    def in_xml(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        return Reply(202, XML.format(failed=first, stored=second).encode(), "application/dicom+xml")

    with stow_server(in_xml) as server:
        StowSink(server.destination()).send(instances, news)
    assert (news.last[first].state, news.last[first].status) == (REFUSED, "A900")
    assert news.last[second].state is ACCEPTED


def test_409_with_a_list_is_a_verdict_on_each(tmp_path: Path) -> None:
    instances, news = images(tmp_path, 3), News()

    def conflict(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        return Reply(409, report(failed={uid: 0x0110 if uid == parts[0][0] else 0xA900 for uid, _ in parts}))

    with stow_server(conflict) as server:
        StowSink(server.destination()).send(instances, news)
        assert len(server.requests) == 3
        assert server.requests[1:] == [[uids(instances)[0]]] * 2, "0110 may pass, A900 does not"
    assert [item.status for item in news.last.values()] == ["0110", "A900", "A900"]


@pytest.mark.parametrize("status", [400, 409, 415, 500])
def test_one_that_spoils_a_request_does_not_keep_the_others_out(tmp_path: Path, status: int) -> None:
    instances, news = images(tmp_path, 9), News()
    bad = uids(instances)[4]

    def picky(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        if bad in dict(parts):
            return Reply(status, b"cannot do Doe^Jane", "text/plain")
        return good(server, parts)

    with stow_server(picky) as server:
        StowSink(server.destination(connections=1)).send(instances, news)
        assert sorted(server.stored) == sorted(set(uids(instances)) - {bad})
    assert news.states() == {"accepted": 8, "unknown" if status == 500 else "refused": 1}
    assert news.last[bad].comment == "cannot do Doe^Jane"
    assert "Jane" not in "".join(item.message for item in news)


@pytest.mark.parametrize("status", [400, 413, 500])
def test_a_request_of_many_may_have_to_be_split_often(tmp_path: Path, status: int) -> None:
    instances, news = images(tmp_path, 64), News()
    bad = uids(instances)[0]

    def one_by_one(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        return Reply(status) if bad in dict(parts) else good(server, parts)

    with stow_server(one_by_one) as server:
        StowSink(server.destination(connections=1, instances_per_request=64)).send(instances, news)
        assert len(server.stored) == 63
    assert news.states() == {"accepted": 63, "unknown" if status == 500 else "refused": 1}


def test_a_server_that_answers_before_it_has_read_all_is_heard(tmp_path: Path) -> None:
    """As a proxy does that limits the size of requests."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                line, _ = listener.accept()
                while b"\r\n\r\n" not in line.recv(65_536):
                    pass
                line.sendall(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                line.close()

    threading.Thread(target=serve, daemon=True).start()
    news = News()
    port = listener.getsockname()[1]
    StowSink(Destination("WEB", "monai_dicomweb", "127.0.0.1", port, schema="http")).send(
        images(tmp_path, 2, rows=1024), news
    )
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    assert {item.status for item in news.last.values()} == {"HTTP 413"}


def test_413_makes_requests_smaller(tmp_path: Path) -> None:
    instances, news = images(tmp_path, 16), News()

    def small(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        return Reply(413) if len(parts) > 4 else good(server, parts)

    with stow_server(small) as server:
        StowSink(server.destination(instances_per_request=8, connections=1)).send(instances, news)
        assert [len(request) for request in server.requests] == [8, 4, 4, 4, 4]
    assert news.states() == {"accepted": 16}


def test_one_that_is_too_large_alone_is_refused(tmp_path: Path) -> None:
    news = News()
    with stow_server(lambda *_: Reply(413)) as server:
        StowSink(server.destination()).send(images(tmp_path, 1), news)
    (verdict,) = news.last.values()
    assert (verdict.state, verdict.status, verdict.retry) == (REFUSED, "HTTP 413", False)
    assert "raise the limit there" in verdict.message


def test_503_is_waited_for_as_long_as_the_server_says(tmp_path: Path) -> None:
    instances, news = images(tmp_path, 2), News()
    with stow_server(once(lambda *_: Reply(503, headers={"Retry-After": "1"}))) as server:
        began = time.monotonic()
        StowSink(server.destination()).send(instances, news)
        assert 1 <= time.monotonic() - began < 60
        assert server.requests == [uids(instances)] * 2
    assert news.states() == {"accepted": 2}
    assert [item.status for item in news if item.state is REFUSED] == ["HTTP 503"] * 2


def test_retry_after_may_be_a_date_and_is_bounded() -> None:
    from datetime import datetime, timedelta, timezone
    from email.utils import format_datetime

    from airflow_monai.sinks.web.site import _retry_after

    soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    assert 10 < _retry_after(soon) <= 30
    assert [_retry_after(text) for text in ("", "soon", "-5", "7", "86400", "Wed, 21 Oct 2015 07:28:00 GMT")] == [
        0,
        0,
        0,
        7,
        120,
        0,
    ]


def test_a_server_that_stays_busy_ends_as_unavailable(tmp_path: Path) -> None:
    news = News()
    with stow_server(lambda *_: Reply(429)) as server, pytest.raises(SinkUnavailable, match="nothing in 5 requests"):
        StowSink(server.destination(connections=1, instances_per_request=2)).send(images(tmp_path, 8), news)
    assert news.states() == {"refused": 4}, "the others were not tried"


def test_200_without_a_list_is_confirmed_by_a_query(tmp_path: Path) -> None:
    instances, news = images(tmp_path), News()
    with stow_server(lambda *_: Reply(200, stored=True)) as server:
        StowSink(server.destination()).send(instances, news)
        assert len(server.requests) == 1
        assert server.queries
    assert {(item.state, item.message) for item in news.last.values()} == {
        (ACCEPTED, "HTTP 200 without a list of instances; a query confirms it")
    }


def test_200_without_a_list_for_what_is_not_there_is_no_success(tmp_path: Path) -> None:
    news = News()
    with stow_server(lambda *_: Reply(200)) as server:
        StowSink(server.destination()).send(images(tmp_path, 2), news)
        assert len(server.requests) == 3
    assert news.states() == {"unknown": 2}
    assert {item.message for item in news.last.values()} == {
        "HTTP 200 without a list of instances; a query does not find it"
    }


def test_200_without_a_list_is_believed_where_nothing_can_be_asked(tmp_path: Path) -> None:
    """The standard gives 200 the meaning that all are stored (PS3.18 section 10.5.3.1)."""
    for extra, queries in (({}, 1), ({"query": False}, 0)):
        news = News()
        with stow_server(lambda *_: Reply(200)) as server:
            server.has_queries = False
            StowSink(server.destination(**extra)).send(images(tmp_path, 1), news)
            assert (len(server.queries) > 0) == (queries > 0)
        assert news.states() == {"accepted": 1}


def test_a_page_of_a_proxy_is_no_success(tmp_path: Path) -> None:
    news = News()
    with stow_server(lambda *_: Reply(200, b"<html>please log in</html>", "text/html")) as server:
        server.has_queries = False
        StowSink(server.destination()).send(images(tmp_path, 1), news)
    (verdict,) = news.last.values()
    assert verdict.state is UNKNOWN
    assert "is a proxy between?" in verdict.message


def test_what_was_stored_before_the_connection_broke_is_not_sent_again(tmp_path: Path) -> None:
    """The server stores all but one and hangs up: only that one is sent again."""
    instances, news = images(tmp_path), News()

    def hang_up(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        server.store(parts[1:])
        return Reply(0)

    with stow_server(once(hang_up)) as server:
        StowSink(server.destination()).send(instances, news)
        assert server.requests == [uids(instances), uids(instances)[:1]]
        assert sorted(server.stored) == sorted(uids(instances))
    assert news.states() == {"accepted": 6}
    assert [item.state for item in news if item.identity == uids(instances)[1]][1:] == [UNKNOWN, ACCEPTED]


def test_a_connection_that_breaks_in_the_midst_of_the_body(tmp_path: Path) -> None:
    instances, news = images(tmp_path, 8, rows=512), News()  # 0.5 MB each
    with stow_server() as server:
        server.cut_after = 1_500_000
        StowSink(server.destination(connections=1)).send(instances, news)
        assert sorted(server.stored) == sorted(uids(instances))
        assert len(server.requests) == 1, "the one that was cut is no whole request"
    assert news.states() == {"accepted": 8}


def test_accepted_but_never_answered_is_found_by_a_query(tmp_path: Path) -> None:
    instances, news = images(tmp_path), News()
    released = threading.Event()

    def silent_one(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        server.store(parts)
        released.wait(60)
        return Reply(0)

    with stow_server(silent_one) as server:
        StowSink(server.destination(response_timeout=2)).send(instances, news)
        released.set()
        assert server.requests == [uids(instances)]
    assert {item.message for item in news.last.values()} == {
        f"there, as a query shows (WEB at http://127.0.0.1:{server.port} made no progress for 2 s)"
    }


def test_a_server_that_hangs_ends_with_a_verdict_in_time(tmp_path: Path) -> None:
    instances, news = images(tmp_path), News()
    with silent() as port:
        destination = Destination(
            "WEB",
            "monai_dicomweb",
            f"http://127.0.0.1:{port}",
            extra={"response_timeout": 30, "instances_per_request": 2},
        )
        sink = StowSink(destination)
        sink.deadline = Deadline(3, "the deadline of this export")
        began = time.monotonic()
        with pytest.raises(DeadlinePassed, match="the deadline of this export"):
            sink.send(instances, news)
        assert time.monotonic() - began < 20
    assert news.states() == {"unknown": 4}, "two requests of two; the others were never sent"


@pytest.mark.parametrize("part", ["headers", "token"])
def test_an_answer_that_comes_byte_by_byte_ends_with_the_deadline(tmp_path: Path, part: str) -> None:
    instances, news = images(tmp_path, 1), News()
    with trickling(b"HTTP/1.1 200 OK\r\nX-Slow: ", 0.1) as port:
        extra = {"response_timeout": 5, "query": False}
        if part == "token":
            extra["token_url"] = f"http://127.0.0.1:{port}/token"
        sink = StowSink(
            Destination("WEB", "monai_dicomweb", "127.0.0.1", port, extra, "http", login="me", password="secret")
        )
        sink.deadline = Deadline(1.0, "the deadline")
        begun = time.monotonic()
        with pytest.raises(DeadlinePassed):
            sink.send(instances, news)
        assert time.monotonic() - begun < 30
    assert news.states() == {"unknown": 1}


def test_an_answer_that_comes_byte_by_byte_ends_also_without_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_monai.sinks.deadline.LONGEST", 0.5)
    monkeypatch.setattr("airflow_monai.sinks.tries.TRIES", 1)
    news = News()
    with trickling(b"HTTP/1.1 200 OK\r\nX-Slow: ", 0.1) as port:
        extra = {"response_timeout": 5, "query": False}
        begun = time.monotonic()
        StowSink(Destination("WEB", "monai_dicomweb", "127.0.0.1", port, extra, "http")).send(images(tmp_path, 1), news)
        assert time.monotonic() - begun < 30
    assert news.states() == {"unknown": 1}


def test_a_token_service_that_hangs_holds_up_no_other_destination(tmp_path: Path) -> None:
    instances, tokens = images(tmp_path, 1), {"response_timeout": 15, "query": False}
    hung_up = threading.Event()
    with trickling(b"HTTP/1.1 200 OK\r\nX-Slow: ", 0.1, hung_up) as port, stow_server() as server:
        hanging = StowSink(
            server.destination(**tokens, token_url=f"http://127.0.0.1:{port}/token", login="me", password="secret")
        )
        hanging.deadline = Deadline(60, "the deadline")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(hanging.send, instances, lambda _: None)
            time.sleep(0.3)
            server.tokens.append("a-token")
            url = f"http://127.0.0.1:{server.port}/token"
            StowSink(server.destination(**tokens, token_url=url, login="you", password="secret")).send(
                instances, lambda _: None
            )
            assert not waiting.done()
            hung_up.set()
            assert wait_until(waiting.done, 50)


def test_that_a_name_is_there_says_nothing_of_new_content(tmp_path: Path) -> None:
    """An answer got lost, and a query finds what was sent before under the name."""
    (item,) = images(tmp_path, 1)
    head = read_head(item.path)
    assert head is not None
    item = replace(item, study_instance_uid=head.study_instance_uid)
    (uid,) = uids([item])
    ledger = Ledger(LocalStore(tmp_path / "store"), str(uuid.uuid4()), "WEB")
    ledger.write_page("a", {uid: Entry(ACCEPTED, attempts=1, digest="of before")})
    new, told = replace(item, digest="of now"), SinkReport("WEB")
    with stow_server(lambda *_: Reply(0)) as server:
        server.store([(uid, item.study_instance_uid)])
        sink = StowSink(server.destination(resend_changed=True))
        with suppress(SinkUnavailable):
            Deliverer(sink, {uid: new}, ledger, told, task="t", before_request=lambda: None).run()
    assert told.verdicts[uid].state is UNKNOWN
    entry = ledger.entry(uid)
    assert entry is not None and (entry.state, entry.mixed) == (UNKNOWN, True)


def test_a_server_that_reads_slowly_ends_with_a_verdict_in_time(tmp_path: Path) -> None:
    instances, news = images(tmp_path, 30, rows=512), News()
    with stow_server() as server:
        server.read_delay = 0.3
        sink = StowSink(server.destination(response_timeout=30))
        sink.deadline = Deadline(3)
        began = time.monotonic()
        with pytest.raises(DeadlinePassed):
            sink.send(instances, news)
        assert time.monotonic() - began < 20
        assert server.stored == {}
    assert set(news.states()) == {"unknown"}


def test_nobody_there(tmp_path: Path, free_port: int) -> None:
    news = News()
    sink = StowSink(Destination("WEB", "monai_dicomweb", "127.0.0.1", free_port, schema="http"))
    with pytest.raises(SinkUnavailable, match=r"WEB at http://127.0.0.1:\d+ cannot be reached \(Connection refused\)"):
        sink.send(images(tmp_path, 30), news)
    assert set(news.states()) == {"pending"}, "what did not leave is not unknown"
    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        sink.test()


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "login is refused"), (403, "may not store"), (404, "no STOW-RS service"), (302, "a redirect")],
)
def test_a_server_that_does_not_want_us_is_told_once(tmp_path: Path, status: int, words: str) -> None:
    news = News()
    with stow_server(lambda *_: Reply(status)) as server, pytest.raises(DestinationError, match=words) as caught:
        StowSink(server.destination(connections=1, instances_per_request=2)).send(images(tmp_path), news)
    assert len(server.requests) == 1
    assert "Correct the Airflow connection 'WEB'" in str(caught.value)
    assert news.states() == {"pending": 2}


def test_who_ends_the_sending_ends_all_threads(tmp_path: Path) -> None:
    instances = images(tmp_path, 30)
    sent: list[str] = []

    def fenced(news: Delivery) -> None:
        if news.state is DeliveryState.SENT:
            sent.append(news.identity)
            if len(sent) > 6:
                raise Fenced("another try has taken over")

    with stow_server() as server, pytest.raises(Fenced):
        StowSink(server.destination(instances_per_request=2, connections=3)).send(instances, fenced)
    assert len(server.stored) <= 10


# ------------------------------------------------------------------ who we are, and whom we trust


def test_basic_authentication_and_a_bearer_token(tmp_path: Path) -> None:
    instances = images(tmp_path, 1)
    for login, password, header in (("anna", "pä:ss", "Basic YW5uYTpww6Q6c3M="), ("", "tok", "Bearer tok")):
        with stow_server() as server:
            server.authorization = header
            sink = StowSink(server.destination(login=login, password=password))
            news = News()
            sink.send(instances, news)
            assert news.states() == {"accepted": 1}
            assert sink.ask(instances) == {uids(instances)[0]: True}
            assert set(server.seen_authorization) == {header}
            assert password not in repr(sink.destination)


def test_a_real_pacs_with_a_password(tmp_path: Path) -> None:
    require("orthanc-dicomweb")
    instances = images(tmp_path, 3)
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"monai": "secret"}}
    with orthanc(tmp_path / "pacs", dicomweb=True, **users) as pacs:

        def sink(password: str) -> StowSink:
            return StowSink(
                Destination(
                    "WEB", "monai_dicomweb", pacs.http, extra={"path": "/dicom-web"}, login="monai", password=password
                )
            )

        news = News()
        sink("secret").send(instances, news)
        assert news.states() == {"accepted": 3}
        assert sink("secret").ask(instances) == dict.fromkeys(uids(instances), True)
        refused = News()
        with pytest.raises(DestinationError, match="HTTP 401: the login is refused"):
            sink("wrong").send(instances, refused)
        with pytest.raises(DestinationError, match="HTTP 401: the login is refused"):
            sink("wrong").test()
    assert refused.states() == {"pending": 3}


@pytest.mark.parametrize("given", ["connection", "environment"])
def test_a_proxy_is_used_where_the_connection_or_the_environment_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        line, _ = listener.accept()
        asked.append(line.recv(65_536))
        line.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        line.close()

    threading.Thread(target=serve, daemon=True).start()
    proxy_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    if given == "environment":
        monkeypatch.setenv("http_proxy", proxy_url)
    extra = {"proxy": proxy_url} if given == "connection" else {}
    with pytest.raises(DestinationError, match="HTTP 403"):
        StowSink(Destination("WEB", "monai_dicomweb", "http://pacs.invalid/rs", extra=extra)).send(
            images(tmp_path, 1), News()
        )
    listener.close()
    assert asked[0].startswith(b"POST http://pacs.invalid/rs/studies HTTP/1.1\r\n")


def test_oauth_gets_one_token_for_all_and_another_when_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_auth, "_TOKENS", {})
    instances, news = images(tmp_path, 8), News()
    with stow_server() as server:
        server.tokens.extend(["one", "two"])
        server.authorization = "Bearer one"
        token_url = f"http://127.0.0.1:{server.port}/token"
        sink = StowSink(
            server.destination(
                login="client", password="secret", token_url=token_url, scope="dicom", instances_per_request=1
            )
        )
        sink.send(instances[:6], news)
        assert len(server.token_requests) == 1
        asked = server.token_requests[0]
        assert (asked["grant_type"], asked["scope"]) == ("client_credentials", "dicom")
        assert asked["authorization"] == http_auth.basic("client", "secret")
        server.authorization = "Bearer two"  # the first was withdrawn
        sink.send(instances[6:], news)
        assert len(server.token_requests) == 2
        assert news.states() == {"accepted": 8}
        server.authorization = "Bearer three"
        with pytest.raises(DestinationError, match=r"\(token_url\) gives no token: HTTP 400 invalid_client"):
            sink.send(instances, News())


def test_a_secret_in_the_form_and_a_token_service_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setattr(http_auth, "_TOKENS", {})
    instances = images(tmp_path, 1)
    with stow_server() as server:
        server.tokens.append("one")
        here = f"http://127.0.0.1:{server.port}/token"
        sink = StowSink(server.destination(login="c", password="s", token_url=here, client_auth="post"))
        sink.send(instances, News())
        assert (server.token_requests[0]["client_id"], server.token_requests[0]["client_secret"]) == ("c", "s")
        monkeypatch.setattr(http_auth, "_TOKENS", {})
        down = f"http://127.0.0.1:{free_port}/token"
        news = News()
        StowSink(server.destination(login="c", password="s", token_url=down)).send(instances, news)
    assert news.states() == {"pending": 1}
    assert "token service of WEB (token_url) does not answer" in news[-1].message


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A self-signed certificate for the loopback, and its key."""
    require("openssl")
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)


def test_tls_with_an_authority_and_a_client_certificate_of_our_own(tmp_path: Path) -> None:
    instances = images(tmp_path, 4)
    (server_cert, server_key), (our_cert, our_key) = certificate(tmp_path, "server"), certificate(tmp_path, "us")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_cert, server_key)
    context.load_verify_locations(our_cert)
    context.verify_mode = ssl.CERT_REQUIRED
    with stow_server(tls=context) as server:
        with pytest.raises(DestinationError, match=r"is not trusted.*ca_file names the authority"):
            StowSink(server.destination()).send(instances, News())
        news = News()
        sink = StowSink(server.destination(ca_file=server_cert, cert_file=our_cert, key_file=our_key, connections=2))
        sink.send(instances, news)
        assert news.states() == {"accepted": 4}
        assert sink.test().startswith(f"WEB at https://127.0.0.1:{server.port} answers")
        unknown = News()
        with pytest.raises(SinkUnavailable):  # TLS 1.3 tells only after the handshake that it wants a certificate
            stranger = StowSink(server.destination(ca_file=server_cert, instances_per_request=1, connections=1))
            stranger.send(images(tmp_path / "more", 5), unknown)
        assert "accepted" not in unknown.states()


# ------------------------------------------------------------------ asking


def test_what_is_there_is_asked_page_by_page(tmp_path: Path) -> None:
    instances = images(tmp_path, 30)
    with stow_server() as server:
        server.page = 7
        sink = StowSink(server.destination())
        sink.send(instances[:25], News())
        found = sink.ask(instances)
        assert found == {uid: index < 25 for index, uid in enumerate(uids(instances))}
        assert len(server.queries) == 5, "four pages, and one that is empty"
        server.queries.clear()
        assert sink.ask(instances[24:26]) == {uids(instances)[24]: True, uids(instances)[25]: False}
        assert len(server.queries) == 2, "a few are asked for by name"


def test_a_server_without_queries_cannot_be_asked(tmp_path: Path) -> None:
    with stow_server() as server:
        server.has_queries = False
        assert StowSink(server.destination()).ask(images(tmp_path)) is None
        assert StowSink(server.destination(query=False)).ask(images(tmp_path)) is None


def test_nothing_about_the_patient_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    instances = images(tmp_path)
    caplog.set_level(logging.DEBUG)
    with stow_server(once(lambda *_: Reply(0))) as server:
        sink = StowSink(server.destination())
        sink.send(instances, News())
        sink.ask(instances)
    head = read_head(instances[0].path)
    assert head is not None
    assert caplog.text
    for text in (head.study_instance_uid, *uids(instances), "Doe", head.patient_id + " "):
        assert text not in caplog.text


def test_memory_does_not_grow_with_the_request(tmp_path: Path) -> None:
    import tracemalloc

    instances = images(tmp_path, 40, rows=1024)  # 2 MB each
    sink_memory = []
    with stow_server() as server:
        extra = {"instances_per_request": 40, "mb_per_request": 200, "response_timeout": 60}
        sink = StowSink(server.destination(connections=1, **extra))
        taken = sink.site.send

        def measured(*arguments: Any, **named: Any) -> Any:
            upload = named["upload"]
            for _ in range(3):  # what other threads of this process take meanwhile counts too
                tracemalloc.start()
                for _ in upload.pieces():
                    pass
                sink_memory.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
            return taken(*arguments, **named)

        sink.site.send = measured  # type: ignore[method-assign]
        sink.send(instances, News())
    assert min(sink_memory) < 3_000_000


# ------------------------------------------------------------------ the connection


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        (Destination("WEB", "monai_dicomweb"), "the connection has no host"),
        (Destination("WEB", "monai_dicomweb", "h", schema="ftp"), "schema = 'ftp' is neither http nor https"),
        (Destination("WEB", "monai_dicomweb", "https://u:p@h"), "host is no address like"),
        (
            Destination("WEB", "monai_dicomweb", "h", extra={"connections": 99}),
            "connections = '99' is not a number from",
        ),
        (Destination("WEB", "monai_dicomweb", "h", extra={"ca_file": "/none"}), "ca_file = '/none' is no file"),
        (Destination("WEB", "monai_dicomweb", "h", extra={"token_url": "https://t"}), "token_url needs the client id"),
        (
            Destination("WEB", "monai_dicomweb", "h", extra={"token_url": "t", "a": 1}, login="a", password="b"),
            "token_url is no address",
        ),
    ],
)
def test_a_connection_that_cannot_be_used_is_told_by_field(destination: Destination, words: str) -> None:
    with pytest.raises(DestinationError, match=words):
        StowSink(destination)


def test_the_address_is_put_together(tmp_path: Path) -> None:
    def url(host: str, **rest: Any) -> str:
        extra = {"path": rest.pop("path")} if "path" in rest else {}
        return StowSink(Destination("WEB", "monai_dicomweb", host, rest.pop("port", None), extra, **rest)).site.url

    assert url("pacs") == "https://pacs"
    assert url("pacs", port=8042, schema="http", path="/dicom-web/") == "http://pacs:8042/dicom-web"
    assert (
        url("http://pacs:8080/dcm4chee-arc", path="aets/DCM4CHEE/rs")
        == "http://pacs:8080/dcm4chee-arc/aets/DCM4CHEE/rs"
    )


def test_a_connection_to_a_real_pacs_that_breaks_in_the_midst(tmp_path: Path) -> None:
    """Only what Orthanc lacks then is sent again, and it has each instance once."""
    require("orthanc-dicomweb")
    instances, news = images(tmp_path, 30, rows=256), News()  # 0.13 MB each
    with orthanc(tmp_path / "pacs", dicomweb=True, OverwriteInstances=False) as pacs:
        with proxy(int(pacs.http.rpartition(":")[2]), cut_after=2_000_000) as port:
            extra = {"path": "/dicom-web", "instances_per_request": 5, "connections": 1}
            StowSink(Destination("WEB", "monai_dicomweb", f"http://127.0.0.1:{port}", extra=extra)).send(
                instances, news
            )
        assert pacs.sop_uids() == sorted(uids(instances))
        changes = pacs.rest("/changes?limit=10000")["Changes"]
        assert sum(change["ChangeType"] == "NewInstance" for change in changes) == 30
    assert news.states() == {"accepted": 30}
    assert Counter(news.requests(uid) for uid in uids(instances)) == {1: 25, 2: 5}


def test_a_real_pacs(tmp_path: Path) -> None:
    """Orthanc: 50 good ones and one that is no DICOM; it answers 400 with a list of those that it stored."""
    require("orthanc-dicomweb")
    instances, news = images(tmp_path, 50), News()
    rubbish = tmp_path / "rubbish.dcm"
    rubbish.write_bytes(os.urandom(1000))
    instances.insert(7, Instance("x", rubbish, "x", "1.2.3.4"))
    with orthanc(tmp_path / "pacs", dicomweb=True) as pacs:
        sink = StowSink(Destination("WEB", "monai_dicomweb", pacs.http, extra={"path": "/dicom-web"}))
        assert "answers QIDO-RS queries" in sink.test()
        sink.send(instances, news)
        assert pacs.sop_uids() == sorted(set(uids(instances)) - {"1.2.3.4"})
        assert news.states() == {"accepted": 50, "refused": 1}
        assert news.last["1.2.3.4"].status == "HTTP 400"
        found = sink.ask([*instances, *images(tmp_path / "others", 1)])
        assert found is not None
        assert Counter(found.values()) == {True: 50, False: 1}
        again = News()
        sink.send(instances[:5], again)
        assert again.states() == {"accepted": 5}, "the same again is no error"
        assert len(pacs.sop_uids()) == 50
