"""Where an input artifact's files lie in the store: what ``{{ context... }}`` values of artifacts stand for.

These values are never Airflow templates: what they lead to is read from the store while the task runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MonaiError
from airflow_monai.store.payloads import dicom_key, payload_key
from airflow_monai.types import TaskStatus

if TYPE_CHECKING:
    from airflow_monai.specs.templates import ArtifactReference
    from airflow_monai.tasks.run import TaskRun
    from airflow_monai.types import TaskRecord


REVIEWED = "reviewed"
"""Of a review's execution stats: what it showed, by :func:`result_name`, each with its execution id, which is another
one when the task that made it was cleared."""


def result_name(record: TaskRecord) -> str:
    """A task and its series (-1 for none)."""
    return f"{record.task_id}/{record.map_index}"


@dataclass(frozen=True, slots=True)
class ArtifactFiles:
    """The files of one input artifact.

    :param folder_key: store key of the folder that holds these files and nothing else; None when there is none such.
    :param keys: store keys of the files, sorted; empty when the artifact is not there.
    :param root_key: the folder that the files' relative names start from.
    :param names: key -> relative name, where the files of several series are put together.
    :param withheld: of how many results (one of each series) the files are kept back, since a review has not accepted
        these.
    """

    folder_key: str | None
    keys: tuple[str, ...]
    root_key: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    withheld: int = 0

    def relative(self, key: str) -> str:
        """The name of one of the files below :attr:`root_key`; of several series each has a folder with its number."""
        if self.names:
            return self.names[key]
        return key.removeprefix(f"{self.root_key}/") if self.root_key else key.rpartition("/")[2]

    @property
    def why_missing(self) -> str:
        """What a message about a missing artifact has to add."""
        return " It was made, and no review has accepted it as it is now." if self.withheld else ""


def resolve_artifact(run: TaskRun, item: Mapping[str, Any]) -> ArtifactFiles:
    """The files of an input artifact as operators are given it: ``value``, ``reviews``, ``conditions``."""
    return resolve_input(run, str(item["value"]), item.get("reviews", ()), item.get("conditions", ()))


def resolve_input(
    run: TaskRun, value: str, reviews: Sequence[str] = (), conditions: Sequence[str] = ()
) -> ArtifactFiles:
    """The files that an artifact's value stands for; no files when the task it names did not make them.

    :param value: ``{{ context.input.dicom }}``, ``{{ context.executions.<task>.artifacts.<name> }}`` or
        ``{{ context.executions.<task>.output_dir }}``, each with an optional ``/path`` behind it.
    :param reviews: tasks that review it: what one of them was asked about and has not accepted is left out.
    :param conditions: of the way here from tasks for each series: what a series made for which they do not hold is left
        out.
    :raises MonaiError: when the value is none of these.
    """
    from airflow_monai.specs.templates import ArtifactSource, TemplateError, parse_artifact

    try:
        reference = parse_artifact(value)
    except TemplateError as error:
        raise MonaiError(f"Input artifact of task {run.task_id}: {error}.") from None
    if reference.source is ArtifactSource.INPUT:
        return _below(_received(run), reference.suffix)
    record = run.record(reference.task or "")
    if record is None and run.map_index < 0:
        return _of_all_series(run, reference, reviews, conditions)
    if record is not None and _is_withheld(run, record, reviews):
        return ArtifactFiles(None, (), withheld=1)
    return _produced(run, record, reference)


def _received(run: TaskRun) -> ArtifactFiles:
    """All files of the payload, or of the task's series: those that its manifest lists."""
    keys = tuple(sorted(payload_key(run.payload.payload_id, file.path) for file in run.input_files))
    folder = run.input_key
    is_own = run.series_uid is None or folder != dicom_key(run.payload.payload_id)
    return ArtifactFiles(folder if is_own else None, keys, folder)


def _is_withheld(run: TaskRun, made: TaskRecord, reviews: Sequence[str]) -> bool:
    """Whether a review was asked about what a task made, and has not accepted just that.

    One that has no record was not asked: the ways of the workflow lead past it.
    """
    index = made.map_index if made.map_index >= 0 else run.map_index
    for review in reviews:
        own = run.folder.record(review, index)
        own = run.folder.record(review) if own is None and index >= 0 else own
        answers = [own] if own is not None else (run.folder.records(review) if index < 0 else [])
        for answer in answers:
            was = answer.stats.get(REVIEWED, {}).get(result_name(made), made.execution_id)
            if answer.status is not TaskStatus.SUCCEEDED or was != made.execution_id:
                return True
    return False


def _that_have_come(run: TaskRun, task: str, conditions: Sequence[str]) -> Iterator[TaskRecord]:
    """Records of the series that have come the way with these conditions, judged anew as their gates have judged it."""
    from airflow_monai.specs.edges import judge_edge
    from airflow_monai.store.payloads import load_series_tags
    from airflow_monai.tasks.run import condition_context

    tags = cache(lambda: load_series_tags(run.store, run.payload.payload_id))
    for record in run.folder.records(task):
        series = replace(run, map_index=record.map_index, for_each_series=True)
        if not conditions or judge_edge(conditions, condition_context(series, tags)).taken:
            yield record


def _of_all_series(
    run: TaskRun, reference: ArtifactReference, reviews: Sequence[str], conditions: Sequence[str]
) -> ArtifactFiles:
    """What a task that runs for each series left for all of them."""
    names: dict[str, str] = {}
    withheld = 0
    for record in _that_have_come(run, reference.task or "", conditions):
        if _is_withheld(run, record, reviews):
            withheld += 1
            continue
        found = _produced(run, record, reference)
        names |= {key: f"{record.map_index}/{found.relative(key)}" for key in found.keys}
    return ArtifactFiles(None, tuple(sorted(names)), names=names, withheld=withheld)


def _produced(run: TaskRun, record: TaskRecord | None, reference: ArtifactReference) -> ArtifactFiles:
    """What an earlier task of this workflow instance left: one artifact, or its whole output folder."""
    return _below(_left(run, record, reference), reference.suffix)


def _left(run: TaskRun, record: TaskRecord | None, reference: ArtifactReference) -> ArtifactFiles:
    if record is None or record.output_dir is None:
        return ArtifactFiles(None, ())
    if reference.artifact is None:
        return ArtifactFiles(record.output_dir, tuple(run.store.list(record.output_dir)), record.output_dir)
    keys = record.artifacts.get(reference.artifact, ())
    own = f"{record.output_dir}/{reference.artifact}"
    if keys and all(key.startswith(f"{own}/") for key in keys):
        return ArtifactFiles(own, keys, own)  # `<output>/<artifact>/...`: a folder of its own
    return ArtifactFiles(None, keys, record.output_dir)


def _below(files: ArtifactFiles, suffix: str) -> ArtifactFiles:
    """Those of the files that are the path ``suffix`` or lie below it."""
    if not suffix or not files.root_key:
        return files
    top = f"{files.root_key}/{suffix}"
    if top in files.keys:
        return ArtifactFiles(None, (top,), top.rpartition("/")[0])
    keys = tuple(key for key in files.keys if key.startswith(f"{top}/"))
    return ArtifactFiles(top if files.folder_key is not None and keys else None, keys, top)
