"""YAML and JSON text to a tree of nodes with places, within bounds, whatever the bytes are.

The tree is built from parser events: the parser's own composer recurses in C and expands aliases without a bound.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from airflow_monai.specs.tree.nodes import Node, Shape
from airflow_monai.specs.tree.yaml_hints import QUOTES, syntax_hint

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_NODES = 30_000

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))
_TEXT_TAGS = frozenset({"tag:yaml.org,2002:str", "!"})
_JSON_HINTS = {
    "Expecting ',' delimiter": "put a comma between two entries",
    "Expecting property name enclosed in double quotes": "put the name in double quotes, and no comma before '}'",
    "Illegal trailing comma before end of object": "remove the comma",
    "Illegal trailing comma before end of array": "remove the comma",
    "Expecting value": 'put a text in double quotes, as in "text"',
    "Invalid control character at": "close the text with a double quote before the end of the line",
    "Unterminated string starting at": "close the text with a double quote",
}
_PAIR = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


class LoadError(Exception):
    """The text is no YAML or JSON that may be read; ``line`` and ``column`` count from 0."""

    def __init__(self, code: str, message: str, line: int = 0, column: int = 0, hint: str = ""):
        super().__init__(message)
        self.code, self.message, self.line, self.column, self.hint = code, message, line, column, hint


def decode(data: bytes) -> str:
    """The text of a file, line ends normalised to a line feed.

    :raises LoadError: when it is too large or no UTF-8.
    """
    if len(data) > MAX_BYTES:
        raise LoadError("too-large", f"the file has more than {MAX_BYTES} bytes, the most that it may have")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8-sig", "replace").split("\n")
        raise LoadError(
            "not-utf8", "the file is not UTF-8 text", len(good) - 1, len(good[-1]), "save it with the encoding UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def compose(text: str, is_json: bool = False) -> tuple[Node, list[LoadError]]:
    """The tree of the one document of a text, and the problems that do not stop reading (keys given twice).

    :param is_json: the text is meant to be JSON, and what is wrong with it is told in the terms of JSON.
    :raises LoadError: when the text cannot be read.
    """
    if len(text) > MAX_BYTES:
        raise LoadError("too-large", f"the text has {len(text)} characters; {MAX_BYTES} are allowed")
    composer = _Composer()
    try:
        composer.read(_PARSER(_readable(text)))
    except yaml.MarkedYAMLError as error:
        if is_json and (told := _json_error(text)):
            raise told from error
        mark = error.problem_mark or error.context_mark
        place = (mark.line, mark.column) if mark else (0, 0)
        raise LoadError("yaml-syntax", _syntax(error), *place, syntax_hint(text, error)) from error
    except yaml.reader.ReaderError as error:
        message = f"the text holds a character that YAML does not allow ({error.reason})"
        hint = "remove it, or save the file as text with the encoding UTF-8"
        raise LoadError("yaml-syntax", message, *_character_place(text), hint) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise LoadError("yaml-syntax", f"the text is no YAML ({type(error).__name__})") from error
    if composer.root is None or composer.root.is_null:
        raise LoadError("empty-file", "the file holds no workflow")
    return composer.root, composer.problems


def _readable(text: str) -> str:
    """JSON may be indented by tabs and may write a character as a surrogate pair; YAML knows neither. A tab within a
    JSON text is not legal, so that each may become one blank: columns stay as they are."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    return _PAIR.sub(lambda pair: _joined(pair[1], pair[2]), text.replace("\t", " "))


def _joined(high: str, low: str) -> str:
    return f"\\U{0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00:08x}"


def _character_place(text: str) -> tuple[int, int]:
    """Line and column (from 0) of the first character that YAML does not allow; the parser tells bytes only."""
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    before = text[: found.start() if found else 0].split("\n")
    return len(before) - 1, len(before[-1])


def _json_error(text: str) -> LoadError | None:
    """What a reader of JSON alone says about a text; None where it finds nothing, or the nesting is too deep for it."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        why = f"{error.msg[:1].lower()}{error.msg[1:]}"
        hint = _JSON_HINTS.get(error.msg, "")
        return LoadError("json-syntax", f"the text is no JSON: {why}", error.lineno - 1, error.colno - 1, hint)
    except (ValueError, RecursionError):
        return None
    return None


def _syntax(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return "the text is no YAML: " + ", ".join(str(part) for part in parts)


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come.

    :param key: a mapping's key that waits for its value; ``seen``: its keys so far, by text.
    """

    node: Node
    anchor: str | None
    key: Node | None = None
    seen: dict[str, Node] = field(default_factory=dict)


