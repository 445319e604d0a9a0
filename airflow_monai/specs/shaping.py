"""A tree of nodes to the data that the model takes: field names in any case, unknown ones reported with a hint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from airflow_monai.specs.choices import IGNORED_FIELDS, LATER_FIELDS, SCHEMA_FIELD
from airflow_monai.specs.nodes import Node, Shape
from airflow_monai.specs.problems import Severity, nearest

Location = tuple[str | int, ...]
Report = Callable[..., None]


@dataclass(frozen=True, slots=True)
class FieldShape:
    """A field of a model: its name in files, and the model of its value or of each element of its list."""

    name: str
    model: type[BaseModel] | None
    is_list: bool
    is_free: bool


@cache
def fields_of(model: type[BaseModel]) -> dict[str, FieldShape]:
    """Lower-case spelling -> field; a field with an alias has two."""
    found: dict[str, FieldShape] = {}
    for name, info in model.model_fields.items():
        shape = FieldShape(info.alias or name, *_inner(info.annotation))
        found[name.lower()] = found[shape.name.lower()] = shape
    return found


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, bool, bool]:
    if get_origin(annotation) is list:
        model, _, _ = _inner(get_args(annotation)[0])
        return model, True, False
    if get_origin(annotation) is dict:
        return None, False, True
    for choice in (annotation, *get_args(annotation)):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice, False, False
    return None, False, False


class Shaper:
    """Walks a tree along a model.

    :param report: called with (node, code, message, hint, severity) for every problem.
    """

    def __init__(self, report: Report):
        self.report = report
        self.places: dict[Location, Node] = {}

    def data(self, node: Node, model: type[BaseModel], at: Location = ()) -> Any:
        """Plain data of a node; what the model does not know is reported and left out."""
        self.places[at] = node
        if node.shape is not Shape.MAPPING:
            return node.plain()
        fields = fields_of(model)
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.entries:
            known = fields.get(key.text.lower())
            if known is None:
                self._unknown(key, fields, at)
            elif known.name in lines:
                self._twice(key, known.name, lines[known.name])
            else:
                lines[known.name] = key.line + 1
                if not value.is_null:
                    found[known.name] = self._value(value, known, (*at, known.name))
        return found

    def _value(self, node: Node, known: FieldShape, at: Location) -> Any:
        self.places[at] = node
        if known.is_list and node.shape is Shape.LIST:
            return [self._item(item, known, (*at, index)) for index, item in enumerate(node.items)]
        if known.model and not known.is_list:
            return self.data(node, known.model, at)
        if known.is_free and node.shape is Shape.MAPPING:
            self.places.update({(*at, key.text): value for key, value in node.entries})
        return node.plain()

    def _item(self, node: Node, known: FieldShape, at: Location) -> Any:
        if known.model:
            return self.data(node, known.model, at)
        self.places[at] = node
        return node.plain()

    def _twice(self, key: Node, name: str, first: int) -> None:
        message = f"{name!r} is given twice: on line {first} and on line {key.line + 1}"
        self.report(key, "duplicate-key", message, "keep one of them")

    def _unknown(self, key: Node, fields: dict[str, FieldShape], at: Location) -> None:
        name = key.text if len(key.text) <= 60 else key.text[:60] + "..."
        if key.text == SCHEMA_FIELD and at == ():
            return
        if key.text.lower() in IGNORED_FIELDS:
            message = f"the field {name!r} means nothing here and is passed over"
            self.report(key, "ignored-field", message, "", Severity.WARNING)
        elif key.text.lower() in LATER_FIELDS:
            message = f"the field {name!r} is not supported yet by this version"
            self.report(key, "field-unsupported", message, "remove it")
        else:
            names = _names(fields.values())
            hint = nearest(name, names) or f"known here: {', '.join(names)}"
            self.report(key, "unknown-field", f"unknown field {name!r}", hint)


def _names(fields: Iterable[FieldShape]) -> list[str]:
    return sorted({known.name for known in fields})
