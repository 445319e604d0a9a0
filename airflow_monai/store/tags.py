"""Distinct values of the short elements of a study's series: what conditions and predicates ask for."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from airflow_monai.store.elements import EXPLICIT_BIG, Element

_TEXT = frozenset(
    {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT", "DS", "IS"}
)
_ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})
_LOCAL_CHARSET = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_TRANSFER_SYNTAX, _CHARSET = 0x00020010, 0x00080005
OTHER_GROUPS = "="
"""Ends the key of a name's ideographic and phonetic groups; the plain key has the alphabetic one, as conditions do."""

MAX_VALUES = 1_000
"""Distinct values kept of a tag in one series; the first ones win."""
MAX_TAGS = 10_000
"""Tags looked at in a file, and kept of a series."""
MAX_BYTES = 64 * 2**20
"""What the kept values of a payload may take; the second half is for the first value of each tag of a series alone."""
_OVERHEAD = 300  # of a value of a few bytes in memory

Value = str | list[str]


class TagCollector:
    """Collects the values of files, one series at a time or mixed; see :data:`airflow_monai.types.SeriesTags`."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}
        self._room = MAX_BYTES
        self.truncated = 0
        """How many values were left out because there are too many."""

    def add(self, series_uid: str, elements: Iterable[Element]) -> None:
        """Take over one file's elements, its meta group first; when these raise, those before it count."""
        series = self._series.setdefault(series_uid, _Series())
        series.images += 1
        charset, big_endian = b"", False
        tags: set[int] = set()
        for element in elements:
            if element.tag == _CHARSET:
                charset = element.value
            elif element.tag == _TRANSFER_SYNTAX:
                big_endian = element.value.rstrip(b"\0 ") == EXPLICIT_BIG.encode()
            if element.tag >> 16 & 1 or element.tag >> 16 == 2:  # private, file meta
                continue
            if element.tag in tags:
                continue  # given twice, which no data set may do: the first counts
            if len(tags) == MAX_TAGS:
                self.truncated += 1
                continue
            tags.add(element.tag)
            self._count(series, element, charset, big_endian)

    def _count(self, series: _Series, element: Element, charset: bytes, big_endian: bool) -> None:
        key = (element.value, element.vr, charset, big_endian)
        if series.has(element.tag, key):
            return
        size = len(element.value) + _OVERHEAD
        reserved = MAX_BYTES // 2 if series.knows(element.tag) else 0
        if not series.takes(element.tag) or size > self._room - reserved:
            self.truncated += 1
            return
        self._room -= size
        series.keep(element.tag, key)

    def tags(self) -> dict[str, dict[str, list[Any]]]:
        return {uid: series.values() for uid, series in sorted(self._series.items())}


_Key = tuple[bytes, str | None, bytes, bool]


