"""What the store keeps of runs. Every step is one conditional create, so that two API servers agree, and one that is
killed leaves a run that goes on where it was.

mip/jobs/<job>/<number>/run.json      the run as it was asked for: creating it is submitting it
                       /plan.json     what it does with each module: creating it is deciding it
                       /refused.json  Airflow did not take it, since when
                       /started.json  it has its DAG run, which is not made again when somebody deletes it
                       /ended.json    how it ended, with the job's results up to it
                       /<destination>/<attempt>.json, <attempt>.done.json    deliveries of its outputs
mip/keys/<run id>-<random>            an encrypted key, until the run has ended
mip/open/<run id>.json                there is something to do for it, or it is just being submitted
mip/closed/<run id>.json              there is nothing to do for it any more
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from airflow_monai.mip.model import NOTHING_YET, Decision, Ended, Plan, Result, Run, RunId, Status
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import undamaged
from airflow_monai.store.shapes import moment

TOP = "mip"
ABANDONED_SECONDS = 3600.0
"""After so long what was prepared for a run that never came to be is removed."""


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class Ledger:
    """The jobs of a store."""

    store: Store

    # -- jobs and runs ----------------------------------------------------------------------------------------------

    def jobs(self) -> list[str]:
        return list(dict.fromkeys(run_id.job for run_id in self.run_ids()))

    def numbers(self, job: str) -> list[int]:
        """Numbers of a job's runs, ascending; empty where there is no such job."""
        found = sorted(int(name) for name in self.store.children(f"{TOP}/jobs/{job}") if name.isdecimal())
        # who was killed while he created the last one may have left its folder
        while found and not self.store.exists(self.key(RunId(job, found[-1]), "run.json")):
            found.pop()
        return found

    def run_ids(self) -> list[RunId]:
        """All runs, by job and number; two listings, however many jobs there are."""
        is_open = self.open_runs()  # first: a run that is closed meanwhile is in both
        closed = set(self._marked("closed"))
        there = {run_id for run_id in is_open if run_id in closed or self.store.exists(self.key(run_id, "run.json"))}
        return sorted(closed | there, key=lambda run_id: (run_id.job, run_id.number))

    def run(self, run_id: RunId) -> Run | None:
        """None where there is no such run."""
        key = self.key(run_id, "run.json")
        if not self.store.exists(key):
            return None
        return self.store.read_as(key, Run.from_dict)

    def submit(self, run: Run, encrypted_key: bytes | None) -> Run:
        """Enter a run as the last one of its job; it is durable when this returns.

        :param run: with any number.
        :param encrypted_key: kept until the run has ended; ``run.key_name`` is its name.
        """
        number = max(self.numbers(run.run_id.job), default=0) + 1
        while True:
            wanted = replace(run, run_id=RunId(run.run_id.job, number))
            # before it: what a killed server has prepared is nobody's run, and goes away by itself
            self._prepare(wanted, encrypted_key)
            if self.store.create_json(self.key(wanted.run_id, "run.json"), wanted.to_dict()):
                self._prepare(wanted, encrypted_key, again=True)
                return wanted
            if encrypted_key is not None:
                self.store.delete(self._key_key(wanted))
            number += 1

    def _prepare(self, run: Run, encrypted_key: bytes | None, again: bool = False) -> None:
        """Write what a run needs beside itself.

        :param again: only what somebody has swept meanwhile, who took it for that of a killed server.
        """
        if encrypted_key is not None and not (again and self.store.exists(self._key_key(run))):
            self.store.write(self._key_key(run), encrypted_key)
        if not (again and self.store.exists(self._open_key(run.run_id))):
            self.store.write_json(self._open_key(run.run_id), {"since": now()})

    def key(self, run_id: RunId, *parts: str) -> str:
        return "/".join((TOP, "jobs", run_id.job, str(run_id.number), *parts))

    # -- from its start to its end ----------------------------------------------------------------------------------

    def before(self, run_id: RunId) -> Ended | None:
        """How the run before it in the job ended; None while it has not."""
        if run_id.number == 1:
            return NOTHING_YET
        return self.ended(RunId(run_id.job, run_id.number - 1))

    def plan(self, run_id: RunId) -> Plan | None:
        key = self.key(run_id, "plan.json")
        return self.store.read_as(key, Plan.from_dict) if self.store.exists(key) else None

    def settle(self, run_id: RunId, plan: Plan) -> Plan:
        """Decide what a run does; the plan that counts, which another server may have made."""
        if self.store.create_json(self.key(run_id, "plan.json"), plan.to_dict()):
            return plan
        found = self.plan(run_id)
        assert found is not None
        return found

    def note_started(self, run_id: RunId) -> None:
        """Its DAG run is there."""
        self.store.create_json(self.key(run_id, "started.json"), {"since": now()})

    def has_started(self, run_id: RunId) -> bool:
        return self.store.exists(self.key(run_id, "started.json"))

    def refused_since(self, run_id: RunId) -> datetime:
        """Note that its DAG run could not be made; since when that is so."""
        key = self.key(run_id, "refused.json")
        self.store.create_json(key, {"since": now()})
        return self.store.read_as(key, _since)

    def ended(self, run_id: RunId) -> Ended | None:
        """How a run ended, None while it has not."""
        key = self.key(run_id, "ended.json")
        return self.store.read_as(key, Ended.from_dict) if self.store.exists(key) else None

    def end(self, run: Run, ended: Ended) -> Ended:
        """Write down how a run ended, and forget its key. What was written first counts."""
        if not self.store.create_json(self.key(run.run_id, "ended.json"), ended.to_dict()):
            ended = self.ended(run.run_id) or ended
        self.forget_keys(run.run_id)
        return ended

    def last_ended(self, job: str) -> Ended:
        """The job's results as of now."""
        for number in reversed(self.numbers(job)):
            ended = self.ended(RunId(job, number))
            if ended is not None:
                return ended
        return NOTHING_YET

    # -- keys -------------------------------------------------------------------------------------------------------

    def encrypted_key(self, run: Run) -> bytes | None:
        """None for a run without, and for one that has ended."""
        if not run.key_name or not self.store.exists(self._key_key(run)):
            return None
        return self.store.read(self._key_key(run))

    def forget_keys(self, run_id: RunId) -> None:
        """Also those that were prepared for a run of this id that another one became."""
        for name in self.store.children(f"{TOP}/keys"):
            if name.rpartition("-")[0] == str(run_id):
                self.store.delete(f"{TOP}/keys/{name}")

    def _key_key(self, run: Run) -> str:
        return f"{TOP}/keys/{run.run_id}-{run.key_name}"

    # -- what is open -----------------------------------------------------------------------------------------------

    def open_runs(self) -> list[RunId]:
        """Runs for which there may be something to do, in the order of each job."""
        return sorted(self._marked("open"), key=lambda run_id: (run_id.job, run_id.number))

    def waiting_runs(self) -> list[Run]:
        """Runs that have not ended."""
        return list(
            undamaged(self.open_runs(), lambda run_id: self.run(run_id) if self.ended(run_id) is None else None)
        )

    def close(self, run_id: RunId) -> None:
        """There is nothing more to do for a run."""
        self.store.write_json(f"{TOP}/closed/{run_id}.json", {})
        self.store.delete(self._open_key(run_id))

    def _marked(self, how: str) -> list[RunId]:
        names = (name.removesuffix(".json") for name in self.store.children(f"{TOP}/{how}"))
        return [run_id for run_id in map(RunId.parse, names) if run_id is not None]

    def sweep(self, run_id: RunId) -> None:
        """Remove what was prepared for a run that never came to be, when it is old enough."""
        key = self._open_key(run_id)
        if not self.store.exists(key):
            return
        since = self.store.read_as(key, _since)
        if (datetime.now(timezone.utc) - since).total_seconds() > ABANDONED_SECONDS:
            self.forget_keys(run_id)
            self.store.delete(key)

    def _open_key(self, run_id: RunId) -> str:
        return f"{TOP}/open/{run_id}.json"


