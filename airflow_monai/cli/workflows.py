"""``airflow monai workflows``: the registered workflows, in this host's store or of a server."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TextIO

from airflow_monai.cli.elsewhere import is_elsewhere
from airflow_monai.cli.ending import ends
from airflow_monai.cli.printing import print_json, print_rows
from airflow_monai.cli.progress import Progress
from airflow_monai.cli.workflow_places import Row, Workflows
from airflow_monai.errors import MonaiError, ServerRefused, SpecError, WorkflowConflict, WorkflowNotFound

OK, REFUSED = 0, 1
_COLUMNS = ("name", "version", "status", "origin", "ae_title", "revision", "workflow_id")


def works(function: Callable[[Workflows, Namespace], int]) -> Callable[[Namespace], NoReturn]:
    """Make a command of what is done with workflows; exit code 1, with the reason on stderr, for what is refused."""

    @ends(refused=2)
    @wraps(function)
    def command(args: Namespace) -> int:
        try:
            return function(_workflows_of(args), args)
        except (ServerRefused, SpecError, WorkflowConflict, WorkflowNotFound) as error:
            print(f"error: {error}", file=sys.stderr)
            return REFUSED

    return command


def _workflows_of(args: Namespace) -> Workflows:
    """Those of the server that is named, in the environment if not here; else those of this host's store.

    :raises SettingsError: when it cannot be told who asks, or where.
    """
    if is_elsewhere(args):
        from airflow_monai.cli.remote.asking import WORKFLOW_MANAGER, server_of
        from airflow_monai.cli.remote.workflows import RemoteWorkflows

        return RemoteWorkflows(server_of(args.url, args.user, WORKFLOW_MANAGER), Progress(sys.stderr))
    from airflow_monai import settings
    from airflow_monai.cli.here.workflows import LocalWorkflows

    return LocalWorkflows(settings.load())


@works
def register(workflows: Workflows, args: Namespace) -> int:
    data, is_json = _read(args.file)
    return _changed(args, lambda: workflows.register(data, is_json), "Registered")


@works
def update(workflows: Workflows, args: Namespace) -> int:
    data, is_json = _read(args.file)
    return _changed(args, lambda: workflows.update(workflows.one(args.workflow), data, is_json), "Updated")


@works
def delete(workflows: Workflows, args: Namespace) -> int:
    row = workflows.one(args.workflow)
    workflows.delete(row)
    if args.json:
        print_json({"workflow_id": row["workflow_id"]}, sys.stdout)
    else:
        print(f"Deleted {row['name']}, {row['workflow_id']}. Runs under way end as they would.")
    return OK


@works
def list_all(workflows: Workflows, args: Namespace) -> int:
    rows = workflows.listed()
    if args.json:
        print_json(rows, sys.stdout)
    else:
        print_rows(rows, _COLUMNS, sys.stdout)
    return OK


@works
def show(workflows: Workflows, args: Namespace) -> int:
    import yaml

    row = workflows.one(args.workflow)
    definition, history = workflows.definition(row), workflows.revisions(row)
    if args.json:
        print_json({**row, "workflow": definition, "revisions": history}, sys.stdout)
        return OK
    print(f"# {row['workflow_id']}, {row['origin']}, {row['status']}")
    for one in history:
        by = f" by {one['changed_by']}" if one["changed_by"] else ""
        print(f"# revision {one['revision']}: version {one['version']} {one['changed_at']}{by}".rstrip())
    sys.stdout.write(yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=110))
    return OK


@works
def validate(workflows: Workflows, args: Namespace) -> int:
    """Exit code 1 when one of the files could not be registered."""
    found = {file: _problems(file, workflows) for file in args.files}
    if args.json:
        print_json([{"file": file, **problem} for file, every in found.items() for problem in every], sys.stdout)
    else:
        for file, every in found.items():
            _print_problems(file, every, sys.stdout)
            if not every:
                print(f"{file}: can be registered")
    return REFUSED if any(found.values()) else OK


def _problems(file: str, workflows: Workflows) -> list[Row]:
    try:
        workflows.validate(*_read(file))
    except MonaiError as error:
        found = _told(error)
        if found is None:
            raise
        return found
    return []


def _changed(args: Namespace, change: Callable[[], Row], done: str) -> int:
    try:
        row = change()
    except MonaiError as error:
        problems = _told(error)
        if problems is None:
            raise
        if args.json:
            print_json({"errors": problems}, sys.stdout)
        else:
            _print_problems(args.file, problems, sys.stderr)
        return REFUSED
    if args.json:
        print_json(row, sys.stdout)
    else:
        print(f"{done} {row['workflow_id']}, revision {row['revision']}.")
    return OK


def _told(error: MonaiError) -> list[Row] | None:
    """What is wrong with a definition; None for an error that is not about one."""
    if isinstance(error, SpecError):
        return [
            {
                "field": problem.path,
                "message": problem.message,
                "hint": problem.hint,
                **({"line": problem.line, "column": problem.column} if problem.line else {}),
            }
            for problem in error.problems
        ] or [{"field": "", "message": str(error), "hint": ""}]
    if isinstance(error, ServerRefused) and error.errors:
        return [{**one, "field": str(one.get("field", "")).removeprefix("body").lstrip(".")} for one in error.errors]
    return None


def _print_problems(file: str, problems: Iterable[Mapping[str, Any]], out: TextIO) -> None:
    for one in problems:
        place = f"{file}:{one['line']}:{one['column']}" if one.get("line") else file
        field = f" {one['field']}:" if one.get("field") else ""
        hint = f" - {one['hint']}" if one.get("hint") else ""
        print(f"{place}:{field} {one['message']}{hint}", file=out)


def _read(file: str) -> tuple[bytes, bool]:
    """A file's bytes, and whether they are meant to be JSON."""
    from airflow_monai.specs.tree.loader import MAX_BYTES

    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(file, "rb") as opened:
                data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise MonaiError(f"{file} cannot be read: {error.strerror or error}.") from error
    is_json = Path(file).suffix.lower() == ".json" if file != "-" else data.lstrip()[:1] == b"{"
    return data, is_json
