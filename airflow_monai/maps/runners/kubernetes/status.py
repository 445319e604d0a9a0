"""What a pod's status means: is it on its way, does it run, how did it end, and whose fault is it.

Pure functions over the pod as the API gives it. Kubernetes and its container runtimes word the same thing in several
ways over the years; all of them are here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_monai.errors import (
    ImageDenied,
    MapError,
    MapFailed,
    MapInterrupted,
    MapNotFound,
    OutputTooLarge,
    RegistryUnavailable,
    RunnerUnavailable,
    TransferFailed,
)
from airflow_monai.maps.runners.base import Exit
from airflow_monai.maps.runners.times import time_of

Pod = Mapping[str, Any]

CONTAINER = "app"
FETCHER, PUBLISHER = "fetch", "publish"
"""Names of a pod's containers. The latter two has only a pod that shares no folder with the workers."""

KILLED = 137
OVERDUE_SECONDS = 60.0
UNPULLED = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ErrImageNeverPull"})
_ABSENT = ("not found", "manifest unknown", "does not exist", "no such image", "not present with pull policy")
_DENIED = ("denied", "unauthorized", "authentication required", "no basic auth", "403 forbidden", "401 unauthorized")
_MISMADE = ("not found", "couldn't find", "runasnonroot", "non-numeric user", "invalid")
"""What a container lacks for good. That a folder of the store could not be prepared may pass."""

_NOT_ITS_FAULT = frozenset(
    {
        "Evicted",
        "NodeLost",
        "NodeShutdown",
        "Shutdown",
        "Terminated",
        "Preempting",
        "Preempted",
        "UnexpectedAdmissionError",
        "NodeAffinity",
        "NodeName",
        "NodePorts",
    }
)
"""Reasons by which a node gives a pod up, whatever runs in it. A node that was full says ``OutOf`` something."""

_OWN_STORAGE = ("exceeds the total limit", "exceeds the limit", "exceeded its local ephemeral storage")
_CANNOT_START = frozenset({"ContainerCannotRun", "StartError", "RunContainerError"})
_START_CODES = frozenset({126, 127, 128})


def phase(pod: Pod) -> str:
    return str(pod.get("status", {}).get("phase") or "Pending")


def container_status(pod: Pod) -> Mapping[str, Any]:
    """Status of the application's container; empty as long as no node has the pod."""
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    return _named(statuses, CONTAINER) or statuses[0]


def publishes(pod: Pod) -> bool:
    """Whether the pod itself brings its output to the store."""
    return bool(_named(pod.get("spec", {}).get("containers") or (), PUBLISHER))


