"""kill -9 of random parts of a stack, one after the other, and their restart."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import psutil

from airflow_monai.local.stack import LocalStack, StackError

PARTS = ("gateway", "triggerer", "api-server", "scheduler", "scheduler with its workers", "worker")


class Killer:
    """Kills from ``__enter__`` to ``__exit__``; every part is back when that returns.

    :param seed: makes the order of victims and pauses the same again.
    :param pauses: shortest and longest time between a restart and the next kill, in seconds.
    """

    victims: tuple[str, ...] = PARTS

    def __init__(self, stack: LocalStack, seed: int, pauses: tuple[float, float] = (4.0, 12.0)):
        self.kills: Counter[str] = Counter()
        self._stack = stack
        self._random = random.Random(seed)
        self._pauses = pauses
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="killer")

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(180)
        assert not self._thread.is_alive(), "a part does not come back"
        if self._error is not None:
            raise self._error

    @property
    def failed(self) -> bool:
        return self._error is not None

    def __str__(self) -> str:
        return ", ".join(f"{name} {count} x" for name, count in sorted(self.kills.items()))

    def _run(self) -> None:
        try:
            victims: list[str] = []
            while not self._over.wait(self._random.uniform(*self._pauses)):
                victims = victims or self._random.sample(self.victims, len(self.victims))  # each as often as the others
                self._strike(victims.pop())
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self._error = error

    def _strike(self, victim: str) -> None:
        if victim == "worker":
            if kill_busy_worker(self._stack, self._random.choice):
                self.kills[victim] += 1
            return
        name = victim.partition(" ")[0]
        self._stack.kill(name, group=name != victim)
        self.kills[victim] += 1
        time.sleep(self._random.uniform(0, 4))
        self._restart(name)

    def _restart(self, name: str) -> None:
        for last in (False, False, True):
            try:
                self._stack.restart(name)
                return
            except StackError:
                if last:
                    raise


def kill_busy_worker(stack: LocalStack, choose: Callable[[list[psutil.Process]], psutil.Process]) -> bool:
    """Kill a worker that has a task; False when none has.

    An idle one is left alone: Airflow's LocalExecutor does not survive that, because it dies with the queue's lock.
    """
    with contextlib.suppress(psutil.Error):
        scheduler = psutil.Process(stack.processes["scheduler"].pid)
        busy = [worker for worker in scheduler.children() if worker.children()]
        if not busy:
            return False
        worker = choose(busy)
        worker.suspend()  # so that it cannot become idle between the look and the kill
        if any(child.status() != psutil.STATUS_ZOMBIE for child in worker.children()):
            worker.kill()
            return True
        worker.resume()
    return False
