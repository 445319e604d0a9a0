"""Fills in what the pages of this folder take from elsewhere: tables from the code, examples from files.

A page holds ``<!-- fields: TaskSpec -->``, ``<!-- arguments: http -->``, ``<!-- connection: dicom -->``,
``<!-- file: path -->``, ``<!-- failures: all -->``, ``<!-- rights: all -->`` or ``<!-- commands: servers -->``, then
what belongs there, then ``<!-- end -->``.
``python docs/update.py`` writes it anew, ``--check`` only says whether anything has changed since (exit code 1).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
REPOSITORY = DOCS.parent
_BLOCK = re.compile(
    r"(<!-- (fields|arguments|connection|file|failures|rights|commands): (\S+) -->\n).*?(<!-- end -->)", re.DOTALL
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Change nothing; exit code 1 when a page is out of date.")
    check = parser.parse_args().check
    stale = [page for page in sorted(DOCS.glob("*.md")) if updated(page.read_text("utf-8")) != page.read_text("utf-8")]
    for page in stale:
        print(f"{page.relative_to(REPOSITORY)}: {'is out of date, run python docs/update.py' if check else 'written'}")
        if not check:
            page.write_text(updated(page.read_text("utf-8")), "utf-8")
    return 1 if check and stale else 0


def updated(text: str) -> str:
    """A page with its blocks as they have to be."""
    return _BLOCK.sub(lambda block: f"{block[1]}{_MAKERS[block[2]](block[3])}{block[4]}", text)


def fields(model: str) -> str:
    """The fields of an object of the language, as the JSON Schema has them."""
    from airflow_monai.specs.schema.workflow import workflow_schema

    schema = workflow_schema()
    described = schema if model == "WorkflowSpec" else schema["$defs"][model]
    required = set(described.get("required", ()))
    rows = [
        (f"`{name}`" + (" **needed**" if name in required else ""), _type(field, schema), _described(field))
        for name, field in described["properties"].items()
    ]
    return _table(("field", "value", "meaning"), rows)


def arguments(kind: str) -> str:
    """The arguments of a task type."""
    from airflow_monai.specs.plan import TaskType
    from airflow_monai.specs.task_types import TASK_TYPE_SPECS

    spec = TASK_TYPE_SPECS[TaskType(kind)]
    rows = [(f"`{arg.name}`" + (" **needed**" if arg.required else ""), _form(arg), _help(arg)) for arg in spec.args]
    return _table(("argument", "value", "meaning"), rows) if rows else "It takes no arguments.\n"


def connection(kind: str) -> str:
    """The fields of a connection type, as its form has them."""
    from airflow_monai.get_provider_info import get_provider_info

    form = next(form for form in get_provider_info()["connection-types"] if form["connection-type"] == kind)
    labels = form["ui-field-behaviour"]["relabeling"]
    rows = [(f"`{name}`", "", label) for name, label in labels.items()]
    rows += [
        (f"`extra.{name}`", _type(field["schema"], {}), _labelled(field)) for name, field in form["conn-fields"].items()
    ]
    return _table(("field", "value", "meaning"), rows)


def file(path: str) -> str:
    """The text of a file of this repository."""
    kind = "json" if path.endswith(".json") else "yaml"
    return f"```{kind}\n{(REPOSITORY / path).read_text('utf-8').rstrip()}\n```\n"


def failures(_: str) -> str:
    """The table of failures and attacks that the tests do one by one."""
    sys.path.insert(0, str(REPOSITORY))
    from tests.maps.failures import page

    return page()


def _form(arg: Any) -> str:
    return ", ".join(f"`{choice}`" for choice in arg.choices) if arg.choices else str(arg.form.value)


def _help(arg: Any) -> str:
    return arg.help + (f" Default: `{arg.default}`." if arg.default else "")


def _labelled(field: dict[str, Any]) -> str:
    default = field["schema"].get("default")
    text = f"{field['label']}. {field['description']}"
    return text if default in (None, "") else f"{text} Default: `{_json(default)}`."


def rights(_: str) -> str:
    """What a caller of the APIs may do, and who may in Airflow."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager, SimpleAuthManagerRole
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    from airflow_monai.api.common.access import MEANINGS, Right

    manager, words = SimpleAuthManager(), {"GET": "read", "POST": "create", "PUT": "edit", "DELETE": "delete"}

    def may(right: Right, role: str) -> bool:
        method, entity = right.value
        user = SimpleAuthManagerUser(username="anna", role=role)
        if entity == "connection":
            return bool(manager.is_authorized_connection(method=method, user=user))  # type: ignore[arg-type]
        return bool(manager.is_authorized_dag(method=method, access_entity=entity, user=user))  # type: ignore[arg-type]

    roles = sorted(SimpleAuthManagerRole, key=lambda role: role.order)
    rows = []
    for right, meaning in MEANINGS.items():
        method, entity = right.value
        what = entity if isinstance(entity, str) else entity.name.lower().replace("_", " ") if entity else "DAG"
        least = next(role.name for role in roles if may(right, role.name))
        plural = what if what.endswith("s") else f"{what}s"
        rows.append((meaning, f"{words[method]} {plural}", f"`{method}` {what}", least.lower()))
    return _table(("to do", "permission", "as auth managers are asked", "least role of the simple auth manager"), rows)


def commands(_: str) -> str:
    """The groups of commands that ask a server."""
    from airflow_monai.cli.commands import MONAI
    from airflow_monai.cli.model import Command, Group

    rows = []
    for group in (one for one in MONAI.commands if isinstance(one, Group)):
        asking = [
            f"`{command.name}`"
            for command in group.commands
            if isinstance(command, Command) and any("--url" in argument.flags for argument in command.arguments)
        ]
        if asking:
            rows.append((f"`{group.name}`", ", ".join(asking), group.help))
    return _table(("`airflow monai`", "commands", "what"), rows)


def _described(field: dict[str, Any]) -> str:
    text = " ".join(str(field.get("description", "")).split())
    default = field.get("default")
    return text if default in (None, "", [], {}) else f"{text} Default: `{_json(default)}`.".strip()


def _json(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_types(field, schema))) or "any value"


def _types(field: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        yield from (
            _types(schema["$defs"][name], schema)
            if "enum" in schema["$defs"][name]
            else (f"[{name}](#{name.lower()})",)
        )
    elif "anyOf" in field:
        for choice in field["anyOf"]:
            if choice.get("type") != "null":
                yield from _types(choice, schema)
    elif "enum" in field and len(field["enum"]) <= 12:
        yield ", ".join(f"`{choice}`" for choice in field["enum"])
    elif field.get("type") == "array":
        yield f"list of {_type(field.get('items', {}), schema)}"
    elif isinstance(field.get("type"), list):
        yield " or ".join(_PLAIN.get(kind, kind) for kind in field["type"] if kind != "null")
    elif "type" in field:
        yield _PLAIN.get(field["type"], field["type"])


_PLAIN = {"string": "text", "integer": "whole number", "object": "mapping", "boolean": "true or false"}


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    """A cell that Markdown shows as it is: no column of its own, no HTML outside code."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))


_MAKERS: dict[str, Callable[[str], str]] = {
    "fields": fields,
    "arguments": arguments,
    "connection": connection,
    "file": file,
    "failures": failures,
    "rights": rights,
    "commands": commands,
}

if __name__ == "__main__":
    sys.exit(main())
