"""Arguments of a task with their templates resolved.

The published reference puts quotes around each value, also in arguments; here an argument gets the value itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from airflow_monai.specs.conditions.values import Operand, Quantifier, SeriesValues, operand

_TEMPLATE = re.compile(r"\{\{([^{}]{0,500})\}\}")


def resolved(value: Any, resolve: Callable[[str], Any]) -> Any:
    """The value with every ``{{ path }}`` in its texts, however deep they lie, replaced by what it stands for.

    NULL becomes an empty text and an array ``a, b``. Of the values of several series ``any`` gives the first one,
    ``all`` the one that they share.

    :param resolve: as for conditions (:class:`airflow_monai.specs.context.ExecutionContext`).
    """
    if isinstance(value, str):
        return _TEMPLATE.sub(lambda found: as_text(resolve(found[1].strip())), value) if "{{" in value else value
    if isinstance(value, dict):
        return {key: resolved(item, resolve) for key, item in value.items()}
    return [resolved(item, resolve) for item in value] if isinstance(value, list) else value


def as_text(answer: Any) -> str:
    """What a resolver answered, as an argument has it."""
    if isinstance(answer, SeriesValues):
        return _one_of(answer)
    try:
        return _text(operand(answer))
    except (TypeError, ValueError, ArithmeticError):
        return ""


def _one_of(series: SeriesValues) -> str:
    texts = [as_text(value) for value in series.values]
    if series.quantifier is Quantifier.ALL and len(set(texts)) > 1:
        return ""
    return next((text for text in texts if text), "")


def _text(value: Operand) -> str:
    if isinstance(value, tuple):
        return ", ".join(item for item in value if item is not None)
    return value or ""


_COMMA = re.compile(r",(?![^{}]*\}\})")
"""One that is not within a template."""
VARIABLE_PREFIX = "env_"


def words(value: Any) -> list[str] | None:
    """``a, b`` or a list as the words of a command; None for no value."""
    if value is None or value == "":
        return None
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return [word.strip() for word in _COMMA.split(str(value))]


def variables(args: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables among a task's arguments: those named ``env_<variable>``."""
    return {
        name.removeprefix(VARIABLE_PREFIX): _plain(value)
        for name, value in args.items()
        if name.startswith(VARIABLE_PREFIX)
    }


def is_true(value: Any) -> bool:
    """Whether an argument says yes; published files write it as a text."""
    return str(value).strip().lower() == "true"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
