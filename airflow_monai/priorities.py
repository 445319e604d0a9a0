"""Which of several waiting tasks goes first: weights for Airflow's scheduler.

A live run's task has the weight of its priority. A task of a run that a batch started has a lower one, so that it waits
behind the live studies of the same workflow. The scheduler and the API server import this: nothing else of ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow.task.priority_strategy import PriorityWeightStrategy

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

WEIGHTS = {"urgent": 30, "routine": 20, "batch": 10}
BEHIND_LIVE = 5
"""How much lower a batch's run stands than a live one of the same priority."""
_BATCH_RUN = re.compile(r"__b[0-9]+\Z")
_JOB_RUN = re.compile(r"__j(?P<priority>[urb])[0-9a-f]+\Z")
_OF_JOBS = {name[0]: weight for name, weight in WEIGHTS.items()}


def is_batch_run(run_id: str | None) -> bool:
    """Whether a run's id says that a batch started it (:func:`airflow_monai.store.payloads.batch_run_id`)."""
    return bool(run_id and _BATCH_RUN.search(run_id))


def job_weight(run_id: str | None) -> int | None:
    """The weight of the priority that a job's run id says (:func:`airflow_monai.store.payloads.job_run_id`); None for
    another run."""
    found = _JOB_RUN.search(run_id or "")
    return _OF_JOBS[found["priority"]] if found else None


class RunPriority(PriorityWeightStrategy):
    """The task's own weight; in the run of a job that of the job's priority; in a run of a batch the lower of its own
    and the batch's, less :data:`BEHIND_LIVE`.

    :cvar batch_weight: of the priority that the workflow's schedule says.
    """

    batch_weight = WEIGHTS["batch"]

    def get_weight(self, ti: TaskInstance) -> int:
        weight = job_weight(ti.run_id) or int(_task_of(ti).priority_weight)
        return min(weight, self.batch_weight) - BEHIND_LIVE if is_batch_run(ti.run_id) else weight


class RunPriorityRoutine(RunPriority):
    """For a schedule of priority ``routine``."""

    batch_weight = WEIGHTS["routine"]


class RunPriorityUrgent(RunPriority):
    """For a schedule of priority ``urgent``."""

    batch_weight = WEIGHTS["urgent"]


STRATEGIES = {"batch": RunPriority, "routine": RunPriorityRoutine, "urgent": RunPriorityUrgent}


def strategy_name(priority: str) -> str:
    """What an operator's ``weight_rule`` has to be for a workflow whose batch has this priority."""
    strategy = STRATEGIES[priority]
    return f"{strategy.__module__}.{strategy.__qualname__}"


def _task_of(ti: TaskInstance) -> Any:
    return ti.task