class _Series:
    """What the images of one series say: raw values, each kept and converted once."""

    def __init__(self) -> None:
        self.images = 0
        self._raw: dict[int, dict[_Key, None]] = {}
        self._seen: dict[int, int] = {}

    def has(self, tag: int, key: _Key) -> bool:
        """Note that one more image has the tag, and tell whether the value is kept already."""
        if tag in self._raw or len(self._seen) < MAX_TAGS:
            self._seen[tag] = self._seen.get(tag, 0) + 1
        return key in self._raw.get(tag, ())

    def knows(self, tag: int) -> bool:
        return tag in self._raw

    def takes(self, tag: int) -> bool:
        """Whether there is room for one more value of the tag."""
        known = self._raw.get(tag)
        return len(self._raw) < MAX_TAGS if known is None else len(known) < MAX_VALUES

    def keep(self, tag: int, key: _Key) -> None:
        self._raw.setdefault(tag, {})[key] = None

    def values(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for tag in sorted(self._raw):
            distinct: dict[Any, Any] = {}
            for raw, vr, charset, big_endian in self._raw[tag]:
                value = as_text(raw, vr or dictionary_vr(tag), charset, big_endian)
                if value is not None:
                    distinct.setdefault(tuple(value) if isinstance(value, list) else value, value)
            if not distinct:
                continue
            values = list(distinct.values())
            if self._seen[tag] < self.images:
                values.append(None)
            found[f"{tag:08X}"] = values
            names = [_other_groups(raw, charset) for raw, vr, charset, _ in self._raw[tag] if (vr or "PN") == "PN"]
            if any(names) and dictionary_vr(tag) == "PN":
                found[f"{tag:08X}{OTHER_GROUPS}"] = sorted({group for groups in names for group in groups})
        return found


def as_text(raw: bytes, vr: str, charset: bytes = b"", big_endian: bool = False) -> Value | None:
    """A value as text, or a list of them for a multi-valued element; None for a VR that holds no text or number."""
    if vr in _TEXT:
        parts = _split(raw, vr, charset)
    elif vr in _NUMBERS:
        size = struct.calcsize(f"={_NUMBERS[vr]}")
        count = len(raw) // size
        order = ">" if big_endian else "<"
        parts = [_plain(repr(n)) for n in struct.unpack_from(f"{order}{count}{_NUMBERS[vr]}", raw)]
    elif vr == "AT":
        pairs = struct.iter_unpack(">HH" if big_endian else "<HH", raw[: len(raw) // 4 * 4])
        parts = [f"{group:04X}{element:04X}" for group, element in pairs]
    else:
        return None
    return parts[0] if len(parts) == 1 else parts or ""


def _split(raw: bytes, vr: str, charset: bytes) -> list[str]:
    if vr in _ONE_VALUE:
        return [_decode(raw, vr, charset).rstrip(" \0")]
    parts = [part.strip(" \0") for part in _decode(raw, vr, charset).split("\\")]
    if vr == "PN":
        return [part.split("=")[0].rstrip("^ ") for part in parts]
    return [_plain(part) for part in parts] if vr in ("DS", "IS") else parts


def _other_groups(raw: bytes, charset: bytes) -> list[str]:
    """The groups of a PN that :func:`as_text` leaves out."""
    if b"=" not in raw:
        return []
    names = _decode(raw, "PN", charset).split("\\")
    return [group.strip(" \0^") for name in names for group in name.split("=")[1:] if group.strip(" \0^")]


def _decode(raw: bytes, vr: str, charset: bytes) -> str:
    if vr not in _LOCAL_CHARSET or (raw.isascii() and b"\x1b" not in raw):
        return raw.decode("latin-1")
    import warnings

    from pydicom.charset import decode_bytes
    from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the value
        try:
            return decode_bytes(raw, _encodings(charset), PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS)
        except (LookupError, ValueError):  # UnicodeError among them
            return raw.decode("latin-1")


@lru_cache(maxsize=64)
def _encodings(charset: bytes) -> tuple[str, ...]:
    """Python's names of a SpecificCharacterSet's encodings; Latin-1, which takes every byte, for unknown ones.

    pydicom takes every codec of Python for one, even those that are no encodings of text (``hex``, ``idna``).
    """
    from pydicom.charset import convert_encodings, python_encoding

    try:
        found = tuple(convert_encodings(charset.decode("latin-1").strip(" \0").split("\\")))
    except (LookupError, ValueError):
        return ("latin_1",)
    return found if set(found) <= set(python_encoding.values()) else ("latin_1",)


def _plain(number: str) -> str:
    """A number's text without needless digits: ``1.6000`` is ``1.6``; what is no number stays as it is."""
    try:
        value = Decimal(number)
    except InvalidOperation:
        return number
    if not value.is_finite() or abs(value.adjusted()) > 30:
        return number
    return f"{value.normalize():f}" if value else "0"


@lru_cache(maxsize=4096)
def dictionary_vr(tag: int) -> str:
    """VR of a public element in an implicit data set, ``UN`` when it is unknown or depends on other elements."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"
