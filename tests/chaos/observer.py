"""Watches from outside that no card is used beyond what it has: what the leases say, and which applications really run.

``python -m tests.chaos.observer <config.json>`` looks until it gets SIGTERM, and then prints what it saw as JSON. It
shares no code with what it watches: it reads the file of leases and the kernel's list of processes, which shows the
applications of containers too, also while their engine is dead. An application is known by its environment: MONAI_JOBID
names its job, CHAOS_SHARE says how many slots of its cards it was promised to use.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEASES_EVERY, APPLICATIONS_EVERY = 0.01, 0.15
MOST_TOLD = 20


@dataclass(frozen=True)
class Application:
    """One that runs now.

    :param instance: its process namespace: each container and each sandbox has one of its own.
    """

    job: str
    instance: str
    cards: tuple[str, ...]
    share: int


@dataclass(frozen=True)
class Lease:
    name: str
    job: str
    cards: tuple[str, ...]
    share: int


class Observer:
    """:param slots: of each card; ``store``: folder of the store, by which a lease's job is known."""

    def __init__(self, leases: Path, store: Path, slots: dict[str, int]):
        self._file = leases / "leases.json"
        self._store = store
        self._slots = slots
        self._over = threading.Event()
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.started: dict[str, set[str]] = defaultdict(set)

    def watch(self) -> None:
        others = threading.Thread(target=self._every, args=(LEASES_EVERY, self.look_at_leases))
        others.start()
        self._every(APPLICATIONS_EVERY, self.look_at_applications)
        others.join()

    def end(self) -> None:
        self._over.set()

    def report(self) -> dict[str, Any]:
        return {
            "wrong": self.wrong[:MOST_TOLD],
            "looks": dict(self.counts),
            "most": dict(self.most),
            "starts": {job: len(instances) for job, instances in self.started.items()},
        }

    def _every(self, pause: float, look: Callable[[], None]) -> None:
        while not self._over.wait(pause):
            look()

    def leases(self) -> list[Lease]:
        try:
            found = json.loads(self._file.read_bytes())["leases"]
        except FileNotFoundError:
            return []
        return [Lease(e["name"], self._job_of(e["state"]), tuple(e["cards"]), e["share"]) for e in found]

    def _job_of(self, state: str) -> str:
        output = str(Path(state).relative_to(self._store)).removesuffix(".run")
        return uuid.uuid5(uuid.NAMESPACE_OID, output).hex

    def look_at_leases(self) -> None:
        leases = self.leases()
        self.counts["leases"] += 1
        self.most["leases"] = max(self.most["leases"], len(leases))
        names = Counter(lease.name for lease in leases)
        self._tell(f"{name} has two leases" for name, count in names.items() if count > 1)
        self._tell(self._overfull("leases", leases))

    def look_at_applications(self) -> None:
        running = applications()
        leases = {lease.job: lease for lease in self.leases()}
        self.counts["applications"] += 1
        self.most["applications"] = max(self.most["applications"], len(running))
        for application in running:
            self.started[application.job].add(application.instance)
        if self._faults(running, leases):
            # they are not read at one moment: what is wrong is so with those that are there at the second look too
            still = set(applications())
            leases = {lease.job: lease for lease in self.leases()} | leases
            self._tell(self._faults([item for item in running if item in still], leases))

    def _faults(self, running: list[Application], leases: dict[str, Lease]) -> list[str]:
        faults = list(self._overfull("applications", running))
        instances = Counter(application.job for application in running)
        faults += [f"job {job} runs {count} times at once" for job, count in instances.items() if count > 1]
        for application in running:
            lease = leases.get(application.job)
            if lease is None:
                faults.append(f"job {application.job} runs without a lease on {application.cards}")
            elif sorted(lease.cards) != sorted(application.cards) or lease.share != application.share:
                faults.append(f"job {application.job} runs on {application.cards} and leased {lease.cards}")
        return faults

    def _overfull(self, what: str, users: Iterable[Lease | Application]) -> Iterator[str]:
        used: Counter[str] = Counter()
        for user in users:
            used.update(dict.fromkeys(user.cards, user.share))
        for card, slots in used.items():
            self.most[f"{what} on {card}"] = max(self.most[f"{what} on {card}"], slots)
            if slots > self._slots.get(card, 0):
                yield f"{what} use {slots} of the {self._slots.get(card, 0)} slots of {card}"

    def _tell(self, faults: Iterable[str]) -> None:
        for fault in faults:
            self.wrong.append(f"{time.time():.2f} {fault}")
            print(self.wrong[-1], file=sys.stderr, flush=True)


def applications() -> list[Application]:
    """Those that run now."""
    found = set()
    for pid in os.listdir("/proc"):
        if pid.isdecimal() and (application := _application(pid)) is not None:
            found.add(application)
    return sorted(found, key=lambda item: (item.job, item.instance))


def _application(pid: str) -> Application | None:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
        if b"CHAOS_SHARE=" not in raw:
            return None
        variables = dict(item.partition("=")[::2] for item in raw.decode("utf-8", "replace").split("\0"))
        instance = os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None  # it ended just now
    cards = tuple(variables.get("NVIDIA_VISIBLE_DEVICES", "").split(","))
    return Application(variables.get("MONAI_JOBID", ""), instance, cards, int(variables["CHAOS_SHARE"]))


def main(config: str) -> int:
    given = json.loads(Path(config).read_text())
    observer = Observer(Path(given["leases"]), Path(given["store"]), given["slots"])
    signal.signal(signal.SIGTERM, lambda *_: observer.end())
    observer.watch()
    print(json.dumps(observer.report()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
