"""``airflow monai workflows``: the registered workflows, in this host's store or of a server."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from airflow_monai.cli.printing import print_json, print_table
from airflow_monai.cli.progress import Progress
from airflow_monai.errors import MonaiError, ServerRefused, SpecError, WorkflowNotFound

if TYPE_CHECKING:
    from airflow_monai.client.server import Server
    from airflow_monai.settings import Settings
    from airflow_monai.workflows.catalog import Known

Row = dict[str, Any]
OK, REFUSED = 0, 1


class Workflows(ABC):
    """Where the workflows are. What is asked by name or id is found by either."""

    @abstractmethod
    def listed(self) -> list[Row]:
        """All: workflow_id, name, revision, version, status, origin, ae_title; ``workflow`` where it is at hand."""

    @abstractmethod
    def definition(self, row: Row) -> dict[str, Any]: ...

    @abstractmethod
    def revisions(self, row: Row) -> list[Row]:
        """revision, version, changed_at, changed_by of each."""

    @abstractmethod
    def register(self, data: bytes, is_json: bool) -> Row:
        """workflow_id, revision."""

    @abstractmethod
    def update(self, row: Row, data: bytes, is_json: bool) -> Row: ...

    @abstractmethod
    def delete(self, row: Row) -> None: ...

    @abstractmethod
    def validate(self, data: bytes, is_json: bool) -> None: ...

    def one(self, wanted: str) -> Row:
        """
        :raises WorkflowNotFound: when there is none of this id or name.
        """
        lower = wanted.strip().lower()
        for row in self.listed():
            if lower in (row["workflow_id"], row["name"].lower()):
                return row
        raise WorkflowNotFound(f"There is no workflow {wanted!r}.")


class LocalWorkflows(Workflows):
    """Those of this host's store and workflow folder."""

    def __init__(self, settings: Settings):
        from airflow_monai.store import open_store
        from airflow_monai.workflows.catalog import Catalog
        from airflow_monai.workflows.registration import Registration
        from airflow_monai.workflows.registry import WorkflowRegistry

        store = open_store(settings.store)
        self._catalog = Catalog(settings.workflow_folder, store)
        self._registry = WorkflowRegistry(store)
        self._registration = Registration(self._registry, self._catalog.plans)

    def listed(self) -> list[Row]:
        return [_row(one) for one in self._catalog.all()]

    def definition(self, row: Row) -> dict[str, Any]:
        return self._catalog.definition(self._catalog.of_id(row["workflow_id"]))

    def revisions(self, row: Row) -> list[Row]:
        names = ("revision", "version", "changed_at", "changed_by")
        try:
            history = self._registry.history(row["workflow_id"])
        except WorkflowNotFound:
            return [{name: row.get(name, "") for name in names}]
        return [{name: getattr(one, name) for name in names} for one in history.revisions(0, len(history))]

    def register(self, data: bytes, is_json: bool) -> Row:
        from airflow_monai.workflows.definition import read_body

        done = self._registration.register(read_body(data, is_json=is_json), _user())
        return {"workflow_id": done.workflow_id, "revision": done.revision}

    def update(self, row: Row, data: bytes, is_json: bool) -> Row:
        from airflow_monai.workflows.definition import read_body

        record = self._catalog.of_id(row["workflow_id"]).editable()
        done = self._registration.update(record.workflow_id, read_body(data, is_json=is_json), _user())
        return {"workflow_id": done.workflow_id, "revision": done.revision}

    def delete(self, row: Row) -> None:
        self._registry.delete(self._catalog.of_id(row["workflow_id"]).editable().workflow_id, _user())

    def validate(self, data: bytes, is_json: bool) -> None:
        from airflow_monai.workflows.definition import read_body

        self._registration.validate(read_body(data, is_json=is_json))


class RemoteWorkflows(Workflows):
    """Those of a server."""

    def __init__(self, server: Server, progress: Progress):
        self._server, self._progress = server, progress

    def listed(self) -> list[Row]:
        rows: list[Row] = []
        for data, total in self._server.pages("/workflows"):
            rows += [_remote_row(one) for one in data]
            self._progress.tell(f"{len(rows)} of {total} workflows")
        self._progress.clear()
        return rows

    def definition(self, row: Row) -> dict[str, Any]:
        return dict(self._server.call("GET", "/workflow", id=row["workflow_id"]))

    def revisions(self, row: Row) -> list[Row]:
        pages = self._server.pages(f"/workflows/{row['workflow_id']}/revisions")
        return [
            {
                "revision": one["revision"],
                "version": str(one["workflow"].get("version", "")),
                "changed_at": one.get("changed_at") or "",
                "changed_by": one.get("changed_by") or "",
            }
            for data, _ in pages
            for one in data
        ]

    def register(self, data: bytes, is_json: bool) -> Row:
        done = self._server.call("POST", "/workflows", content=data, kind=_kind(is_json))
        return {"workflow_id": done["id"], "revision": 1}

    def update(self, row: Row, data: bytes, is_json: bool) -> Row:
        done = self._server.call("PUT", f"/workflows/{row['workflow_id']}", content=data, kind=_kind(is_json))
        return {"workflow_id": done["id"], "revision": int(done["version_id"])}

    def delete(self, row: Row) -> None:
        self._server.call("DELETE", f"/workflows/{row['workflow_id']}")

    def validate(self, data: bytes, is_json: bool) -> None:
        self._server.call("POST", "/workflows/validate", content=data, kind=_kind(is_json))


