"""The parts of a body are the same however it is cut into pieces on its way."""

from __future__ import annotations

import random

import pytest

from airflow_monai.api.common.multipart import BadMultipart, boundary_of, parts

BOUNDARY = b"a-boundary"


class Pieces:
    """A source that gives so many bytes at a time.

    :ivar asked: how often.
    """

    def __init__(self, data: bytes, size: int):
        self._data, self._size, self._at = data, size, 0
        self.asked = 0

    def read(self, size: int) -> bytes:
        self.asked += 1
        data = self._data[self._at : self._at + min(size, self._size)]
        self._at += len(data)
        return data


def body(contents: list[bytes]) -> bytes:
    head = b'--a-boundary\r\nContent-Disposition: form-data; name="f"; filename="%d"\r\n\r\n'
    return b"".join(head % n + data + b"\r\n" for n, data in enumerate(contents)) + b"--a-boundary--\r\nepilogue"


def tricky(rng: random.Random) -> bytes:
    """Bytes that look again and again as if the boundary came."""
    pieces = [b"\r\n--a-boundar", b"\r\n", b"--a-boundary", b"\r", b"\n", b"-", b"--", b"\r\n--a-boundarY", b"x", b"\0"]
    return b"".join(rng.choice(pieces) for _ in range(rng.randrange(60))).replace(b"\r\n--a-boundary", b"?")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 61, 1000, 1 << 20])
def test_what_is_in_the_parts_does_not_depend_on_the_pieces(size: int) -> None:
    rng = random.Random(size)
    for _ in range(20):
        contents = [tricky(rng) for _ in range(rng.randrange(1, 6))]
        found = []
        for part in parts(Pieces(body(contents), size), BOUNDARY, 10):
            data = b""
            while piece := part.read(rng.choice((1, 5, 1 << 20))):
                data += piece
            found.append((part.filename, data))
        assert found == [(str(n), data) for n, data in enumerate(contents)]


def test_a_part_that_nobody_reads_is_passed_over() -> None:
    names = [part.filename for part in parts(Pieces(body([b"x" * 1000, b"y", b""]), 10), BOUNDARY, 10)]
    assert names == ["0", "1", "2"]


def test_a_body_that_ends_anywhere_is_told_and_never_read_beyond() -> None:
    whole = body([b"some bytes", b"more"])
    end = whole.rindex(b"--\r\nepilogue") + 2
    for length in range(end):
        with pytest.raises(BadMultipart):
            for part in parts(Pieces(whole[:length], 7), BOUNDARY, 10):
                while part.read(3):
                    pass


def test_it_is_read_no_further_than_was_asked_for() -> None:
    source = Pieces(body([b"x" * 1000, b"y" * 1_000_000]), 100)
    next(iter(parts(source, BOUNDARY, 10)))
    assert source.asked <= 3


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", f"a/b; boundary={'x' * 201}", ""]
)
def test_a_type_without_a_boundary(content_type: str) -> None:
    with pytest.raises(BadMultipart, match="boundary"):
        boundary_of(content_type)


def test_boundaries_that_clients_send() -> None:
    assert boundary_of('multipart/related; type="application/dicom"; boundary="a b"') == b"a b"
    assert len(boundary_of(f"multipart/related; boundary={'0' * 73}")) == 73
