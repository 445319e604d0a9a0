"""Downloads: whole, in part, as a zip that other programs unpack, in bounded memory, and never half of one unseen."""

from __future__ import annotations

import io
import os
import subprocess
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import Response
from fastapi.testclient import TestClient

from airflow_monai.api.common import downloads
from airflow_monai.api.common.limits import Limits
from airflow_monai.api.common.options import ApiOptions
from airflow_monai.errors import StoreError
from airflow_monai.store.base import Store
from airflow_monai.store.local import LocalStore
from tests.s3_server import S3Server, s3  # noqa: F401

DATA = bytes(range(256)) * 4000


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    server: S3Server = request.getfixturevalue("s3")
    return server.store(tmp_path / "host")


def client(store: Store) -> TestClient:
    router = APIRouter()

    @router.get("/file")
    def file(key: str = "a/file.dcm", name: str = "file.dcm") -> Response:
        return downloads.send_object(store, key, media_type="application/dicom", filename=name)

    @router.get("/zip")
    def archive(keys: str) -> Response:
        return downloads.send_zip(((key, store, key) for key in keys.split(",")), "all.zip")

    app = FastAPI()
    app.include_router(router)
    app.add_middleware(Limits, options=ApiOptions(rate=0))
    return TestClient(app, raise_server_exceptions=False)


def test_an_object_is_sent_whole(store: Store) -> None:
    store.write("a/file.dcm", DATA)
    answer = client(store).get("/file")
    assert answer.content == DATA and answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["content-disposition"] == 'attachment; filename="file.dcm"'
    assert (
        answer.headers["x-content-type-options"] == "nosniff" and answer.headers["content-type"] == "application/dicom"
    )
    head = client(store).head("/file")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(DATA)))
    assert client(store).get("/file?key=a/other").status_code == 404


def test_a_download_is_not_compressed_on_its_way(store: Store) -> None:
    """As Airflow's API server does with what it can, on the loop that serves all others."""
    store.write("a/file.dcm", DATA)
    app = client(store).app
    asked = TestClient(GZipMiddleware(app, minimum_size=1024, compresslevel=5), headers={"accept-encoding": "gzip"})
    for address in ("/file", "/zip?keys=a/file.dcm"):
        assert asked.get(address).headers["content-encoding"] == "identity"
    assert asked.get("/file").headers["content-length"] == str(len(DATA)) and asked.get("/file").content == DATA


@pytest.mark.parametrize("name", ['x".html\r\nSet-Cookie: a=b', "../../etc/passwd", "naïve Doe^Jane.dcm", "", "..."])
def test_no_name_of_a_file_gets_out_of_its_header(tmp_path: Path, name: str) -> None:
    local = LocalStore(tmp_path)
    local.write("a/file.dcm", b"x")
    found = client(local).get("/file", params={"name": name}).headers
    shown = found["content-disposition"].removeprefix('attachment; filename="').removesuffix('"')
    assert shown and set(shown) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert not shown.startswith(".") and "set-cookie" not in found


@pytest.mark.parametrize(
    ("asked", "status", "content", "shown"),
    [
        ("bytes=0-9", 206, DATA[:10], f"bytes 0-9/{len(DATA)}"),
        ("bytes=700000-", 206, DATA[700000:], f"bytes 700000-{len(DATA) - 1}/{len(DATA)}"),
        ("bytes=-5", 206, DATA[-5:], f"bytes {len(DATA) - 5}-{len(DATA) - 1}/{len(DATA)}"),
        ("bytes=5-99999999", 206, DATA[5:], f"bytes 5-{len(DATA) - 1}/{len(DATA)}"),
        ("bytes=99999999-", 416, b"", f"bytes */{len(DATA)}"),
        ("bytes=-0", 416, b"", f"bytes */{len(DATA)}"),
        ("bytes=9-2", 200, DATA, None),
        ("bytes=0-1,5-6", 200, DATA, None),
        ("lines=1-2", 200, DATA, None),
    ],
)
def test_a_part_of_a_file(tmp_path: Path, asked: str, status: int, content: bytes, shown: str | None) -> None:
    local = LocalStore(tmp_path)
    local.write("a/file.dcm", DATA)
    answer = client(local).get("/file", headers={"range": asked})
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, content, shown)