def _since(data: Mapping[str, Any]) -> datetime:
    return moment(data["since"])


def summed_up(
    run: Run,
    plan: Plan | None,
    before: Ended,
    results: dict[str, Result],
    status: Status,
    times: tuple[str | None, ...],
    reason: str = "",
) -> Ended:
    """How a run ended, from what became of its modules.

    :param results: of the modules that ran.
    :param times: when it began and ended.
    :param reason: why it ended as a whole, where it is not what its modules say.
    """
    has_run = {name: result for name, result in results.items() if result.status is not Status.NOT_STARTED}
    last, good = {**before.last, **has_run}, {module: dict(maps) for module, maps in before.good.items()}
    for module, result in has_run.items():
        if result.status is Status.PASSED:
            good.setdefault(module, {})[run.map] = result
    start, stop = times
    return Ended(status, start, stop, log_of(plan, results, status, reason), results, last, good)


def log_of(plan: Plan | None, results: dict[str, Result], status: Status, reason: str = "") -> str:
    """What a person wants to know of a run, a line for each module that it had to do with."""
    lines = []
    for module, decision in (plan.decisions if plan else {}).items():
        if decision is Decision.REUSE and plan is not None:
            lines.append(f"{module}: taken over from run {plan.reused[module].run_id}")
        elif decision is Decision.RUN:
            result = results.get(module)
            told = result.status.value if result else Status.NOT_STARTED.value
            if result is not None and result.status is Status.NOT_STARTED:
                told += "" if result.error else ": no way of the workflow led there"
            lines.append(f"{module}: {told}" + (f": {result.error}" if result and result.error else ""))
    return "\n".join([*lines, f"run: {status.value}" + (f": {reason}" if reason else "")])
