"""HL7 over MLLP: a message counts as delivered when its own acknowledgement says so."""

from __future__ import annotations

import hashlib
import logging
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import DeadlinePassed, DestinationError, SinkUnavailable
from airflow_monai.local.processes import wait_until
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.hl7 import MllpSink
from airflow_monai.sinks.hl7_message import NoMessage, read_acknowledgement, read_message
from tests.sinks.difficult import silent
from tests.sinks.mllp_listener import Listener, accept, ack, listening
from tests.sinks.test_stow import certificate

ACCEPTED, REFUSED, UNKNOWN = DeliveryState.ACCEPTED, DeliveryState.REFUSED, DeliveryState.UNKNOWN
PENDING, SENT = DeliveryState.PENDING, DeliveryState.SENT


@pytest.fixture(autouse=True)
def no_pauses_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.sinks.tries.PAUSES", (0.0, 0.0, 0.0))


def oru(control_id: str, text: str = "nodule", *, charset: str = "", end: str = "\r") -> str:
    header = f"MSH|^~\\&|MONAI|SITE|HIS|H|20261127101500||ORU^R01^ORU_R01|{control_id}|P|2.5.1|||AL|||{charset}"
    return end.join([header, "PID|1||P1||Doe^Jane", "OBR|1", f"OBX|1|TX|||{text}", ""])


def message(tmp_path: Path, name: str, content: str | bytes) -> Instance:
    data = content if isinstance(content, bytes) else content.encode()
    path = tmp_path / f"{name}.hl7"
    path.write_bytes(data)
    return Instance(name, path, f"payload/dag/task/{name}.hl7", digest=hashlib.sha256(data).hexdigest())


def deliver(sink: MllpSink, *instances: Instance) -> list[Delivery]:
    news: list[Delivery] = []
    sink.send(instances, news.append)
    last = {item.identity: item for item in news}
    return [last[sink.identity(instance)] for instance in instances]


def test_messages_go_one_by_one_over_one_connection(tmp_path: Path) -> None:
    with listening() as listener:
        verdicts = deliver(
            MllpSink(listener.destination()), *(message(tmp_path, f"m{n}", oru(f"ID{n}")) for n in range(5))
        )
        assert listener.ids() == ["ID0", "ID1", "ID2", "ID3", "ID4"]
        assert listener.connections == 1
        assert listener.received[0] == oru("ID0").encode()
    assert {(item.state, item.status, item.message) for item in verdicts} == {
        (ACCEPTED, "AA", "AA: application accept")
    }


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_become_carriage_returns_and_nothing_else_changes(tmp_path: Path, end: str) -> None:
    text = oru("ID", "Grüße £ 画像", charset="UNICODE UTF-8", end=end)
    with listening() as listener:
        (verdict,) = deliver(MllpSink(listener.destination()), message(tmp_path, "m", "\ufeff" + text))
        assert listener.received == [text.replace(end, "\r").encode()]
    assert verdict.state is ACCEPTED


def test_a_message_in_another_character_set_leaves_as_it_is(tmp_path: Path) -> None:
    """In Shift-JIS the second byte of a character may be the field separator."""
    content = oru("ID", "ポ", charset="ISO IR14").encode("shift_jis")
    assert b"|" in "ポ".encode("shift_jis")
    with listening() as listener:
        (verdict,) = deliver(MllpSink(listener.destination()), message(tmp_path, "m", content))
        assert listener.received == [content]
    assert verdict.state is ACCEPTED


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%PDF-1.4 ...", "it is no HL7 v2 message: it does not begin with MSH"),
        (b"", "it is no HL7 v2 message"),
        (b"PID|1||P1||Doe^Jane\r", "does not begin with MSH"),
        (b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + oru("I").encode(), "is a batch of HL7 messages"),
        ((oru("I") + oru("J")).encode(), "holds several HL7 messages"),
        (oru("").encode(), "MSH-10 (message control id) is empty"),
        (oru("I", "a\x1cb").encode(), "the bytes 0B or 1C"),
        (
            oru("I", "Größe", charset="UNICODE UTF-8").encode("latin-1"),
            "not in the character set that its MSH-18 names",
        ),
        (oru("I", charset="UNICODE UTF-16").encode(), "cannot be framed"),
        (oru("I", charset="EBCDIC").encode(), "not in HL7's table 0211"),
    ],
)
def test_what_is_no_message_is_refused_before_anything_is_sent(tmp_path: Path, content: bytes, words: str) -> None:
    news: list[Delivery] = []
    with listening() as listener:
        MllpSink(listener.destination()).send([message(tmp_path, "m", content)], news.append)
        assert listener.received == []
    assert [(item.state, item.retry) for item in news] == [(REFUSED, False)]
    assert words in news[0].message
    assert "Jane" not in news[0].message


