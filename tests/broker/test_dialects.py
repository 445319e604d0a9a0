"""What is published of a workflow's life, and the schemas by which others read it."""

from __future__ import annotations

import json

import jsonschema
import pytest

from airflow_monai.broker.dialects import Dialect
from airflow_monai.broker.events import ExportStatus, ExportTaskCompleted, read_event
from airflow_monai.broker.events.draft import State, Status
from airflow_monai.broker.events.schema import FOLDER, file_of, text_of
from airflow_monai.broker.events.topics import ALIASES, ANSWERS, DRAFT, REQUESTS
from airflow_monai.lifecycle.happening import What
from tests.lifecycle.happenings import happening


def test_every_topic_of_the_draft_has_its_schema_committed():
    for topic in DRAFT:
        assert file_of(topic).read_text() == text_of(topic), "run: python -m airflow_monai.broker.events.schema"
    assert {file.stem for file in FOLDER.glob("*.json")} == set(DRAFT)
    assert len(DRAFT) == 8


@pytest.mark.parametrize("what", list(What))
def test_what_is_published_in_the_draft_s_words_keeps_to_its_schema(what: What):
    message = Dialect.SEED.message(happening("a", what))
    assert (message is None) == (what is What.TASK_UPDATED)
    if message is None:
        return
    assert message.topic == what.value
    body = json.loads(message.body)
    schema = json.loads(file_of(message.topic).read_text())
    jsonschema.validate(body, schema, format_checker=jsonschema.FormatChecker())
    assert body["transaction_id"] == happening("a").instance_id
    has_ended = what in (What.TASK_COMPLETED, What.WORKFLOW_COMPLETED)
    assert body["state"] == (State.ENDED if has_ended else State.RUNNING)
    assert ("date_completed" in body) == has_ended
    assert ("payload_path" in body) == what.is_of_task
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**body, "status": "Succeeded"}, schema)


@pytest.mark.parametrize("what", list(What))
def test_the_message_s_id_is_the_event_s(what: What):
    for dialect in (Dialect.SEED, Dialect.SHIPPED):
        message = dialect.message(happening("a", what))
        assert dialect.has_word_for(what) == (message is not None)
        if message is not None:
            assert message.message_id == happening("a", what).id
            assert not message.needs_queue
            message.check()
    assert Dialect.NONE.message(happening("a", what)) is None


def test_numbers_of_the_draft_are_those_of_the_table():
    """docs/broker.md has them; whoever reads them relies on it."""
    assert [(status.value, status.name) for status in Status] == [
        (0, "CREATED"), (1, "DISPATCHED"), (2, "ACCEPTED"), (3, "SUCCEEDED"), (4, "FAILED"), (5, "PARTIAL_FAIL"),
        (6, "CANCELED"),
    ]  # fmt: skip
    assert [(state.value, state.name) for state in State] == [(0, "WAITING"), (1, "RUNNING"), (2, "ENDED")]


@pytest.mark.parametrize("status", [0, "0", "Success"])
def test_a_completed_export_of_the_draft_is_read(status: object):
    body = {"Export Task ID": "e", "Correlation ID": "c", "Transaction ID": "w", "Status": status, "Sink": "PACS"}
    event = read_event(ExportTaskCompleted, json.dumps(body).encode())
    assert (event.transaction_id, event.export_task_id, event.status) == ("w", "e", ExportStatus.SUCCESS)


def test_names_of_the_specification_s_queues_are_taken_as_the_table_says():
    taken = {alias.name for alias in ALIASES if alias.direction == "taken"}
    assert taken <= {*REQUESTS, *ANSWERS}
    assert not {alias.name for alias in ALIASES if alias.direction == "none"} & {*REQUESTS, *ANSWERS}
