"""A small client of Airflow's REST API, as the demo and the tests use it."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import quote

import requests

from airflow_monai.errors import MonaiError


class AirflowApi:
    """Airflow's REST API v2 with a user's token.

    :param url: of the API server, without a path.
    """

    def __init__(self, url: str, user: str, password: str):
        self.url = url
        self._login = {"username": user, "password": password}
        self._token: str | None = None
        self._lock = threading.Lock()

    def call(self, method: str, path: str, json: Any = None, **params: Any) -> Any:
        """The JSON answer of ``<url>/api/v2<path>``, None for an empty one.

        :raises requests.HTTPError: for an answer of 400 and above; its text is in the message.
        """
        answer = self._send(method, path, json, params)
        if answer.status_code == 401:
            self._token = None
            answer = self._send(method, path, json, params)
        if answer.status_code >= 400:
            raise requests.HTTPError(f"{method} {path}: {answer.status_code} {answer.text[:500]}", response=answer)
        return answer.json() if answer.content else None

    def health(self) -> dict[str, str]:
        """Component -> "healthy" or what else it says; empty while the server does not answer."""
        try:
            answer = requests.get(f"{self.url}/api/v2/monitor/health", timeout=10)
            answer.raise_for_status()
        except requests.RequestException:
            return {}
        return {name: str(value.get("status")) for name, value in answer.json().items() if isinstance(value, dict)}

    def warm_up(self) -> bool:
        """Call the API that tasks use. Its first call takes seconds, in which the server answers nobody."""
        try:
            return requests.get(f"{self.url}/execution/health", timeout=60).ok
        except requests.RequestException:
            return False

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """The DAG, None while Airflow does not know it."""
        try:
            return self.call("GET", f"/dags/{quote(dag_id, safe='')}")
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code == 404:
                return None
            raise

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of a DAG, the oldest first."""
        return self._all(f"/dags/{quote(dag_id, safe='')}/dagRuns", "dag_runs", order_by="id")

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run, mapped ones too."""
        path = f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        return self._all(path, "task_instances")

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """A task's XCom value, None when there is none."""
        path = (
            f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}/taskInstances/"
            f"{quote(task_id, safe='')}/xcomEntries/{quote(key, safe='')}"
        )
        try:
            return self.call("GET", path, map_index=map_index, deserialize="true")["value"]
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code == 404:
                return None
            raise

    def import_errors(self) -> list[dict[str, Any]]:
        return self._all("/importErrors", "import_errors")

    def _all(self, path: str, field: str, **params: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", path, limit=100, offset=len(found), **params)
            found += page[field]
            if not page[field] or len(found) >= page["total_entries"]:
                return found

    def _send(self, method: str, path: str, json: Any, params: dict[str, Any]) -> requests.Response:
        headers = {"Authorization": f"Bearer {self._bearer()}"}
        return requests.request(
            method, f"{self.url}/api/v2{path}", json=json, params=params, headers=headers, timeout=60
        )

    def _bearer(self) -> str:
        with self._lock:
            if self._token is None:
                answer = requests.post(f"{self.url}/auth/token", json=self._login, timeout=30)
                if answer.status_code >= 400:
                    raise MonaiError(f"Airflow gives no token: {answer.status_code} {answer.text[:200]}")
                self._token = answer.json()["access_token"]
            return self._token
