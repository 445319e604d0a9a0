"""What the paths of conditions mean: the ``context`` of a workflow instance, read from plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from typing import Any

from airflow_monai.specs.attributes import attribute, canonical
from airflow_monai.specs.conditions.values import Quantifier, SeriesValues
from airflow_monai.types import Payload, SeriesTags, TaskRecord

PATIENT_PARTS = frozenset({"id", "name", "sex", "dob", "age", "hospital_id"})
_RECORD = frozenset({"task_id", "execution_id", "output_dir", "task_type", "previous_task_id", "error_msg"})
_TIMES = frozenset({"start_time", "end_time"})
PLAIN_PARTS = _RECORD | _TIMES | {"status"}
KEYED_PARTS = frozenset({"result", "execution_stats"})
QUANTIFIERS = frozenset(item.value for item in Quantifier)
INPUT_PATHS = frozenset({"context.input", "context.input.dicom"})
_PLAIN_PATHS = INPUT_PATHS | {"context.correlation_id", "context.workflow.name", "context.workflow.description"}


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """Resolver of condition paths: call it with a path, get a value, or None for NULL.

    :param payload: the study that the workflow instance is about.
    :param series_tags: asked once for each path that needs it; gives the attributes by series.
    :param task_record: what a task of this instance did, or None when it has not run.
    :param task_records: what a task that runs once for each series did, for each that it has run for.
    :param params: what whoever triggered the run gave, or the defaults.
    :param input_folder: store key of the received files; by default those of the whole payload.
    """

    payload: Payload
    series_tags: Callable[[], SeriesTags]
    task_record: Callable[[str], TaskRecord | None] = lambda task_id: None
    task_records: Callable[[str], Sequence[TaskRecord]] = lambda task_id: ()
    workflow_name: str = ""
    workflow_description: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    input_folder: str = ""

    def __call__(self, path: str) -> Any:
        parts = path.strip().split(".")
        if parts[0] != "context" or len(parts) < 2:
            return None
        if parts[1:] in (["input"], ["input", "dicom"]):
            return self.input_folder or f"payloads/{self.payload.payload_id}/dcm"  # store key of the received files
        if parts[1:] == ["correlation_id"]:
            return self.payload.payload_id
        if parts[1] == "executions":
            return self._execution(parts[2:])
        if parts[1] == "dicom":
            return self._series(path.strip())
        if parts[1:3] == ["input", "patient_details"] and len(parts) == 4:
            return self._patient(parts[3])
        if parts[1] == "params" and len(parts) == 3:
            return _entry(self.params.get(parts[2]))
        if parts[1] == "workflow" and len(parts) == 3:
            return {"name": self.workflow_name, "description": self.workflow_description}.get(parts[2])
        return None

    def _execution(self, parts: list[str]) -> Any:
        """``<task>.<part>`` or ``<task>.result.<key>``; of a task that runs for each series ``<task>.any.<part>``..."""
        if len(parts) > 2 and parts[1] in QUANTIFIERS:
            values = tuple(_of_record(record, parts[2:]) for record in self.task_records(parts[0]))
            return _over_series(values, parts[1])
        record = self.task_record(parts[0]) if len(parts) > 1 else None
        return _of_record(record, parts[1:]) if record is not None else None

    def _patient(self, name: str) -> str | None:
        if name not in PATIENT_PARTS:
            return None
        value = getattr(self.payload.patient, name)
        return birth_date_text(value) if name == "dob" else value

    def _series(self, path: str) -> SeriesValues | None:
        found = attribute(canonical(path))
        if found is None or found.tag is None:
            return None
        return _over_series(tuple(_series_values(self.series_tags(), found.tag)), found.quantifier)


def _over_series(values: tuple[Any, ...], quantifier: str) -> SeriesValues | None:
    """What no series has is NULL, so that it can be compared with NULL."""
    return SeriesValues(values, Quantifier(quantifier)) if any(value is not None for value in values) else None


def _of_record(record: TaskRecord, parts: Sequence[str]) -> Any:
    """``<part>`` or ``result.<key>`` of what a task did."""
    part = parts[0]
    if part == "status":
        return record.status.value
    if part in _RECORD:
        return getattr(record, part)
    if part in _TIMES:
        return utc_text(getattr(record, part))
    holder = {"result": record.result, "execution_stats": record.stats}.get(part)
    return _entry(_deep(holder, list(parts[1:]))) if holder is not None else None


def _series_values(series: SeriesTags, tag: str) -> Iterator[Any]:
    for tags in series.values():
        yield from tags.get(tag) or (None,)


def _deep(holder: Mapping[str, Any], parts: list[str]) -> Any:
    """The entry whose key is all of the parts, with their dots; else that of the first part, or what lies below it.

    Parts that lead nowhere are cut, as published.
    """
    whole = ".".join(parts)
    if not parts or whole in holder:
        return holder.get(whole)
    value = holder.get(parts[0])
    for part in parts[1:]:
        if not isinstance(value, Mapping):
            break
        value = value.get(part)
    return value


def _entry(value: Any) -> Any:
    """A value, or None where it is a structure, with which nothing can be compared."""
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return None
    return None if isinstance(value, dict) else value


def utc_text(value: str | None) -> str | None:
    """A time of ISO 8601 as the language writes it, UTC without an offset; None for what is no time."""
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return None
    moment = moment.astimezone(timezone.utc) if moment.tzinfo else moment
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def birth_date_text(value: str | None) -> str | None:
    """A DICOM date (DA, PS3.5 section 6.2: YYYYMMDD) as dd/MM/yyyy; None for what is no date."""
    digits = (value or "").strip().replace(".", "").replace("-", "")[:8]
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None
    return day.strftime("%d/%m/") + f"{day.year:04d}"


def is_known_path(path: str) -> bool:
    """Whether a path can ever have a value (its task, its parameter and the kind of its attribute aside)."""
    parts = path.split(".")
    if parts[:2] == ["context", "dicom"]:
        found = attribute(canonical(path))
        return found is not None and found.tag is not None
    if parts[:2] == ["context", "executions"] and len(parts) >= 4:
        parts = parts[:3] + parts[4:] if parts[3] in QUANTIFIERS and len(parts) > 4 else parts
        return parts[3] in PLAIN_PARTS or (parts[3] in KEYED_PARTS and len(parts) > 4)
    if parts[:3] == ["context", "input", "patient_details"]:
        return len(parts) == 4 and parts[3] in PATIENT_PARTS
    if parts[:2] == ["context", "params"]:
        return len(parts) == 3
    return path in _PLAIN_PATHS
