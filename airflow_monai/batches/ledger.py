"""One batch: the list of payloads that it was given once for all, and the runs that it keeps going on them.

batches/<dag>/<batch run>/plan.json        the list, never changed
                         /progress.jsonl   how runs ended: only saves asking Airflow again
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from airflow_monai.batches.claims import PayloadClaims
from airflow_monai.engine import Engine, Job, JobState
from airflow_monai.errors import StoreError
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import payload_key

ASKED_AT_ONCE = 100
"""Runs whose state is asked for in one step."""
_ENDS = {JobState.SUCCEEDED: "success", JobState.FAILED: "failed"}
DELETED, PASSED_OVER = "deleted", "passed over"


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What a batch does.

    :param batch: id of the batch's own DAG run.
    :param payloads: in the order in which they are started.
    """

    dag_id: str
    batch: str
    version: str
    include_processed: bool
    payloads: tuple[str, ...]

    def keep(self, store: Store) -> BatchPlan:
        """Write the plan, and return the one that counts: of two that are written the first."""
        store.create_json(_key(self.dag_id, self.batch, "plan.json"), asdict(self))
        return load_plan(store, self.dag_id, self.batch) or self


def load_plan(store: Store, dag_id: str, batch: str) -> BatchPlan | None:
    """The plan of a batch, None when it has none yet.

    :param dag_id: of the workflow.
    """
    key = _key(dag_id, batch, "plan.json")
    if not store.exists(key):
        return None
    try:
        known = store.read_json(key)
        return BatchPlan(**{**known, "payloads": tuple(known["payloads"])})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"The plan {key} is damaged: {error}.") from error


@dataclass(slots=True)
class BatchRuns:
    """Keeps ``max_active`` runs of a plan going. Whatever is repeated after a crash, each payload gets one run.

    :ivar ended: payload -> ``success``, ``failed``, ``deleted`` or ``passed over``.
    """

    store: Store
    plan: BatchPlan
    engine: Engine
    max_active: int
    waiting: list[str] = field(init=False, default_factory=list)
    active: dict[str, str] = field(init=False, default_factory=dict)
    ended: dict[str, str] = field(init=False, default_factory=dict)
    is_stopped: bool = field(init=False, default=False)

    def resume(self) -> BatchRuns:
        """Learn from the store how far the batch has come."""
        known = self._known_ends()
        for payload_id in reversed(self.plan.payloads):
            if payload_id in known:
                self.ended[payload_id] = known[payload_id]
                continue
            claim = next((item for item in self._claims(payload_id) if item.batch == self.plan.batch), None)
            if claim is not None and claim.is_started:
                self.active[payload_id] = claim.run_id(payload_id)
            else:
                self.waiting.append(payload_id)  # the first of the plan last: it is popped first
        return self

    @property
    def is_done(self) -> bool:
        return not self.waiting and not self.active

    def stop(self) -> None:
        """Start nothing more; runs that are going go on."""
        self.is_stopped = True

    def step(self) -> None:
        """Ask how the runs are, and start others in the place of those that have ended.

        :raises MonaiError: when Airflow or the store does not answer; a later step goes on where this one was.
        """
        for payload_id in list(self.active)[:ASKED_AT_ONCE]:
            run_id = self.active[payload_id]
            status = self.engine.status(Job(self.plan.dag_id, run_id))
            del self.active[payload_id]
            if status is None or status.state.is_final:
                self._end(payload_id, DELETED if status is None else _ENDS[status.state])
            else:
                self.active[payload_id] = run_id  # at the end, so that each comes round
        while self.waiting and len(self.active) < self.max_active and not self.is_stopped:
            self._start(self.waiting[-1])
            self.waiting.pop()

    def _start(self, payload_id: str) -> None:
        claims = self._claims(payload_id)
        if not self.plan.include_processed and self._was_processed(payload_id):
            self._end(payload_id, PASSED_OVER)
            return
        claim = claims.take(self.plan.batch, self.plan.version)
        run_id = claim.run_id(payload_id)
        if not claim.is_started:
            note = f"Started by the batch {self.plan.batch}."
            self.engine.launch(Job(self.plan.dag_id, run_id, payload_id, note=note))
            claims.started(claim)
        self.active[payload_id] = run_id

    def _was_processed(self, payload_id: str) -> bool:
        """Whether somebody else has had this version run since the payload was selected."""
        others = (claim for claim in self._claims(payload_id) if claim.batch != self.plan.batch and claim.is_started)
        key = payload_key(payload_id, "runs", f"{safe_name(self.plan.dag_id)}.json")
        by_gateway = self.store.exists(key) and self.store.read_dict(key).get("version") == self.plan.version
        return by_gateway or any(claim.version == self.plan.version for claim in others)

    def _claims(self, payload_id: str) -> PayloadClaims:
        return PayloadClaims(self.store, payload_id, self.plan.dag_id)

    def _end(self, payload_id: str, state: str) -> None:
        self.ended[payload_id] = state
        line = json.dumps([payload_id, state]) + "\n"
        self.store.append(_key(self.plan.dag_id, self.plan.batch, "progress.jsonl"), line.encode())

    def _known_ends(self) -> dict[str, str]:
        key = _key(self.plan.dag_id, self.plan.batch, "progress.jsonl")
        lines = self.store.read(key).decode("utf-8", "replace").splitlines() if self.store.exists(key) else []
        return dict(_readable(lines))

    def counts(self) -> dict[str, int]:
        """How many of the payloads are where."""
        ends = list(self.ended.values())
        return {
            "of": len(self.plan.payloads),
            "succeeded": ends.count("success"),
            "failed": ends.count("failed"),
            "deleted": ends.count(DELETED),
            "passed_over": ends.count(PASSED_OVER),
            "running": len(self.active),
            "waiting": len(self.waiting),
        }

    def told(self) -> str:
        """``37 of 200 done, 2 failed, 4 running``."""
        counts = self.counts()
        more = [f"{counts[name]} {word}" for name, word in _WORDS.items() if counts[name]]
        return ", ".join([f"{len(self.ended)} of {counts['of']} done", *more])

    def failed_runs(self) -> list[str]:
        """Ids of the runs that failed."""
        failed = [payload_id for payload_id, state in self.ended.items() if state == "failed"]
        return [self._claims(payload_id).take(self.plan.batch, "").run_id(payload_id) for payload_id in failed]


_WORDS = {"failed": "failed", "deleted": "deleted by a person", "passed_over": "passed over", "running": "running"}


def _readable(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Whole lines; a power cut may have left half of one."""
    for line in lines:
        try:
            payload_id, state = json.loads(line)
        except (ValueError, TypeError):
            continue
        yield str(payload_id), str(state)


def _key(dag_id: str, batch: str, name: str) -> str:
    return f"batches/{safe_name(dag_id)}/{safe_name(batch)}/{name}"