def test_one_control_id_for_two_messages_is_refused_since_a_receiver_would_drop_one(tmp_path: Path) -> None:
    first, second = message(tmp_path, "a", oru("ID", "one")), message(tmp_path, "b", oru("ID", "two"))
    other = message(tmp_path, "c", oru("ID2"))
    with listening() as listener:
        verdicts = deliver(MllpSink(listener.destination()), first, second, other)
        assert listener.ids() == ["ID2"]
    assert [item.state for item in verdicts] == [REFUSED, REFUSED, ACCEPTED]
    assert "same control id (MSH-10)" in verdicts[0].message


@pytest.mark.parametrize(
    ("code", "err", "status", "meaning"),
    [
        (
            "AE",
            "ERR||PID^1^5|101^Required field missing^HL70357|E",
            "AE 101",
            "application error, required field missing",
        ),
        ("AE", "ERR|PID^1^5^102&Data type error&HL70357", "AE 102", "application error, data type error"),
        ("CE", "", "CE", "CE: commit error"),
        ("AR", "ERR||MSH^1^12|203^Unsupported version^HL70357|E", "AR 203", "application reject, unsupported version"),
    ],
)
def test_a_refusal_is_told_by_its_code_and_the_receiver_s_words_go_to_the_ledger_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: str, err: str, status: str, meaning: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with listening(lambda _, got: ack(got, code, "no patient Doe^Jane", err)) as listener:
        (verdict,) = deliver(MllpSink(listener.destination()), message(tmp_path, "m", oru("ID")))
        assert listener.ids() == ["ID"], "it is not sent again"
    assert (verdict.state, verdict.status, verdict.retry) == (REFUSED, status, False)
    assert meaning in verdict.message
    assert "no patient Doe^Jane" in verdict.comment
    assert "Jane" not in verdict.message + caplog.text


@pytest.mark.parametrize(("code", "err"), [("AE", "ERR|||207^x^HL70357|E"), ("AE", "ERR|||206|E"), ("AR", "")])
def test_a_receiver_that_cannot_now_is_asked_again(tmp_path: Path, code: str, err: str) -> None:
    def later(listener: Listener, got: bytes) -> bytes:
        return ack(got, code, err=err) if len(listener.received) < 3 else ack(got, "CA")

    with listening(later) as listener:
        (verdict,) = deliver(MllpSink(listener.destination()), message(tmp_path, "m", oru("ID")))
        assert listener.ids() == ["ID"] * 3
    assert (verdict.state, verdict.status) == (ACCEPTED, "CA")


def test_what_is_never_acknowledged_is_sent_again_with_the_same_id_and_ends_unknown(tmp_path: Path) -> None:
    news: list[Delivery] = []
    with listening(lambda *_: b"") as listener:
        MllpSink(listener.destination(response_timeout=0.2)).send([message(tmp_path, "m", oru("ID"))], news.append)
        assert wait_until(lambda: len(listener.received) == 3, 20), "the listener reads what we have left"
        assert listener.ids() == ["ID"] * 3
        assert listener.connections == 3, "a late answer must not be taken for that of the next"
    assert [item.state for item in news] == [SENT, UNKNOWN] * 3
    assert news[-1].message == f"HIS at 127.0.0.1:{listener.port} did not acknowledge within 0.2 s"


def test_an_acknowledgement_of_another_message_is_none(tmp_path: Path) -> None:
    with listening(lambda _, got: ack(got, about="OTHER")) as listener:
        (verdict,) = deliver(MllpSink(listener.destination(response_timeout=0.2)), message(tmp_path, "m", oru("ID")))
    assert verdict.state is UNKNOWN
    with listening(lambda _, got: ack(got, about="OTHER") + b"noise\x0bnonsense\x1c\r" + ack(got)) as listener:
        (verdict,) = deliver(MllpSink(listener.destination()), message(tmp_path, "m", oru("ID")))
    assert verdict.state is ACCEPTED


