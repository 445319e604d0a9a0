"""A tree of nodes to the data that the model takes: field names in any case, unknown ones reported with a hint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from airflow_monai.specs.choices import IGNORED_FIELDS, LATER_FIELDS, OTHER_PLACES, SCHEMA_FIELD
from airflow_monai.specs.findings import KEY, Location
from airflow_monai.specs.problems import Severity, nearest, nearest_word
from airflow_monai.specs.tree.nodes import Node, Shape

Report = Callable[..., None]


@dataclass(frozen=True, slots=True)
class FieldShape:
    """A field of a model: its name in files, and the model of its value, of each element of its list, or of each value
    of its mapping."""

    name: str
    model: type[BaseModel] | None
    is_list: bool
    is_free: bool
    is_typed: bool = False


@cache
def fields_of(model: type[BaseModel]) -> dict[str, FieldShape]:
    """Lower-case spelling -> field; a field with an alias has two."""
    found: dict[str, FieldShape] = {}
    for name, info in model.model_fields.items():
        shape = FieldShape(info.alias or name, *_inner(info.annotation), is_typed=_is_any(info.annotation))
        found[name.lower()] = found[shape.name.lower()] = shape
    return found


def _is_any(annotation: Any) -> bool:
    """Whether the model takes values of any type, so that a number has to be one."""
    return annotation is Any or (get_origin(annotation) is list and get_args(annotation)[0] is Any)


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, bool, bool]:
    if get_origin(annotation) is list:
        model, _, _ = _inner(get_args(annotation)[0])
        return model, True, False
    if get_origin(annotation) is dict:
        model, _, _ = _inner(get_args(annotation)[1])
        return model, False, True
    for choice in (annotation, *get_args(annotation)):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice, False, False
    return None, False, False


class Shaper:
    """Walks a tree along a model.

    A field whose name is misspelled is reported, and read as the one that it most likely is, so that what would only
    follow from its lack is not reported too.

    :param report: called with (node, code, message, hint, severity, at=place) for every problem.
    :ivar guessed: places of fields that were misspelled; ``lost``: places of fields that are absent, and may be what
        an unknown field was meant to be.
    """

    def __init__(self, report: Report):
        self.report = report
        self.places: dict[Location, Node] = {}
        self.guessed: set[Location] = set()
        self.lost: set[Location] = set()

    def data(self, node: Node, model: type[BaseModel], at: Location = ()) -> Any:
        """Plain data of a node; what the model does not know is reported and left out."""
        self.places[at] = node
        if node.shape is not Shape.MAPPING:
            return node.plain()
        fields = fields_of(model)
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        strange: list[tuple[Node, Node]] = []
        for key, value in node.entries:
            known = fields.get(key.text.lower())
            if known is None:
                if self._unknown(key, fields, at):
                    strange.append((key, value))
            elif known.name in lines:
                self._twice(key, (*at, known.name), lines[known.name])
                self.lost.add((*at, known.name))
            else:
                lines[known.name] = key.line + 1
                self.places[(*at, known.name, KEY)] = key
                if not value.is_null:
                    found[known.name] = self._value(value, known, (*at, known.name))
        self._guess(strange, {known.name: known for known in fields.values() if known.name not in lines}, at, found)
        return found

    def _guess(
        self, strange: list[tuple[Node, Node]], absent: dict[str, FieldShape], at: Location, found: dict[str, Any]
    ) -> None:
        """Read unknown fields as the absent ones that they most likely are."""
        for key, value in strange:
            is_other = key.text.lower() in OTHER_PLACES
            near = _joined(key, absent) or (None if is_other else nearest_word(key.text, absent))
            known = absent.pop(near or "", None)
            if known is None:
                self.lost.update((*at, name) for name in absent)
                continue
            self.guessed.add((*at, known.name))
            if not value.is_null:
                found[known.name] = self._value(value, known, (*at, known.name))

    def _value(self, node: Node, known: FieldShape, at: Location) -> Any:
        self.places[at] = node
        if known.is_list and node.shape is Shape.LIST:
            return [self._item(item, known, (*at, index)) for index, item in enumerate(node.items)]
        if known.is_free and node.shape is Shape.MAPPING:
            return self._free(node, known, at)
        if known.model and not known.is_list and not known.is_free:
            return self.data(node, known.model, at)
        return node.typed() if known.is_typed else node.plain()

    def _free(self, node: Node, known: FieldShape, at: Location) -> dict[str, Any]:
        """A mapping with names of the author's."""
        entries = [(key, value) for key, value in node.entries if not value.is_null]
        self.places.update({(*at, key.text, KEY): key for key, _ in entries})
        return {key.text: self._entry(value, known, (*at, key.text)) for key, value in entries}

    def _entry(self, node: Node, known: FieldShape, at: Location) -> Any:
        """A value of a mapping with names of the author's: a single one is a text as it is written, and numbers within
        lists and mappings are numbers."""
        if known.model:
            return self.data(node, known.model, at)
        self.places[at] = node
        self._places_below(node, at)
        return node.plain() if node.shape is Shape.SCALAR else node.typed()

    def _places_below(self, node: Node, at: Location) -> None:
        below = node.entries if node.shape is Shape.MAPPING else enumerate(node.items)
        for key, value in below:
            place = (*at, key.text if isinstance(key, Node) else key)
            self.places[place] = value
            self._places_below(value, place)

    def _item(self, node: Node, known: FieldShape, at: Location) -> Any:
        if known.model:
            return self.data(node, known.model, at)
        self.places[at] = node
        return node.typed() if known.is_typed else node.plain()

    def _twice(self, key: Node, at: Location, first: int) -> None:
        message = f"{at[-1]!r} is given twice: on line {first} and on line {key.line + 1}"
        self.report(key, "duplicate-key", message, "keep one of them", at=at)

    def _unknown(self, key: Node, fields: dict[str, FieldShape], at: Location) -> bool:
        """Report a field that the model does not know; whether it may be one that it knows."""
        name = key.text if len(key.text) <= 60 else key.text[:60] + "..."
        if key.text == SCHEMA_FIELD and at == ():
            return False
        if key.text.lower() in IGNORED_FIELDS:
            message = f"the field {name!r} means nothing here and is passed over"
            hint = IGNORED_FIELDS[key.text.lower()]
            self.report(key, "ignored-field", message, hint, Severity.WARNING, at=(*at, name))
        elif key.text.lower() in LATER_FIELDS:
            message = f"the field {name!r} is not supported yet by this version"
            self.report(key, "field-unsupported", message, "remove it", at=(*at, name))
        else:
            names = _names(fields.values())
            elsewhere = OTHER_PLACES.get(key.text.lower(), "")
            hint = _blank_hint(key, fields) or elsewhere or nearest(name, names) or f"known here: {', '.join(names)}"
            self.report(key, "unknown-field", f"unknown field {name!r}", hint, at=(*at, name))
            return True
        return False


def _blank_hint(key: Node, fields: dict[str, FieldShape]) -> str:
    name = _joined(key, fields)
    return f"leave a blank after the colon: {name}: ..." if name else ""


def _joined(key: Node, fields: Iterable[str]) -> str | None:
    """The field of ``{name:x}``, which YAML takes for a field ``name:x`` without a value."""
    name, colon, value = key.text.partition(":")
    if not colon or not value or key.style:
        return None
    return next((field for field in fields if field.lower() == name.strip().lower()), None)


def _names(fields: Iterable[FieldShape]) -> list[str]:
    return sorted({known.name for known in fields})
