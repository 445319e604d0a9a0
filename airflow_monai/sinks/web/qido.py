"""QIDO-RS (PS3.18 section 10.6): which of our instances a server has."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from airflow_monai.errors import ExportError, SinkUnavailable
from airflow_monai.sinks.base import Instance
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.part10 import read_head
from airflow_monai.sinks.web.site import HttpAnswer, HttpSite

PAGE = 500
"""Instances asked for at a time."""
FEW = 4
"""So many of a study are asked for one by one."""
_SOP_INSTANCE = "00080018"
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class Query:
    """Asks one DICOMweb service."""

    def __init__(self, site: HttpSite):
        self._site = site

    def found(self, instances: Sequence[Instance], deadline: Deadline) -> dict[str, bool] | None:
        """SOP Instance UID -> whether it is there; None when the service answers no such queries.

        :raises SinkUnavailable: it does not answer now.
        """
        studies: dict[str, set[str]] = defaultdict(set)
        for instance in instances:
            studies[_study_of(instance)].add(str(instance.sop_instance_uid))
        found: dict[str, bool] = {}
        studies.pop("", None)  # nothing is known of files that cannot be read
        for study, wanted in studies.items():
            there = self._of_study(study, wanted, deadline)
            if there is None:
                return None
            found.update((uid, uid in there) for uid in wanted)
        return found

    def count(self, study: str, deadline: Deadline) -> int | None:
        """How many instances of a study are there; None when the service answers no such queries.

        :raises SinkUnavailable: it does not answer now.
        """
        place = f"/studies/{quote(study)}/instances?includefield={_SOP_INSTANCE}"
        there = self._all(place, study, deadline, lambda found: False)
        return None if there is None else len(there)

    def test(self, deadline: Deadline) -> str:
        """What the service says to a query for a study that cannot be; an error as for :meth:`found`."""
        answer = self._get("/studies?StudyInstanceUID=2.25.0&limit=1", deadline)
        if answer.status in (401, 403, 407):
            raise self._site.destination.error(f"HTTP {answer.status}: the login is refused, or may not query there")
        if _items(answer) is None:
            what = answer.media_type or "nothing"
            raise self._site.destination.error(
                f"HTTP {answer.status} with {what} to a QIDO-RS query: check host, port and path, or set query to "
                "false where the server only stores"
            )
        return f"{self._site} answers QIDO-RS queries. Whether it stores is only seen when something is sent."

    def _of_study(self, study: str, wanted: set[str], deadline: Deadline) -> set[str] | None:
        place = f"/studies/{quote(study)}/instances?includefield={_SOP_INSTANCE}"
        if len(wanted) <= FEW:
            there: set[str] = set()
            for uid in wanted:
                found = self._page(f"{place}&SOPInstanceUID={quote(uid)}", study, deadline)
                if found is None:
                    return None
                there |= found
            return there & wanted
        found = self._all(place, study, deadline, lambda found: wanted <= found)
        return None if found is None else found & wanted

    def _all(
        self, place: str, study: str, deadline: Deadline, is_enough: Callable[[set[str]], bool]
    ) -> set[str] | None:
        """All of a study, until these are enough or a page brings nothing new.

        A server may give fewer than asked for, or not know of pages at all.
        """
        there: set[str] = set()
        offset = 0
        while not is_enough(there):
            found = self._page(f"{place}&limit={PAGE}&offset={offset}", study, deadline)
            if found is None:
                return None
            if found <= there:
                break
            there |= found
            offset += len(found)
        return there

    def _page(self, path: str, study: str, deadline: Deadline) -> set[str] | None:
        answer = self._get(path, deadline)
        if answer.status == 404:  # some servers say so of a study that is not there, others have no queries
            answer = self._get(f"/studies?StudyInstanceUID={quote(study)}&limit=1", deadline)
            return set() if _items(answer) == [] else None
        items = _items(answer)
        return None if items is None else {uid for item in items if (uid := _uid(item))}

    def _get(self, path: str, deadline: Deadline) -> HttpAnswer:
        answer = self._site.send("GET", path, deadline=deadline, headers={"Accept": "application/dicom+json"})
        if answer.status in _BUSY:
            raise SinkUnavailable(f"{self._site} does not answer queries now (HTTP {answer.status}).")
        return answer


def _items(answer: HttpAnswer) -> list[Any] | None:
    """The data sets of an answer, None when it is none to a query."""
    if answer.status == 204:
        return []
    if answer.status not in (200, 206):
        return None
    try:
        items = json.loads(answer.content or b"[]")
    except ValueError:
        return None
    return items if isinstance(items, list) else None


def _uid(item: Any) -> str:
    try:
        return str(item[_SOP_INSTANCE]["Value"][0]).strip(" \0")
    except (KeyError, IndexError, TypeError):
        return ""


def _study_of(instance: Instance) -> str:
    if instance.study_instance_uid:
        return instance.study_instance_uid
    try:
        head = read_head(instance.path)
    except (ExportError, OSError):
        return ""
    return head.study_instance_uid if head is not None else ""
