"""Payloads in the store: where their objects lie, their ids, and reading them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

from airflow_monai.errors import PayloadDeleted, PayloadNotFound
from airflow_monai.store.base import Store, as_dict, safe_name
from airflow_monai.types import Payload, SeriesTags

DATASETS_AET = "MONAI-DATASETS"
"""What datasets have for a called AE title: no workflow gets them."""
_NAMESPACE = uuid.UUID("6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21")
_RUN_ID = re.compile(r"monai__([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:__.*)?")


def payload_id_of(study_instance_uid: str, called_aet: str, sequence: int) -> str:
    """The id that any gateway gives to the ``sequence``-th payload of a study at an AE title: a UUID, always the same.

    Being a hash it says nothing of the patient, and two gateways cannot make two payloads of one study.
    """
    return payload_uuid(f"{study_instance_uid}|{called_aet}|{sequence}")


def payload_uuid(name: str) -> str:
    """The payload id that stands for a name, for ever."""
    return str(uuid.uuid5(_NAMESPACE, name))


def run_id_of(payload_id: str) -> str:
    """The id of the one DAG run that a workflow gets for a payload (design: runs are named after the payload)."""
    return f"monai__{payload_id}"


def payload_id_in(run_id: str) -> str:
    """The id of the payload that a run of ours is named after; empty for a run of another name."""
    found = _RUN_ID.fullmatch(run_id)
    return found[1] if found else ""


def rerun_id_of(payload_id: str, number: int) -> str:
    """The id of the ``number``-th run that a workflow gets for a payload because a person wants it, from 2."""
    return f"{run_id_of(payload_id)}__r{number}"


def instance_id_of(dag_id: str, run_id: str) -> str:
    """The id of a workflow instance for other systems: a UUID that stands for the DAG run, always the same."""
    return str(uuid.uuid5(_NAMESPACE, f"instance|{dag_id}|{run_id}"))


def batch_run_id(payload_id: str, number: int) -> str:
    """The id of the ``number``-th run that batches of a workflow start on a payload. It tells the scheduler that live
    studies go first (:mod:`airflow_monai.priorities`)."""
    return f"{run_id_of(payload_id)}__b{number}"


def job_run_id(payload_id: str, priority: str, token: str) -> str:
    """The id of the run of a job that somebody asked for through an API. It tells the scheduler the job's priority
    (:mod:`airflow_monai.priorities`).

    :param priority: ``urgent``, ``routine`` or ``batch``.
    :param token: hex digits that tell it from the payload's other jobs.
    """
    return f"{run_id_of(payload_id)}__j{priority[0]}{token}"


def payload_key(payload_id: str, *parts: str) -> str:
    """Key of a payload's folder, or of something in it: ``payloads/<payload_id>/<parts...>``."""
    try:
        canonical = str(uuid.UUID(payload_id.strip()))
    except (ValueError, AttributeError, TypeError):
        raise PayloadNotFound(str(payload_id)) from None
    return "/".join(("payloads", canonical, *parts))


def not_started_key(payload_id: str, dag_id: str) -> str:
    """Exists when it was given up to start the run of this workflow, and says why."""
    return payload_key(payload_id, "not-started", f"{safe_name(dag_id)}.json")


def manifest_key(payload_id: str) -> str:
    return payload_key(payload_id, "payload.json")


def tags_key(payload_id: str) -> str:
    return payload_key(payload_id, "tags.json")


def summary_key(payload_id: str) -> str:
    """What lists show of it: :mod:`airflow_monai.store.summaries`."""
    return payload_key(payload_id, "summary.json")


def deleted_key(payload_id: str) -> str:
    """Exists when it was deleted: :mod:`airflow_monai.store.deletion`."""
    return payload_key(payload_id, "deleted.json")


def deleting_key(payload_id: str) -> str:
    """Exists while it is being deleted, from before its manifest goes until :func:`deleted_key` is there."""
    return payload_key(payload_id, "deleting.json")


def dicom_key(payload_id: str) -> str:
    """Folder of the received files: ``payloads/<payload_id>/dcm/<study>/<series>/<sop>.dcm`` below it."""
    return payload_key(payload_id, "dcm")


def run_key(payload_id: str, dag_id: str, run_id: str) -> str:
    """Folder of what one workflow instance made from a payload."""
    return payload_key(payload_id, "workflows", safe_name(dag_id), safe_name(run_id))


def series_of(payload: Payload) -> tuple[str, ...]:
    """Series Instance UIDs of a payload, sorted: the order in which ``for_each: series`` counts them."""
    return tuple(sorted({file.series_instance_uid for file in payload.files}))


def load_payload(store: Store, payload_id: str) -> Payload:
    """The manifest of a closed payload; :class:`PayloadNotFound` when there is none (yet, or any more)."""
    payload = store.read_if_there(manifest_key(payload_id), Payload.from_dict)
    if payload is not None:
        return payload
    raise PayloadDeleted(payload_id) if left_of(store, payload_id) else PayloadNotFound(payload_id)


def left_of(store: Store, payload_id: str) -> dict[str, Any]:
    """What is told of a payload that was deleted, or is just being; empty of any other."""
    # in this order: the one goes when the other is there, so that a deletion that ends meanwhile is seen
    for key in (deleting_key(payload_id), deleted_key(payload_id)):
        left = store.read_if_there(key, as_dict)
        if left is not None:
            return left
    return {}


def load_series_tags(store: Store, payload_id: str) -> SeriesTags:
    """Distinct values of every short element, by series and tag; see :data:`airflow_monai.types.SeriesTags`."""
    key = tags_key(payload_id)
    return store.read_as(key, _series_tags) if store.exists(key) else {}


def _series_tags(data: Any) -> SeriesTags:
    for series in as_dict(data).values():
        if not all(isinstance(values, list) for values in as_dict(series).values()):
            raise TypeError("a value has another type than it should")
    return data


def routing_from(data: Any) -> tuple[dict[str, Any], ...]:
    """What ``routing.json`` of a payload holds.

    :raises ValueError: or ``LookupError``, ``TypeError``, when it is none.
    """
    for item in data:
        texts = (item["dag_id"], item.get("version", ""), item.get("workflow", ""))
        if not all(isinstance(text, str) for text in texts) or not isinstance(item["wanted"], bool):
            raise TypeError("a value has another type than it should")
    if not isinstance(data, list):
        raise TypeError("it is no list")
    return tuple(data)


def payload_ids(store: Store) -> Iterator[str]:
    """Ids of all payloads, open ones too, sorted."""
    yield from store.children("payloads")
