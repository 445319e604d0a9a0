"""What becomes of a job by its pod's status: statuses as clusters of several versions write them, no cluster needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_monai.errors import (
    ImageDenied,
    MapError,
    MapFailed,
    MapInterrupted,
    MapNotFound,
    RegistryUnavailable,
    RunnerUnavailable,
)
from airflow_monai.failures import is_retried
from airflow_monai.maps.runners.base import Exit, Usage
from airflow_monai.maps.runners.kubernetes import status
from airflow_monai.maps.runners.kubernetes.log import PodLog, StampedLines
from airflow_monai.maps.runners.kubernetes.manifest import parse_output
from airflow_monai.maps.runners.kubernetes.usage import PodUsage
from airflow_monai.maps.runners.log_thread import LOG_END

BEGUN, ENDED = "2026-01-05T10:00:00Z", "2026-01-05T10:01:30Z"


def pod(phase: str = "Failed", state: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    metadata = {"name": "monai-x", "uid": "1", "creationTimestamp": BEGUN, **more.pop("metadata", {})}
    statuses = {} if state is None else {"containerStatuses": [{"name": "app", "state": state}]}
    return {"metadata": metadata, "status": {"phase": phase, **statuses, **more}}


def terminated(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": BEGUN, "finishedAt": ENDED, **more}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return pod("Pending", {"waiting": {"reason": reason, "message": message}})


def judged(
    ended: dict[str, Any], *, stopped: bool = False, reattached: bool = False, limit: float | None = None
) -> Exit:
    assert status.is_over(ended)
    return status.verdict(ended, "seg:1", stopped=stopped, reattached=reattached, limit=limit)


def test_exit_codes() -> None:
    assert judged(pod("Succeeded", terminated(0, "Completed"))) == Exit(0, seconds=90.0)
    assert judged(pod("Failed", terminated(3))) == Exit(3, seconds=90.0)
    assert judged(pod("Failed", terminated(137)), reattached=True).killed


def test_out_of_memory() -> None:
    ended = judged(pod("Failed", terminated(137, "OOMKilled")))
    assert ended.oom
    assert not ended.killed
    assert judged(pod("Failed", terminated(1, "OOMKilled"))).oom, "a child was killed, and its parent gave up"
    assert not judged(pod("Succeeded", terminated(0, "OOMKilled"))).oom


def test_out_of_time() -> None:
    late = pod(
        "Failed", terminated(137), reason="DeadlineExceeded", message="Pod was active on the node longer than ..."
    )
    assert judged(late, limit=60.0).timed_out, "whoever set the deadline"
    without_container = pod("Failed", reason="DeadlineExceeded")
    assert judged(without_container, stopped=True, limit=60.0) == Exit(137, timed_out=True)
    assert judged(pod("Failed", terminated(143)), reattached=True, limit=60.0).timed_out, "stopped by the try before"
    assert not judged(pod("Failed", terminated(143)), limit=60.0).timed_out
    assert judged(late).killed, "a job without a limit was ended by somebody else's"


@pytest.mark.parametrize(
    "lost",
    [
        pod(reason="Evicted", message="The node was low on resource: memory. Container app was using 2Gi."),
        pod("Failed", terminated(137), reason="Evicted", message="The node was low on resource: ephemeral-storage."),
        pod(reason="NodeLost", message="Node gpu01 which was running pod monai-x is unresponsive"),
        pod(reason="Preempting", message="Preempted in order to admit critical pod"),
        pod(reason="Shutdown", message="Node is shutting, evicting pods"),
        pod(reason="Terminated", message="Pod was terminated in response to imminent node shutdown."),
        pod(reason="OutOfnvidia.com/gpu", message="Pod Node didn't have enough resource: nvidia.com/gpu"),
        pod(reason="UnexpectedAdmissionError", message="Allocate failed due to device plugin Allocate rpc failed"),
        pod(
            "Failed",
            terminated(137),
            conditions=[
                {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "m"}
            ],
        ),
        pod("Failed", terminated(143), metadata={"deletionTimestamp": "2026-01-05T10:01:30Z"}),
        pod("Succeeded", terminated(0), metadata={"deletionTimestamp": "2026-01-05T10:01:20Z"}),
        pod("Failed", terminated(137, "ContainerStatusUnknown")),
        pod("Failed", {"waiting": {"reason": "ContainerCreating"}}),
    ],
)
def test_what_the_cluster_ended_is_tried_again(lost: dict[str, Any]) -> None:
    with pytest.raises(MapInterrupted, match=r"The cluster ended seg:1") as caught:
        judged(lost)
    assert is_retried(caught.value)


def test_a_pod_that_had_ended_before_it_was_deleted_keeps_its_verdict() -> None:
    deleted = {"deletionTimestamp": "2026-01-05T10:05:00Z", "deletionGracePeriodSeconds": 30}
    assert judged(pod("Succeeded", terminated(0), metadata=deleted)).code == 0


def test_an_application_that_fills_its_own_folders_failed() -> None:
    full = pod(reason="Evicted", message='Usage of EmptyDir volume "tmp" exceeds the limit "20Gi". ')
    with pytest.raises(MapFailed, match="kubernetes_tmp_limit") as caught:
        judged(full)
    assert not is_retried(caught.value)


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (127, "ContainerCannotRun", 'OCI runtime create failed: exec: "segment": executable file not found in $PATH'),
        (128, "StartError", 'failed to create containerd task: exec: "segment": stat segment: no such file'),
        (126, "ContainerCannotRun", "permission denied"),
    ],
)
def test_a_command_that_is_not_there(code: int, reason: str, message: str) -> None:
    ended = pod("Failed", terminated(code, reason, message=message))
    with pytest.raises(MapError, match=r"seg:1 cannot be started: ") as caught:
        judged(ended)
    assert not is_retried(caught.value)


def test_an_application_that_itself_exits_127_failed() -> None:
    assert judged(pod("Failed", terminated(127))).code == 127


@pytest.mark.parametrize(
    ("reason", "message", "kind"),
    [
        ("ErrImagePull", "rpc error: code = Unknown desc = Error: manifest unknown: manifest unknown", MapNotFound),
        ("ErrImagePull", "failed to pull: docker.io/library/nope:1: not found", MapNotFound),
        ("ErrImagePull", "pull access denied for seg, repository does not exist or may require login", ImageDenied),
        ("ImagePullBackOff", "failed to authorize: 401 Unauthorized", ImageDenied),
        ("ErrImageNeverPull", 'Container image "nope:1" is not present with pull policy of Never', MapNotFound),
        ("InvalidImageName", 'Failed to apply default image tag "Seg:1": invalid reference format', MapNotFound),
        ("CreateContainerConfigError", 'secret "x" not found', MapError),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", MapError),
        ("RunContainerError", "failed to start container: OCI runtime", MapError),
    ],
)
def test_a_pod_that_will_never_start_fails_at_once(reason: str, message: str, kind: type[MapError]) -> None:
    error = status.hopeless(*status.waiting_for(waiting(reason, message)), "seg:1")
    assert type(error) is kind
    assert not is_retried(error)
    assert message.split(":")[-1].strip() in str(error)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", "dial tcp 10.0.0.1:443: connect: connection refused"),
        ("ErrImagePull", "toomanyrequests: You have reached your pull rate limit"),
        ("ImagePullBackOff", 'Back-off pulling image "seg:1"'),
        ("CreateContainerError", "context deadline exceeded"),
        ("CreateContainerConfigError", 'failed to prepare subPath for volumeMount "store" of container "app"'),
    ],
)
def test_trouble_that_may_pass_is_waited_for_and_then_tried_again(reason: str, message: str) -> None:
    given = status.waiting_for(waiting(reason, message))
    assert given == (reason, message)
    assert status.hopeless(*given, "seg:1") is None
    error = status.unstarted(*given, "seg:1", 30)
    assert is_retried(error)
    assert isinstance(error, RegistryUnavailable) == reason.startswith(("ErrImage", "ImagePull"))


def test_want_of_cards_is_named() -> None:
    why = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
    unscheduled = pod("Pending", conditions=[condition])
    assert status.waiting_for(unscheduled) == ("Unschedulable", why)
    assert not status.has_begun(unscheduled)
    error = status.unstarted("Unschedulable", why, "seg:1", 30)
    assert type(error) is RunnerUnavailable
    assert why in str(error)
    assert "kubernetes_pending_minutes" in str(error)


def test_on_its_way() -> None:
    assert status.waiting_for(waiting("ContainerCreating")) == ("", "")
    assert not status.has_begun(waiting("ContainerCreating"))
    running = pod("Running", {"running": {"startedAt": BEGUN}})
    assert status.has_begun(running)
    assert not status.is_over(running)
    assert not status.is_over(pod("Failed", {"running": {"startedAt": BEGUN}}, reason="DeadlineExceeded")), "still ends"


def test_lost_nodes_are_known() -> None:
    assert status.node_is_lost(pod("Unknown"))
    assert status.node_is_lost(pod("Running", reason="NodeLost"))
    assert not status.node_is_lost(pod("Running"))


def test_a_node_that_went_away_keeps_its_pod_on_the_books() -> None:
    past = (datetime.now(timezone.utc) - timedelta(seconds=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert status.deletion_overdue(pod("Running", metadata={"deletionTimestamp": past}))
    assert not status.deletion_overdue(pod("Running"))
    taint = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
    assert status.node_is_lost(pod("Running", conditions=[taint]))


# --- the log


def stamped(second: float, text: str) -> bytes:
    when = datetime(2026, 1, 5, tzinfo=timezone.utc) + timedelta(seconds=second)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond:06d}789Z {text}\n".encode()


def test_each_line_is_handed_out_once_however_often_the_stream_breaks() -> None:
    data: list[bytes] = []
    lines = StampedLines(data.append)
    first = [stamped(n / 10, f"line {n}") for n in range(100)]
    lines.begin()
    lines.feed(b"".join(first[:60])[:-5])  # broken off within a line
    assert lines.since == "2026-01-05T00:00:02Z"
    lines.begin()
    lines.feed(b"".join(first[20:]))
    lines.begin()
    lines.feed(b"".join(first[70:]))
    lines.end()
    assert data == [f"line {n}\n".encode() for n in range(100)]


def test_equal_lines_at_one_time_are_as_many_as_they_were() -> None:
    data: list[bytes] = []
    lines = StampedLines(data.append)
    lines.feed(stamped(1, "x") * 3)
    lines.begin()
    lines.feed(stamped(1, "x") * 4 + stamped(0.9999, "late, of the other output"))
    assert data == [b"x\n"] * 4 + [b"late, of the other output\n"]


def test_other_zones_and_lines_without_a_time() -> None:
    data: list[bytes] = []
    lines = StampedLines(data.append)
    lines.feed(b"2026-01-05T02:00:10.123456789+02:00 local\nrotated away\n")
    assert data == [b"local\n", b"rotated away\n"]
    assert lines.since == "2026-01-05T00:00:07Z"


def test_a_log_that_breaks_off_is_read_to_its_end() -> None:
    whole = [stamped(n, f"line {n}") for n in range(20)]
    calls: list[tuple[str, bool]] = []

    def read(since: str, follow: bool) -> Iterator[bytes]:
        calls.append((since, follow))
        if len(calls) == 1:
            yield b"".join(whole[:10])
            raise RunnerUnavailable("the API server restarts")
        if follow:
            raise RunnerUnavailable("still away")
        yield b"".join(whole[7:])

    log = PodLog(read)
    log.start()
    got = [log.next(5.0) for _ in range(10)]
    log.container_ended()
    while (line := log.next(5.0)) is not LOG_END:
        got.append(line)
    assert got == [f"line {n}".encode() for n in range(20)]
    assert calls[0] == ("", True)
    assert calls[-1] == ("2026-01-05T00:00:06Z", False)


# --- manifests and usage


def test_manifests_that_a_pod_printed() -> None:
    output = b'%MONAI% /etc/holoscan/app.json 16\n{"command": "x"}\n%MONAI% /etc/holoscan/pkg.json 2\n{}\n'
    files = parse_output(output)
    assert set(files) == {"app.json", "pkg.json", "generation"}
    assert parse_output(b"%MONAI% /etc/monai/app.json 2\n{}\n").keys() == {"app.json", "generation"}
    assert parse_output(b"sh: not found\n") == {}


def test_usage_is_what_the_metrics_server_says() -> None:
    clock = iter(range(0, 10_000, 20))
    samples: Iterator[dict[str, Any] | None] = iter([measured("1500m", "200Mi"), measured("500000000n", "100Mi")])
    usage = PodUsage(lambda: next(samples, None), now=lambda: float(next(clock)))
    assert usage.so_far == Usage()
    usage.look()
    usage.look()
    assert usage.so_far.peak_memory_bytes == 200 << 20
    assert usage.so_far.cpu_seconds == pytest.approx(1.5 * 20 + 0.5 * 20)


def test_without_a_metrics_server_usage_is_unknown_and_not_asked_for_ever() -> None:
    asked: list[int] = []
    clock = iter(range(0, 10_000, 20))
    ask: Callable[[], None] = lambda: asked.append(1)  # noqa: E731
    usage = PodUsage(ask, now=lambda: float(next(clock)))
    for _ in range(20):
        usage.look()
    assert usage.so_far == Usage()
    assert len(asked) == 4


def measured(cpu: str, memory: str) -> dict[str, Any]:
    return {"containers": [{"name": "app", "usage": {"cpu": cpu, "memory": memory}}]}
