"""What a bucket adds: what its service must offer, answers that get lost, what breaks off, and where it is."""

from __future__ import annotations

import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.httpsession import URLLib3Session

from airflow_monai.errors import SettingsError, StoreError
from airflow_monai.maps.job import store_label
from airflow_monai.store import open_store, s3_access, s3_transfer
from airflow_monai.store.s3 import S3Store, place_of
from airflow_monai.store.s3_access import S3Access, access_of
from airflow_monai.store.s3_check import check
from tests.s3_server import S3Server, s3_server

Answer = Callable[..., AWSResponse | None]
_numbers = itertools.count()


@pytest.fixture
def store(s3: S3Server, tmp_path: Path) -> S3Store:
    """A store with a client of its own, so that what a test does to it stays its own."""
    access = replace(s3.access, region=f"region-{next(_numbers)}")
    return S3Store(f"s3://{s3.bucket()}/site", access, tmp_path / "spool")


def on(store: S3Store, event: str, act: Callable[..., Any]) -> None:
    """Have ``act`` called at an event of boto3's client."""
    store.transfers.client.meta.events.register(event, act)


def answered(status: int, body: bytes = b"", code: str = "", **headers: str) -> AWSResponse:
    if code:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return AWSResponse("", status, {"content-length": str(len(body)), **headers}, _Raw(body))


class _Raw(io.BytesIO):
    """As much of urllib3's response as botocore uses."""

    def stream(self, *_: object) -> Iterator[bytes]:
        yield self.read()


def sent(request: Any) -> None:
    """Send a request that botocore is about to send, and lose the answer."""
    assert URLLib3Session().send(request).status_code == 200
    if hasattr(request.body, "seek"):
        request.body.seek(0)


def without(header: str) -> Callable[..., None]:
    def strip(request: Any, **_: object) -> None:
        del request.headers[header]

    return strip


def test_a_service_that_has_all_is_taken_and_nothing_of_the_probe_is_left(store: S3Store) -> None:
    check(store)
    assert not list(store.list("probes"))


EMPTY_LIST = (
    b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>'
)
LACKS: dict[str, tuple[str, Callable[..., Any]]] = {
    "conditional create (": ("before-sign.s3.PutObject", without("If-None-Match")),
    "conditional create in parts": ("before-sign.s3.CompleteMultipartUpload", without("If-None-Match")),
    "multipart upload (": ("before-send.s3.CreateMultipartUpload", lambda **_: answered(501, code="NotImplemented")),
    "list after write": ("before-send.s3.ListObjectsV2", lambda **_: answered(200, EMPTY_LIST)),
    "read after write": ("before-send.s3.GetObject", lambda **_: answered(200, b"first", etag='"1"')),
    "read after delete": ("before-send.s3.DeleteObject", lambda **_: answered(204)),
}


@pytest.mark.parametrize("lack", LACKS)
def test_what_a_service_lacks_is_told_with_its_name(store: S3Store, lack: str) -> None:
    on(store, *LACKS[lack])
    with pytest.raises(SettingsError) as refused:
        check(store)
    assert lack in str(refused.value) and store.endpoint in str(refused.value) and store.url in str(refused.value)


def test_a_create_whose_answer_got_lost_is_still_ours(store: S3Store, tmp_path: Path) -> None:
    lost: list[str] = []

    def lose(request: Any, **_: object) -> AWSResponse | None:
        if lost:
            return None
        lost.append(request.url)
        sent(request)
        return answered(500, code="InternalError")

    on(store, "before-send.s3.PutObject", lose)
    assert store.create("a/b", b"ours") and len(lost) == 1
    assert not store.create("a/b", b"another's")
    assert store.read("a/b") == b"ours"


def test_somebody_else_s_create_is_not_ours_after_a_retry(store: S3Store) -> None:
    store.write("a/b", b"another's")
    failed: list[str] = []

    def fail_once(request: Any, **_: object) -> AWSResponse | None:
        failed.append(request.url)
        return answered(503, code="SlowDown") if len(failed) == 1 else None

    on(store, "before-send.s3.PutObject", fail_once)
    assert not store.create("a/b", b"ours")
    assert len(failed) == 2 and store.read("a/b") == b"another's"


def test_two_who_write_at_once_try_again(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_transfer, "CONFLICT_SECONDS", 0.001)
    asked: list[str] = []

    def conflict(request: Any, **_: object) -> AWSResponse | None:
        asked.append(request.url)
        return answered(409, code="ConditionalRequestConflict") if len(asked) < 3 else None

    on(store, "before-send.s3.PutObject", conflict)
    assert store.create("a/b", b"x") and len(asked) == 3


