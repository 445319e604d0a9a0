"""Runs a MAP as a pod of a Kubernetes cluster.

The cluster keeps the pod when the worker dies, so a new try finds it by its name: it follows one that waits or runs,
and takes the verdict of one that has ended. A pod whose time is over is ended by its own deadline, not deleted, so that
this verdict can be had again too.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapInterrupted, MapNotFound, MapNotStopped, RunnerUnavailable
from airflow_monai.gpu.inventory import load_inventory
from airflow_monai.maps.job import store_label
from airflow_monai.maps.manifest import Manifest
from airflow_monai.maps.policy import Policy
from airflow_monai.maps.runners.base import (
    STOP_GRACE_SECONDS,
    Check,
    ContainerImage,
    Exit,
    FoundMap,
    MapJob,
    Runner,
    Trace,
)
from airflow_monai.maps.runners.folders import default_user
from airflow_monai.maps.runners.kubernetes import settings as kubernetes_settings
from airflow_monai.maps.runners.kubernetes import status, transfer
from airflow_monai.maps.runners.kubernetes.harvest import handover_of, harvest
from airflow_monai.maps.runners.kubernetes.log import PodLog
from airflow_monai.maps.runners.kubernetes.manifest import find_in_cluster, known_in_cluster, reader_seconds
from airflow_monai.maps.runners.kubernetes.pending import NEWS_SECONDS, Pending
from airflow_monai.maps.runners.kubernetes.pod import Placed, pod_manifest, pod_name, selector
from airflow_monai.maps.runners.kubernetes.usage import PodUsage
from airflow_monai.maps.runners.lines import OnLine
from airflow_monai.maps.runners.log_thread import LOG_END
from airflow_monai.maps.runners.only_one import only_one
from airflow_monai.maps.runners.place import Place
from airflow_monai.maps.runners.user import check_readable, prepare_output
from airflow_monai.maps.workspace import is_shared
from airflow_monai.settings import Settings, load_scratch
from airflow_monai.store.base import Store

if TYPE_CHECKING:
    from airflow_monai.maps.runners.kubernetes.cluster import Cluster

LOOK_SECONDS = 1.0
"""How often the pod's state is asked for; at once when its log ends."""

AWAY_SECONDS = 2.0
"""Until an API server that is away is asked again."""

SOON_SECONDS = 10.0
"""A pod is expected to start within so long, and asked for oftener until then."""

UNREACHABLE_SECONDS = 120.0
"""A running pod survives an API server that is away for so long (an upgrade of a control plane)."""

REMOVAL_SECONDS = 45.0
"""How long a pod that was told to end may take for it, beyond its own grace."""

UNSTOPPABLE_SECONDS = 120.0
"""How long a pod whose time is over may run on beyond its grace."""

SETTLING_SECONDS = 5.0
"""How long after its grace a container surely has ended, whatever the pod's status says of it."""

TELLING_SECONDS = 2.0
"""How long after an application's bad end in a pod that goes on the cluster is given to say that it was its doing."""

log = logging.getLogger(__name__)


