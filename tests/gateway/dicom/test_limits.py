"""Who may send, and how much: every limit refuses with the status that senders understand, and says why."""

from __future__ import annotations

import struct
import threading
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from airflow_monai.errors import SettingsError
from airflow_monai.gateway.dicom import receiver
from airflow_monai.gateway.dicom import settings as dicom_settings
from airflow_monai.gateway.dicom.settings import Caller, DicomOptions
from tests.gateway import rawscu
from tests.gateway.conftest import Site, wait_for
from tests.gateway.rawscu import EXPLICIT, RawScu
from tests.gateway.studies import CT, study

CONTEXTS = [(CT, EXPLICIT)]
CALLED, CALLING, LIMIT = (1, 1, 7), (1, 1, 3), (2, 3, 2)


@pytest.mark.parametrize(
    ("rule", "aet", "address", "may"),
    [
        ("CT01", "CT01", "10.1.2.3", True),
        ("CT01", "CT02", "10.1.2.3", False),
        ("CT01@10.1.2.3", "CT01", "10.1.2.3", True),
        ("CT01@10.1.2.3", "CT01", "10.1.2.4", False),
        ("CT01@10.1.0.0/16", "CT01", "10.1.200.9", True),
        ("*@10.1.0.0/16", "ANY", "10.1.200.9", True),
        ("*@10.1.0.0/16", "ANY", "10.2.0.1", False),
        ("CT01@10.1.2.3", "CT01", "::ffff:10.1.2.3", True),
        ("CT01@fe80::/10", "CT01", "fe80::1%eth0", True),
        ("CT01@10.1.2.3", "CT01", "fe80::1%eth0", False),
        (" CT 01 ", "CT 01", "10.1.2.3", True),
    ],
)
def test_a_rule_for_callers(rule: str, aet: str, address: str, may: bool) -> None:
    assert Caller.parse(rule).matches(aet, address) == may


@pytest.mark.parametrize("rule", ["", "@10.1.2.3", "A" * 17, "CT01@ct01.hospital", "CT01@10.1.2.3/99"])
def test_a_rule_that_is_none_is_refused(rule: str) -> None:
    with pytest.raises(SettingsError, match="dicom_allowed_callers"):
        Caller.parse(rule)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("DICOM_MAX_PDU", "10", "dicom_max_pdu = 10: write a whole number from 4096"),
        ("DICOM_MAX_FILE", "big", "dicom_max_file"),
        ("DICOM_IDLE_SECONDS", "0", "dicom_idle_seconds"),
        ("DICOM_TLS_PORT", "2762", "dicom_tls_certificate is not"),
        ("DICOM_PLAIN", "False", "needs a dicom_tls_port"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, option: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"AIRFLOW__MONAI__{option}", value)
    with pytest.raises(SettingsError, match=message):
        dicom_settings.load()


def test_settings_have_their_defaults_and_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dicom_settings.load() == DicomOptions()
    monkeypatch.setenv("AIRFLOW__MONAI__DICOM_ALLOWED_CALLERS", "CT01, *@10.0.0.0/8")
    monkeypatch.setenv("AIRFLOW__MONAI__DICOM_MAX_FILE", "1 GB")
    options = dicom_settings.load()
    assert [caller.aet for caller in options.callers] == ["CT01", "*"] and options.max_file == 10**9


def test_who_is_not_served_or_may_not_send_is_rejected_with_the_reason(site: Site) -> None:
    gateway = site.gateway(
        dicom=DicomOptions(callers=(Caller.parse("CT01@127.0.0.0/8"), Caller.parse("MR01@10.0.0.1")))
    )
    for calling, called, codes in (
        ("CT01", "NOBODY", CALLED),
        ("CT02", "CTLUNG", CALLING),
        ("MR01", "CTLUNG", CALLING),
    ):
        with RawScu(gateway.port) as scu:
            assert scu.rejection(called, calling, CONTEXTS) == codes
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS, calling="CT01")
    for event in site.wait_for_event("association-rejected", 3):
        setting = "informatics_gateway.ae_title" if event["called_aet"] == "NOBODY" else "[monai] dicom_allowed_callers"
        assert setting in event["reason"]


