"""The workflow schema as lenient as the loader, so that an editor never marks what can be loaded.

The loader takes field names and closed choices in any case, single values by their text (``version: 1.0``,
``"timeout_minutes": "30"``), and an empty value for one that was not given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_monai.specs.choices import IGNORED_FIELDS
from airflow_monai.specs.fields import AE_TITLE, ARTIFACT_NAME, TASK_ID
from airflow_monai.specs.model import WorkflowSpec
from airflow_monai.specs.tree.shaping import fields_of

Schema = dict[str, Any]
_NUMBER = r"^\s*[+-]?[0-9]*\.?[0-9]*([eE][+-]?[0-9]{1,3})?\s*$"
_TRUTHS = r"^(true|True|TRUE|false|False|FALSE)$"
_PATTERNS = {
    AE_TITLE: "An AE title has 1 to 16 ASCII characters, without backslash and control characters.",
    TASK_ID: "A task id has 1 to 100 letters, digits, '-' and '_'.",
    ARTIFACT_NAME: "A name has 1 to 100 letters, digits, '_', '-' and '.', and begins with a letter, digit or '_'.",
}
_IGNORED: Schema = {"deprecationMessage": "This field of published files means nothing here and is passed over."}


def lenient(schema: Schema) -> Schema:
    """The schema that lets pass what the loader lets pass."""
    definitions = schema["$defs"]
    nullable = {
        name
        for one in (schema, *definitions.values())
        for field, value in one.get("properties", {}).items()
        if field not in one.get("required", ()) and (name := _referenced(value))
    }
    models = {"WorkflowSpec": WorkflowSpec, **_models(WorkflowSpec)}
    found = {
        name: _object(value, models[name], definitions, name in nullable)
        for name, value in definitions.items()
        if name in models
    }
    return {**_object(schema, WorkflowSpec, definitions, False), "$defs": found}


def any_case(words: Iterable[str], but: str = "") -> str:
    """A pattern for words in any case; in the flavours of Python and ECMAScript, without flags.

    :param but: a spelling that does not match.
    """
    spelled = "|".join("".join(_letter(char) for char in word) for word in dict.fromkeys(words))
    return f"^(?!{_escaped(but)}$)(?:{spelled})$" if but else f"^(?:{spelled})$"


def required_fields(names: Iterable[str]) -> list[Schema]:
    """For ``allOf``: each of the fields is there, in any spelling. An editor names the one that lacks."""
    return [
        {"if": {"propertyNames": {"not": {"pattern": any_case([name], but=name)}}}, "then": {"required": [name]}}
        for name in names
    ]


def other_spellings(properties: Mapping[str, Schema], also: Mapping[str, Iterable[str]] | None = None) -> Schema:
    """For ``patternProperties``: the fields in other spellings than the documented one.

    :param also: further names of a field.
    """
    return {any_case([name, *(also or {}).get(name, ())], but=name): value for name, value in properties.items()}


def text_or(*patterns: str) -> Schema:
    """A text that matches one of the patterns."""
    return {"type": "string", "pattern": "|".join(patterns)}


def choice(values: Iterable[str], *patterns: str) -> Schema:
    """One of the texts in any case, or a text of one of the patterns."""
    known = list(values)
    return {"anyOf": [{"enum": known}, text_or(any_case(known), *patterns)]}


def number(schema: Schema) -> Schema:
    """A number, also one that is written as a text."""
    return {**schema, "type": [schema["type"], "string"], "pattern": _NUMBER}


def boolean(*patterns: str) -> Schema:
    """True or false, also as a text."""
    return {"type": ["boolean", "string"], "pattern": "|".join((_TRUTHS, *patterns))}


def or_nothing(schema: Schema) -> Schema:
    """The same, or an empty value."""
    if "type" in schema and "enum" not in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return {**schema, "type": [*kinds, "null"]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    return schema


def _models(model: type) -> dict[str, Any]:
    """Models below one, by name."""
    found: dict[str, Any] = {}
    for shape in fields_of(model).values():
        if shape.model is not None and shape.model.__name__ not in found:
            found[shape.model.__name__] = shape.model
            found |= _models(shape.model)
    return found


def _object(schema: Schema, model: Any, definitions: Schema, nullable: bool) -> Schema:
    required = schema.get("required", [])
    properties = {
        name: _field(value, definitions, name in required) for name, value in schema.get("properties", {}).items()
    }
    aliases = {info.alias: [name] for name, info in model.model_fields.items() if info.alias}
    spellings = other_spellings({name: value for name, value in properties.items() if name != "$schema"}, aliases)
    kept = {key: value for key, value in schema.items() if key not in ("required", "properties", "$defs")}
    return {
        **kept,
        "type": ["object", "null"] if nullable else "object",
        "properties": properties,
        "patternProperties": {**spellings, any_case(sorted(IGNORED_FIELDS)): _IGNORED},
        **({"allOf": required_fields(required)} if required else {}),
    }


def _field(schema: Schema, definitions: Schema, required: bool) -> Schema:
    """The schema of a field's value."""
    about: Schema = {key: schema[key] for key in ("description", "examples", "default") if key in schema}
    inner = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    value = _value({key: item for key, item in inner.items() if key not in about}, definitions)
    return {**about, **(value if required else or_nothing(value))}


def _value(schema: Schema, definitions: Schema) -> Schema:
    name = _referenced(schema)
    if name and "enum" in definitions[name]:
        return choice(definitions[name]["enum"])
    if "enum" in schema:
        return choice(schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return {**schema, "items": _value(schema.get("items", {}), definitions)}
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return {**schema, "additionalProperties": _value(schema["additionalProperties"], definitions)}
    if kind == "string":
        told = {"patternErrorMessage": _PATTERNS[schema["pattern"]]} if schema.get("pattern") in _PATTERNS else {}
        return {**schema, **told, "type": ["string", "number"]}
    if kind == "boolean":
        return boolean()
    return number(schema) if kind in ("number", "integer") else dict(schema)


def _referenced(schema: Schema) -> str:
    """The definition that a field's value is of, or an empty text."""
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            return str(one["$ref"]).rpartition("/")[2]
    return ""


def _letter(char: str) -> str:
    return f"[{char.upper()}{char.lower()}]" if char.isalpha() else _escaped(char)


def _escaped(text: str) -> str:
    return "".join(char if char.isalnum() or char in "_-" else f"\\{char}" for char in text)
