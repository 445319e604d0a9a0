"""A stand-in for Airflow whose runs live: over real HTTP, as far as a gateway asks what has changed.

As Airflow does it: ``updated_at`` is set by every change and told to nobody, lists are filtered by it and paged by a
cursor over their order, at most 100 at a time; a cleared task keeps its try number until it is scheduled again.
"""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.gateway.standin import StandInAirflow

TASKS = ("route", "route.to.segment", "segment", "segment.to.export", "export")


def now() -> str:
    return datetime.now(timezone.utc).isoformat()


class LivingAirflow(StandInAirflow):
    """
    :ivar asked: how often each list was asked for.
    """

    def __init__(self, port: int = 0):
        self.life: dict[tuple[str, str], dict[str, Any]] = {}
        self.tasks: dict[tuple[str, str, str, int], dict[str, Any]] = {}
        self.names = {"ct-lung": "CT lung"}
        self.asked: dict[str, int] = {}
        self._ids = itertools.count(1)
        super().__init__(port)

    # what happens

    def begin(self, run_id: str, dag_id: str = "ct-lung", *, state: str = "running", payload_id: str = "") -> None:
        with self.lock:
            self.life[dag_id, run_id] = {
                "dag_id": dag_id, "dag_run_id": run_id, "state": state, "conf": {}, "partition_key": payload_id or None,
                "queued_at": now(), "run_after": now(), "start_date": now() if state == "running" else None,
                "end_date": None, "updated": now(), "number": next(self._ids),
            }  # fmt: skip

    def task(
        self, run_id: str, task_id: str, state: str, dag_id: str = "ct-lung", tries: int = 1, map_index: int = -1
    ) -> None:
        """Have a task instance be so."""
        with self.lock:
            key = (dag_id, run_id, task_id, map_index)
            was = self.tasks.get(key) or {
                "id": f"{next(self._ids):012d}", "dag_id": dag_id, "dag_run_id": run_id, "task_id": task_id,
                "map_index": map_index, "start_date": None, "end_date": None, "try_number": 0,
            }  # fmt: skip
            ended = state in ("success", "failed", "skipped", "upstream_failed")
            if tries > was["try_number"]:
                was = {**was, "start_date": None, "end_date": None}
            if state == "running" or ended:
                was = {**was, "start_date": was["start_date"] or now()}
            self.tasks[key] = {
                **was, "state": state or None, "try_number": tries, "end_date": now() if ended else None,
                "updated": now(),
            }  # fmt: skip

    def end(self, run_id: str, state: str = "success", dag_id: str = "ct-lung") -> None:
        with self.lock:
            self.life[dag_id, run_id] |= {"state": state, "end_date": now(), "updated": now()}

    def go_through(self, run_id: str, dag_id: str = "ct-lung") -> None:
        """A whole run at once."""
        self.begin(run_id, dag_id)
        for task_id in TASKS:
            tries = 1 if task_id in ("segment", "export") else 0
            if tries:
                self.task(run_id, task_id, "running", dag_id, tries)
            self.task(run_id, task_id, "success", dag_id, tries)
        self.end(run_id, dag_id=dag_id)

    def touch(self, run_id: str, dag_id: str = "ct-lung") -> None:
        """Change something that means nothing, as a note."""
        with self.lock:
            self.life[dag_id, run_id]["updated"] = now()

    # what is answered

    def _decide(self, request: Any, body: Any) -> tuple[int, Any]:
        path = urlsplit(request.path)
        parts = [unquote(part) for part in path.path.strip("/").split("/")]
        if request.command == "GET" and len(parts) >= 6 and "~" not in parts and not self.down:
            with self.lock:
                if request.headers.get("Authorization") != f"Bearer {self.token}":
                    return 401, {}
                if (parts[3], parts[5]) not in self.life:
                    return 404, {"detail": "no such run"}
                if len(parts) == 6:
                    return 200, _shown(self.life[parts[3], parts[5]])
                found = [one for key, one in self.tasks.items() if key[:2] == (parts[3], parts[5])]
                return 200, _paged("task_instances", found, path.query, lambda one: one["id"])
        return super()._decide(request, body)

    def listed(self, parts: list[str], path: str) -> tuple[int, Any]:
        query = urlsplit(path).query
        self.asked[parts[-1]] = self.asked.get(parts[-1], 0) + 1
        if parts[-1] == "dags":
            return 200, {"dags": [{"dag_id": key, "dag_display_name": name} for key, name in self.names.items()]}
        if parts[-1] == "dagRuns":
            return 200, _paged(
                "dag_runs", list(self.life.values()), query, lambda one: f"{one['updated']} {one['number']:09d}"
            )
        return 200, _paged("task_instances", list(self.tasks.values()), query, lambda one: one["id"])


def _paged(name: str, items: list[dict[str, Any]], query: str, order: Any) -> dict[str, Any]:
    asked = {key: values[0] for key, values in parse_qs(query, keep_blank_values=True).items()}
    since, until = asked.get("updated_at_gte", ""), asked.get("updated_at_lte", "9999")
    found = sorted(
        (one for one in items if since <= one["updated"] <= until and order(one) > asked["cursor"]), key=order
    )
    limit = min(int(asked["limit"]), 100)
    more = order(found[limit - 1]) if len(found) > limit else None
    return {name: [_shown(one) for one in found[:limit]], "next_cursor": more, "total_entries": len(found)}


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in ("updated", "number")}
