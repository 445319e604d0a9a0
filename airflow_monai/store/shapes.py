"""Whether what was read from the store is what it should be, before anything is done with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from itertools import islice
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_LOOKED_AT = 100
"""So many items of a list or an object are looked at: a manifest may have ten thousands, all written by one hand."""


def check_shape(value: T) -> T:
    """The value, when it is no dataclass, or one whose fields, and theirs, have the types that they are declared with.

    :raises TypeError: when one has not.
    """
    if is_dataclass(value) and not isinstance(value, type):
        for name, wanted in _hints(type(value)).items():
            if not _is(getattr(value, name), wanted):
                raise TypeError(f"{name} is a {type(getattr(value, name)).__name__}")
    return value


def moment(text: Any) -> datetime:
    """The moment that a text in ISO 8601 with an offset names.

    :raises ValueError: or ``TypeError``, when it is none.
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return found


def what_is_wrong(error: Exception) -> str:
    """An error of reading without what was read, which may be of a patient."""
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON from character {error.pos} on"
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}" if error.args else "it lacks something"
    if isinstance(error, TypeError):
        return str(error)
    return f"it holds something else than it should ({type(error).__name__})"


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    try:
        known = get_type_hints(kind)
    except NameError:  # a type that only the type checker imports
        return {}
    return {one.name: known[one.name] for one in fields(kind)}


def _is(value: Any, wanted: Any) -> bool:
    origin, args = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return any(_is(value, one) for one in args)
    if wanted is Any or value is None:
        return wanted is Any or wanted in (None, type(None))
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = origin or wanted
    if not isinstance(kind, type):
        return True  # a type variable, or a literal
    if not isinstance(value, kind):
        return False
    if is_dataclass(value):
        check_shape(value)
        return True
    return _holds(value, args)


def _holds(value: Any, args: tuple[Any, ...]) -> bool:
    """Whether the items of a tuple, a list or a mapping are of their types."""
    if isinstance(value, Mapping) and len(args) == 2:
        return _all(value, args[0]) and _all(value.values(), args[1])
    if isinstance(value, tuple) and args and args[-1] is not Ellipsis:
        return len(value) == len(args) and all(map(_is, value, args))
    return not isinstance(value, (tuple, list)) or not args or _all(value, args[0])


def _all(items: Iterable[Any], wanted: Any) -> bool:
    return all(_is(item, wanted) for item in islice(items, _LOOKED_AT))