def test_a_transfer_goes_on_only_where_the_file_is_still_the_same(tmp_path: Path) -> None:
    local = LocalStore(tmp_path)
    local.write("a/file.dcm", DATA)
    tag = client(local).get("/file").headers["etag"]
    headers = {"range": "bytes=10-", "if-range": tag}
    assert client(local).get("/file", headers=headers).status_code == 206
    local.write("a/file.dcm", DATA + b"more")
    assert client(local).get("/file", headers=headers).content == DATA + b"more"


def test_several_as_a_zip(store: Store, tmp_path: Path) -> None:
    contents = {"one/a.dcm": DATA, "one/b.txt": b"", "two/a.dcm": b"short"}
    for key, data in contents.items():
        store.write(key, data)
    answer = client(store).get("/zip", params={"keys": ",".join(contents)})
    assert answer.headers["content-type"] == "application/zip" and "content-length" not in answer.headers
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == contents
    file = tmp_path / "all.zip"
    file.write_bytes(answer.content)
    subprocess.run(["python3", "-m", "zipfile", "-t", str(file)], check=True, capture_output=True)
    assert client(store).head("/zip", params={"keys": "one/a.dcm"}).content == b""


def test_names_in_a_zip_stay_below_its_folder_and_are_told_apart(tmp_path: Path) -> None:
    local = LocalStore(tmp_path)
    local.write("key", b"x")
    names = ["../../etc/passwd", "/root", "C:\\x\\y", "a/./b//c", "a.txt", "A.txt", "a.txt", "", "a\0b\n.dcm", "..."]
    data = b"".join(downloads.zipped((name, local, "key") for name in names))
    found = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert found == [
        "etc/passwd", "root", "C_/x/y", "a/b/c", "a.txt", "A-2.txt", "a-3.txt", "file", "a_b_.dcm", "file-2",
    ]  # fmt: skip


def test_many_names_that_come_to_the_same_cost_no_square() -> None:
    names = downloads._Names()
    looks = 0

    class Used(set):
        def __contains__(self, name: object) -> bool:
            nonlocal looks
            looks += 1
            return super().__contains__(name)

    names._used = Used()
    found = {names.unique(f"結果{number}") for number in range(2000)}
    assert len(found) == 2000 and looks < 10_000


def test_an_object_that_is_gone_breaks_the_archive_off(store: Store) -> None:
    store.write("there", DATA)
    with pytest.raises((StoreError, HTTPException)):
        for _ in downloads.zipped([("a", store, "there"), ("b", store, "gone")]):
            pass


class Zeros(LocalStore):
    """A stand-in for a store with an object larger than any disk of a test."""

    size_of_each = 5 << 30

    def local_path(self, key: str) -> Path | None:
        return None

    def blocks(self, key: str) -> tuple[int, Iterator[bytes]]:
        block = bytes(1 << 20)
        return self.size_of_each, (block for _ in range(self.size_of_each >> 20))


def test_a_large_archive_takes_little_memory_and_is_zip64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # what the archive says of sizes beyond 4 GiB is read from its end; checksums of zeros would only cost time
    monkeypatch.setattr("zipfile.crc32", lambda data, value=0: 0)
    for _ in range(3):  # what other threads of this process take meanwhile counts too
        tail, total = b"", 0
        tracemalloc.start()
        for piece in downloads.zipped([("large", Zeros(tmp_path), "large")]):
            total += len(piece)
            tail = (tail + piece)[-4096:]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if peak < 16 << 20:
            break
    assert peak < 16 << 20 and total > 5 << 30
    assert b"PK\x06\x06" in tail, "the end of a zip64 archive"
    entry = tail[tail.index(b"PK\x01\x02") :]
    assert int.from_bytes(entry[46 + 5 + 4 : 46 + 5 + 12], "little") == 5 << 30


def test_what_nobody_reads_to_its_end_is_closed_all_the_same(tmp_path: Path) -> None:
    def opened() -> list[str]:
        """Of this test's files: other threads open and close theirs meanwhile."""
        found = []
        for place in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                found.append(os.readlink(place))
        return [name for name in found if name.startswith(str(tmp_path))]

    local = LocalStore(tmp_path / "store")
    local.write("file", b"x" * 1_000_000)
    path = tmp_path / "store" / "file"
    before = opened()
    for read in (0, 1):
        blocks = downloads._Blocks(path)
        for _ in range(read):
            assert next(blocks)
        del blocks
    assert b"".join(downloads._Blocks(path)) == b"x" * 1_000_000
    archive = downloads.zipped([("file", local, "file")])
    assert next(archive)
    del archive
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path, tmp_path / "pipe", tmp_path / "gone"):
        with pytest.raises(HTTPException):
            downloads._Blocks(other)
    assert opened() == before
