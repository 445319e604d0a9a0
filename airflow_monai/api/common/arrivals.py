"""Uploads that arrive as if they had been sent to an AE title by C-STORE.

A gateway of the site sees the payloads through, as it does with those that another gateway left to it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any

from fastapi import HTTPException, Query

from airflow_monai import settings
from airflow_monai.api.common.access import Caller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.uploads import UploadSite
from airflow_monai.datasets.receiving import Taken
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.foreign import Found
from airflow_monai.store.intake import Instance, Intake, Placed
from airflow_monai.store.spooling import Spooled
from airflow_monai.workflows.listeners import Listeners

TELL_SECONDS, MOST_TOLD = 3.0, 20
DIFFERS = "another image of its SOP Instance UID came before; this one is not kept"
Origin = Annotated[
    str,
    Query(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$", description="With `ae_title`: the calling AE title."),
]
Complete = Annotated[bool, Query(description="With `ae_title`: these studies are whole, nobody need wait for more.")]


class Arrival:
    """What arrives together.

    :param problem: says why an image may not come this way; empty where it may.
    """

    def __init__(
        self,
        site: UploadSite,
        ae_title: str,
        origin: str,
        grouping: Grouping,
        problem: Callable[[Found], str] = lambda found: "",
    ):
        self._site = site
        self._intake = Intake(site.store)
        self._ae_title = ae_title
        self._origin = origin
        self._grouping = grouping
        self._problem = problem
        self.payload_ids: list[str] = []
        self._name = uuid.uuid4().hex
        self._met: dict[str, None] = {}
        self._told = time.monotonic()

    def check(self) -> None:
        """For :class:`Upload`; besides gateways are told now and then that more images of these payloads may still
        come: a large one takes longer than a study must be quiet.

        :raises UploadRefused: when the disk has no space for more.
        """
        self._site.check()
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._told = time.monotonic()
            for payload_id in list(self._met)[-MOST_TOLD:]:
                self._intake.note_arriving(payload_id, self._name)

    def keep(self, spooled: Spooled) -> Placed | str:
        """Put an image into the intake, durable when this returns; else why not."""
        try:
            if problem := self._problem(spooled.found):
                return problem
            instance = Instance(spooled.found.identity, self._ae_title, self._origin)
            placed = self._intake.add(instance, spooled.path, self._grouping)
        finally:
            spooled.path.unlink(missing_ok=True)
        self._met[placed.payload_id] = None
        return DIFFERS if placed.identical is False else placed

    def taken(self, items: Iterable[Taken[Any]], caller: Caller) -> None:
        """Note who brought what; called also when the rest of it did not come."""
        kept = [item.kept for item in items if item.kept]
        self.payload_ids = sorted({placed.payload_id for placed in kept})
        if kept:
            extra = {"ae_title": self._ae_title, "payloads": self.payload_ids[:100], "images": len(kept)}
            note(caller, "monai.study.store", extra=extra)

    def tell_whole(self) -> None:
        """Nothing more of these studies is to come."""
        for payload_id in self.payload_ids:
            self._intake.tell_whole(payload_id)


def grouping_at(site: UploadSite, ae_title: str) -> Grouping:
    """How what arrives at an AE title is grouped.

    :raises HTTPException: 404 when no workflow listens to it.
    """
    grouping = _listeners(site, settings.load().workflow_folder).grouping(ae_title)
    if grouping is None:
        raise HTTPException(404, "No workflow listens to this AE title.")
    return grouping


@cache
def _listeners(site: UploadSite, folder: str) -> Listeners:
    return Listeners(folder, site.store)
