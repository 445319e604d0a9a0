"""How far an application is, read from the lines that it prints.

Only a number and the name of a stage are taken from a line, never the line itself: what an application prints may be
about the patient. These forms are known::

    MONAI_PROGRESS {"percent": 42, "stage": "inference"}     for applications that want to be understood
    [progress] 42%    Progress: 42.5 %    progress=21/50
    inference:  42%|####      | 21/50 [00:10<00:14, 2.0it/s]  (tqdm; also as a bar that overwrites itself)
    Executing operator DICOMSeriesSelectorOperator           (MONAI Deploy App SDK 0.x)
    [2023-07-14 18:00:12,977] [INFO] (monai.deploy...DICOMSeriesSelectorOperator) - ...   (its later versions)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

MAX_BYTES = 512
"""So much of a line is looked at."""
MAX_STAGE = 40

_HINT = re.compile(rb"%\||rogress|ROGRESS|perator")
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}m")
_JSON = re.compile(r"\bMONAI_PROGRESS\s*[:=]?\s*(\{[^{}]{0,400}\})")
_BAR = re.compile(r"(?:^|[\s:])(\d{1,3})%\|[^|]{0,200}\|\s{0,8}\d")
_BAR_NAME = re.compile(r"^\s{0,20}([^:%|]{1,60}):\s{1,8}\d{1,3}%\|")
_WORD = r"(?<![\w.-])\[?progress\]?\s{0,4}[:=]?\s{0,4}"
_PERCENT = re.compile(rf"{_WORD}(\d{{1,3}}(?:\.\d{{1,6}})?)\s?%", re.IGNORECASE)
_PART = re.compile(rf"{_WORD}(\d{{1,9}})\s?(?:/|of)\s?(\d{{1,9}})\b", re.IGNORECASE)
_OPERATOR = re.compile(
    r"(?:\bexecut(?:ing|ion of) operator |\((?:[A-Za-z_]\w{0,60}\.){0,8})([A-Z][A-Za-z0-9_]{0,60})(?=\W|$)",
    re.IGNORECASE,
)
_STAGE = re.compile(rf"[A-Za-z][A-Za-z0-9 _/.-]{{0,{MAX_STAGE - 1}}}\Z")
_OPERATOR_NAME = re.compile(r"[A-Z][A-Za-z0-9_]*(?:Operator|Op)\Z")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an application is.

    :param percent: from 0 to 100; None where it does not say.
    :param stage: what it is at; empty where it does not say.
    """

    percent: float | None = None
    stage: str = ""

    def __str__(self) -> str:
        percent = "" if self.percent is None else f"{self.percent:g} %"
        return ", ".join(filter(None, (percent, self.stage)))

    def to_dict(self) -> dict[str, Any]:
        """What it says, without what it does not."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


class ProgressReader:
    """The progress of one application, from its lines.

    :param clean: masks in a text what may be about the patient; a stage that it changes is not shown.
    :param with_stages: whether an application's own words for what it does may be shown at all.
    """

    def __init__(self, clean: Callable[[str], str], *, with_stages: bool = True):
        self._clean = clean
        self.with_stages = with_stages
        self.latest: Progress | None = None

    def line(self, raw: bytes) -> Progress | None:
        """Take in a line; the progress when it told something new."""
        if _HINT.search(raw, 0, MAX_BYTES) is None:
            return None
        found = read_progress(raw)
        if found is None:
            return None
        before = self.latest or Progress()
        stage = self._known(found.stage) or before.stage
        # a new stage that does not say how far it is leaves open how far the whole is
        percent = before.percent if found.percent is None else found.percent
        self.latest = Progress(percent, stage)
        return None if self.latest == before else self.latest

    def _known(self, stage: str) -> str:
        return stage if stage and self.with_stages and self._clean(stage) == stage else ""


def read_progress(raw: bytes) -> Progress | None:
    """What one line says about progress, None when it says nothing."""
    text = _COLOUR.sub("", raw[:MAX_BYTES].decode("utf-8", "replace"))
    if found := _JSON.search(text):
        return _from_json(found[1])
    if found := _BAR.search(text):
        name = _BAR_NAME.search(text)
        return _of(float(found[1]), name[1] if name else "")
    if found := _PERCENT.search(text):
        return _of(float(found[1]))
    if found := _PART.search(text):
        return _of(100 * int(found[1]) / int(found[2])) if int(found[2]) else None
    names = (match[1] for match in _OPERATOR.finditer(text))
    return next((_of(None, name) for name in names if _OPERATOR_NAME.match(name)), None)


def _from_json(text: str) -> Progress | None:
    try:
        told = json.loads(text)
    except ValueError:
        return None
    percent, stage = told.get("percent"), told.get("stage")
    is_number = isinstance(percent, int | float) and not isinstance(percent, bool)
    return _of(percent if is_number else None, stage if isinstance(stage, str) else "")


def _of(percent: float | None, stage: str = "") -> Progress | None:
    if percent is not None:
        percent = round(float(percent), 1) if 0 <= percent <= 100 else None
    stage = stage.strip()
    found = Progress(percent, stage if _STAGE.match(stage) else "")
    return None if found == Progress() else found
