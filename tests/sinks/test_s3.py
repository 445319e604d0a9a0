"""The S3 sink writes whole objects, once, and never replaces anything unasked."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import DeadlinePassed, DestinationError, SinkUnavailable, StoreError
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.s3 import S3Sink
from tests.s3_server import KEY, S3Server, s3  # noqa: F401 - a fixture
from tests.sinks.difficult import silent, trickling


@pytest.fixture(autouse=True)
def no_pauses_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.sinks.tries.PAUSES", (0.0, 0.0, 0.0))


class Place:
    """A bucket of its own, and a sink that delivers there."""

    def __init__(self, server: S3Server):
        self.server, self.bucket, self.client = server, server.bucket(), server.client()

    def destination(self, **extra: Any) -> Destination:
        bucket, login = extra.pop("bucket", self.bucket), extra.pop("login", KEY)
        extra = {"endpoint_url": self.server.url, "prefix": "results", "response_timeout": 20, **extra}
        return Destination("CLOUD", "monai_s3", bucket, extra=extra, login=login, password=KEY)

    def sink(self, **extra: Any) -> S3Sink:
        return S3Sink(self.destination(**extra))

    def names(self) -> list[str]:
        return [item["Key"] for item in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def content(self, name: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read())


@pytest.fixture
def place(s3: S3Server) -> Iterator[Place]:  # noqa: F811
    yield Place(s3)


def source(tmp_path: Path, content: bytes, name: str = "payload/dag/task/seg/seg.dcm", digest: bool = True) -> Instance:
    path = tmp_path / f"source-{hashlib.sha256(content).hexdigest()[:12]}"
    path.write_bytes(content)
    return Instance("key", path, name, digest=hashlib.sha256(content).hexdigest() if digest else None)


def deliver(sink: S3Sink, *instances: Instance) -> list[Delivery]:
    news: list[Delivery] = []
    sink.send(instances, news.append)
    last = {item.identity: item for item in news}
    return [last[sink.identity(instance)] for instance in instances]


def test_a_file_becomes_an_object_of_its_name(tmp_path: Path, place: Place) -> None:
    sink = place.sink()
    (verdict,) = deliver(sink, source(tmp_path, b"abc"))
    assert (verdict.state, verdict.message) == (DeliveryState.ACCEPTED, "copied")
    assert place.names() == ["results/payload/dag/task/seg/seg.dcm"]
    assert place.content(place.names()[0]) == b"abc"


@pytest.mark.parametrize("digest", [True, False])
def test_the_same_content_again_is_fine(tmp_path: Path, place: Place, digest: bool) -> None:
    instance = source(tmp_path, b"abc", digest=digest)
    deliver(place.sink(), instance)
    (again,) = deliver(place.sink(), instance)
    assert (again.state, again.message) == (DeliveryState.ACCEPTED, "was there already")


def test_an_object_of_another_s_making_is_compared_by_its_bytes(tmp_path: Path, place: Place) -> None:
    place.client.put_object(Bucket=place.bucket, Key="results/payload/dag/task/seg/seg.dcm", Body=b"abc")
    (same,) = deliver(place.sink(), source(tmp_path, b"abc"))
    (other,) = deliver(place.sink(), source(tmp_path, b"abd"))
    assert (same.state, other.state) == (DeliveryState.ACCEPTED, DeliveryState.REFUSED)


def test_other_content_is_refused_unless_overwriting_is_allowed(tmp_path: Path, place: Place) -> None:
    deliver(place.sink(), source(tmp_path, b"abc"))
    (refused,) = deliver(place.sink(), source(tmp_path, b"defg"))
    assert (refused.state, refused.retry) == (DeliveryState.REFUSED, False)
    assert "set overwrite" in refused.message
    assert place.content(place.names()[0]) == b"abc"
    (replaced,) = deliver(place.sink(overwrite=True), source(tmp_path, b"defg"))
    assert replaced.state is DeliveryState.ACCEPTED
    assert place.content(place.names()[0]) == b"defg"


def test_one_of_two_writers_at_a_time_wins(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other's object comes between our look and our write."""
    sink = place.sink()
    looked = sink.bucket.find

    def other_writes(name: str) -> Any:
        found = looked(name)
        place.client.put_object(Bucket=place.bucket, Key=f"results/{name}", Body=b"other")
        return found

    monkeypatch.setattr(sink.bucket, "find", other_writes)
    (verdict,) = deliver(sink, source(tmp_path, b"abc"))
    assert verdict.state is DeliveryState.REFUSED
    assert place.content(place.names()[0]) == b"other"


def test_large_files_go_in_parts_and_many_at_a_time(tmp_path: Path, place: Place) -> None:
    big = os.urandom(21 << 20)
    instances = [source(tmp_path, big, "payload/dag/task/big.bin")]
    instances += [source(tmp_path, os.urandom(1000), f"payload/dag/task/{number}.bin") for number in range(20)]
    assert {item.state for item in deliver(place.sink(), *instances)} == {DeliveryState.ACCEPTED}
    assert len(place.names()) == 21
    assert place.content("results/payload/dag/task/big.bin") == big
    (again,) = deliver(place.sink(), instances[0])
    assert again.message == "was there already"
    assert place.client.list_multipart_uploads(Bucket=place.bucket).get("Uploads", []) == []


def test_a_large_file_whose_sending_is_ended_leaves_nothing(tmp_path: Path, place: Place) -> None:
    sink = place.sink(max_mb_per_second=4)
    big = source(tmp_path, os.urandom(40 << 20), "payload/big.bin")  # 10 s at this rate
    sink.bucket.client()
    sink.deadline = Deadline(3)
    news: list[Delivery] = []
    with pytest.raises(DeadlinePassed):
        sink.send([big], news.append)
    assert news[-1].state is DeliveryState.PENDING
    assert place.names() == []
    assert place.client.list_multipart_uploads(Bucket=place.bucket).get("Uploads", []) == []


