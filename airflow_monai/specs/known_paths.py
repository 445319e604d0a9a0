"""What to say about a path of a condition that can never have a value."""

from __future__ import annotations

import re
from collections.abc import Iterable

from airflow_monai.specs.attributes import nearest_keyword
from airflow_monai.specs.context import KEYED_PARTS, PATIENT_PARTS, PLAIN_PARTS, QUANTIFIERS, is_known_path
from airflow_monai.specs.problems import nearest_word

# The published definition names these, and its reference implementation gives them no value either.
_PUBLISHED = re.compile(r"context\.(dicom\.(series|tags)|executions\.[^.]+\.(input_dir|task(\..*)?))")
_HEX = re.compile(r"\b[0-9A-Fa-f]{1,4}\b")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]+")
_CALL = re.compile(r"[\[(].*", re.DOTALL)
_TAG = "'gggg','eeee'"
_EXAMPLES = (
    "context.executions.<task>.result.<key>, context.executions.<task>.status, "
    f"context.dicom.series.any('Modality'), context.dicom.series.any({_TAG}), "
    "context.input.patient_details.<name>, context.workflow.name"
)


def is_published_path(path: str) -> bool:
    """Whether a path without a value may stand in published files."""
    return _PUBLISHED.fullmatch(path) is not None


def better_path(path: str) -> str:
    """What to write instead of a path that is always NULL."""
    found = _likely(path)
    if found is not None:
        return f"did you mean {found!r}?"
    if path.startswith("context.input"):
        return f"conditions know context.input.patient_details. with {', '.join(sorted(PATIENT_PARTS))}"
    return f"known: {_EXAMPLES}"


def _likely(path: str) -> str | None:
    """The known path that this one most likely means, its parts put right one after the other."""
    if len(path) > 200:
        return None
    parts = path.split(".")
    root = nearest_word(parts[0], ("context",))
    area = nearest_word(parts[1], ("executions", "dicom", "input", "workflow", "params")) if len(parts) > 1 else None
    if root is None or area is None:
        return None
    rest = parts[2:]
    if area == "dicom":
        return _series(path)
    if area == "executions":
        fixed = _execution(rest)
    elif area == "params":
        fixed = rest
    elif area == "input":
        fixed = _chosen(rest, ("patient_details",), PATIENT_PARTS)
    else:
        fixed = _chosen(rest, ("name", "description"))
    found = ".".join([root, area, *fixed]) if fixed else None
    return found if found is not None and (is_known_path(found) or "<key>" in found) else None


def _chosen(parts: list[str], *choices: Iterable[str]) -> list[str] | None:
    """Each part as the known word that is most like it."""
    if len(parts) != len(choices):
        return None
    words = [nearest_word(part, known) for part, known in zip(parts, choices, strict=True)]
    return [word for word in words if word] if all(words) else None


def _execution(parts: list[str]) -> list[str] | None:
    if len(parts) < 2 or not parts[0]:
        return None
    if len(parts) > 2 and parts[1] in QUANTIFIERS:
        fixed = _execution([parts[0], *parts[2:]])
        return [parts[0], parts[1], *fixed[1:]] if fixed else None
    part = nearest_word(parts[1], sorted(PLAIN_PARTS | KEYED_PARTS))
    if part in KEYED_PARTS:
        return [parts[0], part, *(parts[2:] or ["<key>"])]
    if part is None and len(parts) == 2 and parts[1]:
        return [parts[0], "result", parts[1]]
    return [parts[0], part] if part else None


def _series(path: str) -> str | None:
    """The attribute of a path below ``context.dicom``: its keyword, or the four digits of group and element."""
    call = _CALL.search(path)
    before = path[: call.start()] if call else path
    last = before.rsplit(".", 1)[-1]
    quantifier = "all" if last == "tags" else nearest_word(last, ("any", "all")) or "any"
    numbers = _HEX.findall(call[0]) if call else []
    if len(numbers) == 2:
        group, element = (number.zfill(4) for number in numbers)
        return f"context.dicom.series.{quantifier}('{group}','{element}')"
    if call is None and nearest_word(last, ("series", "tags")):
        return f"context.dicom.series.any({_TAG})"
    word = _WORD.search(call[0] if call else last)
    keyword = nearest_keyword(word[0]) if word else None
    return f"context.dicom.series.{quantifier}({repr(keyword) if keyword else _TAG})"
