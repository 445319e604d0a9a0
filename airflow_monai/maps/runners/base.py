"""What a runner must do, and the plain data that it gets and gives.

A job is named after (store, dag, run, task, map index, generation), never after the try: whoever asks for it again
finds the one that runs or has ended. A runner keeps it until it is told to discard it, also when its own process dies.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_monai.errors import MapError
from airflow_monai.maps.manifest import Manifest, MapResources
from airflow_monai.maps.policy import Confinement
from airflow_monai.maps.removal import remove_tree
from airflow_monai.maps.runners.lines import OnLine

if TYPE_CHECKING:
    from airflow_monai.maps.workspace import Notes

CHECK_SECONDS = 2.0
"""How often a waiting runner asks whether it should still wait."""

STOP_GRACE_SECONDS = 2
"""From the polite signal to the other one. Airflow kills a task process five seconds after asking it to end."""

DEADLINE = "monai.deadline"
DEADLINE_SECONDS = 3600.0
"""How much longer than it may run a job that nobody follows is kept: a later try may want its verdict."""

READER_SECONDS = 300.0
"""What only reads the manifests of an image lives for moments."""

KILLED_CODES = frozenset({137, 143})
"""Exit codes of an application that a signal ended."""

LOST_CODE = 255
"""What an engine says of a container that it finds dead after the host lost power; also an application's exit(-1)."""


@dataclass(frozen=True, slots=True)
class FoundMap:
    """A MAP that a runner can run.

    :param reference: as the spec has it.
    :param location: what exactly that is here: an image id, or a folder.
    :param digest: by which registries know it (``name@sha256:...``); empty where none has been told.
    """

    reference: str
    location: str
    manifest: Manifest
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """A container image that a runner can run.

    :param reference: as the spec has it.
    :param location: its id here.
    :param is_known: False for an engine that tells nothing of what follows before the image runs.
    :param entrypoint: and ``command``, ``working_directory``: its own.
    :param digest: as :attr:`FoundMap.digest`.
    """

    reference: str
    location: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = "/"
    is_known: bool = True
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A host folder that the application sees at ``target``."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class MapJob:
    """One run of a MAP for one generation of a task.

    :param name: of the container; the same for every try.
    :param labels: ids that find it again; ``task_labels`` are those that all generations of the task share.
    :param output: host folder of the output; it, or folders in it, are among the mounts.
    :param scratch: folders in the application's own memory that it may write to, beside ``/tmp``.
    :param state: host folder where a runner may keep what it needs to find the job again.
    :param user: ``uid:gid`` that the application runs as where the runner can choose.
    :param gpus: how many cards it gets, of which class of the inventory says ``card_class``.
    :param confinement: what it may use and see beside its folders, by the site's policy.
    :param devices: ids of the cards that it was leased (``GPU-...``, ``MIG-...``, or an index); empty where the engine
        itself chooses cards.
    :param keep_open: file descriptors that a process which is to outlive this one inherits: by them the lease of its
        cards lives on until it can be found.
    :param fetched: pairs of an object of the store and the path below a mount's source where the application is to find
        it: nothing is there yet, the engine brings it.
    :param notes: where workers of other hosts look for what is noted of the job; None where ``state`` is a folder that
        they see.
    :param secrets: more environment variables, which nothing but the application gets to see: no runner writes them
        into a file, a command line or a log.
    """

    name: str
    found: FoundMap
    labels: Mapping[str, str]
    task_labels: Mapping[str, str]
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    output: Path
    state: Path
    resources: MapResources
    timeout_seconds: float | None = None
    user: str = ""
    gpus: int = 0
    card_class: str = ""
    devices: tuple[str, ...] = ()
    keep_open: tuple[int, ...] = ()
    scratch: tuple[str, ...] = ()
    confinement: Confinement = field(default_factory=Confinement)
    fetched: tuple[tuple[str, Path], ...] = ()
    notes: Notes | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def command(self) -> tuple[str, ...]:
        return self.found.manifest.command


@dataclass(frozen=True, slots=True)
class Trace:
    """What an engine has of a store's tasks: a job, or what only reads an image's manifests.

    :param name: of the job.
    :param made_at: by the engine's clock, seconds since the epoch.
    :param status: as the engine words it.
    :param reader_seconds: what reads manifests lives no longer than that; None for a job.
    :param remove: ends and removes it, where it is no job; a job is discarded.
    """

    name: str
    labels: Mapping[str, str]
    made_at: float
    status: str
    is_unstarted: bool = False
    reader_seconds: float | None = None
    remove: Callable[[], None] = lambda: None

    @property
    def deadline(self) -> float | None:
        """When surely nobody needs it any more, seconds since the epoch; None where it has no time limit."""
        text = self.labels.get(DEADLINE, "")
        return float(text) if text.isdecimal() else None


def with_deadline(job: MapJob, more_seconds: float = 0.0) -> dict[str, str]:
    """The job's labels, with the time after which nobody needs it any more, as far as it has a time limit.

    :param more_seconds: how long it may wait for its start.
    """
    if job.timeout_seconds is None:
        return dict(job.labels)
    left = job.timeout_seconds + job.confinement.grace_seconds + more_seconds + DEADLINE_SECONDS
    return {**job.labels, DEADLINE: str(int(time.time() + left))}


