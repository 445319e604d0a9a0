"""A route for each right, asked about all there is; and who may, whichever auth manager."""

from __future__ import annotations

from typing import Any

import requests

from airflow_monai.api.common.access import Right
from tests.api.auth_managers.conftest import Server

GONE = "00000000-0000-4000-8000-000000000000"
ROUTES: dict[Right, tuple[str, str, dict[str, Any]]] = {
    Right.SEE_WORKFLOWS: ("GET", "/app-server/associations", {}),
    Right.EDIT_WORKFLOWS: ("POST", "/app-server/maps", {}),
    Right.SEE_RUNS: ("GET", "/app-server/datasets", {}),
    Right.START_RUNS: ("POST", "/app-server/datasets", {}),
    Right.CHANGE_RUNS: ("DELETE", f"/app-server/datasets/{GONE}", {}),
    Right.READ_DATA: ("GET", f"/app-server/datasets/{GONE}/files", {}),
    Right.CHANGE_TASKS: ("POST", "/workload-manager/sinks/OUTSIDE/tasks/take", {"count": 1}),
    Right.SEE_CONNECTIONS: ("GET", "/workload-manager/sinks", {}),
    Right.ADD_CONNECTIONS: ("POST", "/workflow-manager/credentials", {"id": "new", "type": "http", "host": "http://x"}),
    Right.CHANGE_CONNECTIONS: ("PUT", "/workflow-manager/credentials/gone", {"type": "http", "host": "http://x"}),
    Right.DELETE_CONNECTIONS: ("DELETE", "/workflow-manager/credentials/gone", {}),
}
"""Right -> how it is asked for. (SEE_TASKS is one of a DAG, everywhere.)"""
SEE = {Right.SEE_WORKFLOWS, Right.SEE_RUNS, Right.READ_DATA}
WORK = {Right.EDIT_WORKFLOWS, Right.START_RUNS, Right.CHANGE_RUNS, Right.CHANGE_TASKS}
CONNECT = (Right.SEE_CONNECTIONS, Right.ADD_CONNECTIONS, Right.CHANGE_CONNECTIONS, Right.DELETE_CONNECTIONS)


def rights_of(site: Server, headers: dict[str, str]) -> set[Right]:
    """Those that the caller has on all; fails where an answer is neither 403 nor one of a route that was let in."""
    found = set()
    for right, (method, path, body) in ROUTES.items():
        answer = requests.request(method, site.monai(path), headers=headers, json=body or None, timeout=60)
        assert answer.status_code in (200, 201, 204, 400, 403, 404, 409, 415), (right, answer.status_code, answer.text)
        if answer.status_code != 403:
            found.add(right)
    return found


def instances(site: Server, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Those that are listed for who asks."""
    answer = requests.get(site.monai("/workflow-manager/workflowinstances"), headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["Data"])


def seen(site: Server, headers: dict[str, str]) -> set[str]:
    """The workflows of which instances are listed."""
    return {one["workflow_name"] for one in instances(site, headers)}
