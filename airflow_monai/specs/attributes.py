"""DICOM attributes in paths: ``context.dicom.series.any('Modality')`` and other spellings, all brought to one.

Plans hold that one, with the numbers of group and element, so that nothing needs a dictionary at run time. The keywords
(PS3.6, chapter 6) are a text file of this package, read when a keyword is used: a library of DICOM takes half a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

TABLE = Path(__file__).with_name("dicom_keywords.txt")
_PATHS = (
    re.compile(r"context\.dicom\.series\.(any|all)\s*\(([^()]{1,200})\)"),
    re.compile(r"context\.dicom\.(tags)\s*\[\s*\(([^()]{1,200})\)\s*\]"),
    re.compile(r"context\.dicom\.(tags)\s*\[([^()\[\]]{1,200})\]"),
)
_DOTTED = re.compile(r"context\.dicom\.tags\.([A-Za-z0-9]{1,100})")
_QUOTES = "'\"\u2018\u2019\u201c\u201d"
_QUOTED = re.compile(rf"\s*[{_QUOTES}]([^{_QUOTES},]*)[{_QUOTES}]\s*")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_STUDY_ID = "context.dicom.series.any('0020','0010')"
_NO_TEXT = "-"
_WITHOUT_TEXT = frozenset({"SQ", "OB", "OW", "OD", "OF", "OL", "OV", "UN", "NONE"})


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute as a path names it.

    :param quantifier: ``any`` or ``all``.
    :param tag: 8 upper-case hex digits; None when there is no such keyword.
    :param keyword: as written; None when it is named by number.
    :param has_text: whether its values are text or numbers, which a condition can compare; of a number only its
        group is looked at.
    """

    quantifier: str
    tag: str | None
    keyword: str | None = None
    has_text: bool = True

    @property
    def is_private(self) -> bool:
        return self.tag is not None and int(self.tag[:4], 16) % 2 == 1

    @property
    def is_header(self) -> bool:
        """Whether it belongs to the header of a file (PS3.10), not to the object in it."""
        return self.tag is not None and self.tag.startswith("0002")


def canonical(path: str) -> str:
    """The path with its attribute as ``context.dicom.series.any('gggg','eeee')``; unchanged when it names none."""
    if not path.startswith("context.dicom."):
        return path
    if path == "context.dicom.study_id":
        return _STUDY_ID
    found = attribute(path)
    if found is None or found.tag is None:
        return path
    return f"context.dicom.series.{found.quantifier}('{found.tag[:4]}','{found.tag[4:]}')"


def attribute(path: str) -> Attribute | None:
    """The attribute that a path names, None when it is no such path.

    ``series.any(...)`` and ``series.all(...)`` take ``'gggg','eeee'``, ``'ggggeeee'`` or a keyword; so does
    ``tags[...]``, by which the published definition means what all series have in common.
    """
    dotted = _DOTTED.fullmatch(path)
    if dotted:
        return _of("all", [dotted[1]])
    match = next((match for form in _PATHS if (match := form.fullmatch(path))), None)
    return _of("any" if match[1] == "any" else "all", _unquoted(match[2])) if match else None


def _of(quantifier: str, words: list[str]) -> Attribute | None:
    together = "".join(words)
    if len(words) == 2 and not all(len(word) == 4 for word in words):
        return None
    if _TAG.fullmatch(together):
        return Attribute(quantifier, together.upper())
    return _by_keyword(quantifier, together) if len(words) == 1 and together else None


@lru_cache(maxsize=256)
def nearest_keyword(word: str) -> str | None:
    """The keyword that is most like a word, or None."""
    from airflow_monai.specs.problems import nearest_word

    lower = word.lower()
    near = [known for known in keywords() if known.lower().startswith(lower[:1]) and abs(len(known) - len(word)) <= 5]
    longer = [known for known in keywords() if known.lower().startswith(lower)] if len(word) > 3 else []
    return min(longer, key=len) if longer else nearest_word(word, near)


def table_lines() -> Iterator[str]:
    """The lines of the file of keywords, made from pydicom's dictionary: keyword, tag, ``-`` where it has no text."""
    from pydicom.datadict import DicomDictionary

    for tag, (vr, _, _, _, keyword) in sorted(DicomDictionary.items()):
        if keyword:
            has_text = vr.split(" ")[0] not in _WITHOUT_TEXT
            yield f"{keyword} {tag:08X}" + ("" if has_text else f" {_NO_TEXT}")


@cache
def keywords() -> Mapping[str, str]:
    """Keyword -> tag, with a ``-`` behind it where there is no text."""
    lines = TABLE.read_text(encoding="ascii").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def _by_keyword(quantifier: str, keyword: str) -> Attribute:
    tag, _, without = keywords().get(keyword, "").partition(" ")
    return Attribute(quantifier, tag or None, keyword, not without)


def _unquoted(text: str) -> list[str]:
    """The texts in quotes between commas; nothing when there is anything else."""
    found = [_QUOTED.fullmatch(part) for part in text.split(",")]
    return [part[1].strip() for part in found if part] if all(found) else []
