"""What is sent to harm, or is broken: it is refused with a reason that tells what to do, and leaves nothing."""

from __future__ import annotations

import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from airflow_monai.api.common import uploads
from airflow_monai.store.local import LocalStore
from tests.api.app_server.conftest import Served, dicom, left_in, study_files, zipped

Api = Callable[..., TestClient]
URL = "/app-server/datasets"
ZIP = {"content-type": "application/zip"}
DICOM = {"content-type": "application/dicom"}
FORM = {"content-type": "multipart/form-data; boundary=XX"}


def part(data: bytes, name: str = "a.dcm", boundary: str = "XX", more: str = "") -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n{more}\r\n'
    return head.encode() + data + b"\r\n"


def bomb(name: str, size: int) -> bytes:
    """An archive of one image whose pixels are nothing but zeros."""
    return zipped({name: dicom(PixelData=b"\0" * size)})


def lying_length() -> bytes:
    """An image whose pixel data say that they are four gigabytes."""
    data = bytearray(dicom())
    at = bytes(data).rindex(b"\xe0\x7f\x10\x00OW")
    struct.pack_into("<L", data, at + 8, 0xFFFFFFF0)
    return bytes(data)


def lying_header() -> bytes:
    """An image whose first element says so."""
    data = dicom()
    at = data.index(b"\x08\x00\x16\x00")
    return data[:at] + b"\x08\x00\x05\x00UN\0\0" + struct.pack("<L", 0xFFFFFFF0) + data[at:]


def overlapping() -> bytes:
    """An archive whose directory names one file's bytes many times."""
    data = zipped({"a.dcm": dicom(PixelData=b"\0" * 100_000)})
    end = data.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<L", data, end + 16)[0]
    entry = data[start:end]
    count = 200
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, start, 0)
    return data[:start] + entry * count + tail


