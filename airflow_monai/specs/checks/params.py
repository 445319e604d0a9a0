"""Checks of a workflow's parameters: names, defaults, choices and ranges."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from airflow_monai.specs.findings import KEY, Finding, Location
from airflow_monai.specs.model import ParamSpec
from airflow_monai.specs.plan import Kind
from airflow_monai.specs.view import SpecView

PAYLOAD_PARAM = "payload_id"
"""The first field of every workflow's form; not to be taken by a parameter."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_NUMBERS = (Kind.NUMBER, Kind.INTEGER)
_EXAMPLES = {
    Kind.STRING: 'a text; put a number in quotes: "0.5"',
    Kind.NUMBER: "a number without quotes: 0.5",
    Kind.INTEGER: "a whole number without quotes: 3",
    Kind.BOOLEAN: "true or false, without quotes",
}
_ARTICLES = {Kind.INTEGER: "a whole number", Kind.NUMBER: "a number", Kind.BOOLEAN: "true or false"}


def parameters(view: SpecView) -> Iterator[Finding]:
    """Parameters that a form could not offer, or whose own default it would refuse."""
    for name, param in view.spec.params.items():
        at: Location = ("params", name)
        yield from _name(at, name)
        if view.doubts.lost(*at, "type"):
            continue
        yield from _range(at, name, param)
        yield from _choices(at, name, param)
        if not view.doubts.lost(*at, "default"):
            yield from _default(at, name, param)


def _name(at: Location, name: str) -> Iterator[Finding]:
    if name == PAYLOAD_PARAM:
        message = f"every workflow has a parameter {PAYLOAD_PARAM!r} already, which says what a run is about"
        yield Finding((*at, KEY), "bad-param-name", message, "choose another name")
    elif not _NAME.fullmatch(name):
        hint = "1 to 100 letters, digits and '_', beginning with a letter"
        yield Finding((*at, KEY), "bad-param-name", f"{name[:60]!r} is no name of a parameter", hint)


def _range(at: Location, name: str, param: ParamSpec) -> Iterator[Finding]:
    for field in ("minimum", "maximum"):
        if getattr(param, field) is not None and param.type not in _NUMBERS:
            message = f"parameter {name!r}: only a number or integer has a {field}, not a {param.type.value}"
            yield Finding((*at, field, KEY), "bad-param-range", message, "remove it, or change the type")
    if param.minimum is not None and param.maximum is not None and param.minimum > param.maximum:
        message = f"parameter {name!r}: its minimum is greater than its maximum"
        yield Finding((*at, "minimum"), "bad-param-range", message, "exchange them")


def _choices(at: Location, name: str, param: ParamSpec) -> Iterator[Finding]:
    seen: list[Any] = []
    for index, choice in enumerate(param.choices):
        place = (*at, "choices", index)
        if not _fits(param.type, choice):
            message = f"parameter {name!r}: the choice {_short(choice)} is not {_what(param.type)}"
            yield Finding(place, "bad-param-choice", message, _EXAMPLES[param.type])
        elif any(choice == other for other in seen):
            message = f"parameter {name!r} offers the choice {_short(choice)} twice"
            yield Finding(place, "bad-param-choice", message, "remove one of them")
        seen.append(choice)


def _default(at: Location, name: str, param: ParamSpec) -> Iterator[Finding]:
    if param.default is None:
        message = f"parameter {name!r} has no default, and nobody is there to give one when a study starts a run"
        hint = "add default: ..., the value that runs have unless a person enters another one"
        yield Finding((*at, KEY), "missing-default", message, hint)
        return
    place = (*at, "default")
    if not _fits(param.type, param.default):
        message = f"parameter {name!r}: the default {_short(param.default)} is not {_what(param.type)}"
        yield Finding(place, "bad-param-default", message, _EXAMPLES[param.type])
    elif param.choices and param.default not in param.choices:
        message = f"parameter {name!r}: the default {_short(param.default)} is none of its choices"
        yield Finding(place, "bad-param-default", message, f"choose one of: {_listed(param.choices)}")
    elif _out_of_range(param):
        message = f"parameter {name!r}: the default {_short(param.default)} is out of its range"
        yield Finding(place, "bad-param-default", message, _limits(param.minimum, param.maximum))


def _fits(kind: Kind, value: Any) -> bool:
    if kind is Kind.STRING:
        return isinstance(value, str)
    if kind is Kind.BOOLEAN:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is Kind.NUMBER else int):
        return False
    return math.isfinite(value)


def _out_of_range(param: ParamSpec) -> bool:
    if param.type not in _NUMBERS:
        return False
    low, high = param.minimum, param.maximum
    if low is not None and high is not None and low > high:
        return False
    return (low is not None and param.default < low) or (high is not None and param.default > high)


def _what(kind: Kind) -> str:
    return _ARTICLES.get(kind, "a text")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _listed(choices: list[Any]) -> str:
    return ", ".join(_short(choice) for choice in choices[:10])


def _limits(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"at most {high:g}" if low is None else f"at least {low:g}"
    return f"from {low:g} to {high:g}"
