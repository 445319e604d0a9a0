"""Fills what a workflow file does not say from defaults files, value by value, so that each keeps its own place.

Mappings are merged; lists and single values are the workflow's or, where it has none, the nearest default. A field that
is written without a value stays as it is: it asks for what would hold without defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from airflow_monai.specs.defaults.model import DefaultsSpec, type_name
from airflow_monai.specs.model import TaskSpec, WorkflowSpec
from airflow_monai.specs.tree.loader import MAX_BYTES, MAX_DEPTH, MAX_NODES, LoadError
from airflow_monai.specs.tree.nodes import Node, Shape
from airflow_monai.specs.tree.shaping import FieldShape, fields_of

Entry = tuple[Node, Node]


def filled(root: Node, layers: Sequence[Node]) -> Node:
    """The tree of a workflow file with what it does not say taken from defaults.

    :param layers: trees of defaults files, the nearest first.
    :raises LoadError: when the result is larger than one file may be.
    """
    for layer in layers:
        if layer.shape is Shape.MAPPING:
            root = _with_layer(root, layer)
    return root


def _with_layer(root: Node, layer: Node) -> Node:
    fields = fields_of(DefaultsSpec)
    known = [(fields[key.text.lower()].name, key, value) for key, value in layer.entries if key.text.lower() in fields]
    own = [(key, value) for name, key, value in known if name not in ("tasks", "task_types")]
    root = _merged(root, own, fields_of(WorkflowSpec))
    for_all = next((value for name, _, value in known if name == "tasks"), None)
    by_type = next((value for name, _, value in known if name == "task_types"), None)
    types = {type_name(key.text): value for key, value in by_type.entries} if by_type else {}
    entries = [
        (key, _tasks(value, types, for_all) if key.text.lower() == "tasks" else value) for key, value in root.entries
    ]
    return _measured(root, entries=entries)


def _tasks(tasks: Node, types: dict[str, Node], for_all: Node | None) -> Node:
    """Every task with what is for its type, and then with what is for all."""
    if tasks.shape is not Shape.LIST:
        return tasks
    items, size, length = [], 0, 0
    for task in tasks.items:
        for defaults in (types.get(_type_of(task)), for_all):
            if task.shape is Shape.MAPPING and defaults is not None:
                task = _merged(task, defaults.entries, fields_of(TaskSpec))
        items.append(task)
        size, length = size + task.size, length + task.length
        _check(task, size, length)
    return _measured(tasks, items=items)


def _type_of(task: Node) -> str:
    return next((type_name(value.text) for key, value in task.entries if key.text.lower() == "type"), "")


def _merged(own: Node, defaults: Sequence[Entry], fields: dict[str, FieldShape]) -> Node:
    """A mapping along its model: field names compare in any case and spelling."""

    def name(key: Node) -> str | None:
        known = fields.get(key.text.lower())
        return known.name if known else None

    def below(key: Node, value: Node, default: Node) -> Node:
        known = fields[key.text.lower()]
        if known.is_free:
            return _free(value, default, str.lower)
        are_mappings = value.shape is default.shape is Shape.MAPPING
        if known.model is None or known.is_list or not are_mappings:
            return value
        return _merged(value, default.entries, fields_of(known.model))

    return _joined(own, defaults, name, below)


def _free(own: Node, default: Node, name: Callable[[str], str]) -> Node:
    """A mapping with names of the author's, and the mappings in it."""
    if own.shape is not Shape.MAPPING or default.shape is not Shape.MAPPING:
        return own
    return _joined(own, default.entries, lambda key: name(key.text), lambda _, mine, other: _free(mine, other, str))


def _joined(
    own: Node,
    defaults: Sequence[Entry],
    name: Callable[[Node], str | None],
    below: Callable[[Node, Node, Node], Node],
) -> Node:
    entries = list(own.entries)
    index = {name(key): place for place, (key, _) in reversed(list(enumerate(entries)))}
    for key, value in defaults:
        known = name(key)
        if known is None:
            continue
        if known not in index:
            index[known] = len(entries)
            entries.append((key, value))
        elif index[known] < len(own.entries):
            mine, my_value = own.entries[index[known]]
            entries[index[known]] = mine, below(mine, my_value, value)
    return _measured(own, entries=entries)


def _measured(node: Node, *, entries: list[Entry] | None = None, items: list[Node] | None = None) -> Node:
    """The node with other content, its measures taken anew as the loader takes them."""
    node = replace(node, entries=entries or [], items=items or [])
    below = [value for _, value in node.entries] or node.items
    node.size = 1 + sum(value.size for value in below)
    node.length = sum(value.length for value in below) + sum(len(key.text) for key, _ in node.entries)
    node.height = 1 + max((value.height for value in below), default=0)
    _check(node, node.size, node.length)
    return node


def _check(node: Node, size: int, length: int) -> None:
    if size > MAX_NODES or length > MAX_BYTES:
        code, many = (
            ("too-many-nodes", f"{MAX_NODES} values") if size > MAX_NODES else ("too-large", f"{MAX_BYTES} bytes")
        )
        message = f"the file and the defaults that it takes hold more than {many}"
        raise LoadError(code, message, node.line, node.column, "say less in the defaults")
    if node.height > MAX_DEPTH:
        raise LoadError("too-deep", f"the file is nested deeper than {MAX_DEPTH} levels", node.line, node.column)
