"""A study from a folder into a store, as one payload that no gateway knows of."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from airflow_monai.local.trial.options import TrialError
from airflow_monai.specs.plan import Grouping, WorkflowPlan
from airflow_monai.store.local import LocalStore
from airflow_monai.store.part10 import file_meta, mapped
from airflow_monai.store.payloads import manifest_key, payload_key, tags_key
from airflow_monai.store.study_folder import FolderContent, FoundSeries, SourceFile, payload_of, tags_of
from airflow_monai.types import Payload


def choose(content: FolderContent, plan: WorkflowPlan, folder: Path) -> Sequence[FoundSeries]:
    """The series that become the payload.

    :raises TrialError: when the folder holds none, or more than one payload of this workflow.
    """
    if not content.series:
        why = f" {content.bad[0].path}: {content.bad[0].problem}." if content.bad else ""
        raise TrialError(f"There is no DICOM image in {folder}.{why}")
    studies = content.studies()
    if plan.grouping is Grouping.PATIENT:
        patients = {(item.patient.id, item.patient.hospital_id) for item in content.series}
        if len(patients) > 1:
            raise TrialError(f"{folder} holds images of {len(patients)} patients: name the folder of one of them.")
        return content.series
    if len(studies) > 1:
        raise TrialError(f"{folder} holds {len(studies)} studies: name the folder of one of them.")
    if plan.grouping is Grouping.SERIES and len(content.series) > 1:
        count = len(content.series)
        raise TrialError(f"{plan.name} takes each series by itself, and {folder} holds {count}: name that of one.")
    return content.series


def deposit(store: LocalStore, series: Sequence[FoundSeries], called: str, calling: Sequence[str]) -> Payload:
    """Copy the images into the store, each as the gateway would have kept it, and write tags and manifest.

    The payload has an id of its own each time, so that nothing of an earlier run, or of a real one, is mistaken for it.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    made = replace(
        payload_of(series, called, calling),
        payload_id=str(uuid.uuid4()),
        received_first=now,
        received_last=now,
        closed=now,
    )
    for item in series:
        for file in item.files:
            _copy(file, store.root / payload_key(made.payload_id, file.entry.path))
    store.write_json(tags_key(made.payload_id), tags_of(series), durable=False)
    store.write_json(manifest_key(made.payload_id), made.to_dict(), durable=False)
    return made


def _copy(file: SourceFile, target: Path) -> None:
    entry = file.entry
    target.parent.mkdir(parents=True, exist_ok=True)
    with mapped(file.path) as data, open(target, "wb") as out:
        out.write(file_meta(entry.sop_class_uid, entry.sop_instance_uid, entry.transfer_syntax_uid))
        out.write(data[file.data_at :])
