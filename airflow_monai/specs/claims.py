"""What the workflows of a folder may have only one of: each name, and for each AE title one way to group images."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_monai.specs.plan import Grouping

MAP_SUFFIX = ".map"
"""What the sources of workflows end in that are made of registered MAPs. No workflow file does, so that none has the
place of one of these."""

WORKFLOW_SUFFIX = ".registered"
"""And of workflows that are registered themselves."""

REGISTERED_SUFFIXES = (MAP_SUFFIX, WORKFLOW_SUFFIX)


@dataclass(frozen=True, slots=True)
class Claim:
    """What one workflow lays claim to.

    :param grouping: None for the default.
    :param file: where the workflow is, for messages.
    """

    name: str
    dag_id: str
    ae_title: str
    grouping: str | None
    file: str

    @property
    def keys(self) -> tuple[str, str]:
        """Names compare without regard to case."""
        return f"name {self.name.lower()}", f"dag {self.dag_id.lower()}"

    @property
    def groups_by(self) -> str:
        return Grouping(self.grouping or Grouping.STUDY).value


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a workflow cannot be had beside an earlier one."""

    code: str
    message: str
    hint: str


class Claims:
    """The claims of a folder's workflows, taken in the order of the files: the first one has it."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._groupings: dict[str, Claim] = {}

    def take(self, claim: Claim) -> Conflict | None:
        """Why the claim cannot be met; None when it is."""
        conflict = self._name(claim) or self._grouping(claim)
        if conflict is None:
            self._names.update(dict.fromkeys(claim.keys, claim.file))
            self._groupings.setdefault(claim.ae_title, claim)
        return conflict

    def _name(self, claim: Claim) -> Conflict | None:
        first = next((self._names[key] for key in claim.keys if key in self._names), None)
        if first is None:
            return None
        message = f"the name {claim.name!r} is taken by the workflow that is already in {first}"
        hint = "names are compared without regard to case: give each workflow its own"
        return Conflict("duplicate-workflow", message, hint)

    def _grouping(self, claim: Claim) -> Conflict | None:
        first = self._groupings.get(claim.ae_title)
        if first is None or first.groups_by == claim.groups_by:
            return None
        message = (
            f"the workflow in {first.file} groups the images that come for AE title {claim.ae_title!r} by "
            f"{first.groups_by}, this one by {claim.groups_by}"
        )
        hint = f"one AE title has one grouping: say grouping: {first.groups_by} here too, or take another ae_title"
        return Conflict("conflicting-grouping", message, hint)