def test_another_protocol_is_rejected(site: Site) -> None:
    gateway = site.gateway()
    request = rawscu.associate("CTLUNG", "CT01", CONTEXTS)
    for damage, codes in (
        (request[:6] + b"\0\2" + request[8:], (1, 2, 2)),
        (request.replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2"), (1, 1, 2)),
    ):
        with RawScu(gateway.port) as scu:
            scu.send(damage)
            kind, body = scu.receive()
            assert (kind, tuple(body[1:4])) == (3, codes)


def test_one_caller_leaves_room_for_others(site: Site) -> None:
    gateway = site.gateway(dicom=DicomOptions(associations=4, associations_of_caller=2))
    with ExitStack() as stack:
        open_ones = [stack.enter_context(RawScu(gateway.port)) for _ in range(3)]
        for scu, calling in zip(open_ones, ("GREEDY", "GREEDY", "CT01"), strict=True):
            scu.associate(contexts=CONTEXTS, calling=calling)
        with RawScu(gateway.port) as scu:
            assert scu.rejection("CTLUNG", "GREEDY", CONTEXTS) == LIMIT
        open_ones[0].socket.close()
        (event,) = site.wait_for_event("association-rejected")
        assert "dicom_max_associations_of_caller" in event["reason"]
        site.wait_for_event("association-aborted")
        stack.enter_context(RawScu(gateway.port)).associate(contexts=CONTEXTS, calling="GREEDY")


@pytest.mark.parametrize("longest", [0, 128, 16384, 2**32 - 1])
def test_senders_that_take_any_length_of_pdu_or_only_short_ones(site: Site, tmp_path: Path, longest: int) -> None:
    gateway = site.gateway()
    (file,) = study(tmp_path / "in", 1, size=100_000)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS, max_length=longest)
        scu.send(rawscu.store_file(1, file))
        command = b""
        while True:
            kind, body = scu.receive()
            assert kind == 4 and (not longest or len(body) <= longest)
            command += body[6:]
            if body[5] & 2:
                break
    position = command.index(b"\0\0\0\x09\x02\0\0\0")
    assert struct.unpack_from("<H", command, position + 8)[0] == 0


def test_a_pdu_that_is_longer_than_agreed_aborts_before_it_is_read(site: Site) -> None:
    gateway = site.gateway(dicom=DicomOptions(max_pdu=4096))
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        assert b"\x51\0\0\x04\0\0\x10\0" in scu.accepted
        scu.send(struct.pack(">BBL", 4, 0, 100_000))
        assert scu.abort() == (2, 6)
    (event,) = site.wait_for_event("association-aborted")
    assert "100000 bytes" in event["reason"]


