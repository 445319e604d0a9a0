"""The e-mail task against a real SMTP server: what is sent, to whom, and that nothing is sent twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from airflow_monai.errors import InvalidArgument, ServiceUnavailable
from airflow_monai.operators.email import EmailOperator
from airflow_monai.store.payloads import tags_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.triggers.email import EmailTrigger
from airflow_monai.types import TaskRecord, TaskStatus
from tests.mailbox import Mailbox, mailbox
from tests.operators.map_tasks import DAG_ID, make_payload, run_folder

TO = ["reading-room@hospital.example", "ai@hospital.example"]
NAME = "Doe^Jane"


@dataclass
class Site:
    """A store with a payload whose task ``segment`` has a result, and a mailbox."""

    box: Mailbox
    payload_id: str
    folder: RunFolder

    def send(self, *, try_number: int = 1, retries: int = 2, **arguments: Any) -> TriggerEvent:
        """Run the task's trigger as a triggerer does; its event."""
        known = {"recipient_emails": TO, "workflow_name": "ct-lung"}
        operator = EmailOperator(**{"task_id": "mail", "retries": retries, **known, **arguments})
        where = {
            "payload_id": self.payload_id,
            "run_id": f"monai__{self.payload_id}",
            "map_index": "-1",
            "try_number": str(try_number),
            "try_id": f"try-{try_number}",
            "run_started": "",
            "conf": "{}",
        }
        trigger = EmailTrigger(where=where, task={**operator.light_task, "dag_id": DAG_ID})

        async def first() -> TriggerEvent:
            return await anext(aiter(trigger.run()))

        return asyncio.run(first())

    def record(self) -> TaskRecord:
        record = self.folder.record("mail")
        assert record is not None
        return record


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    store = str(tmp_path / "store")
    payload_id = make_payload(store, patient_name=NAME, slices=1)
    folder = run_folder(store, payload_id)
    tags = {"1.2": {"00080060": ["CT"], "00081030": ["Thorax"]}, "1.3": {"00080060": ["CT"], "00081030": [None]}}
    folder.store.write_json(tags_key(payload_id), tags)
    result = {"volume_ml": 1234}
    folder.write_record(TaskRecord("segment", "map", TaskStatus.SUCCEEDED, "x", result=result))
    with mailbox() as box:
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", box.connection)
        monkeypatch.setenv("AIRFLOW__MONAI__STORE", store)
        yield Site(box, payload_id, folder)


def test_what_is_sent(site: Site) -> None:
    event = site.send(
        metadata_values=["Modality", "StudyDescription", "BodyPartExamined"],
        subject="Volume {{ context.executions.segment.result.volume_ml }} ml",
        body="Please look at it.\nÄrztlich: {{ context.workflow.name }}",
        result_keys=["sent"],
    )
    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms is not None and event.xcoms["return_value"]["result"] == {"sent": 2}
    ((to, message),) = site.box.arrived
    assert list(to) == TO
    assert (message["From"], message["Subject"]) == ("monai@hospital.example", "Volume 1234 ml")
    text = message.get_content().replace("\r\n", "\n")
    assert "Ärztlich: ct-lung" in text
    assert "Modality: CT\nStudyDescription: Thorax\nBodyPartExamined: -\n" in text
    assert NAME not in text and "HOSP-4711" not in text
    assert site.record().status is TaskStatus.SUCCEEDED


def test_a_line_end_in_a_value_makes_no_header(site: Site) -> None:
    site.folder.write_record(
        TaskRecord("segment", "map", TaskStatus.SUCCEEDED, "x", result={"note": "a\r\nBcc: x@evil.example"})
    )
    site.send(subject="{{ context.executions.segment.result.note }}")
    ((to, message),) = site.box.arrived
    assert message["Subject"] == "a Bcc: x@evil.example"
    assert (message["Bcc"], list(to)) == (None, TO)


def test_roles_are_addresses_of_the_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    event = site.send(recipient_emails=[], recipient_roles=["Radiologist"])
    assert isinstance(event, TriggerEvent) and "recipient_roles gives no address" in event.payload["failed"]
    monkeypatch.setenv(
        "AIRFLOW__MONAI__RECIPIENT_ROLES", json.dumps({"radiologist": [TO[1], "third@hospital.example"]})
    )
    site.send(recipient_emails=TO, recipient_roles=["Radiologist"], try_number=2)
    assert site.box.recipients == [*TO, "third@hospital.example"]


