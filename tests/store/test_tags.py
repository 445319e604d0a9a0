"""Values as conditions see them."""

from __future__ import annotations

import struct

import pytest

from airflow_monai.store import tags
from airflow_monai.store.elements import Element
from airflow_monai.store.tags import TagCollector, as_text


@pytest.mark.parametrize(
    ("raw", "vr", "text"),
    [
        (b"1.6000", "DS", "1.6"),
        (b"+0012 ", "IS", "12"),
        (b"1e3", "DS", "1000"),
        (b"0.0", "DS", "0"),
        (b"-0", "DS", "0"),
        (b"1e999999", "DS", "1e999999"),
        (b"rubbish", "DS", "rubbish"),
        (b"1.50\\2.0 ", "DS", ["1.5", "2"]),
        (b"CT", "CS", "CT"),
        (b"ORIGINAL\\PRIMARY\\AXIAL ", "CS", ["ORIGINAL", "PRIMARY", "AXIAL"]),
        (b"Doe^Jane^^^=\xe5\xb1\xb1", "PN", "Doe^Jane"),
        (b"a\\b ", "LT", "a\\b"),
        (b"", "LO", ""),
        (b"", "US", ""),
        (b"\0\2", "US", "512"),
        (b"\0\2\1\0", "US", ["512", "1"]),
        (struct.pack("<d", 0.5), "FD", "0.5"),
        (struct.pack("<f", 2.0), "FL", "2"),
        (struct.pack("<h", -3), "SS", "-3"),
        (b"\x10\0\x20\0", "AT", "00100020"),
        (b"\0\1", "OB", None),
        (b"x", "UN", None),
        (b"x", "??", None),
    ],
)
def test_values_as_text(raw: bytes, vr: str, text: object) -> None:
    assert as_text(raw, vr) == text


@pytest.mark.parametrize(
    ("raw", "charset", "text"),
    [
        ("Müller".encode("latin-1"), b"ISO_IR 100", "Müller"),
        ("Müller".encode(), b"ISO_IR 192", "Müller"),
        ("Müller".encode("latin-1"), b"NO_SUCH_SET", "Müller"),
        (b"M\xfcller", b"", "M\ufffdller"),
    ],
)
def test_character_sets(raw: bytes, charset: bytes, text: str) -> None:
    assert as_text(raw, "LO", charset) in (text, "Müller")


def test_big_endian_numbers() -> None:
    assert as_text(b"\2\0", "US", big_endian=True) == "512"


def test_distinct_values_by_series_and_none_for_images_that_lack_them() -> None:
    collector = TagCollector()
    modality, thick, thin = Element(0x00080060, "CS", b"CT"), b"5.0 ", b"1.25"
    collector.add("1.1", [modality, Element(0x00180050, "DS", thick)])
    collector.add("1.1", [modality, Element(0x00180050, "DS", thin)])
    collector.add("1.1", [modality])
    collector.add("1.2", [modality, Element(0x00180050, "DS", b"5.00"), Element(0x00091001, "LO", b"private")])
    collector.add("1.2", [Element(0x00080060, None, b"CT"), Element(0x00180050, "DS", b"5")])
    assert collector.tags() == {
        "1.1": {"00080060": ["CT"], "00180050": ["5", "1.25", None]},
        "1.2": {"00080060": ["CT"], "00180050": ["5"]},
    }


NO_TEXT_CODECS = ["idna", "undefined", "punycode", "hex", "base64", "zlib", "rot13", "unicode_escape", "utf-7", "mbcs"]


@pytest.mark.parametrize("charset", [*NO_TEXT_CODECS, "ISO_IR 100\\idna", "\\hex", "ISO 2022 IR 87\\zlib"])
@pytest.mark.parametrize("raw", [b"M\xfcller^Anna", b"\x1b$B\xff\xff^\x1b(B", b"\x1b$)C\xb1\xe8", b"xn--\xff..\x1b"])
@pytest.mark.parametrize("vr", ["PN", "LO"])
def test_a_character_set_that_is_none_never_raises(charset: str, raw: bytes, vr: str) -> None:
    assert isinstance(as_text(raw, vr, charset.encode()), str)


def test_codecs_that_are_no_character_sets_of_dicom_are_read_as_latin_1() -> None:
    assert {as_text(b"M\xfcller", "LO", charset.encode()) for charset in NO_TEXT_CODECS} == {"Müller"}


def test_other_groups_of_a_name_have_a_key_of_their_own() -> None:
    collector = TagCollector()
    raw = "Yamada^Tarou=山田^太郎=やまだ^たろう".encode()
    collector.add("1.1", [Element(0x00080005, "CS", b"ISO_IR 192"), Element(0x00100010, "PN", raw)])
    collector.add("1.2", [Element(0x00100010, "PN", b"Doe^Jane="), Element(0x00100020, "LO", b"a=b")])
    tags = collector.tags()
    assert tags["1.1"]["00100010"] == ["Yamada^Tarou"]
    assert tags["1.1"]["00100010="] == ["やまだ^たろう", "山田^太郎"]
    assert set(tags["1.2"]) == {"00100010", "00100020"}


def numbered(count: int, tag: int = 0x00200013) -> list[Element]:
    return [Element(tag, "IS", str(number).encode()) for number in range(count)]


def test_an_element_given_twice_counts_once() -> None:
    collector = TagCollector()
    collector.add("1.1", numbered(5_000))
    assert collector.tags() == {"1.1": {"00200013": ["0"]}}


def test_the_distinct_values_of_a_tag_are_bounded_and_the_first_are_kept() -> None:
    collector = TagCollector()
    for element in numbered(tags.MAX_VALUES + 2):
        collector.add("1.1", [element])
    collector.add("1.1", numbered(1))
    collector.add("1.2", numbered(1))
    kept = [str(number) for number in range(tags.MAX_VALUES)]
    assert (collector.tags(), collector.truncated) == ({"1.1": {"00200013": kept}, "1.2": {"00200013": ["0"]}}, 2)


def test_the_tags_of_a_file_and_of_a_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "MAX_TAGS", 3)
    collector = TagCollector()
    for start in (0x00100010, 0x00200010):
        collector.add("1.1", [Element(start + number, "LO", b"x") for number in range(4)])
    assert list(collector.tags()["1.1"]) == ["00100010", "00100011", "00100012"]
    assert collector.truncated == 5


def test_many_values_leave_room_for_the_first_of_each_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "MAX_BYTES", 20_000)
    collector = TagCollector()
    for element in numbered(500):
        collector.add("1.1", [element])
    collector.add("1.2", [Element(0x00080060, "CS", b"CT"), *numbered(1)])
    found = collector.tags()
    assert 10 < len(found["1.1"]["00200013"]) < 40 and collector.truncated > 450
    assert found["1.2"] == {"00080060": ["CT"], "00200013": ["0"]}
    for series in range(500):
        collector.add(f"1.3.{series}", numbered(1))
    assert sum(map(len, collector.tags().values())) < 70
