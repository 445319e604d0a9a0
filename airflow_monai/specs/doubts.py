"""What the checks of a workflow cannot rely on, because it was refused before: they report no mere consequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_monai.specs.findings import Location
from airflow_monai.specs.model import WorkflowSpec

INVENTED = "_unnamed_"
"""Begins each id and name that stands in for a missing or refused one."""


@dataclass(frozen=True, slots=True)
class Doubts:
    """Places without the author's value, and ids that are not the author's.

    :param places: of refused and missing values, and of fields that may be given under an unknown name.
    :param invented: id that stands in for another -> the text that was refused, empty where there is none.
    """

    places: frozenset[Location] = frozenset()
    invented: Mapping[str, str] = field(default_factory=dict)

    def lost(self, *place: str | int) -> bool:
        """Whether the value of a place, or what holds it, is not the author's."""
        return any(place[:length] in self.places for length in range(len(place) + 1))


def invented_ids(spec: WorkflowSpec, data: Any) -> dict[str, str]:
    """Ids of the model that the data does not hold -> the text that it holds instead."""
    tasks = data.get("tasks") if isinstance(data, dict) else None
    found = {}
    for index, task in enumerate(spec.tasks):
        given = tasks[index] if isinstance(tasks, list) and index < len(tasks) else None
        written = given.get("id") if isinstance(given, dict) else None
        if written != task.id:
            found[task.id] = written if isinstance(written, str) else ""
    return found
