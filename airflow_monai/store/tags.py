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

Value = str | list[str]


class TagCollector:
    """Collects the values of files, one series at a time or mixed; see :data:`airflow_monai.types.SeriesTags`."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def add(self, series_uid: str, elements: Iterable[Element]) -> None:
        """Take over one file's elements, its meta group first; when these raise, those before it count."""
        series = self._series.setdefault(series_uid, _Series())
        series.images += 1
        charset, big_endian = b"", False
        for element in elements:
            if element.tag == _CHARSET:
                charset = element.value
            elif element.tag == _TRANSFER_SYNTAX:
                big_endian = element.value.rstrip(b"\0 ") == EXPLICIT_BIG.encode()
            if element.tag >> 16 & 1 or element.tag >> 16 == 2:  # private, file meta
                continue
            series.count(element, charset, big_endian)

    def tags(self) -> dict[str, dict[str, list[Any]]]:
        return {uid: series.values() for uid, series in sorted(self._series.items())}


class _Series:
    """What the images of one series say: raw values, each kept and converted once."""

    def __init__(self) -> None:
        self.images = 0
        self._raw: dict[int, dict[tuple[bytes, str | None, bytes, bool], None]] = {}
        self._seen: dict[int, int] = {}

    def count(self, element: Element, charset: bytes, big_endian: bool) -> None:
        key = (element.value, element.vr, charset, big_endian)
        self._raw.setdefault(element.tag, {}).setdefault(key)
        self._seen[element.tag] = self._seen.get(element.tag, 0) + 1

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
