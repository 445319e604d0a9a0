"""PDUs, as they come and as they must not come."""

from __future__ import annotations

import random
import struct

import pytest

from airflow_monai.gateway.dicom import pdu
from airflow_monai.gateway.dicom.pdu import AssociateRequest, ContextResult, ProtocolError
from tests.gateway import rawscu
from tests.gateway.rawscu import EXPLICIT
from tests.gateway.studies import CT

REQUEST = rawscu.associate("CTLUNG", "CT01", [(CT, EXPLICIT), ("1.2.840.10008.1.1", EXPLICIT)])[6:]


def test_a_request_is_read() -> None:
    request = AssociateRequest.decode(memoryview(REQUEST))
    assert (request.called, request.calling, request.version) == ("CTLUNG", "CT01", 1)
    assert [(c.number, c.abstract, c.syntaxes) for c in request.contexts] == [
        (1, CT, (EXPLICIT,)),
        (3, "1.2.840.10008.1.1", (EXPLICIT,)),
    ]
    assert request.max_length == 16384


@pytest.mark.parametrize(("title", "read"), [(b"CT01", "CT01"), (b"CT01\0junk\n", "CT01"), (b"  CT 01", "CT 01")])
def test_an_ae_title_ends_at_its_padding(title: bytes, read: str) -> None:
    body = bytearray(REQUEST)
    body[20:36] = title.ljust(16)
    assert AssociateRequest.decode(memoryview(body)).calling == read


@pytest.mark.parametrize("title", [b"CT\n2026 INFO all", b"\x1b[2J", b"A\x85B"])
def test_an_ae_title_cannot_write_lines_into_a_log(title: bytes) -> None:
    body = bytearray(REQUEST)
    body[20:36] = title.ljust(16)
    with pytest.raises(ProtocolError, match="control characters"):
        AssociateRequest.decode(memoryview(body))


def test_any_damage_is_an_error_of_the_protocol_or_a_request() -> None:
    chance = random.Random(11)
    for _ in range(3000):
        damaged = bytearray(REQUEST)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        cut = damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])]
        try:
            AssociateRequest.decode(memoryview(cut))
        except ProtocolError:
            pass


def test_a_context_that_is_named_twice_is_an_error() -> None:
    twice = bytearray(rawscu.associate("A", "B", [(CT, EXPLICIT), (CT, EXPLICIT)])[6:])
    second = twice.index(b"\x20\x00", twice.index(b"\x20\x00", 68) + 4)
    twice[second + 4] = 1
    with pytest.raises(ProtocolError, match="twice"):
        AssociateRequest.decode(memoryview(twice))


@pytest.mark.parametrize(
    "body", [b"", b"\0\0\0", b"\0\0\0\1\1", b"\0\0\0\5\1\2ab", b"\xff\xff\xff\xff\1\2", b"\0\0\0\2\1\2\0\0"]
)
def test_malformed_fragments_are_errors(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        pdu.fragments(memoryview(body))


def test_fragments_are_not_copied() -> None:
    body = memoryview(bytearray(struct.pack(">LBB", 5, 1, 2) + b"abc" + struct.pack(">LBB", 2, 3, 0)))
    found = pdu.fragments(body)
    assert [(context, control, bytes(data)) for context, control, data in found] == [(1, 2, b"abc"), (3, 0, b"")]
    body[6] = ord("x")
    assert bytes(found[0][2]) == b"xbc"


@pytest.mark.parametrize(("longest", "count"), [(0, 1), (16384, 1), (106, 2), (56, 4), (7, 200)])
def test_an_answer_is_never_longer_than_the_sender_takes(longest: int, count: int) -> None:
    command = bytes(range(200))
    data, position, parts = pdu.command_pdus(5, command, longest), 0, []
    while position < len(data):
        kind, length = pdu.HEAD.unpack_from(data, position)
        assert kind == 4 and (not longest or length <= longest)
        ((context, control, part),) = pdu.fragments(memoryview(data)[position + 6 : position + 6 + length])
        parts.append((control, bytes(part)))
        assert context == 5
        position += 6 + length
    assert len(parts) == count and b"".join(part for _, part in parts) == command
    assert [control for control, _ in parts] == [1] * (count - 1) + [3]


def test_an_answer_to_a_request_repeats_its_titles() -> None:
    request = AssociateRequest.decode(memoryview(REQUEST))
    answer = pdu.accept(request, [(1, ContextResult.ACCEPTED, EXPLICIT), (3, ContextResult(3), EXPLICIT)], 131072)
    assert answer[10:42] == REQUEST[4:36]
    assert struct.unpack(">L", answer[2:6])[0] == len(answer) - 6
