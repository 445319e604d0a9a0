"""Registering, updating and deleting: what is wrong with a definition, and whether it has a place among the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from airflow_monai.errors import SpecError, WorkflowConflict
from airflow_monai.specs.claims import Claim, Claims
from airflow_monai.specs.compile import plan_of
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.specs.problems import Problem, errors_of
from airflow_monai.specs.reading import check_text
from airflow_monai.workflows.definition import BODY, Body, as_json, covers, definition_of, merged
from airflow_monai.workflows.record import Revision, folder_of, source_of
from airflow_monai.workflows.registry import NewText, WorkflowRegistry

Others = Callable[[], Iterable[WorkflowPlan]]


@dataclass(frozen=True, slots=True)
class Registration:
    """Changes what is registered.

    :param others: gives all workflows there are, those in files and of MAPs included.
    """

    registry: WorkflowRegistry
    others: Others

    def register(self, body: Body, by: str, allowed: Callable[[str], None] = lambda dag_id: None) -> Revision:
        """Register a workflow.

        :param allowed: called with the id of the DAG that is to be; raises where the caller may not.
        :raises SpecError: with all that is wrong with the definition.
        :raises WorkflowConflict: when its name is taken, or it cannot be beside what there is.
        """
        plan = plan_of_body(body)
        allowed(plan.dag_id)
        self._place(plan)
        return self.registry.register(NewText(plan.name, plan.version, body.text), by)

    def update(self, workflow_id: str, body: Body, by: str) -> Revision:
        """Make the next revision: of what the body names, where it is no whole definition.

        :raises WorkflowNotFound: when there is none of this id.
        :raises SpecError: with all that is wrong with the definition as it would be.
        :raises WorkflowConflict: when it cannot be beside what there is.
        """

        def change(before: Revision) -> NewText:
            new = _updated(before, body)
            plan = plan_of_body(new)
            if plan.name != before.name:
                raise _not_renamed(before, plan)
            self._place(plan)
            return NewText(plan.name, plan.version, new.text)

        return self.registry.update(workflow_id, change, by)

    def validate(self, body: Body) -> None:
        """
        :raises SpecError: with all that is wrong with the definition, and what keeps it from being registered, or from
            being the update of the workflow whose name it says it had.
        """
        plan = plan_of_body(body)
        is_update = body.original_name.lower() == plan.name.lower()
        try:
            self._place(plan, is_new=not is_update)
        except WorkflowConflict as error:
            problem = Problem(BODY, 0, 0, "conflict", str(error), path=error.field)
            raise SpecError(str(error), problems=(problem,)) from error

    def _place(self, plan: WorkflowPlan, *, is_new: bool = False) -> None:
        """
        :param is_new: none of its name may be registered yet; where that is not said, it is to be found out later.
        :raises WorkflowConflict: when there is another workflow of its name, or its AE title has another grouping.
        """
        claims = Claims()
        for other in self.others():
            if other.source != plan.source or is_new:
                claims.take(Claim(other.name, other.dag_id, other.ae_title, other.grouping, _where(other)))
        conflict = claims.take(Claim(plan.name, plan.dag_id, plan.ae_title, plan.grouping, BODY))
        if conflict is not None:
            field = "name" if conflict.code == "duplicate-workflow" else "informatics_gateway.grouping"
            raise WorkflowConflict(f"{conflict.message}; {conflict.hint}.", field=field)


def plan_of_body(body: Body) -> WorkflowPlan:
    """
    :raises SpecError: with all that is wrong with it.
    """
    spec, problems = check_text(body.text, BODY)
    if spec is None:
        errors = _placed(errors_of(problems), body)
        more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise SpecError(f"The workflow cannot be used: {errors[0].message}{more}.", problems=errors)
    return replace(plan_of(spec), source=source_of(folder_of(spec.name)))


def _placed(errors: tuple[Problem, ...], body: Body) -> tuple[Problem, ...]:
    """The errors with their places in what was sent; without a place (line 0) where there is none."""
    if body.sent == body.text:
        return errors
    found = errors_of(check_text(body.sent, BODY)[1]) if body.sent else ()
    return found or tuple(replace(error, line=0, column=0) for error in errors)


def _updated(before: Revision, body: Body) -> Body:
    """The whole definition as the body makes it of the one before."""
    if body.original_name and body.original_name.lower() != before.name.lower():
        message = f"the workflow's name is {before.name!r}, not {body.original_name!r}"
        problem = Problem(BODY, 0, 0, "other-workflow", message, path="original_workflow_name")
        raise SpecError(f"The workflow cannot be updated: {message}.", problems=(problem,))
    if body.is_within:
        return body
    current = definition_of(before.text)
    if covers(body.fields, current):
        return body
    fields = merged(current, body.fields)
    return Body(fields, as_json(fields))


def _not_renamed(before: Revision, plan: WorkflowPlan) -> SpecError:
    message = f"the name of a workflow stays: it is {before.name!r}, and its runs are kept under it, not {plan.name!r}"
    hint = "register a workflow of the new name, then delete this one"
    return SpecError(f"{message}: {hint}.", problems=(Problem(BODY, 0, 0, "renamed", message, hint, path="name"),))


def _where(plan: WorkflowPlan) -> str:
    return plan.source or plan.name