def test_a_listener_that_hangs_up_after_each_message(tmp_path: Path) -> None:
    """Once before the acknowledgement: only that message is sent again."""

    def hang_up(listener: Listener, got: bytes) -> bytes | None:
        return None if listener.ids() == ["ID0", "ID1"] else ack(got)

    with listening(hang_up) as listener:
        verdicts = deliver(
            MllpSink(listener.destination()), *(message(tmp_path, f"m{n}", oru(f"ID{n}")) for n in range(4))
        )
        assert listener.ids() == ["ID0", "ID1", "ID1", "ID2", "ID3"]
    assert {item.state for item in verdicts} == {ACCEPTED}


def test_a_listener_that_closes_idle_connections_gets_each_message_once(tmp_path: Path) -> None:
    import socket as sockets
    import threading

    received: list[bytes] = []
    closed = threading.Semaphore(0)
    server = sockets.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(3):
            line, _ = server.accept()
            got = line.recv(65_536)
            received.append(got)
            line.sendall(ack(got[1:]))
            line.close()
            closed.release()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    sink = MllpSink(Destination("HIS", "monai_mllp", "127.0.0.1", server.getsockname()[1], {"response_timeout": 20}))
    news: list[Delivery] = []

    def slowly(delivery: Delivery) -> None:
        news.append(delivery)
        assert delivery.state is SENT or closed.acquire(timeout=20), "the hang-up comes before the next message"

    sink.send([message(tmp_path, f"m{n}", oru(f"ID{n}")) for n in range(3)], slowly)
    thread.join(20)
    server.close()
    assert [item.state for item in news] == [SENT, ACCEPTED] * 3
    assert len(received) == 3


def test_nobody_there_and_somebody_who_is_silent(tmp_path: Path, free_port: int) -> None:
    destination = Destination("HIS", "monai_mllp", "127.0.0.1", free_port)
    (verdict,) = deliver(MllpSink(destination), message(tmp_path, "m", oru("ID")))
    assert (verdict.state, verdict.retry) == (PENDING, True)
    assert "cannot be reached" in verdict.message
    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        MllpSink(destination).test()
    with silent() as port:
        sink = MllpSink(Destination("HIS", "monai_mllp", "127.0.0.1", port, {"response_timeout": 30}))
        sink.deadline = Deadline(2)
        news: list[Delivery] = []
        began = time.monotonic()
        with pytest.raises(DeadlinePassed):
            sink.send([message(tmp_path, "m", oru("ID"))], news.append)
        assert time.monotonic() - began < 20
        assert news[-1].state is UNKNOWN


def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    (server_cert, server_key), (our_cert, our_key) = certificate(tmp_path, "server"), certificate(tmp_path, "us")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_cert, server_key)
    context.load_verify_locations(our_cert)
    context.verify_mode = ssl.CERT_REQUIRED
    with listening(accept, context) as listener:
        tls: dict[str, Any] = {"tls": True, "ca_file": server_cert, "cert_file": our_cert, "key_file": our_key}
        sink = MllpSink(listener.destination(**tls))
        (verdict,) = deliver(sink, message(tmp_path, "m", oru("ID")))
        assert verdict.state is ACCEPTED
        assert "takes connections with TLS" in sink.test()
        with pytest.raises(DestinationError, match="certificate"):
            MllpSink(listener.destination(tls=True)).test()


@pytest.mark.parametrize(
    ("host", "port", "extra", "words"),
    [
        ("", 2575, {}, "no host"),
        ("his", None, {}, "no port"),
        ("his", 2575, {"response_timeout": "soon"}, "response_timeout = 'soon' is not a time"),
        ("his", 2575, {"tls": True, "ca_file": "/none"}, "ca_file = '/none' is no file"),
    ],
)
def test_a_connection_that_cannot_be_used_is_told_by_field(
    host: str, port: int | None, extra: dict[str, Any], words: str
) -> None:
    with pytest.raises(DestinationError, match=words):
        MllpSink(Destination("HIS", "monai_mllp", host, port, extra))


def test_messages_are_read_with_their_own_separators() -> None:
    assert read_message(b"MSH#*~\\&#A#B#C#D#2026##ORU*R01#X-1#P#2.3\r").control_id == "X-1"
    assert read_message(b"\x0bMSH|^~\\&|A|B|C|D|2026||ORU^R01|X-1|P|2.3\r\x1c\r").content.endswith(b"|2.3\r")
    with pytest.raises(NoMessage):
        read_message(b"MSH")


def test_what_is_no_acknowledgement_is_none() -> None:
    for data in (b"", b"\x06", b"MSH|^~\\&|A", b"MSH|^~\\&|A\rPID|1", b"MSH|^~\\&|A\rMSA|XX|1", b"\xff" * 100):
        assert read_acknowledgement(data) is None