class KubernetesRunner(Runner):
    """Pods in one namespace of the cluster that ``[monai] kubernetes_conn_id`` names."""

    name = "kubernetes"
    leases_cards = False

    def __init__(self, settings: Settings, store: Store):
        self.policy = Policy.of(settings)
        self.site = kubernetes_settings.load(settings.image_pull)
        self.user = default_user(settings.container_user)
        self.store = store
        self.fetches_inputs = bool(self.site.transfer_image) and not is_shared(store)

    @cached_property
    def cluster(self) -> Cluster:
        from airflow_monai.maps.runners.kubernetes.cluster import Cluster

        return Cluster(self.site.conn_id, self.site.namespace)

    def find(self, reference: str) -> FoundMap:
        self.policy.check_image(reference)
        started = self._started_image()
        found = known_in_cluster(self.store, reference, started) if started else None
        return found or find_in_cluster(self.cluster, self.site, self.store, reference, self.user, self.check)

    def _started_image(self) -> str:
        """The image of the pod that an earlier try has made for the job; empty where there is none."""
        pod = self.cluster.get(pod_name(self.for_job.name)) if self.for_job else None
        if pod is None or status.is_being_deleted(pod):
            return ""
        return str(pod["spec"]["containers"][0]["image"])

    def find_registered(self, image: str, manifest: Manifest) -> FoundMap:
        """Known without a pod that looks into it: its manifest is in the registry."""
        self.policy.check_image(image)
        if "@" not in image:
            raise MapNotFound(
                f"The registered image {image} is known by its id on one Docker engine only, where a cluster cannot "
                "get it: push it to a registry and register it under that reference, as a new version."
            )
        return FoundMap(image, image, manifest)

    def image(self, reference: str, *, always_pull: bool = False) -> ContainerImage:
        """The image, of which the cluster tells nothing before it runs: the task says its command."""
        self.policy.check_image(reference)
        if always_pull:
            self.policy.check_pull(reference)
            self.site = replace(self.site, pull_policy="Always")
        location = self._started_image() or reference
        return ContainerImage(reference, location, working_directory="", is_known=False)

    def run(self, job: MapJob, *, on_line: OnLine, check: Check) -> Exit:
        pod = self._usable(self.cluster, job, check)
        reattached = pod is not None
        if pod is None:
            pod, reattached = self._start(job, check)
            check()  # whoever ended this task meanwhile did not find it
        return _Waiting(self, job, pod, reattached=reattached).until_exit(on_line, check)

    def kill(self, job: MapJob) -> None:
        self.cluster.fresh().end_within(pod_name(job.name), 1)

    def discard(self, job: MapJob) -> None:
        cluster = self.cluster.fresh()  # a signal handler may call this while a request of `run` is under way
        pod = cluster.get(pod_name(job.name))
        if pod is None:
            self._place(cluster).require_here(job)
        else:
            self.remove(cluster, pod)
        self._place(cluster).leave(job)
        if (handover := handover_of(job)) and self.fetches_inputs:
            handover.forget()
        _lock(job).unlink(missing_ok=True)

    def holds(self, name: str, state: Path) -> bool:
        return self.cluster.get(pod_name(name)) is not None

    def name_of(self, job: MapJob) -> str:
        return pod_name(job.name)

    def traces(self) -> Iterable[Trace]:
        for pod in self.cluster.find(selector(store_label(self.store))):
            metadata = pod["metadata"]
            # a label may have had to be shortened, an annotation not
            labels = {**metadata.get("labels", {}), **metadata.get("annotations", {})}
            yield Trace(
                name=metadata["name"],
                labels=labels,
                made_at=time.time() - status.age_seconds(pod),
                status=status.phase(pod).lower(),
                is_unstarted=status.phase(pod) == "Pending",
                reader_seconds=reader_seconds(pod, self.site),
                remove=partial(self.remove, self.cluster, pod),
            )

    def discard_other_generations(self, job: MapJob) -> None:
        for pod in self.cluster.find(selector(job.task_labels)):
            if pod["metadata"]["name"] != pod_name(job.name):
                self.remove(self.cluster, pod)
        self._place().leave_others(job)
        for file in job.state.parent.glob(f"g*{_LOCK}"):
            if file != _lock(job):
                file.unlink(missing_ok=True)

    def remove(self, cluster: Cluster, pod: status.Pod) -> None:
        """End a pod and wait until it is gone: first politely, then by force.

        :raises RunnerUnavailable: when its node does not answer, so that nobody can tell whether it still runs.
        """
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        cluster.delete(name, STOP_GRACE_SECONDS, uid)
        deadline = time.monotonic() + REMOVAL_SECONDS
        while (now := cluster.get(name)) is not None and now["metadata"]["uid"] == uid:
            if time.monotonic() > deadline:
                if status.node_is_lost(now) or cluster.node_is_away(now):
                    raise RunnerUnavailable(
                        f"The pod {name} cannot be removed: its node does not answer, and the application may still "
                        f"run there. When the node is surely off, `kubectl delete pod {name} --force` frees it."
                    )
                log.warning("The pod %s does not end in %g s and is removed by force", name, REMOVAL_SECONDS)
                cluster.delete(name, 0, uid)
                return
            time.sleep(0.2)

    def _place(self, cluster: Cluster | None = None) -> Place:
        asked = cluster or self.cluster
        return Place("Kubernetes cluster", asked.identities)

    def _usable(self, cluster: Cluster, job: MapJob, check: Check) -> dict[str, Any] | None:
        """The job's pod if it can still give a verdict; one that is being deleted is waited out."""
        deadline = time.monotonic() + REMOVAL_SECONDS + job.confinement.grace_seconds
        while True:
            pod = cluster.get(pod_name(job.name))
            if pod is None or not status.is_being_deleted(pod):
                return pod
            if time.monotonic() > deadline:
                raise RunnerUnavailable(
                    f"The pod {pod_name(job.name)} is being deleted and does not end: does its node answer?"
                )
            check()
            time.sleep(LOOK_SECONDS)

    def _start(self, job: MapJob, check: Check) -> tuple[dict[str, Any], bool]:
        """Create the pod, unless somebody else was faster; whether that was so.

        A pod may begin to write as soon as it is there. So nobody empties its output folder without the lock, and
        whoever has it looks first.
        """
        check()
        if bucket := transfer.bucket_of(job, self.site):
            return self._start_apart(job, bucket, check)
        with only_one(_lock(job), check):
            found = self._usable(self.cluster, job, check)
            if found is not None:
                return found, True
            self._place().enter(job)
            check_readable(job)
            prepare_output(job, empty=True)
            check()
            self.cluster.create(pod_manifest(job, self._placed(job)))
        return self._created(job), False

    def _start_apart(self, job: MapJob, bucket: transfer.Bucket, check: Check) -> tuple[dict[str, Any], bool]:
        """The same for a pod with folders of its own: there is nothing to empty, and its name keeps it single."""
        self._place().enter(job, anywhere=True)
        handover = handover_of(job)
        assert handover is not None
        handover.lay_out(transfer.plan_of(job))
        check()
        is_new = self.cluster.create(pod_manifest(job, replace(self._placed(job), bucket=bucket)))
        return self._created(job), not is_new

    def _created(self, job: MapJob) -> dict[str, Any]:
        created = self.cluster.get(pod_name(job.name))
        if created is None:
            raise MapInterrupted(f"The pod {pod_name(job.name)} was deleted as soon as it was there.")
        return created

    def _placed(self, job: MapJob) -> Placed:
        # of a store in a bucket pods see what the worker has copied to its scratch folder, which has to be a shared one
        root = self.store.local_path("payloads")
        return Placed(self.site, root.parent if root else load_scratch(), self._mig_profile(job))

    def _mig_profile(self, job: MapJob) -> str:
        """The MIG profile of the cards that the task's pool stands for."""
        inventory = load_inventory(self.store) if job.gpus and job.card_class else None
        classes = {card.name: card for card in inventory.classes()} if inventory else {}
        found = classes.get(job.card_class)
        return (found.mig or "") if found else ""