def test_a_recipient_who_is_not_taken_now_gets_it_later_and_nobody_gets_it_twice(site: Site) -> None:
    site.box.refuse = {TO[1]: "451 greylisted"}
    assert isinstance(site.send(), TaskFailedEvent), "Airflow tries it again"
    assert site.record().stats == {"error_kind": "connection"}
    site.box.refuse = {}
    assert isinstance(site.send(try_number=2), TaskSuccessEvent)
    assert site.box.recipients == TO


def test_a_recipient_who_is_never_taken_fails_the_task_for_good_and_the_others_have_it(site: Site) -> None:
    site.box.refuse = {TO[1]: "550 unknown"}
    event = site.send()
    assert f"1 of 2 recipients: {TO[1]} (reply 550)" in event.payload["failed"]
    assert site.box.recipients == TO[:1]


@pytest.mark.parametrize(("answer", "policy"), [("451 try later", {}), ("554 spam", {"refused": "retry"})])
def test_a_text_that_is_refused_was_not_sent_and_can_be_sent_by_a_retry(
    site: Site, answer: str, policy: dict[str, str]
) -> None:
    site.box.answer = answer
    assert isinstance(site.send(failure_policy=policy), TaskFailedEvent)
    site.box.answer = "250 kept"
    assert isinstance(site.send(try_number=2, failure_policy=policy), TaskSuccessEvent)
    assert site.box.recipients == TO


def test_a_text_that_is_refused_for_good_is_not_sent_again(site: Site) -> None:
    site.box.answer = "554 spam"
    assert "refused the e-mail (reply 554)" in site.send().payload["failed"]
    assert site.record().stats == {"error_kind": "refused"}


def test_a_server_that_says_nothing_after_the_text_is_not_asked_again(site: Site) -> None:
    """It has kept the e-mail; nobody here can know."""
    site.box.answer = ""
    site.send(failure_policy={"refused": "retry"})
    assert "may or may not have been delivered" in str(site.record().error_msg)
    site.box.answer = "250 kept"
    final = site.send(try_number=2).payload
    assert "may or may not have gone out" in final["failed"]
    assert site.box.recipients == TO, "sent once"
    with pytest.raises(AirflowFailException):
        EmailOperator(task_id="mail", recipient_emails=TO).finish({}, final)  # type: ignore[arg-type]
    site.send(try_number=3)  # somebody has cleared the task
    assert site.box.recipients == TO * 2


def test_a_triggerer_without_a_connection_frees_not_what_another_one_sends(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both go on with the same try: the other one notes its sending while this one still waits for the server."""

    async def out_of_reach(server: Any, text: bytes, missing: Any, *, before_data: Any) -> None:
        site.folder.store.write_json(site.folder.note_key("mail", -1, 1, "sending-0"), {"life": "the other"})
        raise ServiceUnavailable("not there")

    with monkeypatch.context() as patch:
        patch.setattr("airflow_monai.hooks.smtp.post", out_of_reach)
        assert isinstance(site.send(), TaskFailedEvent)
    assert "may or may not have gone out" in site.send(try_number=2).payload["failed"]
    assert site.box.recipients == []


def test_a_server_that_cannot_be_reached_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch, free_port: int):
    extra = {"from_email": "monai@hospital.example", "disable_tls": True, "disable_ssl": True, "timeout": 2}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": free_port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    assert isinstance(site.send(), TaskFailedEvent)
    assert "cannot be reached" in str(site.record().error_msg)


def test_a_server_without_the_wanted_encryption_gets_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"from_email": "monai@hospital.example", "disable_ssl": True, "timeout": 5}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": site.box.port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    assert "no connection as wanted" in site.send().payload["failed"]
    assert site.box.arrived == []


def test_a_connection_that_is_not_there_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__SMTP_CONN_ID", "smtp_none")
    assert "no Airflow connection 'smtp_none'" in site.send().payload["failed"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"metadata_values": ["PatientName"]},
        {"metadata_values": ["Modalty"]},
        {"subject": "{{ context.input.patient_details.name }}"},
        {"body": "{{ context.dicom.series.any('PatientID') }}"},
    ],
)
def test_a_task_that_would_name_the_patient_is_not_made(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        EmailOperator(task_id="mail", recipient_emails=TO, **arguments)
