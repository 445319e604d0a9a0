"""Finds payloads by what a person knows of a study."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

from airflow_monai.errors import InvalidArgument, MonaiError
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import (
    dicom_key,
    load_series_tags,
    payload_id_in,
    payload_ids,
    payload_key,
    run_id_of,
)
from airflow_monai.types import FailureKind

_UID = re.compile(r"[0-9]+(\.[0-9]+)+\Z")
_BEGINNING = re.compile(r"[0-9a-f][0-9a-f-]{3,34}\Z")
"""Of a payload id; a shorter one would be chance."""
_ACCESSION_NUMBER = "00080050"


class SeveralFound(InvalidArgument):
    """More than one payload fits."""


class NothingFound(MonaiError):
    """No payload fits."""

    failure = FailureKind.NOT_FOUND


def find_payloads(store: Store, text: str) -> list[str]:
    """Ids of the payloads that a payload id, run id, Study Instance UID or accession number stands for.

    Four or more characters with which one payload id begins, and no other, stand for that payload. A run that was
    started in Airflow goes by the id that it has there, and by that of its folder. All but whole ids cost a listing of
    the store, and those of such runs, of studies and accession numbers a look at every payload.

    :raises NothingFound: when there is none, of what is no payload id; the message does not repeat what was asked for.
    :raises SeveralFound: when several ids begin so.
    """
    wanted = text.strip()
    try:
        return [payload_id_in(wanted) or str(uuid.UUID(wanted))]
    except ValueError:
        found = list(_of_study(store, wanted) if _UID.match(wanted) else ()) or list(_of_accession(store, wanted))
        found = found or _of_beginning(store, wanted.removeprefix(run_id_of("")).lower())
        found = found or list(_of_run(store, wanted))
        if not found:
            raise NothingFound(
                "No payload of the store has this id, run id, Study Instance UID or accession number. Accession "
                "numbers are known of closed payloads only."
            ) from None
        return found


def _of_beginning(store: Store, text: str) -> list[str]:
    if not _BEGINNING.match(text):
        return []
    found = [payload_id for payload_id in payload_ids(store) if payload_id.startswith(text)]
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:5])
        raise SeveralFound(f"{len(found)} payload ids begin so: {shown}. Give more of the one that is meant.")
    return found


def _of_run(store: Store, run_id: str) -> Iterator[str]:
    names = {run_id, safe_name(run_id)} if run_id else set()
    for payload_id in payload_ids(store) if names else ():
        top = payload_key(payload_id, "workflows")
        if any(names & set(store.children(f"{top}/{dag}")) for dag in store.children(top)):
            yield payload_id


def _of_study(store: Store, uid: str) -> Iterator[str]:
    for payload_id in payload_ids(store):
        if uid in store.children(dicom_key(payload_id)):
            yield payload_id


def _of_accession(store: Store, number: str) -> Iterator[str]:
    for payload_id in payload_ids(store):
        tags = load_series_tags(store, payload_id)
        if any(number in series.get(_ACCESSION_NUMBER, ()) for series in tags.values()):
            yield payload_id
