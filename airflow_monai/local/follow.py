"""Follows a study through gateway and Airflow and says each thing that happens, once, in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_monai.errors import MonaiError
from airflow_monai.local.stack import LocalStack

FINAL = ("success", "failed")
_QUIET_STATES = (None, "scheduled", "queued", "removed")  # steps of Airflow's own that tell a user nothing


class FollowError(MonaiError):
    """The study did not become a workflow run."""


@dataclass(slots=True)
class Follower:
    """What is known so far of one study. ``step`` looks again; ask the fields what it found.

    :param total: images that were sent.
    :param say: called with a line for each event.
    """

    stack: LocalStack
    total: int
    say: Callable[[str], None]
    payload_id: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    images: int = 0
    complete: bool = False
    run: dict[str, Any] = field(default_factory=dict)
    tasks: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    _seen: int = 0
    _waited: str = ""

    def step(self) -> None:
        """Read what is new.

        :raises FollowError: when no workflow wants the study, or an image was refused.
        """
        self.stack.check()
        events = self.stack.events()
        fresh, self._seen = events[self._seen :], len(events)
        for event in fresh:
            self._gateway_event(event)
        if self.run_id:
            self._look_at_run()

    @property
    def ended(self) -> bool:
        return self.run.get("state") in FINAL

    def state(self, task_id: str) -> str | None:
        """State of a task that is not mapped, None while nothing is known of it."""
        return self.tasks.get((task_id, -1), {}).get("state")

    def _gateway_event(self, event: dict[str, Any]) -> None:
        handler = {
            "image-received": self._received,
            "duplicate-received": lambda event: self.say(f"gateway: {event['count']} images received before"),
            "study-complete": self._completed,
            "run-created": self._created,
            "run-waiting": self._waiting,
            "payload-waiting": self._waiting,
            "unrouted": self._unrouted,
            "run-not-started": self._not_started,
            "association-rejected": self._refused,
            "image-refused": self._refused,
        }.get(event["event"])
        if handler:
            handler(event)

    def _received(self, event: dict[str, Any]) -> None:
        self.images += event["count"]
        self.payload_id = event["payload_id"]
        self.say(f"gateway: {self.images} of {self.total} images received")

    def _completed(self, event: dict[str, Any]) -> None:
        self.complete, self.payload_id, self.images = True, event["payload_id"], event["images"]
        self.say(f"gateway: study complete, {self.images} images, payload {self.payload_id}")

    def _created(self, event: dict[str, Any]) -> None:
        self.dag_id, self.run_id = event["dag_id"], event["run_id"]
        self.say(f"workflow {self.dag_id} started, run {self.run_id}")

    def _waiting(self, event: dict[str, Any]) -> None:
        if event["reason"] != self._waited:
            self._waited = event["reason"]
            self.say(f"gateway: the workflow cannot start yet: {self._waited}")

    def _unrouted(self, event: dict[str, Any]) -> None:
        raise FollowError(f"No workflow wants this study: {event.get('reasons')}")

    def _not_started(self, event: dict[str, Any]) -> None:
        raise FollowError(f"The workflow does not start: {event.get('reason')}")

    def _refused(self, event: dict[str, Any]) -> None:
        raise FollowError(f"The gateway refused what was sent: {event.get('reason')}")

    def _look_at_run(self) -> None:
        assert self.dag_id and self.run_id
        instances = self.stack.task_instances(self.dag_id, self.run_id)
        for instance in sorted(instances, key=lambda item: item["start_date"] or "9"):
            self._task(instance)
        runs = [run for run in self.stack.runs(self.dag_id) if run["dag_run_id"] == self.run_id]
        was_ended = self.ended
        self.run = runs[0] if runs else self.run
        if self.ended and not was_ended:
            for instance in self.stack.task_instances(self.dag_id, self.run_id):
                self._task(instance)
            self.say(f"workflow {self.dag_id}: {self.run['state']}")

    def _task(self, instance: dict[str, Any]) -> None:
        key = (instance["task_id"], instance["map_index"])
        known = self.tasks.get(key, {}).get("state")
        self.tasks[key] = instance
        state = instance["state"]
        if state != known and state not in _QUIET_STATES:
            seconds = f" after {instance['duration']:.1f} s" if state in FINAL and instance.get("duration") else ""
            self.say(f"task {instance['task_id']}: {state}{seconds}")

    def failed_tasks(self) -> Iterator[dict[str, Any]]:
        """Task instances that did not end in success, in order of their start."""
        for instance in sorted(self.tasks.values(), key=lambda item: item["start_date"] or "9"):
            if instance["state"] != "success":
                yield instance
