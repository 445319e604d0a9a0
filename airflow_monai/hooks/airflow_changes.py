"""What has changed in Airflow, by its REST API.

Two lists are asked for: DAG runs and task instances by ``updated_at``, over all DAGs, in pages by Airflow's own cursor,
in which nothing that changes meanwhile is passed over. The DAGs that are ours have the tag ``monai``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import requests

from airflow_monai.hooks.airflow_api import CANCELLED, AirflowApi, RunNotCreated
from airflow_monai.lifecycle.observed import AirflowAway, ChangedRuns, RunSeen, TaskSeen
from airflow_monai.store.payloads import payload_id_in

PAGE = 100
_MOST_PAGES = 1000
_ASK_AGAIN = 300.0


class AirflowChanges:
    """For one thread (:class:`airflow_monai.lifecycle.observed.Watched`)."""

    def __init__(self, api: AirflowApi):
        self._api = api
        self._workflows: dict[str, str] = {}  # DAG id -> name
        self._others: dict[str, float] = {}  # DAG ids that are none of ours, and when that was asked

    def runs_changed(self, since: datetime, until: datetime) -> ChangedRuns:
        now: datetime | None = None
        found: list[RunSeen] = []
        query = {**_between(since, until), "order_by": "updated_at"}
        for page, there in self._pages("/api/v2/dags/~/dagRuns", query, "dag_runs"):
            now = now or there
            found += filter(None, map(self._run_seen, page))
        # each as it was last: one that changed while the pages were read comes twice
        runs = {run.instance_id: run for run in found}
        return ChangedRuns(tuple(runs.values()), now or datetime.now(timezone.utc))

    def tasks_changed(self, since: datetime, until: datetime) -> Iterable[TaskSeen]:
        query = {**_between(since, until), "order_by": "id"}
        return self._tasks("/api/v2/dags/~/dagRuns/~/taskInstances", query)

    def tasks_of(self, dag_id: str, run_id: str) -> Iterable[TaskSeen]:
        return self._tasks(f"{_run_path(dag_id, run_id)}/taskInstances", {"order_by": "id"})

    def run(self, dag_id: str, run_id: str) -> RunSeen | None:
        answer = self._get(_run_path(dag_id, run_id), {})
        return None if answer is None else self._run_seen(_object(answer))

    def _tasks(self, path: str, query: dict[str, str]) -> list[TaskSeen]:
        found: dict[str, TaskSeen] = {}
        for page, _ in self._pages(path, query, "task_instances"):
            for item in page:
                # nodes of our own making, as edges, have a dot in their ids, which no task of a workflow has
                if "." not in item["task_id"] and self._name_of(item["dag_id"]) is not None:
                    found[item["id"]] = _task_seen(item)
        return list(found.values())

    def _pages(self, path: str, query: dict[str, str], name: str) -> Iterator[tuple[list[dict[str, Any]], datetime]]:
        """Pages, and the time there when each was asked for; none for what is not there."""
        cursor = ""
        for _ in range(_MOST_PAGES):
            began = time.monotonic()
            answer = self._get(path, {**query, "limit": str(PAGE), "cursor": cursor})
            if answer is None:
                return
            found = _object(answer)
            yield list(found.get(name) or ()), _date(answer) - timedelta(seconds=time.monotonic() - began)
            cursor = str(found.get("next_cursor") or "")
            if not cursor:
                return

    def _get(self, path: str, query: dict[str, str]) -> requests.Response | None:
        """The answer; None for 404.

        :raises AirflowAway: when there is none, or it is of another kind.
        """
        try:
            answer = self._api.get(path, query)
        except RunNotCreated as error:
            raise AirflowAway(str(error)) from error
        if answer.status_code == 404 and not answer.is_redirect:
            return None
        if answer.status_code != 200:
            raise AirflowAway(
                f"Airflow does not tell what has changed: HTTP {answer.status_code}. The connection's user must be "
                "allowed to read DAGs, DAG runs and task instances."
            )
        return answer

    def _run_seen(self, item: dict[str, Any]) -> RunSeen | None:
        """None for a run of another DAG, or on no payload."""
        workflow = self._name_of(item["dag_id"])
        given = item.get("conf")
        conf: dict[str, Any] = given if isinstance(given, dict) else {}
        payload_id = str(item.get("partition_key") or conf.get("payload_id") or payload_id_in(item["dag_run_id"]))
        if workflow is None or not payload_id:
            return None
        started, state = _time(item.get("start_date")), str(item.get("state") or "")
        cancelled = conf.get(CANCELLED)
        at = _time(cancelled.get("at")) if isinstance(cancelled, dict) else ""
        return RunSeen(
            dag_id=item["dag_id"],
            run_id=item["dag_run_id"],
            workflow=workflow,
            payload_id=payload_id,
            state=state,
            created=_time(item.get("queued_at") or item.get("run_after")),
            started=started,
            ended=_time(item.get("end_date")),
            cancelled=state == "failed" and bool(at) and at >= started,
        )

    def _name_of(self, dag_id: str) -> str | None:
        """The name of one of our workflows; None for another DAG."""
        if dag_id not in self._workflows and time.monotonic() - self._others.get(dag_id, -_ASK_AGAIN) >= _ASK_AGAIN:
            self._read_workflows()
            if dag_id not in self._workflows:
                self._others[dag_id] = time.monotonic()
        return self._workflows.get(dag_id)

    def _read_workflows(self) -> None:
        found: dict[str, str] = {}
        for number in range(_MOST_PAGES):
            query = {"tags": "monai", "exclude_stale": "false", "order_by": "dag_id", "limit": str(PAGE)}
            answer = self._get("/api/v2/dags", {**query, "offset": str(number * PAGE)})
            items = _object(answer).get("dags") or [] if answer is not None else []
            found |= {item["dag_id"]: item.get("dag_display_name") or item["dag_id"] for item in items}
            if len(items) < PAGE:
                break
        self._workflows = found


def _between(since: datetime, until: datetime) -> dict[str, str]:
    return {"updated_at_gte": since.isoformat(), "updated_at_lte": until.isoformat()}


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"


def _task_seen(item: dict[str, Any]) -> TaskSeen:
    return TaskSeen(
        dag_id=item["dag_id"],
        run_id=item["dag_run_id"],
        task_id=item["task_id"],
        map_index=int(item.get("map_index", -1)),
        state=str(item.get("state") or ""),
        try_number=int(item.get("try_number") or 0),
        started=_time(item.get("start_date")),
        ended=_time(item.get("end_date")),
        operator=str(item.get("operator_name") or item.get("operator") or ""),
    )


def _object(answer: requests.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise AirflowAway("What answers is not Airflow's API; is a proxy in between?")
    return found


def _date(answer: requests.Response) -> datetime:
    """When it was answered, by the clock there; by ours where that is not told."""
    try:
        return parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError, TypeError):
        return datetime.now(timezone.utc)


def _time(text: Any) -> str:
    """A time as text that sorts by time; empty for none."""
    if not isinstance(text, str) or not text.strip():
        return ""
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return ""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")