def test_what_is_proposed_beyond_storage_is_left_unanswered(site: Site, tmp_path: Path) -> None:
    """Asynchronous operations, extended negotiation, roles and identity: the defaults of the Standard hold then."""
    gateway = site.gateway()
    item = rawscu.item
    identity = item(0x58, b"\2\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 4) + b"pass")
    more = b"".join(
        (
            item(0x53, struct.pack(">HH", 0, 0)),  # any number of operations at once
            item(0x54, struct.pack(">H", len(CT)) + CT.encode() + b"\1\1"),
            item(0x56, struct.pack(">H", len(CT)) + CT.encode() + b"\2\0\0\0\0\0"),
            item(0x57, struct.pack(">H", len(CT)) + CT.encode() + b"\0\4abcd\0\0"),
            identity,
            item(0x99, b"unknown"),
        )
    )
    first, second = study(tmp_path / "in", 2)
    with RawScu(gateway.port) as scu:
        assert scu.associate(contexts=CONTEXTS, more=more) == {1: 0}
        kinds, position = [], scu.accepted.index(b"\x50\0") + 4
        while position < len(scu.accepted):
            kinds.append(scu.accepted[position])
            position += 4 + struct.unpack_from(">H", scu.accepted, position + 2)[0]
        assert kinds == [0x51, 0x52, 0x55]
        scu.send(rawscu.store_file(1, first) + rawscu.store_file(1, second))  # without waiting for the first answer
        assert [scu.status(), scu.status()] == [0, 0]


def test_the_same_class_in_several_contexts(site: Site) -> None:
    gateway = site.gateway()
    deflated = "1.2.840.10008.1.2.1.99"
    contexts = [(CT, EXPLICIT), (CT, deflated), (CT, "1.2.840.10008.1.2.7.1"), ("1.2.840.10008.1.20.1", EXPLICIT)]
    with RawScu(gateway.port) as scu:
        assert scu.associate(contexts=contexts) == {1: 0, 3: 0, 5: 4, 7: 3}
        assert deflated.encode() in scu.accepted


def test_a_data_set_that_is_too_large_is_refused_and_costs_no_disk(site: Site, tmp_path: Path) -> None:
    """100 MB, of which the limit lets 1 MB come; tests/chaos sends 10 GB."""
    gateway = site.gateway(dicom=DicomOptions(max_file=1_000_000))
    send_too_large(site, gateway.port, 100 * 10**6)
    (small,) = study(tmp_path / "in", 1)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        scu.send(rawscu.store_file(1, small))
        assert scu.status() == 0


def send_too_large(site: Site, port: int, size: int, most: int = 1_200_000) -> None:
    """Send a data set of ``size`` bytes; the store must not hold more than ``most`` of it at any time."""
    piece, seen, over = 128 * 1024 - 16, [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            seen.append(site.unfinished_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with RawScu(port) as scu:
            scu.associate(contexts=CONTEXTS)
            scu.send(rawscu.p_data(1, 3, rawscu.store_command(CT, "1.2.3.4")))
            data = bytes(piece)
            for _ in range(size // piece):
                scu.send(rawscu.p_data(1, 0, data))
            scu.send(rawscu.p_data(1, 2, data))
            assert scu.status() == 0xA700
    finally:
        over.set()
        watcher.join()
    assert max(seen) <= most
    assert not site.unfinished() and not site.files()
    (event,) = site.wait_for_event("image-refused")
    assert event["status"] == "A700" and "dicom_max_file" in event["reason"]


def test_who_says_nothing_is_not_waited_for(site: Site) -> None:
    gateway = site.gateway(dicom=DicomOptions(artim_seconds=1.0, idle_seconds=1.0))
    with RawScu(gateway.port) as silent, RawScu(gateway.port) as idle:
        idle.associate(contexts=CONTEXTS)
        silent.ends()
        idle.ends()
    assert "dicom_artim_seconds" in site.wait_for_event("connection-failed")[0]["reason"]
    assert "dicom_idle_seconds" in site.wait_for_event("association-aborted")[0]["reason"]


def test_who_sends_byte_by_byte_is_not_waited_for(site: Site) -> None:
    gateway = site.gateway(dicom=DicomOptions(artim_seconds=1.0, idle_seconds=1.0))
    request = rawscu.associate("CTLUNG", "RAW", CONTEXTS)

    def drip(scu: RawScu, data: bytes) -> int:
        for number in range(len(data)):
            try:
                scu.send(data[number : number + 1])
            except OSError:
                return number
            threading.Event().wait(0.05)
        return len(data)

    with RawScu(gateway.port) as scu:
        assert drip(scu, request) < 60
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        assert drip(scu, rawscu.p_data(1, 3, bytes(200))) < 120


def test_connections_that_ask_for_nothing_keep_nobody_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "MIN_WAITING", 5)
    gateway = site.gateway(dicom=DicomOptions(associations=5))
    with ExitStack() as stack:
        silent = [stack.enter_context(RawScu(gateway.port)) for _ in range(20)]
        stack.enter_context(RawScu(gateway.port)).associate(contexts=CONTEXTS)
        for scu in silent[:14]:
            scu.ends()
        silent[-1].associate(contexts=CONTEXTS)  # the newest ones may still ask


def test_a_hundred_associations_cost_little_memory(site: Site, tmp_path: Path, free_port: int) -> None:
    process = psutil.Process(site.process(free_port).pid)
    (file,) = study(tmp_path / "in", 1, size=1_000_000)
    half = rawscu.store_file(1, file)[:500_000]
    with ExitStack() as stack:

        def begin(calling: str) -> None:
            scu = stack.enter_context(RawScu(free_port))
            scu.associate(contexts=CONTEXTS, calling=calling)
            scu.send(half)

        begin("FIRST")
        wait_for(lambda: len(site.unfinished()) == 1)
        before = process.memory_info().rss
        for number in range(99):
            begin(f"CT{number % 10}")
        wait_for(lambda: len(site.unfinished()) == 100)
        grown = process.memory_info().rss - before
    print(f"100 associations within an image: {before / 2**20:.0f} MiB and {grown / 2**20:.0f} MiB more")
    assert grown < 100 * 2**20
    wait_for(lambda: not site.unfinished())
