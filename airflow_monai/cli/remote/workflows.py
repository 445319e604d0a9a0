"""The workflows of a server, by the Workflow Manager API, for ``airflow monai workflows``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_monai.cli.progress import Progress
from airflow_monai.cli.workflow_places import Row, Workflows
from airflow_monai.client.server import Server


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