def test_what_is_there_can_be_asked(tmp_path: Path, place: Place) -> None:
    sink = place.sink()
    there = source(tmp_path, b"abc")
    deliver(sink, there)
    missing, changed = source(tmp_path, b"def", "payload/other"), source(tmp_path, b"xyz")
    assert sink.ask([there, missing]) == {sink.identity(there): True, sink.identity(missing): False}
    assert sink.ask([changed]) == {sink.identity(changed): False}, "another content is not this instance"


def test_the_test_button_leaves_nothing(place: Place) -> None:
    assert place.sink().test() == f"CLOUD (bucket {place.bucket} at {place.server.url}) can be written to."
    assert place.names() == []


def test_a_bucket_that_is_not_there(tmp_path: Path, place: Place) -> None:
    news: list[Delivery] = []
    with pytest.raises(DestinationError, match=r"answered HTTP 404 NoSuchBucket: there is no such bucket\. Correct"):
        place.sink(bucket="nothing-here").send([source(tmp_path, b"abc")], news.append)
    assert news[-1].state is DeliveryState.PENDING
    with pytest.raises(DestinationError, match="there is no such bucket"):
        place.sink(bucket="nothing-here").test()


def test_nobody_there_and_somebody_who_is_silent(tmp_path: Path, free_port: int) -> None:
    def sink(port: int) -> S3Sink:
        extra = {"endpoint_url": f"http://127.0.0.1:{port}", "response_timeout": 30}
        return S3Sink(Destination("CLOUD", "monai_s3", "results", extra=extra, login="a", password="b"))

    (verdict,) = deliver(sink(free_port), source(tmp_path, b"abc"))
    assert (verdict.state, verdict.retry) == (DeliveryState.PENDING, True)
    assert "cannot be reached" in verdict.message
    many = [source(tmp_path, b"abc", f"payload/{number}") for number in range(10)]
    with pytest.raises(SinkUnavailable, match="accepted nothing in 5 requests in a row"):
        sink(free_port).send(many, lambda _: None)
    with silent() as port:
        hanging = sink(port)
        hanging.deadline = Deadline(2)
        began = time.monotonic()
        with pytest.raises(Exception, match="deadline"):
            hanging.send([source(tmp_path, b"abc")], lambda _: None)
        assert time.monotonic() - began < 20


def test_a_page_of_a_proxy_is_no_success(tmp_path: Path, place: Place) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Please log in</html>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        news = deliver(
            place.sink(endpoint_url=f"http://127.0.0.1:{server.server_address[1]}"), source(tmp_path, b"content")
        )
        server.shutdown()
    assert news[-1].state is DeliveryState.UNKNOWN and "is a proxy between" in news[-1].message


def test_an_answer_that_comes_byte_by_byte_ends_with_the_deadline(tmp_path: Path, place: Place) -> None:
    with trickling(b"HTTP/1.1 200 OK\r\nX-Slow: ", 0.1) as port:
        sink = place.sink(endpoint_url=f"http://127.0.0.1:{port}", response_timeout=5)
        sink.bucket.client()  # boto3 takes its time to be imported
        for work in (lambda item: sink.send([item], lambda _: None), lambda item: sink.ask([item])):
            sink.deadline = Deadline(1.0, "the deadline")
            begun = time.monotonic()
            with pytest.raises(DeadlinePassed):
                work(source(tmp_path, b"content"))
            assert time.monotonic() - begun < 30


def test_an_answer_that_comes_byte_by_byte_ends_also_without_a_deadline(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_monai.sinks.deadline.LONGEST", 0.5)
    monkeypatch.setattr("airflow_monai.sinks.tries.TRIES", 1)
    with trickling(b"HTTP/1.1 200 OK\r\nX-Slow: ", 0.1) as port:
        sink = place.sink(endpoint_url=f"http://127.0.0.1:{port}", response_timeout=5)
        sink.bucket.client()
        begun = time.monotonic()
        assert deliver(sink, source(tmp_path, b"content"))[-1].state is DeliveryState.UNKNOWN
        with pytest.raises(SinkUnavailable, match="does not come to an end"):
            sink.ask([source(tmp_path, b"content")])
        assert time.monotonic() - begun < 30


@pytest.mark.parametrize("name", ["../escape", "/etc/x", "a//b", ""])
def test_a_name_never_leaves_the_prefix(name: str, tmp_path: Path, place: Place) -> None:
    with pytest.raises(StoreError, match="not a safe store key"):
        place.sink().send([source(tmp_path, b"abc", name)], lambda _: None)
    assert place.names() == []


@pytest.mark.parametrize(
    ("host", "extra", "words"),
    [
        ("", {}, "host is no name of a bucket"),
        ("a/b", {}, "host is no name of a bucket"),
        ("results", {"prefix": "a/../b"}, "prefix = 'a/../b' is no plain path"),
        ("results", {"endpoint_url": "minio:9000"}, "endpoint_url does not begin with"),
        ("results", {"endpoint_url": "http://me:hunter2@minio:9000"}, "endpoint_url holds a login"),
        ("results", {"ca_file": "/none"}, "ca_file = '/none' is no file"),
        ("results", {"login": "only"}, "login .* and password .* go together"),
    ],
)
def test_a_connection_that_cannot_be_used_is_told_by_field(host: str, extra: dict[str, Any], words: str) -> None:
    login = extra.pop("login", "")
    with pytest.raises(DestinationError, match=words) as told:
        S3Sink(Destination("CLOUD", "monai_s3", host, extra=extra, login=login))
    assert "hunter2" not in str(told.value)