def _named(items: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((item for item in items if item.get("name") == name), {})


def _fetcher(pod: Pod) -> Mapping[str, Any]:
    return _named(pod.get("status", {}).get("initContainerStatuses") or (), FETCHER)


def _publisher(pod: Pod) -> Mapping[str, Any]:
    return _named(pod.get("status", {}).get("containerStatuses") or (), PUBLISHER)


def terminated(pod: Pod) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (container_status(pod).get("state") or {}).get("terminated")
    return found


def has_begun(pod: Pod) -> bool:
    """Whether the application has been started, and so has a log."""
    state = container_status(pod).get("state") or {}
    return "running" in state or bool((state.get("terminated") or {}).get("startedAt"))


def is_over(pod: Pod) -> bool:
    """Whether nothing of the application runs any more."""
    if has_ended_beside(pod):
        return True
    return is_given_up(pod) and "running" not in (container_status(pod).get("state") or {})


def has_ended_beside(pod: Pod) -> bool:
    """Whether the application has ended in a pod that goes on, since it is still to publish the output."""
    return publishes(pod) and terminated(pod) is not None and not is_given_up(pod)


def is_given_up(pod: Pod) -> bool:
    """Whether the cluster has decided that the pod is over; its container may still be on its way out.

    Some versions never tell when it is out.
    """
    return phase(pod) in ("Succeeded", "Failed")


def is_being_deleted(pod: Pod) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def node_is_lost(pod: Pod) -> bool:
    """Whether the pod's node has stopped answering, so that nobody can tell whether the container still runs."""
    status = pod.get("status", {})
    if status.get("reason") == "NodeLost" or phase(pod) == "Unknown":
        return True
    conditions = {item["type"]: item for item in status.get("conditions") or ()}
    return conditions.get("DisruptionTarget", {}).get("reason") == "DeletionByTaintManager"


def deletion_overdue(pod: Pod) -> bool:
    """Whether a pod should have been gone for a while: its node has not confirmed that it is."""
    until = time_of(pod["metadata"].get("deletionTimestamp"))
    return until is not None and (datetime.now(timezone.utc) - until).total_seconds() > OVERDUE_SECONDS


def running_seconds(pod: Pod) -> float:
    """How long the application has run, by the cluster's clock for what has ended."""
    state = container_status(pod).get("state") or {}
    ended = state.get("terminated") or {}
    begun = time_of(ended.get("startedAt") or (state.get("running") or {}).get("startedAt"))
    if begun is None:
        return 0.0
    until = time_of(ended.get("finishedAt")) or datetime.now(timezone.utc)
    return max(0.0, (until - begun).total_seconds())


def age_seconds(pod: Pod) -> float:
    """How long ago the pod was made."""
    made = time_of(pod["metadata"].get("creationTimestamp"))
    return max(0.0, (datetime.now(timezone.utc) - made).total_seconds()) if made else 0.0


def waiting_for(pod: Pod) -> tuple[str, str]:
    """Reason and message of what keeps a pod from starting; two empty texts for one that is just on its way."""
    for waiting in map(_waiting, (_fetcher(pod), container_status(pod))):
        if waiting:
            return str(waiting["reason"]), _one_line(waiting.get("message", ""))
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason", "Unschedulable"), _one_line(condition.get("message", ""))
    return "", ""


def image_waited_for(pod: Pod, reference: str) -> str:
    """The image of the container that keeps a pod from starting.

    :param reference: of the application.
    """
    return str(_fetcher(pod).get("image") or "the transfer image") if _waiting(_fetcher(pod)) else reference


def _waiting(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a container waits for; empty where it is just on its way."""
    waiting: Mapping[str, Any] = (container.get("state") or {}).get("waiting") or {}
    on_its_way = waiting.get("reason", "") in ("", "ContainerCreating", "PodInitializing")
    return {} if on_its_way else waiting


def hopeless(reason: str, message: str, reference: str) -> MapError | None:
    """The error of a pod that will never start, however long one waits; None while there is hope."""
    text = message.lower()
    if reason == "InvalidImageName":
        return MapNotFound(f"{reference!r} is no reference of an image: {message}.")
    if reason in UNPULLED and any(words in text for words in _DENIED):
        return ImageDenied(
            f"The registry does not give the image {reference!r} to the cluster: {message}. See [monai] "
            "kubernetes_image_pull_secrets."
        )
    if reason == "ErrImageNeverPull" or (reason in UNPULLED and any(words in text for words in _ABSENT)):
        return MapNotFound(
            f"The cluster cannot get the image {reference!r}: {message}. Push it, or correct the reference."
        )
    if reason == "CreateContainerConfigError" and any(words in text for words in _MISMADE):
        return MapError(f"The container of {reference!r} cannot be made as the task and the site want it: {message}.")
    if reason in _CANNOT_START:
        return MapError(f"{reference!r} cannot be started: {message}.")
    return None


def unstarted(reason: str, message: str, reference: str, minutes: float) -> MapError:
    """The error of a pod that was waited for long enough."""
    why = f"{reason}: {message}" if message else reason or "no reason given"
    if reason in UNPULLED:
        return RegistryUnavailable(
            f"The cluster could not get the image {reference!r} within {minutes:g} minutes ({why})."
        )
    return RunnerUnavailable(
        f"The pod of {reference!r} could not start within {minutes:g} minutes ({why}). It was removed; a retry queues "
        "it again. [monai] kubernetes_pending_minutes says how long to wait."
    )


def verdict(pod: Pod, reference: str, *, stopped: bool, reattached: bool, limit: float | None) -> Exit:
    """How the pod's application ended.

    :param stopped: this process stopped it because its time was over.
    :param limit: its time limit in seconds.
    :raises MapInterrupted: when the cluster ended it, whatever it was doing.
    :raises MapError: when it could not be started.
    """
    status = pod.get("status", {})
    reason, message = status.get("reason", ""), _one_line(status.get("message", ""))
    ended = terminated(pod) or {}
    code = int(ended.get("exitCode", KILLED))
    seconds = running_seconds(pod)
    past_deadline = reason == "DeadlineExceeded"
    if past_deadline and not stopped and publishes(pod) and ended and code == 0 and (limit is None or seconds < limit):
        raise TransferFailed(
            f"{reference} had ended well, but no worker took its output from its pod in time; it has to run again."
        )
    over_time = stopped or (past_deadline and limit is not None)
    if not over_time and not past_deadline:
        _raise_if_not_fetched(pod, reference, reason)
        _raise_if_given_up(pod, reference, reason, message)
        _raise_if_not_started(ended, reference)
    # an earlier try may have stopped it and died before it could say so
    over_time = over_time or (reattached and limit is not None and seconds >= limit and code in (137, 143))
    return Exit(
        code=code,
        oom=ended.get("reason") == "OOMKilled" and code != 0,
        timed_out=over_time,
        seconds=round(seconds, 3),
        reattached=reattached,
    )


def raise_if_unpublished(pod: Pod, reference: str) -> None:
    """:class:`TransferFailed` when nobody is left in the pod who could publish its output."""
    ended = (_publisher(pod).get("state") or {}).get("terminated")
    if ended is None and not is_given_up(pod) and not is_being_deleted(pod):
        return
    status = pod.get("status", {})
    message = (ended or {}).get("message") or status.get("message") or ""
    reason = status.get("reason") or (ended or {}).get("reason") or "the pod was deleted"
    why = f"{reason}: {_one_line(message)}".rstrip(": ")
    raise TransferFailed(
        f"{reference} ended well, but its pod did not bring its output to the bucket ({why}). It has to run again."
    )


def _raise_if_not_fetched(pod: Pod, reference: str, reason: str) -> None:
    ended = (_fetcher(pod).get("state") or {}).get("terminated") or {}
    if reason or not ended or not ended.get("exitCode") or is_being_deleted(pod):
        return
    why = _one_line(ended.get("message", "")) or f"{ended.get('reason', 'Error')}, exit code {ended['exitCode']}"
    raise TransferFailed(f"The pod of {reference} did not get its input from the bucket: {why.rstrip('.')}.")


def _raise_if_given_up(pod: Pod, reference: str, reason: str, message: str) -> None:
    if reason == "Evicted" and 'EmptyDir volume "output"' in message:
        raise OutputTooLarge(
            f"{reference} wrote more than it may to its output ({message.rstrip('.')}). Raise [monai] output_quota, or "
            "args.output_quota of the task, if it needs more. It was stopped, and what it had written is removed."
        )
    if reason == "Evicted" and any(words in message for words in _OWN_STORAGE):
        raise MapFailed(
            f"{reference} was stopped because it wrote more to /tmp or its other folders than it may: {message} See "
            "[monai] kubernetes_tmp_limit.",
            exit_code=KILLED,
        )
    why = _why_given_up(pod, reason, message)
    if why:
        raise MapInterrupted(f"The cluster ended {reference}: {why}.", exit_code=KILLED)


def _why_given_up(pod: Pod, reason: str, message: str) -> str:
    if reason in _NOT_ITS_FAULT or reason.startswith("OutOf"):
        return f"{reason}: {message.rstrip('.')}" if message else reason
    if is_being_deleted(pod) and not _ended_before_deletion(pod):
        return "its pod was deleted"
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return f"{condition.get('reason', 'disrupted')}: {_one_line(condition.get('message', '')).rstrip('.')}"
    if terminated(pod) is None:
        return f"its pod is {phase(pod).lower()} without an exit code{f' ({reason})' if reason else ''}"
    if (terminated(pod) or {}).get("reason") == "ContainerStatusUnknown":
        return "its node does not know how it ended"
    return ""


def _ended_before_deletion(pod: Pod) -> bool:
    metadata, ended = pod["metadata"], time_of((terminated(pod) or {}).get("finishedAt"))
    until = time_of(metadata.get("deletionTimestamp"))
    if ended is None or until is None:
        return False
    return ended < until - timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)


def _raise_if_not_started(ended: Mapping[str, Any], reference: str) -> None:
    if ended.get("reason") in _CANNOT_START and int(ended.get("exitCode", 0)) in _START_CODES:
        raise MapError(f"{reference} cannot be started: {_one_line(ended.get('message', ''))[:600]}.")


def _one_line(text: str) -> str:
    return " ".join(str(text or "").split())[:600]
