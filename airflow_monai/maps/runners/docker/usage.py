"""What a container uses at most and in all, sampled while it runs: its control group is gone when it has ended.

On the engine's own host the kernel's files are read, which costs next to nothing; from elsewhere the engine's stream of
statistics, once a second. Memory means what cannot be taken back: the cache of files that were read does not count,
since the kernel gives it up before it lets anybody die.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapError
from airflow_monai.maps.runners.base import MapJob, Usage
from airflow_monai.maps.runners.gpu_usage import GpuMemory

if TYPE_CHECKING:
    from airflow_monai.maps.runners.docker.engine import Engine

FIRST_SECONDS, LONGEST_SECONDS, GROWTH = 0.05, 1.0, 1.3
NANO = 10**9


@dataclass(frozen=True, slots=True)
class Sample:
    """What a container uses now.

    :param memory: without what the kernel can take back at once.
    :param cache: of files, in memory.
    :param peak: the most it has had, with its cache; 0 where the kernel keeps no record.
    """

    memory: int
    cache: int
    peak: int
    cpu_seconds: float


class ContainerUsage:
    """Samples one container from ``__enter__`` to ``__exit__``, in a thread of its own."""

    def __init__(self, engine: Engine, job: MapJob):
        self._engine = engine
        self._name = job.name
        self._group: ControlGroup | None = None
        self._gpu = GpuMemory(lambda: self._group.pids() if self._group else ()) if job.gpus else None
        self._ended = threading.Event()
        self._memory = self._cache = self._peak = 0
        self._cpu_seconds = 0.0
        self._seen = False

    def __enter__(self) -> ContainerUsage:
        threading.Thread(target=self._work, name="map-usage", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    @property
    def so_far(self) -> Usage:
        gpu = self._gpu.peak if self._gpu else None
        if not self._seen:
            return Usage(gpu_memory_bytes=gpu)
        # between two samples only the kernel was looking; its record counts the cache too
        peak = max(self._memory, self._peak - self._cache)
        return Usage(peak, round(self._cpu_seconds, 3), gpu)

    def _work(self) -> None:
        with contextlib.suppress(OSError, MapError, ValueError, KeyError):  # nobody fails for want of statistics
            self._group = self._control_group()
            for sample in self._from_kernel(self._group) if self._group else self._from_engine():
                self._memory = max(self._memory, sample.memory)
                self._cache = max(self._cache, sample.cache)
                self._peak = max(self._peak, sample.peak)
                self._cpu_seconds = max(self._cpu_seconds, sample.cpu_seconds)
                self._seen = True

    def _control_group(self) -> ControlGroup | None:
        if not self._engine.url.startswith("unix:"):
            return None
        container = self._engine.fresh().inspect(self._name)
        if container is None:
            return None
        return ControlGroup.of(container["State"]["Pid"], container["Id"])

    def _from_kernel(self, group: ControlGroup) -> Iterator[Sample]:
        pause = FIRST_SECONDS
        while True:
            yield group.sample()  # an OSError when the group is gone
            if self._gpu:
                self._gpu.look()
            if self._ended.wait(pause):
                return
            pause = min(pause * GROWTH, LONGEST_SECONDS)

    def _from_engine(self) -> Iterator[Sample]:
        for stats in self._engine.second().stats(self._name, decode=True, stream=True):
            if self._ended.is_set():
                return
            if stats.get("memory_stats", {}).get("usage"):
                yield sample_of(stats)


def sample_of(stats: Mapping[str, Any]) -> Sample:
    """A sample from one message of the engine's statistics, of either version of control groups."""
    memory, details = stats["memory_stats"], stats["memory_stats"].get("stats", {})
    return _sample(
        usage=int(memory["usage"]),
        details=details,
        peak=int(memory.get("max_usage", 0)),
        cpu_seconds=int(stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage", 0)) / NANO,
    )


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """The kernel's files of one container.

    :param memory: and ``cpu``: folders; the same one in version 2.
    """

    memory: Path
    cpu: Path
    version: int

    @classmethod
    def of(cls, pid: int, container_id: str) -> ControlGroup | None:
        """The group of a container's process; None when this process does not see it, for example from a container."""
        try:
            text = Path(f"/proc/{pid}/cgroup").read_text()
            mounts = _mounts(Path("/proc/self/mountinfo").read_text())
        except OSError:
            return None
        paths = {name: path for _, names, path in _lines(text) for name in names.split(",")}
        memory, cpu = paths.get("memory", paths.get("")), paths.get("cpuacct", paths.get(""))
        if memory is None or cpu is None or container_id not in memory:
            return None
        found = cls(
            _folder(mounts, "memory" if "memory" in paths else "", memory),
            _folder(mounts, "cpuacct" if "cpuacct" in paths else "", cpu),
            1 if "memory" in paths else 2,
        )
        return found if found.memory.is_dir() and found.cpu.is_dir() else None

    def sample(self) -> Sample:
        if self.version == 1:
            usage, peak = _number(self.memory / "memory.usage_in_bytes"), self.memory / "memory.max_usage_in_bytes"
            cpu_seconds = _number(self.cpu / "cpuacct.usage") / NANO
        else:
            usage, peak = _number(self.memory / "memory.current"), self.memory / "memory.peak"
            cpu_seconds = _table(self.cpu / "cpu.stat").get("usage_usec", 0) / 10**6
        record = _number(peak) if peak.exists() else 0
        return _sample(usage, _table(self.memory / "memory.stat"), record, cpu_seconds)

    def pids(self) -> list[int]:
        try:
            return [int(word) for word in (self.memory / "cgroup.procs").read_text().split()]
        except OSError:
            return []


def _sample(usage: int, details: Mapping[str, int], peak: int, cpu_seconds: float) -> Sample:
    """A sample with the kernel's details, whose names differ: version 1 has totals of the groups below."""

    def value(*names: str) -> int:
        return next((int(details[name]) for name in names if name in details), 0)

    idle = value("total_inactive_file", "inactive_file")
    cache = value("total_cache", "file") - value("total_shmem", "shmem")
    return Sample(max(0, usage - idle), max(0, cache), peak, cpu_seconds)


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        yield number, names, path


def _mounts(mountinfo: str) -> dict[str, tuple[str, str]]:
    """Controller -> root and mount point of its hierarchy; version 2 has the empty name."""
    found: dict[str, tuple[str, str]] = {}
    for line in mountinfo.splitlines():
        words, _, rest = line.partition(" - ")
        kind, _, options = rest.partition(" ")
        root, point = words.split(" ")[3:5]
        if kind == "cgroup2":
            found.setdefault("", (root, point))
        elif kind == "cgroup":
            for name in options.rpartition(" ")[2].split(","):
                found.setdefault(name, (root, point))
    return found


def _folder(mounts: Mapping[str, tuple[str, str]], controller: str, path: str) -> Path:
    root, point = mounts.get(controller, ("/", "/sys/fs/cgroup"))
    below = path.removeprefix(root) if root != "/" else path
    return Path(point) / below.lstrip("/")


def _number(file: Path) -> int:
    return int(file.read_text())


def _table(file: Path) -> dict[str, int]:
    pairs = (line.partition(" ") for line in file.read_text().splitlines())
    return {name: int(value) for name, _, value in pairs}