def test_a_large_create_whose_answer_got_lost_is_still_ours(store: S3Store, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"x" * (s3_transfer.LARGE_BYTES + 1))
    lost: list[str] = []

    def lose(request: Any, **_: object) -> AWSResponse | None:
        if lost:
            return None
        lost.append(request.url)
        sent(request)
        return answered(500, code="InternalError")

    on(store, "before-send.s3.CompleteMultipartUpload", lose)
    assert store.create_from("a/b", file) and store.same("a/b", file)
    assert not store.create_from("a/b", file)


def test_large_objects_are_compared_piece_by_piece(
    store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large image that is sent again, by many at once, must not fill the memory."""
    file, other = tmp_path / "large", tmp_path / "other"
    size = s3_transfer.LARGE_BYTES + 5
    file.write_bytes(b"x" * size)
    other.write_bytes(b"x" * (size - 1) + b"y")
    assert store.create_from("a/b", file)
    monkeypatch.delattr(Path, "read_bytes")
    assert store.same("a/b", file) and not store.same("a/b", other)


def test_an_upload_that_fails_leaves_nothing(store: S3Store, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"x" * (s3_transfer.LARGE_BYTES + 1))
    on(
        store,
        "before-send.s3.UploadPart",
        lambda request, **_: answered(403, code="AccessDenied") if "partNumber=2" in request.url else None,
    )
    with pytest.raises(StoreError, match=r"'a/b': AccessDenied .HTTP 403.*credentials"):
        store.create_from("a/b", file)
    assert not store.exists("a/b")
    assert not store.transfers.client.list_multipart_uploads(Bucket=store.bucket).get("Uploads")


@pytest.mark.parametrize("size", [1000, s3_transfer.LARGE_BYTES + 5], ids=["small", "in parts"])
def test_a_download_that_breaks_off_begins_anew(store: S3Store, tmp_path: Path, size: int) -> None:
    file = tmp_path / "f"
    file.write_bytes(bytes(range(251)) * (size // 251 + 1))
    store.create_from("a/b", file)
    broken: list[str] = []

    def break_off(request: Any, **_: object) -> AWSResponse | None:
        ranged = request.headers.get("Range")
        if broken or (size > s3_transfer.LARGE_BYTES and not ranged):
            return None
        broken.append(request.url)
        half = answered(206 if ranged else 200, b"some bytes", etag='"1"')
        half.headers["content-length"] = "500"
        return half

    on(store, "before-send.s3.GetObject", break_off)
    store.fetch("a/b", tmp_path / "back")
    assert broken and (tmp_path / "back").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("seconds", [0, 90, -90])
def test_times_are_told_by_this_host_s_clock(store: S3Store, seconds: int) -> None:
    store.write("a/b", b"x")

    def other_clock(parsed: dict[str, Any], **_: object) -> None:
        now = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        parsed["ResponseMetadata"]["HTTPHeaders"]["date"] = format_datetime(now, usegmt=True)
        for item in parsed["Contents"]:
            item["LastModified"] += timedelta(seconds=seconds)

    on(store, "after-call.s3.ListObjectsV2", other_clock)
    (entry,) = store.entries("a")
    assert abs(entry.modified - time.time()) < 10


def test_an_endpoint_that_is_not_there_is_told_soon(tmp_path: Path, free_port: int) -> None:
    access = S3Access(endpoint=f"http://127.0.0.1:{free_port}", key_id="x", secret="x", path_style=True)
    begun = time.monotonic()
    with pytest.raises(StoreError, match=rf"http://127.0.0.1:{free_port} gave no answer .EndpointConnectionError"):
        S3Store("s3://bucket/site", access, tmp_path).exists("a")
    assert time.monotonic() - begun < 30


def test_a_bucket_that_is_not_there_is_told(s3: S3Server, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"NoSuchBucket .HTTP 404.: the bucket is not there"):
        S3Store("s3://no-such-bucket/site", s3.access, tmp_path).create("a", b"x")


@pytest.mark.parametrize("url", ["s3://", "s3://bucket/../x", "s3:///x", "s3://bucket/a//b"])
def test_a_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(SettingsError, match="write s3://bucket/prefix"):
        place_of(url)


def test_a_store_may_be_a_whole_bucket(s3: S3Server, tmp_path: Path) -> None:
    store = S3Store(f"s3://{s3.bucket()}", s3.access, tmp_path)
    store.write("a/b", b"x")
    assert (list(store.list("a")), list(store.children("a")), store.read("a/b")) == (["a/b"], ["b"], b"x")


ENDPOINT = "https://s3.hospital.example:9000"


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, S3Access(key_id="k", secret="s")),
        ({"endpoint_url": ENDPOINT + "/"}, S3Access(ENDPOINT, key_id="k", secret="s", path_style=True)),
        ({"service_config": {"s3": {"endpoint_url": ENDPOINT}}}, S3Access(ENDPOINT, "", "k", "s", path_style=True)),
        (
            {"endpoint_url": ENDPOINT, "config_kwargs": {"s3": {"addressing_style": "virtual"}}},
            S3Access(ENDPOINT, "", "k", "s"),
        ),
        (
            {"endpoint_url": "https://s3.eu-west-1.amazonaws.com", "region_name": "eu-west-1"},
            S3Access("https://s3.eu-west-1.amazonaws.com", "eu-west-1", "k", "s"),
        ),
        (
            {"aws_session_token": "t", "verify": "/etc/ssl/own.pem"},
            S3Access(key_id="k", secret="s", token="t", verify="/etc/ssl/own.pem"),
        ),
    ],
)
def test_a_connection_says_where_a_bucket_is(extra: dict[str, Any], expected: S3Access) -> None:
    assert access_of("store", "k", "s", extra) == expected
    assert "'s'" not in repr(expected)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"role_arn": "arn:x"}, "role_arn"),
        ({"endpoint_url": "s3.hospital"}, "must begin with"),
        ({"endpoint_url": "https://me:hunter2@s3.hospital"}, "a login in its endpoint_url"),
    ],
)
def test_a_connection_that_cannot_be_used_is_told(extra: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        access_of("store", "k", "s", extra)


def test_the_settings_open_it(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HOSPITAL_STORE", s3.connection)
    monkeypatch.setenv("AIRFLOW__MONAI__STORE_CONN_ID", "hospital_store")
    monkeypatch.setenv("AIRFLOW__MONAI__SPOOL_FOLDER", str(tmp_path / "spool"))
    url = f"s3://{s3.bucket()}/site"
    store = open_store(url)
    store.write_json("a/b", [1])
    assert open_store(url) is store and store.spool() == tmp_path / "spool"
    assert [path.name.partition("-")[0] for path in store.spool().iterdir()] == ["checked"], "once a day a host"
    monkeypatch.setenv("AIRFLOW__MONAI__STORE_CONN_ID", "another")
    with pytest.raises(SettingsError, match=r"'another'.*no such Airflow connection"):
        open_store(url)


def test_waiting_is_bounded(store: S3Store) -> None:
    config = store.transfers.client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (s3_access.CONNECT_SECONDS, s3_access.READ_SECONDS)
    assert json.dumps(config.retries) == json.dumps({"total_max_attempts": s3_access.TRIES, "mode": "standard"})


@pytest.mark.parametrize("answers", [b"", b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: "x"\r\n\r\nhalf'])
def test_a_service_that_hangs_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bytes
) -> None:
    """Not once a try: a sender of images waits behind it."""
    monkeypatch.setattr(s3_access, "READ_SECONDS", 0.8)
    monkeypatch.setattr(s3_access, "PATIENCE_SECONDS", 0.5)
    asked = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            asked.append(near)
            near.sendall(answers)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        access = S3Access(f"http://127.0.0.1:{listener.getsockname()[1]}", "r", "k", "s", path_style=True)
        hanging = S3Store("s3://bucket/site", access, tmp_path / "spool")
        began = time.monotonic()
        with pytest.raises(StoreError, match="gave no answer"):
            hanging.read("a/b")
        assert time.monotonic() - began < 20
        assert len(asked) == 1
        for near in asked:
            near.close()


def test_stores_of_one_name_at_two_services_are_told_apart_and_one_store_is_one(s3: S3Server, tmp_path: Path) -> None:
    url = f"s3://{s3.bucket()}/site"
    here, by_another_name = (
        S3Store(url, replace(s3.access, endpoint=s3.url.replace("127.0.0.1", host)), tmp_path / host)
        for host in ("127.0.0.1", "localhost")
    )
    assert here.identity == by_another_name.identity == here.identity
    assert store_label(here) == store_label(by_another_name)
    with s3_server(tmp_path) as other:
        other.client().create_bucket(Bucket=here.bucket)
        elsewhere = S3Store(url, other.access, tmp_path / "elsewhere")
        assert elsewhere.url == here.url and store_label(elsewhere) != store_label(here)
