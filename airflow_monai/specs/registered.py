"""Workflows that are no files of the folder, but registered: as those who read workflow files take them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_monai.specs.folder import SpecFile


@dataclass(frozen=True, slots=True)
class RegisteredText:
    """The workflow of a registered MAP, or one that is registered itself.

    :param source: where it stands among workflow files, for messages.
    :param text: empty where there is none.
    :param problem: why there is none.
    :param closing: it is not registered any more, and is there for the runs that it still has.
    """

    source: str
    text: str
    problem: str = ""
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """A workflow that is not registered any more.

    :param revision: number of what says so.
    :param dag_ids: of the DAGs that may still have runs.
    :param changed_at: since when (UTC, ISO 8601).
    """

    source: str
    revision: int
    dag_ids: tuple[str, ...]
    changed_at: str


def spec_file_of(text: RegisteredText, hint: str) -> SpecFile:
    """The same as a workflow file that was read, as :class:`airflow_monai.specs.folder.SpecFolder` takes it.

    :param hint: what to do where there is no text.
    """
    from airflow_monai.specs.compile import plan_of
    from airflow_monai.specs.folder import SpecFile
    from airflow_monai.specs.problems import Problem
    from airflow_monai.specs.reading import check_text
    from airflow_monai.specs.stamp import FileStamp

    if text.problem:
        problem = Problem(text.source, 1, 1, "registered-workflow", text.problem, hint)
        return SpecFile(FileStamp(), None, (problem,))
    spec, problems = check_text(text.text, text.source)
    plan = replace(plan_of(spec), source=text.source) if spec else None
    return SpecFile(FileStamp(), plan, tuple(problems), spec.place if spec else (1, 1))
