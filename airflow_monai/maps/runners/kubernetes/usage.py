"""What a pod uses, where the cluster has a metrics server: samples, so a short peak can be missed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_monai.maps.runners.base import Usage
from airflow_monai.maps.runners.kubernetes.status import CONTAINER
from airflow_monai.specs.units import memory_bytes

SAMPLE_SECONDS = 15.0
"""Metrics servers measure no oftener."""

GIVE_UP_AFTER = 4
_CPU = re.compile(r"(\d+)([num]?)\Z")
_PARTS = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class PodUsage:
    """Samples of one pod.

    :param ask: gives what the metrics server says of it, None where there is none or it does not know the pod yet.
    """

    def __init__(self, ask: Callable[[], Mapping[str, Any] | None], now: Callable[[], float] = time.monotonic):
        self._ask = ask
        self._now = now
        self._last = now()
        self._unanswered = 0
        self._peak: int | None = None
        self._cpu_seconds: float | None = None

    @property
    def so_far(self) -> Usage:
        return Usage(self._peak, None if self._cpu_seconds is None else round(self._cpu_seconds, 1))

    def look(self) -> None:
        """Take a sample if it is time for one."""
        passed = self._now() - self._last
        if passed < SAMPLE_SECONDS or self._unanswered >= GIVE_UP_AFTER:
            return
        self._last = self._now()
        sample = self._ask()
        if sample is None:
            self._unanswered += 1
            return
        self._unanswered = 0
        used = [
            container.get("usage", {})
            for container in sample.get("containers", ())
            if container.get("name", CONTAINER) == CONTAINER
        ]
        memory = sum(memory_bytes(item.get("memory", "0")) for item in used)
        cores = sum(cpu_cores(item.get("cpu", "0")) for item in used)
        self._peak = max(memory, self._peak or 0)
        self._cpu_seconds = (self._cpu_seconds or 0.0) + cores * passed


def cpu_cores(text: str) -> float:
    """Cores of an amount such as ``156340n``, ``250m`` or ``2``; 0 for anything else."""
    match = _CPU.match(text)
    return float(match[1]) * _PARTS[match[2]] if match else 0.0