def workflows_of(url: str | None, user: str | None) -> Workflows:
    """Those of the server that is named, in the environment if not here; else those of this host's store.

    :raises SettingsError: when it cannot be told who asks, or where.
    """
    import os

    from airflow_monai.client.server import URL, Login, Server

    address = url or os.environ.get(URL, "")
    if address:
        server = Server(address, "workflow-manager", Login.of_environment(user or ""))
        return RemoteWorkflows(server, Progress(sys.stderr))
    from airflow_monai import settings

    return LocalWorkflows(settings.load())


def run_register(workflows: Workflows, file: str, as_json: bool, out: TextIO) -> int:
    data, is_json = _read(file)
    return _changed(file, lambda: workflows.register(data, is_json), "Registered", as_json, out)


def run_update(workflows: Workflows, wanted: str, file: str, as_json: bool, out: TextIO) -> int:
    data, is_json = _read(file)
    return _changed(file, lambda: workflows.update(workflows.one(wanted), data, is_json), "Updated", as_json, out)


def run_delete(workflows: Workflows, wanted: str, as_json: bool, out: TextIO) -> int:
    row = workflows.one(wanted)
    workflows.delete(row)
    if as_json:
        print_json({"workflow_id": row["workflow_id"]}, out)
    else:
        print(f"Deleted {row['name']}, {row['workflow_id']}. Runs under way end as they would.", file=out)
    return OK


def run_list(workflows: Workflows, as_json: bool, out: TextIO) -> int:
    rows = workflows.listed()
    if as_json:
        print_json(rows, out)
        return OK
    names = ("name", "version", "status", "origin", "ae_title", "revision", "workflow_id")
    print_table([[name.upper().replace("_", " ") for name in names], *([str(r[n]) for n in names] for r in rows)], out)
    return OK


def run_show(workflows: Workflows, wanted: str, as_json: bool, out: TextIO) -> int:
    import yaml

    row = workflows.one(wanted)
    definition, history = workflows.definition(row), workflows.revisions(row)
    if as_json:
        print_json({**row, "workflow": definition, "revisions": history}, out)
        return OK
    print(f"# {row['workflow_id']}, {row['origin']}, {row['status']}", file=out)
    for one in history:
        by = f" by {one['changed_by']}" if one["changed_by"] else ""
        print(f"# revision {one['revision']}: version {one['version']} {one['changed_at']}{by}".rstrip(), file=out)
    out.write(yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=110))
    return OK


def run_validate(workflows: Workflows, files: Sequence[str], as_json: bool, out: TextIO) -> int:
    """:return: 1 when one of the files could not be registered."""
    found = {file: _problems(file, workflows) for file in files}
    if as_json:
        print_json([{"file": file, **problem} for file, every in found.items() for problem in every], out)
    else:
        for file, every in found.items():
            _print_problems(file, every, out)
            if not every:
                print(f"{file}: can be registered", file=out)
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


def _changed(file: str, change: Any, done: str, as_json: bool, out: TextIO) -> int:
    try:
        row = change()
    except MonaiError as error:
        problems = _told(error)
        if problems is None:
            raise
        if as_json:
            print_json({"errors": problems}, out)
        else:
            _print_problems(file, problems, sys.stderr)
        return REFUSED
    if as_json:
        print_json(row, out)
    else:
        print(f"{done} {row['workflow_id']}, revision {row['revision']}.", file=out)
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


def _row(one: Known) -> Row:
    return {
        "workflow_id": one.workflow_id,
        "name": one.name,
        "revision": one.revision,
        "version": one.version,
        "status": one.status.value,
        "origin": one.origin.value,
        "ae_title": one.ae_title,
    }


def _remote_row(one: Mapping[str, Any]) -> Row:
    definition = {key.lower(): value for key, value in one["workflow"].items()}
    gateway = definition.get("informatics_gateway")
    title = next((v for k, v in gateway.items() if k.lower() == "ae_title"), "") if isinstance(gateway, dict) else ""
    return {
        "workflow_id": one["workflow_id"],
        "name": str(definition.get("name", "")),
        "revision": one["revision"],
        "version": str(definition.get("version", "")),
        "status": one.get("status") or "",
        "origin": one.get("origin") or "",
        "ae_title": str(title),
    }


def _kind(is_json: bool) -> str:
    return "application/json" if is_json else "application/yaml"


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return ""
