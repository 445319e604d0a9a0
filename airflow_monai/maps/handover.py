"""What a worker and a pod that share no folder tell each other about a job, by small objects of the bucket.

Beside the output of the task's generation, ``<output>``, lie:

``<output>.fetch``
    the plan, written before the pod: which objects of the store become which files of its input.
``<output>.ask``
    written by the worker when the application has ended well: publish the output below this folder of it.
``<output>.done``
    the pod's answer, written when all of the output is in the bucket, or when it never will be.

An ask names the pod and the try that asks, so what one pod or try has left means nothing to another; a newer ask
replaces an older one, also while that is being carried out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from airflow_monai.errors import StoreError
from airflow_monai.store.base import Store

PLAN, ASK, ANSWER = ".fetch", ".ask", ".done"
POLL_SECONDS = 1.0
"""How often each side looks for the other's word."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is laid out before the application starts.

    :param files: pairs of an object's key and a path below the input folder.
    :param inputs: and ``outputs``: folders below the input and the output folder that the application is given.
    """

    files: Sequence[Sequence[str]] = ()
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """A worker's wish to have the output.

    :param pod: uid of the pod that is meant.
    :param to: folder below the output's key, the try's own: ``t2``.
    :param max_bytes: and ``max_files``: more than that is not published. None: no limit.
    """

    pod: str
    to: str
    max_bytes: int | None = None
    max_files: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an ask.

    :param files: and ``size``: how many files with how many bytes in all are there now.
    :param problem: why there are none; empty where all went well.
    :param too_large: the problem is the output's size.
    """

    pod: str
    to: str
    files: int = 0
    size: int = 0
    problem: str = ""
    too_large: bool = False


@dataclass(frozen=True, slots=True)
class Handover:
    """The objects of one job.

    :param key: of the output of the task's generation.
    """

    store: Store
    key: str

    def lay_out(self, plan: Plan) -> None:
        self.store.write_json(self.key + PLAN, asdict(plan))

    def plan(self) -> Plan:
        """:class:`StoreError` when there is none."""
        return Plan(**self.store.read_json(self.key + PLAN))

    def ask(self, ask: Ask) -> None:
        self.store.write_json(self.key + ASK, asdict(ask))

    def asked(self, pod: str) -> Ask | None:
        """What this pod is asked for at the moment."""
        found = self._read(ASK)
        return Ask(**found) if found and found.get("pod") == pod else None

    def answer(self, answer: Answer) -> None:
        self.store.write_json(self.key + ANSWER, asdict(answer))

    def answered(self, ask: Ask) -> Answer | None:
        found = self._read(ANSWER)
        is_ours = found is not None and (found.get("pod"), found.get("to")) == (ask.pod, ask.to)
        return Answer(**found) if found and is_ours else None

    def forget(self) -> None:
        """Remove all of it; what cannot be removed now goes with its payload."""
        for suffix in (PLAN, ASK, ANSWER):
            with suppress(StoreError):
                self.store.delete(self.key + suffix)

    def _read(self, suffix: str) -> Mapping[str, Any] | None:
        key = self.key + suffix
        return dict(self.store.read_json(key)) if self.store.exists(key) else None
