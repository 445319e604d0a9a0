"""The arguments of each task type in the editors' schema, from the tables in :mod:`airflow_monai.specs.task_types`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_monai.specs.choices import TASK_TYPE_ALIASES
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.schema.leniency import (
    Schema,
    any_case,
    boolean,
    choice,
    number,
    or_nothing,
    other_spellings,
    required_fields,
    text_or,
)
from airflow_monai.specs.task_types import TASK_TYPE_SPECS, Arg, Form, TaskTypeSpec

_TEMPLATE = r"\{\{"
_DURATION = r"^\s*[0-9]{1,9}(\.[0-9]{1,6})? ?([sSmMhHdD])?\s*$"
_NUMBERS = r"^\s*[+-]?[0-9]*\.?[0-9]*([eE][+-]?[0-9]{1,3})?\s*$"


def with_arguments(schema: Schema) -> Schema:
    """The schema with what a task needs on account of its type."""
    definitions = dict(schema["$defs"])
    task = dict(definitions["TaskSpec"])
    task["properties"] = {**task["properties"], "type": _types(task["properties"]["type"])}
    task["allOf"] = [*task.get("allOf", ()), *(_rule(spec) for spec in TASK_TYPE_SPECS.values())]
    definitions["TaskSpec"] = task
    definitions |= {_name(spec): _arguments(spec) for spec in TASK_TYPE_SPECS.values()}
    return {**schema, "$defs": definitions}


def _name(spec: TaskTypeSpec) -> str:
    return "".join(part.title() for part in spec.type.value.split("_")) + "Args"


def _spellings(kind: TaskType) -> list[str]:
    return [kind.value, *(alias for alias, meant in TASK_TYPE_ALIASES.items() if meant == kind.value)]


def _types(field: Schema) -> Schema:
    """The types to choose from, each with what it does; other spellings are let pass and not proposed."""
    known = [kind.value for kind in TaskType]
    summaries = [TASK_TYPE_SPECS[kind].summary for kind in TaskType]
    every = [name for kind in TaskType for name in _spellings(kind)]
    about = {key: field[key] for key in ("description",) if key in field}
    return {**about, "anyOf": [{"enum": known, "enumDescriptions": summaries}, text_or(any_case(every))]}


def _rule(spec: TaskTypeSpec) -> Schema:
    """What a task of this type has: its arguments, and what else it needs; destinations often come from defaults."""
    needed = ["args"] if any(arg.required for arg in spec.args) else []
    needed += ["artifacts"] if spec.needs_input else []
    then: Schema = {"properties": {"args": {"description": spec.summary, "$ref": f"#/$defs/{_name(spec)}"}}}
    if needed:
        then["allOf"] = required_fields(needed)
    of_type = {"required": ["type"], "properties": {"type": {"type": "string", "pattern": _is(spec.type)}}}
    return {"if": of_type, "then": then}


def _is(kind: TaskType) -> str:
    return any_case(_spellings(kind))


def _arguments(spec: TaskTypeSpec) -> Schema:
    properties = {arg.name: _argument(arg) for arg in spec.args}
    required = [arg.name for arg in spec.args if arg.required]
    patterns = {**other_spellings(properties), **_prefixes(spec.prefixes, properties)}
    found: Schema = {"type": ["object", "null"], "properties": properties}
    if spec.summary:
        found["description"] = spec.summary
    if patterns:
        found["patternProperties"] = patterns
    if not spec.args and not spec.prefixes:
        found["additionalProperties"] = {"deprecationMessage": f"A {spec.type.value} task takes no arguments."}
    elif spec.ignores_others:
        found["additionalProperties"] = {"deprecationMessage": f"It means nothing to a {spec.type.value} task."}
    elif "" not in spec.prefixes and not spec.takes_artifact_names:
        found["additionalProperties"] = False
    if required:
        found["allOf"] = required_fields(required)
    return found


def _prefixes(prefixes: Iterable[str], known: Iterable[str]) -> Schema:
    """Names that begin so, but for those of the table."""
    others = "".join(f"(?!{name}$)" for name in known)
    return {f"^{others}{prefix}": {} for prefix in prefixes if prefix}


def _argument(arg: Arg) -> Schema:
    """One argument: its value as the checks of arguments take it."""
    value = _value(arg)
    about: Schema = {"description": arg.help + (f" Default: {arg.default}." if arg.default else "")}
    if arg.example:
        about["examples"] = [arg.example]
    return {**about, **(value if arg.required else or_nothing(value))}


def _value(arg: Arg) -> Schema:
    templates = (_TEMPLATE,) if arg.template else ()
    makers: dict[Form, Any] = {
        Form.ANY: dict,
        Form.CHOICE: lambda: choice(arg.choices, *templates),
        Form.BOOLEAN: lambda: boolean(*templates),
        Form.NAMES: lambda: {"type": ["string", "array"], "items": {"type": ["string", "number"]}, "minItems": 1},
        Form.MAPPING: lambda: {"type": ["object", "string"], "pattern": _TEMPLATE} if templates else {"type": "object"},
        Form.DURATION: lambda: _number(arg, "number", _DURATION, *templates),
        Form.NUMBER: lambda: _number(arg, "number", _NUMBERS, *templates),
        Form.WHOLE: lambda: _number(arg, "integer", _NUMBERS, *templates),
    }
    maker = makers.get(arg.form)
    return maker() if maker else {"type": ["string", "number", "boolean"]}


def _number(arg: Arg, kind: str, *patterns: str) -> Schema:
    bounds = {"minimum": arg.minimum, "maximum": arg.maximum}
    schema = {"type": kind, **{name: bound for name, bound in bounds.items() if bound is not None}}
    return {**number(schema), "pattern": "|".join(patterns)}
