"""What published messages mean, and how those that cannot be used are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.broker.events import (
    ArtifactsReceivedEvent,
    DataService,
    ExportCompleteEvent,
    ExportRequestEvent,
    ExportStatus,
    FileExportStatus,
    TaskCallbackEvent,
    TaskCancellationEvent,
    TaskUpdateEvent,
    WorkflowRequestDraft,
    WorkflowRequestEvent,
    read_event,
)
from airflow_monai.broker.events.base import MAX_BODY
from airflow_monai.errors import InvalidEvent

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "events"
PAYLOAD, CORRELATION = "8d0f3f0e-3b8c-4c0e-9a55-2a4f5a0d7e01", "8d0f3f0e-3b8c-4c0e-9a55-2a4f5a0d7e02"


def request(**changes: Any) -> dict[str, Any]:
    """A workflow request as a gateway publishes it; None leaves a field out."""
    event = {
        "payload_id": PAYLOAD,
        "workflows": [],
        "file_count": 2,
        "correlation_id": CORRELATION,
        "bucket": "monaideploy",
        "timestamp": "2026-03-01T10:00:00.1234567Z",
        "trigger": {"dataService": 1, "source": "CT01", "destination": "CTLUNG", "artifactType": 0},
        "data_origins": [{"dataService": 1, "source": "CT01", "destination": "CTLUNG"}],
        "payload": [{"path": "dcm/1/2/3.dcm", "metadata": "dcm/1/2/3.dcm.json"}],
        **changes,
    }
    return {name: value for name, value in event.items() if value is not None}


def read(event: dict[str, Any], kind: Any = WorkflowRequestEvent) -> Any:
    return read_event(kind, json.dumps(event).encode())


def test_a_request_as_gateways_publish_it() -> None:
    event = read(request(workflows=["ct-lung"]))
    assert (event.payload_id, event.correlation_id, event.bucket) == (PAYLOAD, CORRELATION, "monaideploy")
    assert (event.origin.source, event.origin.destination, event.origin.data_service) == (
        "CT01", "CTLUNG", DataService.DIMSE,
    )  # fmt: skip
    assert event.workflows == ("ct-lung",)
    assert event.payload[0].path == "dcm/1/2/3.dcm"
    assert not event.is_of_a_task


@pytest.mark.parametrize("service", [1, "1", "DIMSE", "dimse"])
def test_enums_are_read_by_name_and_by_number(service: Any) -> None:
    origin = {"dataService": service, "source": "CT01", "destination": "CTLUNG"}
    assert read(request(trigger=origin)).origin.data_service is DataService.DIMSE


def test_fields_are_read_in_any_of_the_published_spellings() -> None:
    event = {"".join(part.title() for part in name.split("_")): value for name, value in request().items()}
    event["Trigger"] = {"DataService": "DIMSE", "Source": "CT01", "Destination": "CTLUNG"}
    assert "PayloadId" in event
    assert read(event).origin.source == "CT01"


def test_older_messages_have_ae_titles_in_place_of_a_trigger() -> None:
    event = read(request(trigger=None, calling_aetitle="CT01", called_aetitle="CTLUNG"))
    assert (event.origin.source, event.origin.destination) == ("CT01", "CTLUNG")
    assert read(request(trigger=None, calling_ae_title="CT01", called_ae_title="CTLUNG")).origin.source == "CT01"


def test_a_null_is_an_absent_field_and_others_are_passed_over() -> None:
    event = read({**request(), "workflow_instance_id": None, "task_id": None, "something": {"new": 1}})
    assert event.workflow_instance_id is None and not event.is_of_a_task
    assert read(request(workflow_instance_id="a", task_id="b")).is_of_a_task


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"payload_id": None}, "payload_id is missing"),
        ({"payload_id": "17"}, "payload_id is not a GUID"),
        ({"payload_id": "00000000-0000-0000-0000-000000000000"}, "payload_id is the empty GUID"),
        ({"correlation_id": "Doe^Jane"}, "correlation_id is not a GUID"),
        ({"bucket": "ab"}, "bucket is shorter than 3 characters"),
        ({"bucket": "b" * 64}, "bucket is longer than 63 characters"),
        ({"timestamp": None}, "timestamp is missing"),
        ({"workflows": ["ct-lung", ""]}, "workflows[1] is shorter than 1 characters"),
        ({"workflows": [" "]}, "workflows[0] is blank"),
        ({"workflows": "ct-lung"}, "workflows is not a list"),
        ({"trigger": None}, "trigger is missing, and so are calling_aetitle and called_aetitle"),
        (
            {"trigger": {"dataService": 1, "source": "X" * 17, "destination": "A"}},
            "source must have 1 to 16",
        ),
        ({"trigger": {"source": "A"}}, "trigger.destination is missing"),
        ({"trigger": {"source": "A\nB", "destination": "C"}}, "characters that cannot be printed"),
        ({"trigger": {"dataService": 17, "source": "A", "destination": "B"}}, "trigger.data_service is none of"),
        ({"file_count": -1}, "file_count is less than 0"),
        ({"trigger": ["CT01"]}, "trigger is not an object"),
    ],
)
def test_what_is_wrong_is_told_by_field(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        read(request(**changes))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[" * 200_000, "not JSON"),
        (b" " * (MAX_BODY + 1), "more than"),
    ],
)
def test_what_is_no_event_at_all(body: bytes, told: str) -> None:
    with pytest.raises(InvalidEvent, match=told):
        read_event(WorkflowRequestEvent, body)


def test_a_refusal_quotes_nothing_of_a_message() -> None:
    event = {
        "workflow_instance_id": "w",
        "export_task_id": 5,
        "status": "Doe^Jane",
        "file_statuses": {"p/Doe^Jane.dcm": "Doe^Jane", "p/b.dcm": 77},
        "message": ["Doe^Jane"],
    }
    with pytest.raises(InvalidEvent) as caught:
        read(event, ExportCompleteEvent)
    assert "Doe" not in str(caught.value) and caught.value.__cause__ is None
    assert "export_task_id is not a text" in str(caught.value)
    assert "file_statuses is none of" in str(caught.value)


def test_the_draft_names_files_and_workflows() -> None:
    draft = {
        "Transaction ID": PAYLOAD,
        "Correlation ID": "assoc-1",
        "Files": ["a/b.dcm", "s3://other/c.dcm"],
        "Metadata": ["{}"],
        "Workflows": ["ct-lung"],
    }
    event = read(draft, WorkflowRequestDraft)
    assert (event.payload_id, event.files, event.workflows) == (
        PAYLOAD, ("a/b.dcm", "s3://other/c.dcm"), ("ct-lung",),
    )  # fmt: skip
    named = {**draft, "Transaction ID": "order 17"}
    assert read(named, WorkflowRequestDraft).payload_id == read(named, WorkflowRequestDraft).payload_id
    with pytest.raises(InvalidEvent, match="workflows is missing"):
        read({key: value for key, value in draft.items() if key != "Workflows"}, WorkflowRequestDraft)


def test_what_became_of_an_export() -> None:
    base = {"workflow_instance_id": "w", "export_task_id": "t"}
    event = read({**base, "status": "PartialFailure", "file_statuses": {"a": 0, "b": "ServiceError", "c": 4}},
                 ExportCompleteEvent)  # fmt: skip
    assert event.status is ExportStatus.PARTIAL_FAILURE
    assert event.file_statuses == {
        "a": FileExportStatus.SUCCESS,
        "b": FileExportStatus.SERVICE_ERROR,
        "c": FileExportStatus.DOWNLOAD_ERROR,
    }
    with pytest.raises(InvalidEvent, match="status is missing"):
        read(base, ExportCompleteEvent)


def test_events_of_tasks() -> None:
    base = {"workflow_instance_id": "w", "task_id": "t", "execution_id": "e"}
    callback = read({**base, "correlation_id": "c", "identity": "i", "metadata": {"acceptance": True}},
                    TaskCallbackEvent)  # fmt: skip
    assert callback.metadata == {"acceptance": True}
    with pytest.raises(InvalidEvent, match=r"execution_id is missing; .*identity is missing"):
        read({"workflow_instance_id": "w", "task_id": "t", "correlation_id": "c"}, TaskCallbackEvent)
    update = read({**base, "correlation_id": "c", "status": "Failed", "reason": 6, "taskStats": {"a": "1"}},
                  TaskUpdateEvent)  # fmt: skip
    assert (update.reason.value, update.task_stats, update.status.status.value) == ("TimedOut", {"a": "1"}, "Failed")
    read({**base, "identity": "i", "reason": "TimedOut", "message": "late"}, TaskCancellationEvent)
    with pytest.raises(InvalidEvent, match="identity is longer than 63"):
        read({**base, "identity": "i" * 64, "reason": "TimedOut", "message": "late"}, TaskCancellationEvent)


def test_artifacts_are_published_in_pascal_case() -> None:
    event = {
        "payload_id": PAYLOAD, "correlation_id": CORRELATION, "bucket": "monaideploy", "workflow_instance_id": "w",
        "task_id": "t", "artifacts": [{"Type": "SEG", "Path": "p/seg.dcm"}],
    }  # fmt: skip
    assert read(event, ArtifactsReceivedEvent).artifacts[0].type == "SEG"
    with pytest.raises(InvalidEvent, match="artifacts has fewer than 1"):
        read({**event, "artifacts": []}, ArtifactsReceivedEvent)


def test_an_export_request_is_published_by_the_published_names() -> None:
    event = ExportRequestEvent(
        workflow_instance_id="w", export_task_id="t", correlation_id="c", files=("p/a.dcm",), destinations=("PACS",)
    )
    published = json.loads(event.body())
    assert published["files"] == ["p/a.dcm"] and published["destinations"] == ["PACS"]
    assert {"workflow_instance_id", "export_task_id", "correlation_id"} <= published.keys()
    assert "Target" not in published and read(published, ExportRequestEvent) == event


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the published samples are not here")
@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("workflow_request", WorkflowRequestEvent),
        ("task_callback", TaskCallbackEvent),
        ("task_update", TaskUpdateEvent),
        ("export_complete", ExportCompleteEvent),
    ],
)
def test_real_messages_are_read(file: str, kind: Any) -> None:
    for sample in json.loads((SAMPLES / f"{file}.json").read_text()):
        read(sample["event"], kind)
