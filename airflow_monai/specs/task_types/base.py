"""How a task type is described: its arguments, what else it needs, and checks of its own.

One file of this folder for each type; :data:`airflow_monai.specs.task_types.TASK_TYPE_SPECS` lists them. The table of
arguments is the one source of what the checks refuse, what the JSON Schema offers and what the authors' page says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from airflow_monai.specs.plan import TaskType

if TYPE_CHECKING:
    from airflow_monai.specs.findings import Finding, Location
    from airflow_monai.specs.model import TaskSpec
    from airflow_monai.specs.view import SpecView

Check = Callable[["SpecView", "Location", "TaskSpec"], "Iterator[Finding]"]


class Form(str, Enum):
    """What an argument's value looks like. Published files write every value as a text."""

    TEXT = "text"
    WHOLE = "whole number"
    NUMBER = "number"
    BOOLEAN = "true or false"
    CHOICE = "choice"
    NAMES = "list"
    """``a, b`` or a list of texts."""
    MAPPING = "mapping"
    DURATION = "time"
    """``30s``, ``15m``."""
    ANY = "any value"


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument of a task type.

    :param help: one sentence for the authors' page and for editors.
    :param default: as the page shows it; empty where there is none.
    :param template: it may hold ``{{ context... }}``; a value that does is not checked against ``form``.
    :param minimum: and ``maximum``: of a number, in its own unit; of a time in seconds.
    """

    name: str
    help: str
    form: Form = Form.TEXT
    required: bool = False
    choices: tuple[str, ...] = ()
    default: str = ""
    template: bool = True
    minimum: float | None = None
    maximum: float | None = None
    example: str = ""


@dataclass(frozen=True, slots=True)
class TaskTypeSpec:
    """One task type.

    :param args: its arguments; a name that is none of them is refused, with the nearest one as hint.
    :param prefixes: beginnings of further names that it takes, such as ``env_``.
    :param takes_artifact_names: an argument may have the name of an input or output artifact.
    :param ignores_others: an argument that is none of these means nothing, as published files may have some; a near
        miss is refused all the same.
    :param needs_input: it must have an input artifact.
    :param uses_destinations: it exports, so it needs ``export_destinations``.
    :param check: what its table of arguments cannot say.
    :param paths: what its templates know beside ``context...``.
    """

    type: TaskType
    summary: str
    args: tuple[Arg, ...] = ()
    prefixes: tuple[str, ...] = ()
    takes_artifact_names: bool = False
    ignores_others: bool = False
    needs_input: bool = False
    uses_destinations: bool = False
    check: Check | None = None
    paths: tuple[str, ...] = ()

    def arg(self, name: str) -> Arg | None:
        """The argument of a name written in any case."""
        return next((arg for arg in self.args if arg.name.lower() == name.lower()), None)