@dataclass(slots=True)
class _Composer:
    root: Node | None = None
    problems: list[LoadError] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)
    documents: int = 0
    count: int = 0

    def read(self, parser: Any) -> None:
        """Take all events of a parser. (``yaml.parse`` asks for each event twice.)"""
        takers = {
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._begin,
        }
        try:
            while (kind := type(event := parser.get_event())) is not yaml.StreamEndEvent:
                if kind is yaml.ScalarEvent:
                    self._add(self._scalar(event), event.anchor)
                elif take := takers.get(kind):
                    take(event)
        finally:
            parser.dispose()

    def _begin(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            raise _at(event, "several-documents", "one file holds one workflow, and a second document begins here")

    def _scalar(self, event: Any) -> Node:
        if event.tag is not None:
            _check_tag(event)
        mark, text = event.start_mark, event.value
        style = event.style or ("!" if event.tag in _TEXT_TAGS else "")
        end = event.end_mark.index
        return Node(Shape.SCALAR, mark.line, mark.column, mark.index, end, text, style, length=len(text))

    def _open(self, event: Any) -> None:
        if event.tag is not None:
            _check_tag(event)
        is_mapping = type(event) is yaml.MappingStartEvent
        if len(self.stack) >= MAX_DEPTH:
            raise _at(event, "too-deep", f"the file is nested deeper than {MAX_DEPTH} levels")
        self._expect_no_key(event)
        if event.anchor:
            self.anchors[event.anchor] = None
        mark = event.start_mark
        node = Node(Shape.MAPPING if is_mapping else Shape.LIST, mark.line, mark.column, mark.index)
        if is_mapping:
            node.entries = []
        else:
            node.items = []
        self.stack.append(_Open(node, event.anchor))

    def _expect_no_key(self, event: Any) -> None:
        if self.stack and self.stack[-1].node.shape is Shape.MAPPING and self.stack[-1].key is None:
            raise _at(event, "key-not-text", "a key must be a plain text", QUOTES)

    def _close(self, event: Any) -> None:
        done = self.stack.pop()
        done.node.end = event.end_mark.index
        if "<<" in done.seen:
            self._merge(done.node)
        self._add(done.node, done.anchor)

    def _alias(self, event: yaml.AliasEvent) -> None:
        target = self.anchors.get(str(event.anchor))
        if target is None:
            known = event.anchor in self.anchors
            what = f"*{event.anchor} stands within what it names" if known else f"there is no anchor &{event.anchor}"
            hint = "" if known else f"write &{str(event.anchor)[:60]} before the value that it names, above this line"
            raise _at(event, "bad-alias", what, hint)
        self._add(target, None, event)

    def _add(self, node: Node, anchor: str | None, event: Any = None) -> None:
        """Put a finished node where it belongs."""
        if anchor:
            self.anchors[anchor] = node
        self.count += 1
        if self.count > MAX_NODES:
            raise LoadError("too-many-nodes", f"the file holds more than {MAX_NODES} values", node.line, node.column)
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        if parent.node.shape is Shape.LIST:
            parent.node.items.append(node)
        elif parent.key is None:
            if node.shape is not Shape.SCALAR:
                raise LoadError("key-not-text", "a key must be a plain text", node.line, node.column, QUOTES)
            parent.key = node
            return
        else:
            self._entry(parent, node)
        _grow(parent.node, node)

    def _entry(self, parent: _Open, value: Node) -> None:
        key, parent.key = parent.key, None
        assert key is not None
        parent.node.length += key.length
        first = parent.seen.setdefault(key.text, key)
        if first is key:
            parent.node.entries.append((key, value))
            return
        self.problems.append(
            LoadError(
                "duplicate-key",
                f"{key.text[:80]!r} is given twice: on line {first.line + 1} and on line {key.line + 1}",
                key.line,
                key.column,
                "keep one of them",
            )
        )

    def _merge(self, node: Node) -> None:
        """Replace ``<<: *anchor`` by the entries it names; those written beside it win."""
        merge = next((entry for entry in node.entries if entry[0].text == "<<" and not entry[0].style), None)
        if merge is None:
            return
        own = [entry for entry in node.entries if entry is not merge]
        known = {key.text for key, _ in own}
        for source in _merged(merge[1]):
            for key, value in source.entries:
                if key.text not in known:
                    known.add(key.text)
                    own.append((key, value))
        node.entries = own


def _merged(value: Node) -> Iterator[Node]:
    for source in value.items if value.shape is Shape.LIST else [value]:
        if source.shape is not Shape.MAPPING:
            raise LoadError("bad-merge", "'<<' merges mappings only", value.line, value.column, "write <<: *anchor")
        yield source


def _grow(parent: Node, child: Node) -> None:
    parent.size += child.size
    parent.length += child.length
    if parent.height <= child.height:
        parent.height = child.height + 1
    if parent.length > MAX_BYTES:
        message = f"the file's texts have more than {MAX_BYTES} characters, those behind aliases counted each time"
        raise LoadError("too-large", message, child.line, child.column, "use fewer aliases")
    if parent.size > MAX_NODES:
        message = f"the file holds more than {MAX_NODES} values"
        raise LoadError("too-many-nodes", message, child.line, child.column, "use fewer aliases")
    if parent.height > MAX_DEPTH:
        raise LoadError("too-deep", f"the file is nested deeper than {MAX_DEPTH} levels", child.line, child.column)


def _check_tag(event: Any) -> None:
    if event.tag != "!" and event.tag not in _CORE_TAGS:
        hint = "remove it: values are text, lists, mappings"
        raise _at(event, "custom-tag", f"the tag {event.tag[:80]!r} is not allowed", hint)


def _at(event: Any, code: str, message: str, hint: str = "") -> LoadError:
    return LoadError(code, message, event.start_mark.line, event.start_mark.column, hint)
