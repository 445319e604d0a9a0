"""Made-up data that several tests of this folder use."""

from __future__ import annotations

from typing import Any

from airflow_monai.types import PatientDetails, Payload


def payload(**changes: Any) -> Payload:
    """A payload without files, sent by CT01 to CTLUNG."""
    known: dict[str, Any] = {
        "payload_id": "5f0c",
        "study_instance_uid": "1.2.3",
        "called_aet": "CTLUNG",
        "calling_aets": ("CT01",),
        "sequence": 0,
        "files": (),
        "received_first": "2026-01-01T10:00:00+00:00",
        "received_last": "2026-01-01T10:00:05+00:00",
        "closed": "2026-01-01T10:00:10+00:00",
        "patient": PatientDetails(),
    }
    return Payload(**{**known, **changes})
