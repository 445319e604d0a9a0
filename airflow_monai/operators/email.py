"""The operator of ``email`` tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from airflow_monai.errors import InvalidArgument
from airflow_monai.operators.light import LightOperator


class EmailOperator(LightOperator):
    """Send an e-mail about the run's study, in the triggerer: no worker process.

    It never tells who the patient is: attributes and templates that might are refused. What ``subject`` and ``body``
    stand for is read from the store when it is sent; of that nothing gets into Airflow's database or a log.

    It is sent by the connection ``[monai] smtp_conn_id``, once: a server that cannot be reached, or asks for another
    try, gets another one; an e-mail of which nobody knows whether it went out is not sent again by itself. A retry
    sends only to those who have not got it. Clearing the task sends it again, to all.

    Its result has ``sent``, the number of recipients.

    :param recipient_emails: addresses.
    :param recipient_roles: roles whose addresses the setting ``[monai] recipient_roles`` has.
    :param metadata_values: DICOM keywords whose values over the series of the study the e-mail has.
    :param subject: and ``body``: texts with ``{{ context... }}``, plain text; empty for the usual ones.
    """

    spec_type = custom_operator_name = "email"
    trigger_class = "airflow_monai.triggers.email.EmailTrigger"
    ui_color = "#f7ebe0"

    def __init__(
        self,
        *,
        recipient_emails: Sequence[str] = (),
        recipient_roles: Sequence[str] = (),
        metadata_values: Sequence[str] = (),
        subject: str = "",
        body: str = "",
        **kwargs: Any,
    ):
        _refuse_patient(subject, body)
        task = {
            "recipient_emails": list(recipient_emails),
            "recipient_roles": list(recipient_roles),
            "metadata": [list(pair) for pair in _tags(metadata_values)],
            "subject": subject,
            "body": body,
        }
        super().__init__(task=task, **kwargs)


def _tags(keywords: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(keyword, tag) of each; :class:`InvalidArgument` for one that is none or may name a patient."""
    from airflow_monai.specs.attributes import keywords as known
    from airflow_monai.specs.patient_attributes import may_name_patient

    for keyword in keywords:
        tag = known().get(keyword, "").partition(" ")[0]
        if not tag or may_name_patient(tag):
            raise InvalidArgument(
                f"metadata_values: {keyword!r} is no DICOM keyword, or one whose values may name the patient."
            )
        yield keyword, tag


def _refuse_patient(*texts: str) -> None:
    from airflow_monai.specs.patient_attributes import names_patient
    from airflow_monai.specs.templates import paths_of

    for path in (path for text in texts for path in paths_of(text)):
        if names_patient(path):
            raise InvalidArgument(f"An e-mail must not hold {path!r}: it must not tell who the patient is.")
