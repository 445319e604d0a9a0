"""The operator of ``clinical_review`` tasks: a person accepts or rejects what a task made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.hitl import HITLOperator

from airflow_monai.errors import InvalidArgument, JobTimedOut, NothingToReview, ReviewError
from airflow_monai.operators.base import MonaiOperator, series_name
from airflow_monai.operators.links import ReviewedTaskLink, task_page
from airflow_monai.operators.review_text import NO_REASON, ReviewText, Shown, form_of
from airflow_monai.tasks.run import Outcome, TaskRun, task_record
from airflow_monai.types import TaskStatus

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context

ACCEPT, REJECT = "Accept", "Reject"
DEFAULT_ROLES = ("clinician",)
ASKED, ANSWER = "asked", "answer"
MESSAGE = "message"
"""Key of the reviewer's free text: it stays in the store."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person answered.

    :param reason: one of the reasons that the review offers.
    :param message: free text.
    """

    acceptance: bool
    reason: str | None
    message: str | None
    user_id: str
    user_name: str
    answered: str


class ClinicalReviewOperator(MonaiOperator, HITLOperator):
    """
    Wait until a person accepts or rejects what a task of this workflow made.

    The review shows among Airflow's required actions, for the whole site and on the page of its run; while it waits it
    costs no process and no pool slot. Its result has ``acceptance`` (true or false), ``reason``, ``message`` and
    ``user_id``. After a rejection the task's status is ``PartialFail``, it shows as success in the UI since it has done
    what it had to, and it starts nothing but the edges whose conditions ask for that; the run does not fail. Without an
    answer in time it fails. An answer that comes within a second or two of the question, before Airflow's scheduler has
    seen that the asking process ended, is lost: Airflow tries the task again, and the review asks again.

    What a reviewer reads holds no patient data, since Airflow keeps it; so it does the answer, with the free text in
    it. That text goes to the record in the store, and to no log and no XCom.

    :param reviewed_task_id: the task whose results are reviewed.
    :param inputs: the artifacts that are shown: ``name``, ``type``, ``value`` (``{{ context... }}``) and ``mandatory``.
    :param application: name and version of what made them.
    :param mode: QA, Research or Clinical.
    :param reviewer_roles: who may answer. Roles that the setting ``[monai] reviewer_roles`` gives users to are
        enforced by Airflow: nobody else can answer, whatever rights they have.
    :param reasons: what the reviewer can choose as the reason.
    :param instructions: what the reviewer shall look at; a fixed text, Markdown.
    :param response_timeout: how long it waits for the answer; None for ever.
    :param skips_successors: after a rejection, skip every task right behind it that is no node of its ``edges``. False
        where all that follows is told by conditions of its own, as in a workflow's DAG.
    """

    spec_type = custom_operator_name = "clinical_review"
    ui_color = "#e8dcf2"
    template_fields = MonaiOperator.template_fields
    operator_extra_links = (ReviewedTaskLink(),)

    def __init__(
        self,
        *,
        reviewed_task_id: str,
        inputs: Sequence[Mapping[str, Any]] = (),
        application: str = "",
        mode: str = "Clinical",
        reviewer_roles: Sequence[str] = DEFAULT_ROLES,
        reasons: Sequence[str] = (),
        instructions: str = "",
        response_timeout: timedelta | None = None,
        skips_successors: bool = True,
        result_keys: Sequence[str] = (),
        params: object = None,
        **kwargs: Any,
    ):
        # What Airflow hands over as params are those of the DAG: no fields of a reviewer's form
        super().__init__(
            subject="",
            options=[ACCEPT, REJECT],
            params=form_of(reasons),
            response_timeout=response_timeout,
            result_keys=[key for key in result_keys if key != MESSAGE],
            **kwargs,
        )
        self.reviewed_task_id = reviewed_task_id
        self.inputs = [dict(item) for item in inputs]
        self.application = application or reviewed_task_id
        self.mode = mode
        self.reviewer_roles = list(reviewer_roles) or list(DEFAULT_ROLES)
        self.reasons = list(reasons)
        self.instructions = instructions
        self.skips_successors = skips_successors
        self._rejected = False

    def perform(self, run: TaskRun, context: Context) -> Outcome:
        """Ask, unless an earlier try of this generation has the answer."""
        kept = run.note(ANSWER)
        if kept is None:
            self._ask(run, context)
        self.log.info("An earlier try has got the answer; it stands")
        return self._outcome(run, Answer(**kept))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Take the answer, or the news that none came in time."""
        return self._told(lambda: self._answered(context, event))

    def _answered(self, context: Context, event: Mapping[str, Any]) -> Any:
        run = self._begun(context)
        asked = run.note(ASKED) or {}
        started = str(asked.get("started") or _now())

        def work() -> Outcome:
            answer = self._answer_of(event)
            run.write_note(ANSWER, asdict(answer))
            return self._outcome(run, answer)

        return self._finish(run, context, started, work)

    def _ask(self, run: TaskRun, context: Context) -> NoReturn:
        from airflow_monai import settings

        known = settings.load().reviewer_roles
        users = sorted({user for role in self.reviewer_roles for user in known.get(role.lower(), ())})
        missing = [role for role in self.reviewer_roles if not known.get(role.lower())]
        if missing:
            self.log.warning(
                "[monai] reviewer_roles gives no users to %s; %s", ", ".join(missing), _who_answers(bool(users))
            )
        text = self._text(run, len(users))
        self.subject, self.body = text.subject, text.body
        self.assigned_users = [{"id": user, "name": user} for user in users]
        started = _now()
        asked = {"started": started, "users": users, "roles": self.reviewer_roles, "reviewed": self._reviewed(run)}
        run.write_note(ASKED, asked)
        self._keep_waiting(run, started)
        HITLOperator.execute(self, context)
        raise AssertionError("a review waits for its answer")  # HITLOperator always ends by waiting

    def _keep_waiting(self, run: TaskRun, started: str) -> None:
        """A record that says that nothing is accepted yet, whatever was in an earlier round."""
        record = task_record(
            run,
            self.spec_type,
            TaskStatus.DISPATCHED,
            Outcome(),
            error=None,
            started=started,
            previous_task_id=self._previous_task_id(),
        )
        run.folder.write_record(replace(record, end_time=None))

    def _reviewed(self, run: TaskRun) -> dict[str, str]:
        """What is shown: the results of tasks, each with its execution id."""
        from airflow_monai.specs.templates import parse_artifact
        from airflow_monai.tasks.artifacts import result_name

        tasks = {self.reviewed_task_id, *(parse_artifact(str(item["value"])).task or "" for item in self.inputs)}
        found: dict[str, str] = {}
        for task in sorted(tasks - {""}):
            own = run.record(task)
            records = [own] if own is not None else (run.folder.records(task) if run.map_index < 0 else [])
            found |= {result_name(record): record.execution_id for record in records}
        return found

    def _text(self, run: TaskRun, users: int) -> ReviewText:
        folder = run.folder
        return ReviewText(
            workflow=run.workflow_name,
            application=self.application,
            mode=self.mode,
            reviewed=self.reviewed_task_id,
            link=task_page(folder.dag_id, folder.run_id, self.reviewed_task_id, run.map_index),
            roles=self.reviewer_roles,
            users=users,
            artifacts=self._artifacts(run),
            instructions=self.instructions,
            payload_id=run.payload.payload_id,
            images=len(run.input_files),
            series=len({file.series_instance_uid for file in run.input_files}),
            part=series_name(run) if run.for_each_series else "",
        )

    def _artifacts(self, run: TaskRun) -> list[Shown]:
        from airflow_monai.tasks.artifacts import resolve_artifact

        found = []
        for item in self.inputs:
            files = len(resolve_artifact(run, item).keys)
            if not files and item.get("mandatory", True):
                raise NothingToReview(
                    f"Task {run.task_id}: its mandatory input {item['name']!r} ({item['value']}) has no files, so that "
                    "there is nothing to review. If it may be absent, write `mandatory: false`."
                )
            found.append(Shown(str(item["name"]), str(item.get("type") or "Unset"), files))
        return found

    def _answer_of(self, event: Mapping[str, Any]) -> Answer:
        """The answer, checked here too: what comes by the REST API need not be of the form that the UI shows."""
        if "error" in event:
            self._no_answer(event)
        chosen = list(event.get("chosen_options") or ())
        if chosen not in ([ACCEPT], [REJECT]):
            raise InvalidArgument(f"Task {self.task_id}: the answer is neither {ACCEPT} nor {REJECT}. Clear the task.")
        given = event.get("params_input") or {}
        reason, message = _text_of(given.get("reason")), _text_of(given.get(MESSAGE))
        if reason == NO_REASON:
            reason = None
        if reason and reason not in self.reasons:
            reason, message = None, "\n".join(part for part in (reason, message) if part)
        user = event.get("responded_by_user") or {}
        at = event.get("responded_at")
        return Answer(
            acceptance=chosen == [ACCEPT],
            reason=reason,
            message=message,
            user_id=str(user.get("id") or ""),
            user_name=str(user.get("name") or ""),
            answered=at.astimezone(timezone.utc).isoformat() if isinstance(at, datetime) else _now(),
        )

    def _no_answer(self, event: Mapping[str, Any]) -> NoReturn:
        if event.get("error_type") == "timeout":
            raise JobTimedOut(
                f"Nobody answered the review {self.task_id} within {self.response_timeout}. Clear the task to ask "
                "again; raise its timeout_minutes if reviewers need more time."
            )
        raise ReviewError(f"Airflow could not get the answer to review {self.task_id}. Clear the task to ask again.")

    def _outcome(self, run: TaskRun, answer: Answer) -> Outcome:
        from airflow_monai.tasks.artifacts import REVIEWED

        self._rejected = not answer.acceptance
        word = "Rejected" if self._rejected else "Accepted"
        self.log.info("%s by user %s%s", word, answer.user_id, f": {answer.reason}" if answer.reason else "")
        shown = (run.note(ASKED) or {}).get("reviewed")
        return Outcome(
            result=asdict(answer),
            stats={REVIEWED: shown} if shown else {},
            status=TaskStatus.PARTIAL_FAIL if self._rejected else TaskStatus.SUCCEEDED,
        )

    def _untaken_edges(self, run: TaskRun, context: Context) -> list[str]:
        """In a hand-written DAG also what follows the review without an edge of its own: never after a rejection."""
        untaken = super()._untaken_edges(run, context)
        if not self._rejected or not self.skips_successors:
            return untaken
        nodes = {edge["node"] for edge in self.edges} | self._gates()
        return [*untaken, *sorted(self.downstream_task_ids - nodes)]

    def _gates(self) -> set[str]:
        """Edges that are judged in the triggerer by the review's record, as those of a workflow are."""
        from airflow_monai.operators.gate import GateOperator

        following = self.downstream_list if self.has_dag() else []
        return {task.task_id for task in following if isinstance(task, GateOperator)}


def _who_answers(some: bool) -> str:
    if some:
        return "only the users of the other roles can answer"
    return "anyone can answer who may answer required actions of this DAG"


def _text_of(value: Any) -> str | None:
    return str(value).strip()[:4000] or None if value is not None else None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
