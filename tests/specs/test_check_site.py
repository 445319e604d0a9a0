"""What a site lacks for a workflow is a warning, and only where somebody asks for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from airflow_monai.specs import Problem, check_text
from airflow_monai.specs.plan import Resources
from airflow_monai.specs.site import Application, Site

TEXT = """name: ct-lung
version: 1.0.0
informatics_gateway: {ae_title: CTLUNG, export_destinations: [MAINPACS, ARCHIVE]}
tasks:
  - id: segment
    type: map
    args: {map: "lung-seg:1.2.0"}
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}], output: [{name: seg}]}
    resources: {gpu_memory: 80Gi}
    task_destinations:
      - {name: send, conditions: ["'a' == 'a' AND {{ context.executions.segment.result.volum }} > '1'"]}
      - {name: keep, conditions: ["{{ context.executions.segment.result.volume }} < '1'", "'a' == 'b'"]}
  - {id: send, type: export, export_destinations: [{name: MAINPACS}, {name: ARCHIVE}], artifacts: &seg {input: [
      {name: seg, value: "{{ context.executions.segment.artifacts.seg }}"}]}}
  - {id: keep, type: export, export_destinations: [{name: ARCHIVE}], artifacts: *seg}
"""
GOOD = Application(result_keys=("volume", "volume.left"))


def site(application: Application = GOOD, capacity: str = "", destination: str = "", asked: list[str] | None = None):
    def of(reference: str) -> Application:
        (asked if asked is not None else []).append(reference)
        return application

    return Site(
        capacity=lambda resources: capacity if resources == Resources(gpu_memory="80Gi") else "other resources",
        destination=lambda name, _: destination if name == "ARCHIVE" else "",
        application=of,
    )


def warnings(known: Site) -> list[Problem]:
    spec, problems = check_text(TEXT, "x.yaml", site=known)
    assert spec is not None
    assert not any(problem.is_error for problem in problems)
    return problems


def test_a_key_that_the_application_does_not_declare_is_a_warning_with_the_nearest_one():
    (problem,) = warnings(site())
    assert (problem.code, problem.line, problem.hint) == ("site-result-key", 11, "did you mean 'volume'?")
    assert TEXT.splitlines()[10][problem.column - 1 :].startswith("{{ context.executions.segment.result.volum }}")


def test_nothing_is_said_of_keys_that_are_not_declared_at_all():
    assert warnings(site(Application())) == []


def test_cards_destinations_and_applications_that_are_not_there_are_warnings():
    problems = warnings(site(Application("no such MAP"), capacity="no such card", destination="no connection"))
    assert [(problem.line, problem.code, problem.message) for problem in problems] == [
        (7, "site-application", "no such MAP"),
        (9, "site-capacity", "no such card"),
        (13, "site-destination", "no connection"),
        (15, "site-destination", "no connection"),
    ]


def test_each_application_is_asked_for_once():
    asked: list[str] = []
    warnings(site(asked=asked))
    assert Counter(asked) == {"lung-seg:1.2.0": 1}


def test_a_workflow_with_an_error_is_not_checked_against_the_site():
    asked: list[str] = []
    _, problems = check_text(TEXT.replace("'a' == 'b'", "'a' ="), "x.yaml", site=site(asked=asked))
    assert [problem.code for problem in problems] == ["bad-condition"]
    assert asked == []


def test_without_a_site_nothing_is_said_of_it():
    assert check_text(TEXT, "x.yaml")[1] == []


def test_what_the_site_s_policy_refuses_is_told_where_it_is_written():
    def policy(args, resources, minutes):
        assert (dict(args), resources, minutes) == ({"map": "lung-seg:1.2.0"}, Resources(gpu_memory="80Gi"), None)
        return [("args.map", "not allowed"), ("resources.memory", "too much"), ("timeout_minutes", "too long")]

    problems = warnings(replace(site(), policy=policy))
    told = [(problem.line, problem.code, problem.message) for problem in problems if problem.code == "site-policy"]
    assert told == [
        (5, "site-policy", "task 'segment': timeout_minutes: too long"),
        (7, "site-policy", "task 'segment': args.map: not allowed"),
        (9, "site-policy", "task 'segment': resources.memory: too much"),
    ]


def test_connections_that_are_not_there_are_warnings():
    text = """name: calls
version: 1.0.0
informatics_gateway: {ae_title: CALLS, export_destinations: [RIS]}
tasks:
  - {id: call, type: http, args: {connection: ai_service, path: /score}, task_destinations: [{name: tell}]}
  - {id: tell, type: export_hl7, export_destinations: [{name: RIS}], artifacts: {input: [
      {name: report, value: "{{ context.input.dicom }}"}]}}
"""
    known = replace(site(), connection=lambda name: f"no {name}", destination=lambda name, _: f"no {name}")
    _, problems = check_text(text, "x.yaml", site=known)
    found = [(problem.code, problem.line, problem.message) for problem in problems if problem.code.startswith("site-")]
    assert found == [
        ("site-connection", 5, "task 'call': no ai_service"),
        ("site-destination", 6, "no RIS"),
    ]
