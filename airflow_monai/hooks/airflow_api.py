"""Creates DAG runs through Airflow's REST API, and asks how they are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from airflow_monai.errors import MonaiError
from airflow_monai.sinks.ledger.cleared import Cleared
from airflow_monai.store.payloads import instance_id_of
from airflow_monai.types import FailureKind

log = logging.getLogger(__name__)
CANCELLED = "monai_cancelled"
"""In the conf of a run that a person ended through our API: ``{"at", "by", "clear_number"}``."""
_TIMEOUT = (5.0, 30.0)


class RunNotCreated(MonaiError):
    """Airflow did not create the run now, or does not answer; it has to be tried again."""

    failure = FailureKind.CONNECTION


class DagNotThere(RunNotCreated):
    """Airflow answers that it has no such DAG: not yet, or not any more."""


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where Airflow's API server is, and as whom to log in. Without a user name a token is asked for without one."""

    url: str
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"ApiAccess({self.url!r}, {self.username!r})"


def access_from_connection(conn_id: str) -> ApiAccess:
    """What the HTTP connection ``conn_id`` says; :class:`RunNotCreated` when it cannot be read (yet)."""
    import os

    # outside of tasks Airflow looks into its metadata database only for processes that say that they may
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    from airflow.sdk import Connection

    try:
        connection = Connection.get(conn_id)
    except Exception as error:  # Airflow's backends raise anything; it is told and tried again
        raise RunNotCreated(
            f"Airflow connection {conn_id!r} cannot be read ({type(error).__name__}). Create it: an HTTP connection to "
            "the API server with login and password, e.g. in AIRFLOW_CONN_" + conn_id.upper() + "."
        ) from error
    host = connection.host or "localhost"
    url = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    if connection.port:
        url = f"{url}:{connection.port}"
    return ApiAccess(url.rstrip("/"), connection.login or "", connection.password or "")