HOSTILE: dict[str, tuple[Callable[[], bytes], dict[str, str], int, str]] = {
    "zip slip": (lambda: zipped({"../../../evil.dcm": dicom()}), ZIP, 400, "leads out of the archive"),
    "zip slip, absolute": (lambda: zipped({"/etc/evil.dcm": dicom()}), ZIP, 400, "leads out of the archive"),
    "zip slip of Windows": (lambda: zipped({"..\\..\\evil.dcm": dicom()}), ZIP, 400, "leads out of the archive"),
    "zip bomb by ratio": (lambda: bomb("a.dcm", 80 << 20), ZIP, 413, "times its size"),
    "overlapping zip": (overlapping, ZIP, 400, "overlap"),
    "zip in a zip": (lambda: zipped({"in.zip": zipped(study_files(1))}), ZIP, 400, "archive that is not unpacked"),
    "zip cut short": (lambda: zipped(study_files(2))[:-30], ZIP, 400, "no whole zip archive"),
    "damaged zip": (
        lambda: zipped(study_files(1), zipfile.ZIP_STORED).replace(b"SECRET^NAME", b"SOCRET^NAME"), ZIP, 400, "damaged",
    ),
    "no zip": (lambda: b"GIF89a" + bytes(5000), ZIP, 400, "no whole zip archive"),
    "encrypted zip": (
        lambda: (lambda z: z[:6] + b"\x01" + z[7:])(zipped(study_files(1), zipfile.ZIP_STORED)).replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
        ),
        ZIP, 400, "encrypted",
    ),
    "zip of texts": (lambda: zipped({"a.txt": b"x", "b.txt": b"y"}), ZIP, 400, "no DICOM image"),
    "empty zip": (lambda: zipped({}), ZIP, 400, "no DICOM image"),
    "empty": (lambda: b"", DICOM, 400, "no DICOM file"),
    "half an image": (lambda: dicom()[:1500], DICOM, 400, "breaks off"),
    "an image without its header": (lambda: dicom()[132:], DICOM, 400, "without the header"),
    "a web page": (lambda: b"<html><script>", DICOM, 400, "no DICOM file"),
    "pixels of four gigabytes": (lying_length, DICOM, 400, "breaks off"),
    "an element of four gigabytes": (lying_header, DICOM, 400, ""),
    "an image that goes up": (lambda: dicom(SOPInstanceUID="../../x"), DICOM, 400, "SOPInstanceUID is not a valid UID"),
    "form without boundary": (lambda: part(dicom()), {"content-type": "multipart/form-data"}, 400, "boundary"),
    "form with a huge boundary": (
        lambda: b"", {"content-type": "multipart/form-data; boundary=" + "x" * 500}, 400, "boundary",
    ),
    "form cut short": (lambda: part(dicom())[:-700], FORM, 400, "closing boundary"),
    "form never closed": (lambda: part(dicom()), FORM, 400, "closing boundary"),
    "form with another boundary": (lambda: part(dicom(), boundary="YY"), FORM, 400, "cannot be taken apart"),
    "form with a boundary that goes on": (
        lambda: part(dicom()) + b"--XXYY\r\n\r\nx\r\n", FORM, 400, "closing boundary",
    ),
    "form without parts": (lambda: b"--XX--\r\n", FORM, 400, "no part"),
    "form with endless headers": (
        lambda: part(b"x", more="".join(f"X-{n}: y\r\n" for n in range(1000))) + b"--XX--\r\n", FORM, 400, "header",
    ),
    "form with a header of a megabyte": (
        lambda: part(b"x", more="X: " + "y" * (1 << 20) + "\r\n") + b"--XX--\r\n", FORM, 400, "header",
    ),
    "ten thousand parts": (
        lambda: b"".join(part(b"x", f"{n}.dcm") for n in range(10_000)) + b"--XX--\r\n", FORM, 400, "refused",
    ),
    "a field of a megabyte": (
        lambda: b'--XX\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + b"x" * (1 << 20) + b"\r\n--XX--\r\n",
        FORM, 400, "longer than",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", [ZIP, DICOM, FORM], ids=["archives", "images", "forms"])
def test_attacks_are_refused_and_leave_nothing(api: Api, site_store: LocalStore, kind: dict[str, str]) -> None:
    client = api("user")
    group = kind["content-type"].partition(";")[0]
    attacks = {name: item for name, item in HOSTILE.items() if item[1]["content-type"].startswith(group)}
    assert len(attacks) > 5
    for name, (make, headers, status, reason) in attacks.items():
        answer = client.post(URL, content=make(), headers=headers)
        assert answer.status_code == status, (name, answer.text)
        assert reason in answer.text, (name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json", name
        assert len(answer.content) < 64_000, name
        assert str(site_store.root) not in answer.text and "Traceback" not in answer.text, name
        assert left_in(site_store) == [], name


def test_limits_of_the_site_hold(api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__UPLOAD_MAX_FILES", "3")
    monkeypatch.setenv("AIRFLOW__MONAI__UPLOAD_MAX_BYTES", "20000")
    client = api("user")
    many = {f"{n}.dcm": ("files", (f"{n}.dcm", dicom(), "application/dicom")) for n in range(4)}
    assert client.post(URL, files=list(many.values())).status_code == 413
    assert client.post(URL, content=zipped(study_files(4)), headers=ZIP).status_code == 413
    large = client.post(URL, content=dicom(size=32_000), headers=DICOM)
    assert large.status_code == 413 and "upload_max_bytes" in large.json()["detail"]
    chunks = (b"x" * 1000 for _ in range(100))  # without a length that could be looked at before
    assert client.post(URL, content=chunks, headers=DICOM).status_code == 413
    unpacked = client.post(URL, content=bomb("a.dcm", 40_000), headers=ZIP)
    assert unpacked.status_code == 413 and "20000 bytes" in unpacked.text
    assert left_in(site_store) == []


def test_a_full_disk_refuses_and_says_no_folder(
    api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__DISK_RESERVE", "1000 TB")
    answer = api("user").post(URL, content=dicom(), headers=DICOM)
    assert answer.status_code == 507 and "space" in answer.json()["detail"]
    assert str(site_store.root) not in answer.text
    assert left_in(site_store) == []


def _soon(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_senders_that_leave_or_fall_silent_lose_their_place(
    served: Served, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__UPLOAD_IDLE_SECONDS", "4")
    data = dicom(size=640_000)

    def spooled() -> list[str]:
        return [key for key in left_in(site_store) if key.startswith("incoming")]

    with served.connect() as gone:
        gone.sendall(served.head(len(data)) + data[:300_000])
        assert _soon(lambda: bool(spooled()))
    assert _soon(lambda: not spooled())
    with served.connect() as first, served.connect() as second, served.connect() as third:
        for silent in (first, second):
            silent.sendall(served.head(len(data)) + data[:300_000])
        assert _soon(lambda: len(spooled()) == 2)
        third.sendall(served.head(len(data)) + data)
        assert b" 503 " in third.recv(4096)  # both places are taken
        second.sendall(b"x")  # who drips is as good as silent; not later, when it may be cut, which loses the answer
        assert b" 408 " in first.recv(4096)
        assert b" 408 " in second.recv(4096)
    assert _soon(lambda: not spooled())
    with served.connect() as good:
        good.sendall(served.head(len(data)) + data)
        assert b" 201 " in good.recv(4096)
    assert len([key for key in left_in(site_store) if key.endswith(".dcm")]) == 1


@pytest.mark.parametrize(("piece", "status"), [(20_000, b" 408 "), (60_000, b" 201 ")], ids=["too slow", "slow"])
def test_a_slow_upload_is_taken_and_one_that_is_slower_than_the_least_is_not(
    served: Served, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch, piece: int, status: bytes
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__UPLOAD_MIN_RATE", "64Ki")
    monkeypatch.setenv("AIRFLOW__MONAI__UPLOAD_IDLE_SECONDS", "1" if status == b" 408 " else "2.5")
    data = dicom(size=480_000 if status == b" 201 " else 640_000)
    with served.connect() as slow:
        slow.settimeout(0.4)
        slow.sendall(served.head(len(data)))
        answer = b""
        for at in range(0, len(data), piece):
            with suppress(ConnectionError):  # it may be cut already
                slow.sendall(data[at : at + piece])
            try:
                answer = slow.recv(4096)
                break
            except TimeoutError:
                pass
        slow.settimeout(90)
        answer = answer or slow.recv(4096)
    assert status in answer, answer
    assert (b"application/problem+json" in answer) == (status == b" 408 ")
    assert _soon(lambda: not [key for key in left_in(site_store) if key.startswith("incoming")])


def test_one_caller_does_not_hold_all_places(
    served: Served, site_store: LocalStore, people: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__MONAI__UPLOAD_PER_CALLER")  # half of the two places
    data = dicom(size=640_000)
    with served.connect() as held, served.connect() as more, served.connect() as other:
        held.sendall(served.head(len(data)) + data[:300_000])
        assert _soon(lambda: bool(left_in(site_store)))
        more.sendall(served.head(len(data)) + data)
        answer = more.recv(4096)
        assert b" 429 " in answer and b"problem+json" in answer and b"retry-after" in answer.lower()
        other.sendall(replace(served, token=people("op")).head(len(data)) + data)
        assert b" 201 " in other.recv(4096)


def test_a_sender_that_leaves_in_the_middle_of_a_form_leaves_nothing(served: Served, site_store: LocalStore) -> None:
    body = part(dicom(), "1.dcm") + part(dicom(), "2.dcm") + part(dicom(size=640_000), "3.dcm")
    with served.connect() as gone:
        gone.sendall(served.head(len(body) + 1000, FORM["content-type"]) + body)
        assert _soon(lambda: len(left_in(site_store)) >= 2)
    assert _soon(lambda: left_in(site_store) == [])


def test_the_event_loop_stays_free_while_an_upload_is_written(
    served: Served, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk stands still for a while; another request is answered meanwhile."""
    import requests

    from airflow_monai.datasets import receiving

    held, flushed = threading.Event(), receiving._flushed

    def slow(path):  # type: ignore[no-untyped-def]
        assert held.wait(60)
        return flushed(path)

    monkeypatch.setattr(receiving, "_flushed", slow)
    data = dicom(size=640_000)
    with served.connect() as one:
        one.sendall(served.head(len(data)) + data)
        assert _soon(lambda: bool(left_in(site_store)))
        where, who = f"http://127.0.0.1:{served.port}{URL}", {"Authorization": f"Bearer {served.token}"}
        assert requests.get(where, headers=who, timeout=50).json()["total"] == 0
        held.set()
        assert b" 201 " in one.recv(4096)


def test_a_body_is_handed_over_in_bounded_memory() -> None:
    import asyncio

    async def overfeed() -> int:
        body = uploads.Body(asyncio.get_running_loop())
        fed = 0
        try:
            while True:
                await asyncio.wait_for(body.feed(bytes(64 * 1024)), 0.2)
                fed += 64 * 1024
        except TimeoutError:
            return fed

    assert asyncio.run(overfeed()) <= 5 << 20


def test_deflate_bombs_within_an_image_are_no_matter(api: Api, site_store: LocalStore) -> None:
    """A deflated data set that inflates to 128 MiB of nothing: no more than a header's worth is inflated."""
    from airflow_monai.store.part10 import file_meta

    packer = zlib.compressobj(wbits=-15)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(128)) + packer.flush()
    began = time.monotonic()
    answer = api("user").post(URL, content=file_meta("1.2", "1.2.3", "1.2.840.10008.1.2.1.99") + packed, headers=DICOM)
    assert answer.status_code == 400
    assert time.monotonic() - began < 30
    assert left_in(site_store) == []
