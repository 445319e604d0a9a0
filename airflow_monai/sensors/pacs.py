"""Wait for a study in a PACS, in a DAG written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow_monai.sensors.watch import WatchSensor


class StudyInPacsSensor(WatchSensor):
    """Wait until a PACS has a study and has got no more of it for a while; return the number of its instances.

    Of study and payload one is named. Airflow keeps what is named in its database: a payload id says nothing of the
    patient.

    :param connection: id of an Airflow connection: a DICOM node is asked by C-FIND (PS3.4 section C.4.1), a DICOMweb
        server by QIDO-RS (PS3.18 section 10.6).
    :param study_instance_uid: the study (templated).
    :param payload_id: a payload whose study is meant (templated).
    :param at_least: so many instances.
    :param stable_seconds: quiet time after the last change.
    :param poll_interval: seconds between two queries.
    :param timeout: give up and fail after this time.
    """

    template_fields: Sequence[str] = ("study_instance_uid", "payload_id")
    trigger = "airflow_monai.triggers.pacs.StudyInPacsTrigger"

    def __init__(
        self,
        *,
        connection: str,
        study_instance_uid: str = "",
        payload_id: str = "",
        at_least: int = 1,
        stable_seconds: float = 60.0,
        poll_interval: float = 10.0,
        timeout: timedelta = timedelta(hours=24),
        **kwargs: Any,
    ):
        if bool(study_instance_uid) == bool(payload_id):
            raise ValueError("StudyInPacsSensor wants either study_instance_uid or payload_id.")
        arguments = {
            "connection": connection,
            "study_instance_uid": study_instance_uid,
            "payload_id": payload_id,
            "at_least": at_least,
            "stable_seconds": stable_seconds,
        }
        super().__init__(arguments=arguments, poll_interval=poll_interval, timeout=timeout, **kwargs)
