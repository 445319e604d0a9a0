"""kill -9 of what runs MAP tasks: their processes, workers, the scheduler, the engine, the applications themselves."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable

import psutil

from airflow_monai.local.processes import TOKEN_VARIABLE, wait_until
from airflow_monai.local.stack import LocalStack
from tests.chaos.killer import Killer, kill_busy_worker
from tests.own_docker import OwnEngine

VICTIMS = ("task process", "worker", "idle worker", "application", "scheduler", "scheduler with its workers", "engine")
PATIENCE_SECONDS = 10.0
"""How long it lies in wait for a victim that is there only at times."""


class MapKiller(Killer):
    """Kills from ``__enter__`` to ``__exit__``; every part is back when that returns.

    :param engine: the Docker engine of the stack's own, if it has one.
    :param patience: seconds that it lies in wait for a victim that is there only at times.
    """

    def __init__(
        self,
        stack: LocalStack,
        seed: int,
        *,
        engine: OwnEngine | None = None,
        pauses: tuple[float, float] = (2.0, 8.0),
        victims: tuple[str, ...] = VICTIMS,
        patience: float = PATIENCE_SECONDS,
    ):
        super().__init__(stack, seed, pauses)
        self.victims = tuple(victim for victim in victims if engine or victim != "engine")
        self._engine = engine
        self._patience = patience

    def _strike(self, victim: str) -> None:
        strikes: dict[str, Callable[[], bool]] = {
            "worker": lambda: kill_busy_worker(self._stack, self._random.choice),
            "task process": lambda: kill_task_process(self._stack, self._random),
            "application": lambda: kill_application(self._random),
            "idle worker": self._idle_worker,
            "engine": self._engine_killed,
        }
        if victim not in strikes:
            super()._strike(victim)
        elif wait_until(strikes[victim], self._patience):
            self.kills[victim] += 1

    def _restart(self, name: str) -> None:
        super()._restart(name)
        if name == "scheduler":
            end_idle_orphans(self._stack)

    def _idle_worker(self) -> bool:
        """Airflow's LocalExecutor does not survive that, since it dies with the queue's lock: start it anew."""
        if not kill_idle_worker(self._stack, self._random):
            return False
        time.sleep(self._random.uniform(0, 4))
        self._stack.kill("scheduler", group=True)
        self._restart("scheduler")
        return True

    def _engine_killed(self) -> bool:
        assert self._engine is not None
        self._engine.kill()
        time.sleep(self._random.uniform(0, 4))
        self._engine.start()
        return True


def end_idle_orphans(stack: LocalStack) -> None:
    """What a service manager does with the rest of a service: idle workers of a dead scheduler wait for ever.

    Those that have a task are left alone: it goes on, and is found again by the next try.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.ppid() != 1 or "<idle>" not in " ".join(process.cmdline()):
                continue
            if process.environ().get(TOKEN_VARIABLE) == stack.secrets.token:
                process.kill()


def kill_task_process(stack: LocalStack, chance: random.Random) -> bool:
    """Kill the process that runs a task, and not the worker that watches it; False when there is none."""
    with contextlib.suppress(psutil.Error):
        scheduler = psutil.Process(stack.processes["scheduler"].pid)
        running = [task for worker in scheduler.children() for task in worker.children()]
        if running:
            chance.choice(running).kill()
            return True
    return False


def kill_idle_worker(stack: LocalStack, chance: random.Random) -> bool:
    """Kill a worker that waits for work; False when none does."""
    with contextlib.suppress(psutil.Error):
        scheduler = psutil.Process(stack.processes["scheduler"].pid)
        idle = [child for child in scheduler.children() if "<idle>" in " ".join(child.cmdline())]
        if idle:
            chance.choice(idle).kill()
            return True
    return False


def kill_application(chance: random.Random) -> bool:
    """Kill one application's processes; False when none runs."""
    pids: dict[str, list[int]] = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if b"CHAOS_SHARE=" in file.read():
                instance = os.readlink(f"/proc/{pid}/ns/pid")
                pids.setdefault(instance, []).append(int(pid))
    if not pids:
        return False
    for pid in pids[chance.choice(sorted(pids))]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return True
