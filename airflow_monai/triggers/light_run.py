"""One try of a light task in terms of the store: what it works on, and what it remembers across a triggerer's death."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_monai.errors import NoPayload
from airflow_monai.specs.context import ExecutionContext
from airflow_monai.tasks.run import TaskRun

STATE = "state"


@dataclass(slots=True)
class LightRun:
    """One try of a light task.

    :param run: the task in terms of the store.
    :param context: resolver of ``{{ context... }}``.
    :param state: what earlier lives of this generation kept; plain data, changed by :meth:`keep` only.
    :param life: of the trigger: another one when another triggerer goes on with the same try.
    """

    run: TaskRun
    context: ExecutionContext
    state: dict[str, Any]
    life: str = ""

    def resolve(self, value: Any) -> Any:
        """An argument with its templates replaced by values. Reads the store: not for the event loop."""
        from airflow_monai.specs.arguments import resolved

        return resolved(value, self.context)

    def keep(self, **facts: Any) -> None:
        """Remember across a triggerer's death. Writes to the store: not for the event loop.

        :raises Fenced: when a newer try has taken over.
        """
        self.run.fence.check()
        self.state = {**_state(self.run, self.run.generation), **facts}
        self.run.store.write_json(self._note_key(STATE), self.state)

    def note_once(self, name: str, facts: Mapping[str, Any]) -> bool:
        """Note that something is about to happen that must happen once in this generation; False when it was noted
        before. Writes to the store: not for the event loop."""
        return self.run.store.create_json(self._note_key(name), dict(facts))

    def noted(self, name: str) -> dict[str, Any] | None:
        """What was noted, None when nothing was. Reads the store: not for the event loop."""
        key = self._note_key(name)
        return self.run.store.read_json(key) if self.run.store.exists(key) else None

    def refresh(self) -> dict[str, Any]:
        """:attr:`state` as the store has it now. Reads the store: not for the event loop."""
        self.state = _state(self.run, self.run.generation)
        return self.state

    def _note_key(self, name: str) -> str:
        return note_key(self.run, self.run.generation, name)


TOLD = "told"
"""Note that Airflow has been told of a failure that is final."""


def note_key(run: TaskRun, generation: int, name: str) -> str:
    """Store key of a note of a generation."""
    return run.folder.note_key(run.task_id, run.map_index, generation, name)


def begin(where: Mapping[str, Any], task: Mapping[str, Any]) -> LightRun:
    """Find the payload, and take the task over from earlier tries.

    :param where: which try of which task instance, rendered (:data:`airflow_monai.operators.light.WHERE`).
    :param task: what the task was told.
    :raises NoPayload: or ``PayloadNotFound``: there is nothing to work on.
    :raises Fenced: when a newer try has the task.
    """
    from airflow_monai.tasks.run import condition_context, note_run

    run = _task_run(where, task)
    run = run.with_generation(run.fence.claim_after(lambda generation: _goes_on(run, generation, where, task)))
    note_run(run)
    begun = LightRun(run, condition_context(run), _state(run, run.generation), uuid.uuid4().hex)
    new: dict[str, Any] = {"life": begun.life}
    if begun.state.get("try_id") != where["try_id"]:
        new |= {"try_id": where["try_id"], "began": datetime.now(timezone.utc).isoformat()}
    begun.keep(first_try=begun.state.get("first_try", run.try_number), **new)
    return begun


def _task_run(where: Mapping[str, Any], task: Mapping[str, Any]) -> TaskRun:
    from airflow_monai import settings
    from airflow_monai.store import open_store
    from airflow_monai.store.payloads import load_payload
    from airflow_monai.store.runs import RunFolder
    from airflow_monai.tasks.run import sortable_time

    if not where["payload_id"]:
        raise NoPayload
    store = open_store(settings.load().store)
    payload = load_payload(store, where["payload_id"])
    return TaskRun(
        store=store,
        payload=payload,
        folder=RunFolder(store, payload.payload_id, task["dag_id"], where["run_id"]),
        task_id=task["task_id"],
        map_index=int(where["map_index"]),
        generation=1,
        try_number=int(where["try_number"]),
        workflow_name=task["workflow_name"],
        workflow_description=task["workflow_description"],
        run_started=sortable_time(where["run_started"]),
        params=given_params(task["workflow_params"], where["conf"]),
        for_each_series=bool(task.get("for_each")),
    )


def _goes_on(run: TaskRun, generation: int, where: Mapping[str, Any], task: Mapping[str, Any]) -> bool:
    """Whether this try goes on with a generation: it began that itself, in a triggerer that died, or it is a retry
    within it. Else somebody has cleared the task."""
    state = _state(run, generation)
    if not state:
        return False
    if state["try_id"] == where["try_id"]:
        return True
    later = run.try_number - int(state["first_try"])
    if not 0 < later <= int(task["retries"]):
        return False
    failed = state.get("failed") or {}
    if failed and not failed.get("retried"):
        # final, but the worker that had to tell Airflow so was killed: this is no clear, so nothing begins anew
        return not run.store.exists(note_key(run, generation, TOLD))
    return bool(failed.get("retried")) or _was_given_up(run, generation, state, task)


def _was_given_up(run: TaskRun, generation: int, state: Mapping[str, Any], task: Mapping[str, Any]) -> bool:
    """Whether Airflow ended the try before for its time, when no triggerer was there that could have told of its end:
    what it had sent may not be sent again without a person."""
    from airflow_monai.operators.light import GRACE

    record = run.folder.record(run.task_id, run.map_index)
    has_told = "failed" in state or (record is not None and record.generation == generation)
    limit = float(task["timeout_seconds"] or 0)
    if has_told or not limit:
        return False
    passed = datetime.now(timezone.utc) - datetime.fromisoformat(state["began"])
    return passed.total_seconds() >= limit + GRACE.total_seconds()


def _state(run: TaskRun, generation: int) -> dict[str, Any]:
    key = note_key(run, generation, STATE)
    return run.store.read_json(key) if run.store.exists(key) else {}


def given_params(defaults: Mapping[str, Any], conf: str) -> dict[str, Any]:
    """A workflow's parameters: those that the run's conf (JSON) gives, else their defaults."""
    try:
        given = json.loads(conf or "{}")
    except ValueError:
        given = {}
    given = given if isinstance(given, dict) else {}
    return {name: given.get(name, default) for name, default in defaults.items()}
