"""A pod that has not begun: whether there is hope, how long it is waited for, and what the task log says meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapError
from airflow_monai.maps.runners.kubernetes import status

if TYPE_CHECKING:
    from airflow_monai.maps.runners.kubernetes.cluster import Cluster

NEWS_SECONDS = 60.0
"""How often the task log repeats why a pod still waits."""

EVENTS_AFTER_SECONDS = 10.0
"""A pod that has not begun by then is asked for what the cluster reports about it."""

log = logging.getLogger(__name__)


class Pending:
    """Watches over the start of one pod.

    :param reference: of its image.
    :param seconds: how long it may wait, counted from when it was made.
    :param waited: how long it has waited already.
    """

    def __init__(self, cluster: Cluster, reference: str, seconds: float, waited: float = 0.0):
        self.cluster = cluster
        self.reference = reference
        self.seconds = seconds
        self._begun = time.monotonic() - waited
        self._told: tuple[str, str] = ("", "")
        self._told_at = 0.0
        self._pull_problem = ""

    @property
    def waited(self) -> float:
        return time.monotonic() - self._begun

    def look(self, pod: status.Pod) -> MapError | None:
        """The error of a pod that is not to be waited for any more; else tells the task log why it waits."""
        reason, message = self._why(pod)
        reference = status.image_waited_for(pod, self.reference)
        error = status.hopeless(reason, message, reference)
        if error is None and self.waited > self.seconds:
            error = status.unstarted(reason, message, reference, self.seconds / 60)
        if error is None and reason:
            self._tell(pod["metadata"]["name"], reason, message)
        return error

    def _tell(self, name: str, reason: str, message: str) -> None:
        news = (reason, message)
        if news == self._told and time.monotonic() - self._told_at < NEWS_SECONDS:
            return
        self._told, self._told_at = news, time.monotonic()
        why = f"{reason}: {message}" if message else reason
        log.info("The pod %s has been waiting for %.0f s: %s", name, self.waited, why)

    def _why(self, pod: status.Pod) -> tuple[str, str]:
        """Reason and message. The cluster says only at first why it could not pull an image, then that it backs off."""
        reason, message = status.waiting_for(pod)
        if reason == "ImagePullBackOff":
            self._pull_problem = self._pull_problem or self._warning(pod, "Failed", "pull") or message
            return reason, self._pull_problem
        if reason in status.UNPULLED:
            self._pull_problem = message
        if not reason and self.waited > EVENTS_AFTER_SECONDS:
            return "not started yet", self._warning(pod) or self._last_event(pod)
        return reason, message

    def _warning(self, pod: status.Pod, reason: str = "", word: str = "") -> str:
        """What the cluster warned of last about this pod."""
        for event in reversed(self.cluster.events(pod)):
            message = _one_line(event)
            if event.get("type") == "Warning" and event.get("reason", "").startswith(reason) and word in message:
                return message
        return ""

    def _last_event(self, pod: status.Pod) -> str:
        """What it is at, such as pulling an image."""
        events = self.cluster.events(pod)
        return _one_line(events[-1]) if events else ""


def _one_line(event: Mapping[str, Any]) -> str:
    return " ".join(str(event.get("message") or "").split())[:600]
