"""What all events share: names in any of the published spellings, enums as names or numbers, and refusals without data.

Publishers differ: ``payload_id``, ``PayloadId`` and ``Payload ID`` are one field here, a null is an absent one, and
fields that nobody knows are passed over. What a field holds is checked as strictly as the systems that read these
messages today check it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from airflow_monai.errors import InvalidEvent

MAX_BODY = 32 << 20
"""Bytes. A request that lists 100,000 files has about 20 MiB."""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


class NamedOrNumbered(str, Enum):
    """An enum that some publishers write by name and some by number, which is the order in the class."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        members = list(cls)
        if isinstance(value, bool):
            return None
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if isinstance(value, int):
            return members[value] if 0 <= value < len(members) else None
        if isinstance(value, str):
            return next((member for member in members if _plain(member.value) == _plain(value)), None)
        return None

    @property
    def number(self) -> int:
        return list(type(self)).index(self)


def _guid(text: str) -> str:
    try:
        value = uuid.UUID(text.strip())
    except ValueError:
        raise ValueError("is not a GUID") from None
    if not value.int:
        raise ValueError("is the empty GUID")
    return str(value)


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("is blank, or holds characters that cannot be printed")
    return text


def _list(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value


Guid = Annotated[str, AfterValidator(_guid)]
Id = Annotated[str, Field(min_length=1, max_length=250), AfterValidator(_printable)]
T = TypeVar("T")
Items = Annotated[tuple[T, ...], BeforeValidator(_list)]


class Event(BaseModel):
    """Base of the events, and of the parts that they have.

    :cvar spellings: other names of fields, as older publishers write them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    spellings: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        names = {_plain(name): name for name in cls.model_fields}
        names |= {_plain(other): name for other, name in cls.spellings.items()}
        found: dict[str, Any] = {}
        for key, value in data.items():
            name = names.get(_plain(str(key)))
            if name is not None and value is not None:
                found.setdefault(name, value)
        return found

    def body(self) -> bytes:
        """The event as it is published: JSON by the published names, without what is not set."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


E = TypeVar("E", bound=Event)


def read_event(kind: type[E], body: bytes) -> E:
    """The event that a message's body is.

    :raises InvalidEvent: naming every field that is wrong, without what it holds: that may be a patient's.
    """
    if len(body) > MAX_BODY:
        raise InvalidEvent(f"The message has {len(body)} bytes, more than the {MAX_BODY} that are read.")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidEvent("The message is not JSON.") from None
    if not isinstance(data, dict):
        raise InvalidEvent("The message is not a JSON object.")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InvalidEvent(f"The message is no {_name(kind)}: {'; '.join(_problems(error))}.") from None


def _name(kind: type[Event]) -> str:
    return kind.__name__


def _problems(error: ValidationError) -> list[str]:
    told = dict.fromkeys(_problem(item) for item in error.errors(include_url=False, include_input=False))
    return list(told)[:10]


_SAID: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda context: "is missing",
    "string_too_short": lambda context: f"is shorter than {context['min_length']} characters",
    "string_too_long": lambda context: f"is longer than {context['max_length']} characters",
    "too_long": lambda context: f"is longer than {context['max_length']}",
    "too_short": lambda context: f"has fewer than {context['min_length']} entries",
    "enum": lambda context: f"is none of {context['expected']}",
    "value_error": lambda context: str(context["error"]),
    "string_type": lambda context: "is not a text",
    "model_type": lambda context: "is not an object",
    "model_attributes_type": lambda context: "is not an object",
    "tuple_type": lambda context: "is not a list",
    "dict_type": lambda context: "is not an object",
    "greater_than_equal": lambda context: f"is less than {context['ge']}",
}


def _problem(item: Mapping[str, Any]) -> str:
    """``field what is wrong``. Keys of maps are data, so a place in one is told by the map's name only."""
    place = ""
    for part in item["loc"]:
        if isinstance(part, int):
            place += f"[{part}]"
        elif re.fullmatch(r"[a-z_]{1,40}", str(part)):
            place += f".{part}" if place else str(part)
        else:
            break
    said = _SAID.get(item["type"], lambda context: f"cannot be used ({item['type']})")
    text = said(item.get("ctx") or {})
    return f"{place} {text}" if place else text
