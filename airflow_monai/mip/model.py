"""Runs of modules as plain data, and their ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

ALL = "ALL"
"""In place of modules' names: all of the workflow's."""
DAG_RUN_PREFIX = "mip__"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_RUN_ID = re.compile(rf"({NAME})-([1-9][0-9]{{0,8}})\Z")


class Status(str, Enum):
    """How far a run, a job or a module is; the values are those of answers."""

    NOT_STARTED = "not started"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"


class Decision(str, Enum):
    """What becomes of a module in a run."""

    RUN = "run"
    REUSE = "reuse"
    """What an earlier run of the job made is taken over."""
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class RunId:
    """The ``number``-th run of a job, counted from 1; ``<job>-<number>`` as text."""

    job: str
    number: int

    def __str__(self) -> str:
        return f"{self.job}-{self.number}"

    @property
    def dag_run_id(self) -> str:
        """Id of its run in Airflow."""
        return f"{DAG_RUN_PREFIX}{self}"

    @classmethod
    def parse(cls, text: str) -> RunId | None:
        """None for a text that is none."""
        found = _RUN_ID.match(text)
        return cls(found[1], int(found[2])) if found else None

    @classmethod
    def of_dag_run(cls, dag_run_id: str) -> RunId | None:
        """None for another run of Airflow."""
        if not dag_run_id.startswith(DAG_RUN_PREFIX):
            return None
        return cls.parse(dag_run_id.removeprefix(DAG_RUN_PREFIX))


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it was asked for; it never changes.

    :param modules: as they were named, ``ALL`` too.
    :param map: name of the dataset, ``payload_id`` what it was when the run was asked for.
    :param submitted: UTC, ISO 8601.
    :param key_name: under which the encrypted ``openai_key`` is kept while it is needed; empty where none came with it.
    """

    run_id: RunId
    dag_id: str
    modules: tuple[str, ...]
    map: str
    payload_id: str
    force_rerun: bool
    submitted: str
    user: str
    extra_args: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    key_name: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "run_id": str(self.run_id)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Run:
        run_id = RunId.parse(data["run_id"])
        if run_id is None:
            raise ValueError(f"{data['run_id']!r} is no run id")
        args = {name: tuple(words) for name, words in data["extra_args"].items()}
        return cls(**{**data, "run_id": run_id, "modules": tuple(data["modules"]), "extra_args": args})


@dataclass(frozen=True, slots=True)
class Result:
    """What one run made of one module, or took over.

    :param dag_run_id: the run of Airflow in which it was made, on the payload ``payload_id``.
    :param version: of the module.
    :param run_id: the run in which it was made.
    :param error: why it failed; empty otherwise.
    """

    module: str
    status: Status
    map: str
    payload_id: str
    dag_id: str
    dag_run_id: str
    run_id: str
    version: str
    start_time: str | None = None
    stop_time: str | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "status": self.status.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        return cls(**{**data, "status": Status(data["status"])})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does, decided once, when it starts.

    :param decisions: module -> what becomes of it.
    :param reused: module -> the result that is taken over.
    :param versions: module -> its version now.
    """

    decisions: Mapping[str, Decision]
    reused: Mapping[str, Result]
    versions: Mapping[str, str]

    def of(self, decision: Decision) -> list[str]:
        return [module for module, decided in self.decisions.items() if decided is decision]

    def to_dict(self) -> dict[str, Any]:
        return {
            "decisions": {module: decision.value for module, decision in self.decisions.items()},
            "reused": {module: result.to_dict() for module, result in self.reused.items()},
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        return cls(
            {module: Decision(value) for module, value in data["decisions"].items()},
            {module: Result.from_dict(value) for module, value in data["reused"].items()},
            data["versions"],
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    :param results: of the modules that ran in it.
    :param last: module -> its last result in the job, up to and with this run.
    :param good: module -> map -> its last result that passed, likewise.
    """

    status: Status
    start_time: str | None
    stop_time: str | None
    log: str
    results: Mapping[str, Result]
    last: Mapping[str, Result]
    good: Mapping[str, Mapping[str, Result]]

    def to_dict(self) -> dict[str, Any]:
        def shown(results: Mapping[str, Result]) -> dict[str, Any]:
            return {name: result.to_dict() for name, result in results.items()}

        return {
            "status": self.status.value,
            "start_time": self.start_time,
            "stop_time": self.stop_time,
            "log": self.log,
            "results": shown(self.results),
            "last": shown(self.last),
            "good": {module: shown(maps) for module, maps in self.good.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ended:
        def read(results: Mapping[str, Any]) -> dict[str, Result]:
            return {name: Result.from_dict(value) for name, value in results.items()}

        return cls(
            Status(data["status"]),
            data["start_time"],
            data["stop_time"],
            data["log"],
            read(data["results"]),
            read(data["last"]),
            {module: read(maps) for module, maps in data["good"].items()},
        )


NOTHING_YET = Ended(Status.NOT_STARTED, None, None, "", {}, {}, {})
"""Before the first run of a job."""
