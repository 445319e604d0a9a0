"""One mistake is reported once: what only follows from it is left out, and no invented name is shown."""

from __future__ import annotations

import pytest

from airflow_monai.specs import check_text

TEXT = """\
name: ct-lung
version: 1.0
informatics_gateway:
  ae_title: CTLUNG
  export_destinations: [MAINPACS]
tasks:
  - id: segment
    type: map
    args: {map: "lung-seg:1.2.0"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: seg, type: SEG}]
    task_destinations:
      - {name: look, conditions: ["{{ context.executions.segment.result.volume_ml }} <= '500'"]}
  - id: look
    type: router
    task_destinations:
      - name: to-pacs
  - id: to-pacs
    type: export
    export_destinations: [{name: MAINPACS}]
    artifacts: {input: [{name: seg, value: "{{ context.executions.segment.artifacts.seg }}"}]}
"""


def told(*changes: tuple[str, str]) -> list[str]:
    """The problems of the workflow with its text changed, as ``line code: message (hint)``."""
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    spec, problems = check_text(text, "x.yaml")
    assert spec is None or not changes
    assert "_unnamed_" not in "".join(map(str, problems))
    return [f"{item.line} {item.code}: {item.message} ({item.hint})" for item in problems]


def test_the_workflow_is_good():
    assert told() == []


def test_misspelled_fields_are_read_as_what_they_mean():
    hint = "did you mean 'task_destinations'?"
    assert told(("task_destinations", "task_destination")) == [
        f"13 unknown-field: unknown field 'task_destination' ({hint})",
        f"17 unknown-field: unknown field 'task_destination' ({hint})",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: ct-lung", "nmae: ct-lung"),
        ("ae_title:", "ae_titel:"),
        ("informatics_gateway:", "informatic_gateway:"),
        ("tasks:", "taks:"),
        ("- id: look", "- idd: look"),
        ("- name: to-pacs", "- nam: to-pacs"),
        ("type: map", "tpye: map"),
        ("artifacts:\n", "artefacts:\n"),
        ("output: [", "outputs: ["),
        ("input: [{name: seg", "inputs: [{name: seg"),
        ("    export_destinations: [{", "    export_destination: [{"),
        ("  export_destinations: [MAINPACS]", "  export_destnations: [MAINPACS]"),
        ("    task_destinations:\n      - name: to-pacs", "    next:\n      - name: to-pacs"),
        ("    artifacts: {input", "    reads: {input"),
        ("    task_destinations:\n      - name: to-pacs", "    task_destination: to-pacs"),
    ],
)
def test_a_misspelled_field_is_one_problem(old: str, new: str):
    (problem,) = told((old, new))
    assert "unknown-field" in problem


def test_a_field_of_the_wrong_shape_is_one_problem():
    (problem,) = told(("task_destinations:\n      - name: to-pacs", "task_destinations: {name: to-pacs}"))
    assert problem.startswith("17 wrong-type: task_destinations: a list is needed here")


def test_an_id_given_twice_is_reported_at_both_places_only():
    problems = told(("- id: look", "- id: segment"), ("{name: look,", "{name: to-pacs,"))
    assert [problem.split(":")[0] for problem in problems] == ["7 duplicate-id", "15 duplicate-id"]


def test_a_refused_id_is_no_missing_task_elsewhere():
    assert told(("- id: segment", "- id: segment!")) == [
        "7 bad-id: 'segment!' is no task id (1 to 100 letters, digits, '-' and '_')"
    ]
    assert told(("- id: look", "- id: lo ok")) == [
        "15 bad-id: 'lo ok' is no task id (1 to 100 letters, digits, '-' and '_')"
    ]


def test_no_invented_id_is_among_those_to_choose_from():
    problems = told(("- id: look", "- id: lo ok"), ("name: to-pacs", "name: nowhere-at-all"))
    assert problems[1:] == [
        "18 unknown-destination: task 'lo ok': no task 'nowhere-at-all' (tasks here: segment, to-pacs)"
    ]


def test_a_task_without_an_id_is_called_by_its_number():
    problems = told(("- id: segment\n    type", "- type"), ('map: "lung', 'map: "a lung'))
    assert [problem.split(" (")[0] for problem in problems] == [
        "7 missing-field: the field 'id' is missing in tasks[0]",
        "8 bad-map: task number 1: args.map must be name:version or an image reference, without blanks",
    ]


def test_a_refused_output_name_is_no_missing_output():
    problems = told(("output: [{name: seg,", "output: [{name: ../seg,"))
    assert [problem.split(":")[0] for problem in problems] == ["12 bad-artifact-name"]


def test_keys_given_twice_are_one_problem():
    problems = told(
        (
            "    task_destinations:\n      - name: to",
            "    type: router\n    TYPE: x\n    task_destinations:\n      - name: to",
        )
    )
    assert {problem.split(" ")[1] for problem in problems} == {"duplicate-key:"}


def test_what_does_not_follow_is_still_reported():
    problems = told(
        ("nam" + "e: ct-lung", "nmae: ct-lung"), ("{name: look,", "{name: lok,"), ("artifacts.seg", "artifacts.sge")
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "1 unknown-field",
        "14 unknown-destination",
        "22 unknown-artifact",
    ]
