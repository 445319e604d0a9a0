"""Answers the reviews of a trial: as the command line says, or as whoever sits at the terminal does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from airflow_monai.local.trial.options import TrialError
from airflow_monai.local.trial.watch import TaskState
from airflow_monai.specs.plan import TaskType, WorkflowPlan

USER = "author"
ACCEPT, REJECT = "Accept", "Reject"


class ReviewDesk:
    """
    :param approve: the answer to every review; None to ask on the terminal.
    :raises TrialError: when somebody has to be asked, and there is no terminal.
    """

    def __init__(self, plan: WorkflowPlan, approve: bool | None):
        self._approve = approve
        has_review = any(task.type is TaskType.CLINICAL_REVIEW for task in plan.tasks)
        if has_review and approve is None and not sys.stdin.isatty():
            raise TrialError("The workflow has a review, and no terminal to ask on is here: say --approve or --reject.")

    def answer(self, task: TaskState, question: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
        """The answer, as the worker takes it."""
        say(f"review {task.name}: {question['subject']}")
        approved = self._approve if self._approve is not None else _ask(str(question["body"]), say)
        option = ACCEPT if approved else REJECT
        say(f"review {task.name}: {option}")
        return {"option": option, "params": {}, "user": USER}


def _ask(body: str, say: Callable[[str], None]) -> bool:
    for line in body.splitlines():
        say(f"    {line}")
    while True:
        say("approve or reject? [a/r] ")
        word = sys.stdin.readline()
        if not word:
            raise TrialError("The review was not answered.")
        if word.strip().lower() in ("a", "approve", "y", "yes"):
            return True
        if word.strip().lower() in ("r", "reject", "n", "no"):
            return False
