"""What the paths of conditions resolve to."""

from __future__ import annotations

import pytest

from airflow_monai.specs.conditions.parser import ConditionError, evaluate
from airflow_monai.specs.conditions.values import Quantifier, SeriesValues
from airflow_monai.specs.context import ExecutionContext, is_known_path
from airflow_monai.store.payloads import dicom_key
from airflow_monai.types import PatientDetails, TaskRecord, TaskStatus
from tests.specs.samples import payload

RECORD = TaskRecord(
    task_id="segment",
    task_type="map",
    status=TaskStatus.PARTIAL_FAIL,
    execution_id="e-1",
    previous_task_id="route",
    start_time="2026-01-01T12:00:00.250+02:00",
    end_time="2026-01-01T10:01:02Z",
    output_dir="payloads/p/workflows/r/segment",
    error_msg=None,
    result={
        "volume_ml": 512.50,
        "ok": True,
        "Fred": "Bob",
        "fred": "lower",
        "labels": ["lung", "liver"],
        "nested": {"a": 1},
        "with.dots": "whole",
        "rows": [{"a": 1}],
    },
    stats={"seconds": 12},
)
TAGS = {
    "1.1": {"00080060": ["CT"], "00180050": ["0.5", "0.6"], "00080008": [["ORIGINAL", "PRIMARY"]]},
    "1.2": {"00080060": ["SR"], "0008103E": [None]},
}


def context(tags=TAGS) -> ExecutionContext:
    return ExecutionContext(
        payload=payload(patient=PatientDetails(id="P1", name="Doe^Jane", sex="F", dob="19700203", age="055Y")),
        series_tags=lambda: tags,
        task_record={"segment": RECORD}.get,
        workflow_name="ct-lung",
        workflow_description="finds lungs",
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("context.executions.segment.task_id", "segment"),
        ("context.executions.segment.status", "PartialFail"),
        ("context.executions.segment.execution_id", "e-1"),
        ("context.executions.segment.output_dir", "payloads/p/workflows/r/segment"),
        ("context.executions.segment.task_type", "map"),
        ("context.executions.segment.previous_task_id", "route"),
        ("context.executions.segment.error_msg", None),
        ("context.executions.segment.start_time", "2026-01-01T10:00:00"),
        ("context.executions.segment.end_time", "2026-01-01T10:01:02"),
        ("context.executions.segment.result.volume_ml", 512.5),
        ("context.executions.segment.result.ok", True),
        ("context.executions.segment.result.Fred", "Bob"),
        ("context.executions.segment.result.fred", "lower"),
        ("context.executions.segment.result.fred.deeper", "lower"),
        ("context.executions.segment.result.labels", ["lung", "liver"]),
        ("context.executions.segment.result.nested", None),
        ("context.executions.segment.result.nested.a", 1),
        ("context.executions.segment.result.nested.b", None),
        ("context.executions.segment.result.nested.a.b", 1),
        ("context.executions.segment.result.with.dots", "whole"),
        ("context.executions.segment.result.with", None),
        ("context.executions.segment.result.rows", None),
        ("context.executions.segment.result.absent", None),
        ("context.executions.segment.result", None),
        ("context.executions.segment.execution_stats.seconds", 12),
        ("context.executions.segment.map_index", None),
        ("context.executions.segment", None),
        ("context.executions.other.status", None),
        ("context.input.patient_details.id", "P1"),
        ("context.input.patient_details.name", "Doe^Jane"),
        ("context.input.patient_details.sex", "F"),
        ("context.input.patient_details.dob", "03/02/1970"),
        ("context.input.patient_details.age", "055Y"),
        ("context.input.patient_details.hospital_id", None),
        ("context.input.patient_details.__class__", None),
        ("context.workflow.name", "ct-lung"),
        ("context.workflow.description", "finds lungs"),
        ("context.correlation_id", "5f0c"),
        ("context.input", "payloads/5f0c/dcm"),
        ("context.input.dicom", "payloads/5f0c/dcm"),
        ("context.input.other", None),
        ("context.dicom.tags[('0010','0040')]", None),
        ("context.dicom.tags", None),
        ("context.dicom.series.some('0008','0060')", None),
        ("context", None),
        ("", None),
        ("something.else.entirely", None),
    ],
)
def test_paths(path: str, value: object):
    assert context()(path) == value


def test_the_input_is_the_folder_of_the_received_files():
    known = payload(payload_id="6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    assert ExecutionContext(known, series_tags=dict)("context.input") == dicom_key(known.payload_id)


@pytest.mark.parametrize("dob", [None, "", "1970", "19701399", "unknown"])
def test_a_birth_date_that_is_no_date_is_null(dob: str | None):
    resolve = ExecutionContext(payload(patient=PatientDetails(dob=dob)), series_tags=dict)
    assert resolve("context.input.patient_details.dob") is None


def test_series_give_every_value_and_null_for_those_without():
    assert context()("context.dicom.series.any('0018','0050')") == SeriesValues(("0.5", "0.6", None), Quantifier.ANY)
    assert context()('context.dicom.series.all( "0008" , "103e" )') is None


@pytest.mark.parametrize(
    "path",
    [
        "context.dicom.series.all('0008','0060')",
        "context.dicom.series.all('Modality')",
        "context.dicom.series.all('00080060')",
        'context.dicom.series.all( "0008" ,"0060" )',
        "context.dicom.tags[('0008','0060')]",
        "context.dicom.tags['Modality']",
        "context.dicom.tags.Modality",
    ],
)
def test_every_spelling_of_an_attribute_gives_its_values(path: str):
    assert context()(path) == SeriesValues(("CT", "SR"), Quantifier.ALL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ context.dicom.series.any('0008','0060') }} == 'CT'", True),
        ("{{ context.dicom.series.all('0008','0060') }} == 'CT'", False),
        ("{{ context.dicom.series.any('0018','0050') }} < '1'", True),
        ("{{ context.dicom.series.any('0008','0008') }} CONTAINS 'PRIMARY'", True),
        ("{{ context.dicom.series.any('0010','4000') }} == NULL", True),
        ("{{ context.executions.segment.result.volume_ml }} > '500'", True),
        ("{{ context.executions.segment.result.labels }} CONTAINS 'liver'", True),
        ("{{ context.executions.segment.error_msg }} == NULL", True),
    ],
)
def test_conditions_over_a_context(text: str, expected: bool):
    assert evaluate(text, context()) is expected


def test_a_study_without_series_has_null_attributes():
    assert evaluate("{{ context.dicom.series.all('0008','0060') }} == NULL", context({}))
    with pytest.raises(ConditionError):
        evaluate("{{ context.dicom.series.any('0018','0050') }} < '5'", context({}))


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("context.executions.a.result.b", True),
        ("context.executions.a.status", True),
        ("context.dicom.series.any('0008','0060')", True),
        ("context.input.patient_details.sex", True),
        ("context.workflow.name", True),
        ("context.executions.a.result", False),
        ("context.executions.a.results.b", False),
        ("context.dicom.series.any('8','60')", False),
        ("context.dicom.study_id", True),
        ("context.dicom.tags[('0010','0040')]", True),
        ("context.dicom.series.any('Modalty')", False),
        ("context.input.patient_details.weight", False),
    ],
)
def test_known_paths(path: str, known: bool):
    assert is_known_path(path) is known
