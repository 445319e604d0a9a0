"""Where an input artifact's files lie in the store: what ``{{ context... }}`` values of artifacts stand for.

These values are never Airflow templates: what they lead to is read from the store while the task runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_monai.errors import MonaiError
from airflow_monai.store.payloads import dicom_key, payload_key

if TYPE_CHECKING:
    from airflow_monai.operators.base import TaskRun
    from airflow_monai.specs.templates import ArtifactReference


@dataclass(frozen=True, slots=True)
class ArtifactFiles:
    """The files of one input artifact.

    :param folder_key: store key of the folder that holds these files and nothing else; None when there is none such.
    :param keys: store keys of the files, sorted; empty when the artifact is not there.
    :param root_key: the folder that the files' relative names start from.
    """

    folder_key: str | None
    keys: tuple[str, ...]
    root_key: str = ""

    def relative(self, key: str) -> str:
        """The name of one of the files below :attr:`root_key`."""
        return key.removeprefix(f"{self.root_key}/") if self.root_key else key.rpartition("/")[2]


def resolve_input(run: TaskRun, value: str) -> ArtifactFiles:
    """The files that an artifact's value stands for; no files when the task it names did not make them.

    :param value: ``{{ context.input.dicom }}``, ``{{ context.executions.<task>.artifacts.<name> }}`` or
        ``{{ context.executions.<task>.output_dir }}``, each with an optional ``/path`` behind it.
    :raises MonaiError: when the value is none of these.
    """
    from airflow_monai.specs.templates import ArtifactSource, TemplateError, parse_artifact

    try:
        reference = parse_artifact(value)
    except TemplateError as error:
        raise MonaiError(f"Input artifact of task {run.task_id}: {error}.") from None
    if reference.source is ArtifactSource.INPUT:
        return _below(_received(run), reference.suffix)
    return _below(_produced(run, reference), reference.suffix)


def _received(run: TaskRun) -> ArtifactFiles:
    """All files of the payload: those that its manifest lists."""
    payload = run.payload
    keys = tuple(sorted(payload_key(payload.payload_id, file.path) for file in payload.files))
    folder = dicom_key(payload.payload_id)
    return ArtifactFiles(folder, keys, folder)


def _produced(run: TaskRun, reference: ArtifactReference) -> ArtifactFiles:
    """What an earlier task of this workflow instance left: one artifact, or its whole output folder."""
    record = run.folder.record(reference.task or "", run.map_index)
    if record is None and run.map_index >= 0:
        record = run.folder.record(reference.task or "")
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
