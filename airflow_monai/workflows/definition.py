"""A workflow's definition as a request brings it, and as an answer shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from airflow_monai.errors import SpecError
from airflow_monai.specs.defaults.lookup import Defaults, parsed
from airflow_monai.specs.defaults.merging import filled
from airflow_monai.specs.model import WorkflowSpec
from airflow_monai.specs.problems import Problem
from airflow_monai.specs.tree.loader import LoadError, compose, decode
from airflow_monai.specs.tree.nodes import Node, Shape
from airflow_monai.specs.tree.shaping import FieldShape, fields_of

BODY = "the request"
"""Stands for a file's name in problems of what a request brings."""
_AROUND = frozenset({"workflow", "original_workflow_name", "id", "version", "workflow_id", "revision", "deleted"})


@dataclass(frozen=True, slots=True)
class Body:
    """What a request brings: a definition, whole or in part.

    :param fields: its attributes, as they are written.
    :param text: the same as a text to keep.
    :param sent: the text that was sent, where all of it is the definition: places in it say something to the sender.
    :param is_within: it stood in a field ``workflow``, as a Workflow Manager takes it for an update: it replaces the
        whole definition, what it does not name included.
    :param original_name: what the sender takes the workflow's present name to be; empty where it does not say.
    """

    fields: dict[str, Any]
    text: str
    sent: str = ""
    is_within: bool = False
    original_name: str = ""


def read_body(data: bytes, *, is_json: bool) -> Body:
    """The definition in a request's body.

    :raises SpecError: when it is no JSON, or no YAML, that may be read, or no mapping.
    """
    try:
        text = decode(data)
        root, twice = compose(text, is_json)
        for error in twice:
            raise error
        if is_json:
            _check_json(text)
        if root.shape is not Shape.MAPPING:
            raise LoadError("wrong-type", f"a workflow is a mapping, not {root.shape.value}", root.line, root.column)
        return _body(root, text, is_json)
    except LoadError as error:
        problem = Problem(BODY, error.line + 1, error.column + 1, error.code, error.message, error.hint)
        raise SpecError(error.message, problems=(problem,)) from error


def _check_json(text: str) -> None:
    try:
        json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        message = f"the text is no JSON: {error.msg}"
        raise LoadError("json-syntax", message, error.lineno - 1, error.colno - 1) from error
    except ValueError as error:
        raise LoadError("json-syntax", f"the text is no JSON: {str(error)[:200]}") from error


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number there")


def _body(root: Node, text: str, is_json: bool) -> Body:
    around = {key.text.lower(): value for key, value in root.entries}
    within = around.get("workflow")
    if within is None or not _AROUND.issuperset(around):
        fields = written(root, WorkflowSpec)
        return Body(fields, as_json(fields) if is_json else text, sent=text)
    if within.shape is not Shape.MAPPING:
        message = f"workflow: a mapping is needed here, not {within.shape.value}"
        raise LoadError("wrong-type", message, within.line, within.column)
    fields = written(within, WorkflowSpec)
    original = around.get("original_workflow_name")
    named = original.text if original is not None and not original.is_null else ""
    return Body(fields, as_json(fields), is_within=True, original_name=named.strip())


def as_json(fields: Mapping[str, Any]) -> str:
    """The definition as a text that both JSON and YAML take for the same."""
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    if all(char.isprintable() or char == "\n" for char in text):
        return text + "\n"
    return json.dumps(fields, indent=2) + "\n"  # YAML does not take all characters that JSON does


def merged(current: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A definition with those of its attributes replaced that a change names; one that it names without a value is
    taken out."""
    new = {_name(key): value for key, value in change.items()}
    both = {key: new.pop(_name(key), value) for key, value in current.items()}
    return {key: value for key, value in {**both, **new}.items() if value is not None}


def covers(change: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Whether a change names every attribute of a definition."""
    return {_name(key) for key in current} <= {_name(key) for key, value in change.items() if value is not None}


def _name(key: str) -> str:
    known = fields_of(WorkflowSpec).get(key.lower())
    return known.name if known else key


def definition_of(text: str, defaults: Sequence[Defaults] = ()) -> dict[str, Any]:
    """What a workflow's text says, as plain data.

    :param defaults: what it takes where it does not say it, the nearest first.
    :raises SpecError: when it cannot be read.
    """
    layers = [layer.root for layer in map(parsed, defaults) if layer.root is not None]
    try:
        root, _ = compose(decode(text.encode("utf-8", "replace")))
        return written(filled(root, layers), WorkflowSpec)
    except LoadError as error:
        raise SpecError(error.message) from error


def written(node: Node, model: type[BaseModel]) -> dict[str, Any]:
    """A mapping as plain data, as the model reads it: texts where it has texts (a version 1.10 is no number), numbers
    where it has numbers."""
    if node.shape is not Shape.MAPPING:
        return node.typed()  # type: ignore[no-any-return]  # the checks tell what is wrong with it
    fields, texts = fields_of(model), _text_fields(model)
    found = {}
    for key, value in node.entries:
        known = fields.get(key.text.lower())
        found[key.text] = _value(value, known, key.text.lower() in texts)
    return found


def _value(node: Node, known: FieldShape | None, is_text: bool) -> Any:
    if known is None or node.is_null:
        return node.typed()
    if known.is_list and node.shape is Shape.LIST:
        return [_item(item, known.model, is_text) for item in node.items]
    if known.is_free and node.shape is Shape.MAPPING:
        return {key.text: _free(value, known.model) for key, value in node.entries}
    return _item(node, known.model, is_text)


def _item(node: Node, model: type[BaseModel] | None, is_text: bool) -> Any:
    if model is not None:
        return written(node, model)
    return node.plain() if is_text and node.shape is Shape.SCALAR else node.typed()


def _free(node: Node, model: type[BaseModel] | None) -> Any:
    """A value of a mapping with names of the author's; a single one counts as it is written."""
    if model is not None:
        return written(node, model)
    value = node.typed()
    if node.shape is not Shape.SCALAR or isinstance(value, str) or value is None:
        return value
    return value if json.dumps(value) == node.text else node.text


@cache
def _text_fields(model: type[BaseModel]) -> frozenset[str]:
    """The fields, in lower case, whose values, or whose lists' elements, are texts."""
    found = {name: info.alias or name for name, info in model.model_fields.items() if _is_text(info.annotation)}
    return frozenset(name.lower() for pair in found.items() for name in pair)


def _is_text(annotation: Any) -> bool:
    if get_origin(annotation) is dict:
        return False
    return annotation is str or any(map(_is_text, get_args(annotation)))
