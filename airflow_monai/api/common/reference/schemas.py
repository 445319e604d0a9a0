"""What a schema of the OpenAPI document means, in words: types, fields, limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEPTH = 4
"""So deep the fields of fields are told."""
_LIMITS = {"minimum": "from {}", "maximum": "to {}", "maxLength": "at most {} characters", "maxItems": "at most {}"}
_FORMATS = {"date-time": "time (RFC 3339)", "binary": "file", "password": "secret", "uuid": "UUID", "uri": "address"}

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a body, or a parameter.

    :param name: with where it is, as ``tasks[].id``.
    :param note: what it is for, and which values it may have.
    """

    name: str
    type: str
    required: bool
    note: str


@dataclass(frozen=True, slots=True)
class Schemas:
    """Those of a document, by their names."""

    by_name: Mapping[str, Schema]

    def resolved(self, schema: Schema) -> Schema:
        """Without references; of alternatives the first that is not null, with what is said beside them."""
        while True:
            beside = {name: value for name, value in schema.items() if name not in ("$ref", "anyOf", "oneOf", "allOf")}
            if "$ref" in schema:
                found: Schema = self.by_name[schema["$ref"].rpartition("/")[2]]
            elif len(schema.get("allOf", ())) == 1:
                found = schema["allOf"][0]
            elif choices := _choices(schema):
                found = choices[0]
            else:
                return schema
            schema = {**found, **beside}

    def type_of(self, schema: Schema) -> str:
        """In words, as ``list of text``, ``number or null``."""
        choices = schema.get("anyOf") or schema.get("oneOf")
        if choices:
            return " or ".join(dict.fromkeys(self.type_of(choice) for choice in choices))
        schema = self.resolved(schema)
        kind = schema.get("type")
        if kind == "array":
            return f"list of {self.type_of(schema.get('items', {}))}"
        if kind == "string":
            return _FORMATS.get(schema.get("format", ""), "text")
        if isinstance(kind, list):
            return " or ".join(kind)
        return str(kind or ("object" if "properties" in schema else "anything"))

    def fields(self, schema: Schema, before: str = "", depth: int = DEPTH) -> Iterator[Field]:
        """Those of an object, or of the objects of a list, and theirs."""
        schema = self.resolved(schema)
        if schema.get("type") == "array":
            yield from self.fields(schema.get("items", {}), f"{before}[]", depth)
            return
        needed = schema.get("required", ())
        for name, field in schema.get("properties", {}).items():
            place = f"{before}.{name}" if before else name
            yield Field(place, self.type_of(field), name in needed, self.note(field))
            if depth > 1:
                yield from self.fields(field, place, depth - 1)

    def note(self, schema: Schema) -> str:
        """What the schema says beside the type."""
        whole = self.resolved(schema)
        said = [str(whole.get("description", "")).rstrip(".")]
        if "enum" in whole:
            said.append("one of " + ", ".join(f"`{value}`" for value in whole["enum"]))
        said += [text.format(_number(whole[name])) for name, text in _LIMITS.items() if name in whole]
        if whole.get("default") not in (None, "", [], {}):
            said.append(f"default `{json.dumps(whole['default'])}`")
        return "; ".join(filter(None, said))


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _choices(schema: Schema) -> list[Schema]:
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return [choice for choice in choices if choice.get("type") != "null"] or choices