class _Waiting:
    """Follows one pod: why it does not start yet, its output line by line, its time limit, its end."""

    def __init__(self, runner: KubernetesRunner, job: MapJob, pod: dict[str, Any], *, reattached: bool):
        self.runner = runner
        self.cluster = runner.cluster
        self.job = job
        self.name = pod["metadata"]["name"]
        self.pod = pod
        self.reattached = reattached
        self.log = PodLog(self._read_log)
        self.usage = PodUsage(lambda: self.cluster.metrics(self.name))
        self.stopped = False
        self.begun: float | None = None
        self._given_up_at: float | None = None
        self._stopped_at: float | None = None
        self._ended_at: float | None = None
        self._told_lost_at = 0.0
        waited = status.age_seconds(pod) if reattached else 0.0
        self.pending = Pending(runner.cluster, job.found.reference, runner.site.pending_seconds, waited)

    def until_exit(self, on_line: OnLine, check: Check) -> Exit:
        try:
            while not self._is_over():
                self._hand_out(on_line, self._look_again())
                check()
                self.pod = self._look()
                self._wait_or_run()
            self._finish_log(on_line, check)
        finally:
            self.log.give_up()
        ended = status.verdict(
            self.pod,
            self.job.found.reference,
            stopped=self.stopped,
            reattached=self.reattached,
            limit=self.job.timeout_seconds,
        )
        if status.publishes(self.pod) and ended.code == 0 and not ended.timed_out:
            harvest(self.job, self.pod, self._look, check)
        return replace(ended, usage=self.usage.so_far)

    def _look_again(self) -> float:
        """Seconds until the pod is asked for again; one that was just made is about to start."""
        return LOOK_SECONDS if self.log.started or self.pending.waited > SOON_SECONDS else LOOK_SECONDS / 4

    def _is_over(self) -> bool:
        if status.has_ended_beside(self.pod) and not self._is_settled():
            return False
        if status.is_over(self.pod):
            return True
        if not status.is_given_up(self.pod):
            return False
        self._given_up_at = self._given_up_at or time.monotonic()
        return time.monotonic() - self._given_up_at > self.job.confinement.grace_seconds + SETTLING_SECONDS

    def _is_settled(self) -> bool:
        """Why the cluster ended an application it may tell a moment after that it has ended."""
        if (status.terminated(self.pod) or {}).get("exitCode") == 0:
            return True
        self._ended_at = self._ended_at or time.monotonic()
        return time.monotonic() - self._ended_at > TELLING_SECONDS

    def _look(self) -> dict[str, Any]:
        """The pod as it is now; an API server that is away is borne with for a while."""
        deadline = time.monotonic() + UNREACHABLE_SECONDS
        while True:
            try:
                pod = self.cluster.get(self.name)
                break
            except RunnerUnavailable:
                if time.monotonic() > deadline:
                    raise
                log.info("The Kubernetes cluster does not answer; %s is asked for again", self.name)
                time.sleep(AWAY_SECONDS)
        if pod is None or pod["metadata"]["uid"] != self.pod["metadata"]["uid"]:
            raise MapInterrupted(f"The pod {self.name} was deleted while it was needed.")
        return pod

    def _wait_or_run(self) -> None:
        if status.has_begun(self.pod):
            if not self.log.started:
                self.begun = time.monotonic() - (status.running_seconds(self.pod) if self.reattached else 0.0)
                self.log.start()
                self.runner.begun()
            self.usage.look()
            self._stop_when_over()
            self._tell_of_lost_node()
            self._give_up_unstoppable()
        elif not status.is_given_up(self.pod):
            self._wait_for_start()

    def _wait_for_start(self) -> None:
        error = self.pending.look(self.pod)
        if error is not None:
            self.runner.discard(self.job)
            raise error

    def _tell_of_lost_node(self) -> None:
        """Nobody knows whether the application still runs, so no second one is started beside it."""
        lost = status.node_is_lost(self.pod) or status.deletion_overdue(self.pod)
        if lost and time.monotonic() - self._told_lost_at > NEWS_SECONDS:
            self._told_lost_at = time.monotonic()
            log.warning(
                "The node of %s does not answer, and the application may still run there. When the node is surely off, "
                "`kubectl delete pod %s --force` lets this task go on.",
                self.name,
                self.name,
            )

    def _stop_when_over(self) -> None:
        """Stop the application when its time is over; a cluster that is away just then is asked again."""
        limit = self.job.timeout_seconds
        if limit is None or self.stopped or self.begun is None or time.monotonic() - self.begun < limit:
            return
        if status.terminated(self.pod) is not None:
            return  # it ended by itself
        with contextlib.suppress(RunnerUnavailable):
            self.cluster.end_within(self.name, 1)
            self.stopped, self._stopped_at = True, time.monotonic()

    def _give_up_unstoppable(self) -> None:
        """Wait no longer for a pod that its node, which answers, cannot end; of a lost node nobody knows anything."""
        patience = self.job.confinement.grace_seconds + UNSTOPPABLE_SECONDS
        if self._stopped_at is None or time.monotonic() - self._stopped_at < patience:
            return
        if status.node_is_lost(self.pod) or self.cluster.node_is_away(self.pod):
            return
        raise MapNotStopped(
            f"{self.job.found.reference} ran longer than its time limit of {self.job.timeout_seconds:g} s, and its "
            f"node could not end it within {patience:g} s: its pod {self.name} still runs. Look for a process of it "
            "there that waits for a device or a file system (state D in ps)."
        )

    def _hand_out(self, on_line: OnLine, seconds: float) -> None:
        """Hand out lines for so long, or until the stream breaks, which it does when the container ends."""
        until = time.monotonic() + self._time_left(seconds)
        while not self.log.idle.is_set() and (left := until - time.monotonic()) > 0:
            if not self.log.started:
                time.sleep(min(left, LOOK_SECONDS / 4))
                return
            line = self.log.next(min(left, 0.1))
            if line is not None:
                on_line(line)
        self.log.idle.clear()

    def _time_left(self, seconds: float) -> float:
        limit = self.job.timeout_seconds
        if limit is None or self.stopped or self.begun is None:
            return seconds
        return min(seconds, max(0.01, self.begun + limit - time.monotonic()))

    def _finish_log(self, on_line: OnLine, check: Check) -> None:
        """Hand out what the log still holds."""
        if not self.log.started:
            if not status.has_begun(self.pod):
                return
            self.log.start()
        self.log.container_ended()
        next_check = time.monotonic() + LOOK_SECONDS
        while (line := self.log.next(LOOK_SECONDS)) is not LOG_END:
            if line is not None:
                on_line(line)
            if time.monotonic() > next_check:
                check()
                next_check = time.monotonic() + LOOK_SECONDS

    def _read_log(self, since: str, follow: bool) -> Iterator[bytes]:
        return self._reader.log(self.name, since=since, follow=follow)

    @cached_property
    def _reader(self) -> Cluster:
        return self.cluster.fresh()  # for the log's thread


_LOCK = ".lock"


def _lock(job: MapJob) -> Path:
    return job.state.with_suffix(_LOCK)
