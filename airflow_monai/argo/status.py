"""What a workflow's status says: whether it has ended, how, and which of its nodes failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_monai.errors import JobFailed, JobInterrupted, JobTimedOut, ServiceError

SUCCEEDED, FAILED, ERROR = "Succeeded", "Failed", "Error"
MAX_REASON = 300
MAX_NODES = 3
_DEADLINE = "deadline"
"""In the messages of everything that Argo ends because its time is over."""


@dataclass(frozen=True, slots=True)
class WorkflowStatus:
    """The part of a workflow's status that matters here.

    :param nodes: node id -> node, of those that the server sent.
    """

    phase: str = ""
    message: str = ""
    started: str = ""
    finished: str = ""
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, workflow: Mapping[str, Any]) -> WorkflowStatus:
        """From a Workflow as the server sends it; it has no status before the controller has seen it."""
        status = _mapping(workflow.get("status"))
        nodes = {str(key): _mapping(node) for key, node in _mapping(status.get("nodes")).items()}
        return cls(
            phase=str(status.get("phase") or ""),
            message=str(status.get("message") or ""),
            started=str(status.get("startedAt") or ""),
            finished=str(status.get("finishedAt") or ""),
            nodes=nodes,
            resources=_mapping(status.get("resourcesDuration")),
        )

    @property
    def has_ended(self) -> bool:
        return self.phase in (SUCCEEDED, FAILED, ERROR)

    @property
    def seconds(self) -> float | None:
        """How long it ran."""
        begun, ended = _time(self.started), _time(self.finished)
        return round((ended - begun).total_seconds(), 3) if begun and ended else None

    def reason(self, cleaned: Callable[[str], str]) -> str:
        """Its message and those of the nodes that failed, bounded.

        :param cleaned: takes out of a message what may be about the patient.
        """
        failed = [node for node in self.nodes.values() if node.get("phase") in (FAILED, ERROR)]
        pods = [node for node in failed if node.get("type") == "Pod"] or failed
        told = [_of_node(node, cleaned) for node in sorted(pods, key=_order)[:MAX_NODES]]
        more = f" and {len(pods) - MAX_NODES} more" if len(pods) > MAX_NODES else ""
        own = _short(self.message, cleaned)
        return "; ".join(part for part in (own, ", ".join(told) + more) if part) or "it gives no reason"

    def failure(self, what: str, cleaned: Callable[[str], str]) -> ServiceError:
        """The error that a workflow's bad end amounts to.

        :param what: the workflow, for the message.
        """
        reason = self.reason(cleaned)
        messages = [self.message, *(str(node.get("message") or "") for node in self.nodes.values())]
        if any(_DEADLINE in message.lower() for message in messages):
            return JobTimedOut(f"{what} was ended by Argo because its time was over: {reason}.")
        if self.phase == ERROR:
            return JobInterrupted(f"{what} ended with an error of the cluster: {reason}.")
        return JobFailed(f"{what} failed: {reason}.")

    def stats(self) -> dict[str, Any]:
        facts = {"phase": self.phase, "started": self.started, "finished": self.finished, "seconds": self.seconds}
        used = {f"resources_duration_{name}": value for name, value in self.resources.items()}
        return {name: value for name, value in {**facts, **used}.items() if isinstance(value, (str, int, float))}


def _of_node(node: Mapping[str, Any], cleaned: Callable[[str], str]) -> str:
    name = _short(str(node.get("displayName") or node.get("name") or "?"), cleaned)
    message = _short(str(node.get("message") or ""), cleaned)
    return f"node {name!r}" + (f" ({message})" if message else "")


def _order(node: Mapping[str, Any]) -> str:
    return str(node.get("finishedAt") or "~")


def _short(text: str, cleaned: Callable[[str], str]) -> str:
    text = " ".join(cleaned(" ".join(text.split())).split())
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}..."


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
