"""Waits in the triggerer for a study to be in a PACS."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from airflow_monai.errors import DestinationError
from airflow_monai.store.payloads import load_payload
from airflow_monai.triggers.watch import NeverFound, WatchTrigger, site_store

if TYPE_CHECKING:
    from airflow_monai.sinks.base import Destination

ANSWER_SECONDS = 120.0
"""How long a PACS may take to say what it has of a study."""


class StudyInPacsTrigger(WatchTrigger):
    """Fires with the number of instances of a study when a PACS has enough and has got none for a while.

    A triggerer that takes over counts the quiet time from anew.

    :param connection: id of an Airflow connection: a DICOM node is asked by C-FIND, a DICOMweb server by QIDO-RS.
    :param study_instance_uid: the study; or
    :param payload_id: a payload whose study is meant.
    :param at_least: so many instances.
    :param stable_seconds: quiet time after the last change.
    """

    arguments = ("connection", "study_instance_uid", "payload_id", "at_least", "stable_seconds")

    def __init__(
        self,
        *,
        connection: str,
        study_instance_uid: str = "",
        payload_id: str = "",
        at_least: int = 1,
        stable_seconds: float = 60.0,
        poll_interval: float = 10.0,
    ):
        super().__init__(poll_interval=poll_interval)
        self.connection = connection
        self.study_instance_uid = study_instance_uid
        self.payload_id = payload_id
        self.at_least = at_least
        self.stable_seconds = stable_seconds
        self._count = 0
        self._since = 0.0

    async def look(self) -> int | None:
        from airflow_monai.hooks.base import adestination

        try:
            # anew each time: the connection may have been corrected
            destination = await adestination(self.connection)
            return await asyncio.to_thread(self._look, destination)
        except DestinationError as error:
            raise NeverFound(str(error)) from None

    def _look(self, destination: Destination) -> int | None:
        from airflow_monai.sinks.deadline import Deadline
        from airflow_monai.sinks.registry import open_sink

        study = self.study_instance_uid or load_payload(site_store(), self.payload_id).study_instance_uid
        sink = open_sink(destination)
        sink.deadline = Deadline(ANSWER_SECONDS, "the time for an answer")
        count = sink.count(study)
        if count is None:
            raise NeverFound(
                f"{destination.name} cannot be asked which studies it has: the sensor needs a DICOM node that answers "
                "C-FIND, or a DICOMweb server that answers QIDO-RS (the extra query of the connection allows it)."
            )
        now = time.monotonic()
        if count != self._count or not self._since:
            self._count, self._since = count, now
        return count if count >= max(self.at_least, 1) and now - self._since >= self.stable_seconds else None