@dataclass(frozen=True, slots=True)
class Usage:
    """What an application used at most or in all; None where nobody could measure it.

    :param cpu_seconds: of all its processes.
    :param gpu_memory_bytes: of all its cards together, at most.
    """

    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    gpu_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How an application ended.

    :param code: its exit code; 128 + N when signal N ended it.
    :param oom: it was killed because it went over its memory limit.
    :param timed_out: it was stopped because its time was over.
    :param seconds: how long it ran.
    :param reattached: an earlier try had started it.
    :param usage: what it used, as far as the runner measures it.
    """

    code: int
    oom: bool = False
    timed_out: bool = False
    seconds: float = 0.0
    reattached: bool = False
    usage: Usage = Usage()

    @property
    def killed(self) -> bool:
        """Something from outside ended it: no verdict about the application."""
        if self.oom or self.timed_out:
            return False
        return self.code in KILLED_CODES or (self.code == LOST_CODE and self.reattached)


Check = Callable[[], None]


class Runner(ABC):
    """Runs MAPs. Every method raises a :class:`~airflow_monai.errors.MapError` that names what it is about."""

    name: str = ""
    leases_cards: bool = True
    """Cards are leased for its jobs on this host; False for an engine that hands out cards itself."""

    fetches_inputs: bool = False
    """Its applications get their input from the store themselves: no worker copies it for them."""

    check: Check = staticmethod(lambda: None)
    """Called now and then while it gets an image; what it raises ends that."""

    begun: Callable[[], None] = staticmethod(lambda: None)
    """Called by :meth:`run` once the application runs, or has been found as an earlier try started it."""

    for_job: MapJob | None = None
    """The job that an image is wanted for, of which name and folders count. Where an earlier try has started it, the
    image that it was started from is the answer, whatever its name has come to mean, and no registry is asked."""

    def kill(self, job: MapJob) -> None:  # noqa: B027
        """End the job's application at once, from any thread; :meth:`run` then tells its exit.

        Where a runner has no quick way it does nothing: the next check ends the job.
        """

    @abstractmethod
    def find(self, reference: str) -> FoundMap:
        """The MAP that ``args.map`` names; :class:`~airflow_monai.errors.MapNotFound` when it is not here."""

    def find_registered(self, image: str, manifest: Manifest) -> FoundMap:
        """The registered MAP with this digest, by default as :meth:`find` finds it.

        :param image: ``<repository>@sha256:...``, or an image's id.
        :param manifest: as the registry keeps it, for an engine whose images are not easily looked into.
        :raises MapNotFound: when it is not here.
        """
        return self.find(image)

    def image(self, reference: str, *, always_pull: bool = False) -> ContainerImage:
        """The image of any container, which the engine gets where it does not have it and the site lets it.

        :param always_pull: get it although it is here, since what its tag means may have changed.
        :raises MapNotFound: when nobody has it, :class:`RegistryUnavailable` when that cannot be told now.
        """
        raise MapError(
            f"The image {reference} cannot be run: this task needs a container engine, and the {self.name} runner has "
            "none. Set [monai] runner = docker, or make it a map task with an unpacked MAP."
        )

    @abstractmethod
    def run(self, job: MapJob, *, on_line: OnLine, check: Check) -> Exit:
        """Start the job, or find the one that an earlier try started, and wait until it has ended.

        The job stays until :meth:`discard`, so that its verdict can be had again.

        :param on_line: gets every line of its output from the first one on, without line end (:data:`OnLine`).
        :param check: called right before and after the start, and now and then; what it raises ends the waiting and
            leaves the job alone.
        """

    @abstractmethod
    def discard(self, job: MapJob) -> None:
        """Stop the job if it runs and remove every trace of it but its output; nothing when there is none."""

    def remove_output(self, job: MapJob) -> None:
        """Remove the job's output folder, once the job is gone."""
        remove_tree(job.output)

    @abstractmethod
    def holds(self, name: str, state: Path) -> bool:
        """Whether there is a trace of the job with this name and state folder, which may still use what it was given.

        :raises RunnerUnavailable: when that cannot be told now.
        """

    def require_here(self, job: MapJob) -> None:
        """:class:`~airflow_monai.errors.RunnerUnavailable` when the job was started where this worker cannot see it:
        no card of this host is of use to it then."""
        return

    def engine_names(self) -> tuple[str, ...]:
        """Runner and engine, where alone a job can be asked after; names that were used before follow.

        :raises RunnerUnavailable: when the engine cannot be asked who it is.
        """
        return (self.name,)

    def name_of(self, job: MapJob) -> str:
        """What the engine calls the job."""
        return job.name

    def traces(self) -> Iterable[Trace]:
        """What this engine has of the store's tasks, whichever task and try it belongs to.

        :raises RunnerUnavailable: when that cannot be told now.
        """
        return ()

    @abstractmethod
    def discard_other_generations(self, job: MapJob) -> None:
        """The same for jobs of the task's other generations, which somebody cleared while they ran."""