class AirflowApi:
    """The few calls that the gateway and batches make. Safe for threads."""

    def __init__(self, conn_id: str):
        self._conn_id = conn_id
        self._access: ApiAccess | None = None
        self._token = ""
        self._lock = threading.Lock()
        self._local = threading.local()

    def create_run(self, dag_id: str, run_id: str, partition_key: str, note: str = "") -> bool:
        """Make sure that the run exists: True when this call made it, False when it was there.

        :param note: shown with the run in the UI.
        :raises DagNotThere: when Airflow has no such DAG.
        :raises RunNotCreated: with the reason, when it does not exist.
        """
        runs = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns"
        body: dict[str, Any] = {"dag_run_id": run_id, "partition_key": partition_key, "logical_date": None, "conf": {}}
        if note:
            body["note"] = note
        response = self._call("POST", runs, body)
        if response.status_code == 409:
            there = self._call("GET", f"{runs}/{quote(run_id, safe='')}")
            if _is_run(there, run_id):
                return False
            raise RunNotCreated(f"Airflow says that the run exists (409), but not where: {_reason(there)}")
        if response.status_code == 404:
            raise DagNotThere("the DAG is not there: not parsed yet, or its workflow file was removed or is bad (404)")
        if not _is_run(response, run_id):
            raise RunNotCreated(f"Airflow did not take the run: {_reason(response)}")
        return True

    def run_state(self, dag_id: str, run_id: str) -> str | None:
        """``queued``, ``running``, ``success`` or ``failed``; None when there is no such run.

        :raises RunNotCreated: when Airflow does not answer.
        """
        found = self.run(dag_id, run_id)
        return None if found is None else str(found["state"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        """What Airflow says of a run; None when there is none such.

        :raises RunNotCreated: when Airflow does not answer.
        """
        answer = self._call("GET", f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}")
        if answer.status_code == 404 and not answer.is_redirect:
            return None
        if not _is_run(answer, run_id):
            raise RunNotCreated(f"Airflow does not tell the state of the run: {_reason(answer)}")
        return dict(answer.json())

    def is_worked_on(self, payload_id: str) -> bool:
        """Whether a run that has not ended names this payload, as its partition key or in its conf.

        :raises RunNotCreated: when Airflow does not answer.
        """
        return any(self._is_one_on(where, payload_id) for where in ("partition_key_prefix_pattern", "conf_contains"))

    def _is_one_on(self, where: str, payload_id: str) -> bool:
        answer = self._call("GET", f"/api/v2/dags/~/dagRuns?state=queued&state=running&limit=1&{where}={payload_id}")
        try:
            return int(answer.json()["total_entries"]) > 0
        except (ValueError, KeyError, TypeError):
            raise RunNotCreated(f"Airflow does not tell which runs there are: {_status(answer)}") from None

    def end_run(self, dag_id: str, run_id: str, cancelled_by: str = "") -> bool:
        """Have a run end: its tasks are stopped, and it has failed. False when there is none, or it had ended.

        :param cancelled_by: somebody has cancelled the job, as the store says; our API has the run say so too.
        :raises RunNotCreated: when Airflow does not do it.
        """
        if cancelled_by:
            answer = self._call("POST", f"/monai/app-server/jobs/{instance_id_of(dag_id, run_id)}/cancel")
            if answer.status_code in (200, 409):  # 409: it has ended otherwise
                return answer.status_code == 200
            if answer.status_code >= 500 or answer.status_code == 429:
                raise RunNotCreated(f"Airflow's API server did not cancel the job: {_status(answer)}")
            log.warning("our API did not cancel run %s of %s (%s): it ends as failed", run_id, dag_id, _status(answer))
        if self.run_state(dag_id, run_id) not in ("queued", "running"):
            return False
        path = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
        answer = self._call("PATCH", path, {"state": "failed"})
        if not _is_run(answer, run_id):
            raise RunNotCreated(f"Airflow did not end the run: {_reason(answer)}")
        return True

    def clear_task(self, dag_id: str, run_id: str, task_id: str, note: str) -> Cleared:
        """Have one task of a run run once more, and nothing after it.

        :param note: shown with the task in the UI.
        :raises RunNotCreated: when Airflow does not do it.
        """
        dag = f"/api/v2/dags/{quote(dag_id, safe='')}"
        query = {"task_id": task_id, "limit": "1000"}
        there = self._call("GET", f"{dag}/dagRuns/{quote(run_id, safe='')}/taskInstances", query=query)
        if there.status_code == 404 and not there.is_redirect:
            return Cleared.GONE
        already = Cleared.already(_states_of(there, task_id))
        if already is not None:
            return already
        wanted = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "only_failed": False,
            "prevent_running_task": True,
            "note": note[:1000],
        }
        answer = self._call("POST", f"{dag}/clearTaskInstances", wanted)
        if answer.status_code == 409:
            return Cleared.RUNNING
        if not _states_of(answer, task_id):
            raise RunNotCreated(f"Airflow did not clear task {task_id} of run {run_id}: {_status(answer)}")
        return Cleared.YES

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """What Airflow says of a DAG; None when it has none such.

        :raises RunNotCreated: when Airflow does not answer.
        """
        answer = self._call("GET", f"/api/v2/dags/{quote(dag_id, safe='')}")
        if answer.status_code == 404 and not answer.is_redirect:
            return None
        try:
            found = answer.json() if answer.ok else None
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("dag_id") != dag_id:
            raise RunNotCreated(f"Airflow does not tell about the DAG: {_status(answer)}")
        return found

    def get(self, path: str, query: Mapping[str, str]) -> requests.Response:
        """What Airflow answers, whatever its status.

        :raises RunNotCreated: when it does not answer.
        """
        return self._call("GET", path, query=query)

    def _call(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> requests.Response:
        token = self._token or self._login("")
        response = self._send(method, path, body, token, query)
        if response.status_code == 401:  # expired, or the API server has a new secret
            response = self._send(method, path, body, self._login(token), query)
        return response

    def _login(self, stale: str) -> str:
        """A token other than ``stale``; one thread gets it for all."""
        with self._lock:
            if self._token and self._token != stale:
                return self._token
            self._access = access_from_connection(self._conn_id)  # again each time: it may have been changed
            access = self._access
            credentials = {"username": access.username, "password": access.password}
            if access.username:
                response = self._request("POST", f"{access.url}/auth/token", json=credentials)
            else:
                response = self._request("GET", f"{access.url}/auth/token")
            if response.is_redirect or not response.ok:
                raise RunNotCreated(f"Airflow refused the login of connection {self._conn_id!r}: {_status(response)}")
            try:
                self._token = response.json()["access_token"]
            except (ValueError, KeyError, TypeError):
                raise RunNotCreated(f"what answers at {access.url} is not Airflow's API server") from None
            return self._token

    def _send(
        self, method: str, path: str, body: Any, token: str, query: Mapping[str, str] | None
    ) -> requests.Response:
        access = self._access
        assert access is not None
        headers = {"Authorization": f"Bearer {token}"}
        return self._request(method, access.url + path, json=body, params=query, headers=headers)

    def _request(self, method: str, url: str, **arguments: Any) -> requests.Response:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        try:
            # following a redirect would make a GET of the POST, and give the token to whoever is named
            return self._local.session.request(method, url, timeout=_TIMEOUT, allow_redirects=False, **arguments)
        except requests.RequestException as error:
            raise RunNotCreated(f"Airflow's API server cannot be reached: {type(error).__name__}") from error


def _states_of(response: requests.Response, task_id: str) -> set[str]:
    """The states of a task's instances in an answer that lists them; of another answer none.

    :raises RunNotCreated: when the answer is no such list.
    """
    try:
        found = response.json()["task_instances"] if response.ok else None
        states = None if found is None else {str(item["state"]) for item in found if item["task_id"] == task_id}
    except (ValueError, KeyError, TypeError):
        states = None
    if states is None:
        raise RunNotCreated(f"Airflow does not tell about task {task_id}: {_status(response)}")
    return states


def _is_run(response: requests.Response, run_id: str) -> bool:
    """Whether the answer is this run. A page of a proxy or of a log-in server has a good status too."""
    if response.status_code not in (200, 201):
        return False
    try:
        answer = response.json()
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.get("dag_run_id") == run_id


def _reason(response: requests.Response) -> str:
    if response.ok and not response.is_redirect:
        return f"{_status(response)}, but the answer is not this run; is a proxy in between? {response.text[:300]}"
    return f"{_status(response)}: {response.text[:300]}"


def _status(response: requests.Response) -> str:
    told = f"HTTP {response.status_code} {response.reason}"
    if not response.is_redirect:
        return told
    target = urlsplit(response.headers["Location"])
    where = f"{target.scheme}://{target.netloc}" if target.netloc else target.path
    return f"{told}, a redirect to {where}; enter the API server's own address and scheme in the connection"
