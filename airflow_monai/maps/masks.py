"""How applications write what is known of a patient: names, ids and dates as patterns to search text for.

They put them into file names, glue them together, change case and punctuation, leave accents out and turn dates round.
Every pattern takes linear time, whatever the values are: those come from the network.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

SHORT = 4
"""Words of so many characters count only where they stand alone: as parts of others they are no names."""

MAX_PAIRED_WORDS = 6
UNREADABLE = "\ufffd"
"""What bytes in another encoding than UTF-8 were replaced by; of a run of them, one must be left."""

_WORD = re.compile(r"[^\W_]+")
_RUN = re.compile(r"[^\W\d_]+|\d+")
_NOT_ASCII = re.compile(r"([^\x00-\x7f]+)")
_BETWEEN = rf"(?:[^\w{UNREADABLE}]|_){{0,3}}"
_ASCII_SPELLINGS = {
    "ä": "a|ae", "ö": "o|oe", "ü": "u|ue", "ø": "o|oe", "ß": "ss", "æ": "ae", "œ": "oe",
    "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i",
}  # fmt: skip

_MONTH = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?)"
)
_ORDINAL = "(?:st|nd|rd|th)?"
_GAP = r"[\W_]{0,3}"
DATES = re.compile(
    r"(?<!\d)(?:(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"  # 19701231
    r"|(?:19|20)\d{2}[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])"  # 1970-12-31
    r"|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:19|20)\d{2}"  # 31.12.1970, 12/31/1970
    rf"|\d{{1,2}}{_ORDINAL}{_GAP}(?:of\s)?{_MONTH}{_GAP}(?:19|20)\d{{2}}"  # 31 Dec 1970
    rf"|(?:19|20)\d{{2}}{_GAP}{_MONTH}{_GAP}\d{{1,2}})(?!\d)"  # 1970-Dec-31
    rf"|(?<![^\W\d_]){_MONTH}{_GAP}\d{{1,2}}{_ORDINAL}[\W_]{{1,3}}(?:19|20)\d{{2}}(?!\d)"  # Dec 31, 1970
    r"|(?<!\d)(?:19|20)\d{2}[年년]\s?\d{1,2}[月월]\s?\d{1,2}[日일]",
    re.IGNORECASE,
)
"""Dates that are written in full, whoever's they are."""


Mask = tuple[int, str]
"""How many characters of a value a pattern stands for, and the pattern."""

DATE_CHARACTERS = 8


def any_of(masks: Iterable[Mask]) -> re.Pattern[str] | None:
    """One pattern for all, what stands for most first; None for none."""
    longest_first = [pattern for _, pattern in sorted(set(masks), key=lambda mask: (-mask[0], mask[1]))]
    return re.compile("|".join(longest_first), re.IGNORECASE) if longest_first else None


def of_text(value: str) -> Iterator[Mask]:
    """Patterns of an id, an address or the like: the whole and its words, whatever punctuation is within them."""
    value = unicodedata.normalize("NFC", value)
    for part in (value, *re.split(r"[\^=,\s]+", value)):
        yield from _glued([part])


def of_name(value: str) -> Iterator[Mask]:
    """Patterns of a person's name (PS3.5 section 6.2.1.2): its words, and any two of them side by side."""
    for group in unicodedata.normalize("NFC", value).split("="):
        yield from of_text(group)
        words = list(dict.fromkeys(_WORD.findall(group)))
        for word in words:
            yield from _glued([word])
        known = words[:MAX_PAIRED_WORDS]
        yield from (pair for first in known for second in known if first != second for pair in _glued([first, second]))


def of_birth_date(value: str) -> Iterator[Mask]:
    """Patterns of one known date: every order and length, and any word for the month."""
    found = re.match(r"(\d{4})\D?(\d{2})\D?(\d{2})", value.strip())
    if not found:
        return
    year, month, day = found.groups()
    yield DATE_CHARACTERS, year + month + day
    for glued in _orders(year, month, day) + _orders(year[2:], month, day):
        yield _apart("", glued)
    short_month, short_day = f"0?{int(month)}", f"0?{int(day)}"
    for parts in _orders(year, short_month, short_day):
        yield _apart(r"[\W_]{1,3}", parts)
    for parts in _orders(year[2:], short_month, short_day):
        yield _apart("[-/._]", parts)
    yield from _with_month_names(f"(?:{year}|{year[2:]})", f"{short_day}(?:st|nd|rd|th)?")


def _orders(year: str, month: str, day: str) -> list[tuple[str, str, str]]:
    return [(year, month, day), (day, month, year), (month, day, year)]


def _apart(separator: str, parts: tuple[str, str, str]) -> Mask:
    return DATE_CHARACTERS, rf"(?<!\d){separator.join(parts)}(?!\d)"


def _with_month_names(year: str, day: str) -> Iterator[Mask]:
    name, particle = r"[^\W\d_]{3,12}", r"(?:[^\W\d_]{1,3}[\W_])?"
    yield DATE_CHARACTERS, rf"(?<!\d){day}{_GAP}{particle}{name}{_GAP}{particle}{year}(?!\d)"  # 31 de enero de 1970
    yield DATE_CHARACTERS, rf"(?<![^\W\d_]){name}{_GAP}{day}[\W_]{{1,3}}{year}(?!\d)"
    yield DATE_CHARACTERS, rf"(?<!\d){year}{_GAP}{name}{_GAP}{day}(?!\d)"


def _glued(parts: Iterable[str]) -> Iterator[Mask]:
    """A pattern of the parts in this order, however they are separated; none when they tell nothing."""
    runs = [run for part in parts for run in _RUN.findall(part)]
    text = "".join(runs)
    # one letter would mask half of every line; in scripts without spaces it may be a whole name
    if len(text) < 2 and not (text and _is_dense(text)):
        return
    pattern = _BETWEEN.join(_spelled(run) for run in runs)
    if len(text) > SHORT or (len(text) > 1 and _is_dense(text[0]) and _is_dense(text[-1])):
        yield len(text), pattern
    else:
        yield len(text), rf"(?<!{_kind(text[0])}){pattern}(?!{_kind(text[-1])})"


def _kind(character: str) -> str:
    """What may not stand beside a word that begins or ends so, if it is to stand alone."""
    return r"\d" if character.isdecimal() else r"[^\W\d_]"


def _is_dense(character: str) -> bool:
    """Whether it is of a script that puts no spaces between words: CJK and its neighbours, Thai, Lao."""
    return ord(character) >= 0x2E80 or 0x0E00 <= ord(character) < 0x0F00


def _spelled(run: str) -> str:
    """A run of letters with or without its accents, or with what is left of them in another encoding."""
    pieces = _NOT_ASCII.split(run)
    return "".join(
        f"(?:{''.join(map(_accented, piece))}|{UNREADABLE})" if index % 2 else re.escape(piece)
        for index, piece in enumerate(pieces)
    )


def _accented(letter: str) -> str:
    ascii_forms = _ASCII_SPELLINGS.get(letter.lower())
    base = unicodedata.normalize("NFKD", letter)[0]
    if ascii_forms is None and base.isascii():
        ascii_forms = re.escape(base)
    return f"(?:{re.escape(letter)}|{ascii_forms})" if ascii_forms else re.escape(letter)
