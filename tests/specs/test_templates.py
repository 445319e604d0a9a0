"""Artifact values and the templates in texts."""

from __future__ import annotations

import time

import pytest

from airflow_monai.specs.templates import (
    ArtifactReference,
    ArtifactSource,
    TemplateError,
    canonical_templates,
    canonical_value,
    executions_of,
    parse_artifact,
    paths_of,
    result_keys,
)


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ("{{ context.input.dicom }}", ArtifactReference(ArtifactSource.INPUT)),
        ("{{context.input.dicom}}", ArtifactReference(ArtifactSource.INPUT)),
        ("{{ context.input }}", ArtifactReference(ArtifactSource.INPUT)),
        ("{{ context.input.dicom }", ArtifactReference(ArtifactSource.INPUT)),
        ("{{ context.input.dicom }/study1", ArtifactReference(ArtifactSource.INPUT, suffix="study1")),
        (" {{ context.input.dicom }}/1.2/1.3/ ", ArtifactReference(ArtifactSource.INPUT, suffix="1.2/1.3")),
        ("{{ context.executions.seg.output_dir }}", ArtifactReference(ArtifactSource.OUTPUT_DIR, "seg")),
        ("{{ context.executions.seg.output_dir }}/a", ArtifactReference(ArtifactSource.OUTPUT_DIR, "seg", suffix="a")),
        ("{{ context.executions.a-b_1.artifacts.x }}", ArtifactReference(ArtifactSource.ARTIFACT, "a-b_1", "x")),
        ("{{ context.executions.a.artifacts.x.nii }}", ArtifactReference(ArtifactSource.ARTIFACT, "a", "x.nii")),
    ],
)
def test_artifact_values(value: str, reference: ArtifactReference):
    assert parse_artifact(value) == reference


@pytest.mark.parametrize(
    "value",
    [
        "",
        "study",
        "context.input.dicom",
        "{{ context.input.dicom",
        "{{ context.input.dicom }}}",
        "{ context.input.dicom }}",
        "{{ context.input.other }}",
        "{{ context.executions.a }}",
        "{{ context.executions..output_dir }}",
        "{{ context.executions.a.artifacts }}",
        "{{ context.executions.a.artifacts. }}",
        "{{ context.executions.a.result.x }}",
        "{{ context.input.dicom }}{{ context.input.dicom }}",
        "x{{ context.input.dicom }}",
        "{{ context.input.dicom }}x",
        "{{ context.input.dicom }}/../../etc",
        "{{ context.input.dicom }}/a//b",
        "{{ context.input.dicom }}/./a",
        "{{ context.input.dicom }}/a\\b",
        "{{ context.input.dicom }}/a:ro",
        "{{ context.input.dicom }}/a\x00",
        "{{ context.input.dicom }}/" + "a" * 400,
    ],
)
def test_what_is_no_artifact_value_is_refused(value: str):
    with pytest.raises(TemplateError):
        parse_artifact(value)


def test_templates_are_found_in_any_text():
    assert paths_of("a {{ b.c }} d {{e}} {{ f") == ["b.c", "e"]


def test_result_keys_are_whole_with_their_dots():
    texts = [
        "{{ context.executions.a.result.x }} > '1' AND {{ context.executions.a.result.y.z }} == 'b'",
        "{{ context.executions.b.result.x }}",
        "{{ context.executions.b.status }} {{ context.executions.b.result }}",
    ]
    assert result_keys(executions_of(texts)) == {"a": {"x", "y.z"}, "b": {"x"}}


def test_ids_in_templates_are_spelled_as_the_tasks_are():
    text = "{{ context.executions.SEG.result.Volume }} == 'context.executions.SEG.x'"
    expected = "{{ context.executions.Seg.result.Volume }} == 'context.executions.SEG.x'"
    assert canonical_templates(text, {"seg": "Seg"}) == expected


def test_an_unclosed_brace_costs_no_quadratic_time():
    text = "{{" * 50_000
    started = time.thread_time()
    assert (paths_of(text), canonical_templates(text, {})) == ([], text)
    assert time.thread_time() - started < 5


@pytest.mark.parametrize("path", ["a{b", "a}b", "a" * 501])
def test_what_is_no_path_is_left_as_it_is(path: str):
    assert paths_of(f"{{{{{path}}}}}") == []
    with pytest.raises(TemplateError):
        parse_artifact(f"{{{{{path}}}}}")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{{context.input.dicom}}", "{{context.input.dicom}}"),
        ("{{ context.executions.SEG.output_dir }/a", "{{ context.executions.seg.output_dir }}/a"),
        (" {{ context.executions.Seg.artifacts.X }} ", "{{ context.executions.seg.artifacts.X }}"),
    ],
)
def test_artifact_values_in_one_spelling(value: str, expected: str):
    assert canonical_value(value, {"seg": "seg"}) == expected
    assert parse_artifact(expected) == parse_artifact(canonical_value(value, {"seg": "seg"}))
