"""What explain says of real DICOM files: a table of studies and senders, and what else it tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from airflow_monai.cli.standalone import main
from airflow_monai.intake.announcer import decide as decide_of_gateway
from airflow_monai.specs.folder import load_folder
from airflow_monai.store.intake import Instance, Intake
from airflow_monai.store.local import LocalStore
from airflow_monai.store.part10 import file_meta, identify
from airflow_monai.store.payloads import load_series_tags
from airflow_monai.store.study_folder import read_folder
from tests.cli.studies import CT, PATIENT, write_study

MR = {"Modality": "MR", "SeriesDescription": "T1", "SliceThickness": "1"}
SPEC = """\
name: {name}
version: 1
informatics_gateway: {{ae_title: {ae}, data_origins: {origins}{more}}}
predicate: {predicate}
tasks: [{{id: only, type: router}}]
"""
WORKFLOWS = {
    # name: AE title, origins, predicate
    "all": ("CHEST", [], []),
    "from-ct01": ("CHEST", ["CT01", "CT 02"], []),
    "any-ct": ("CHEST", [], ["{{ context.dicom.series.any('0008','0060') }} == 'CT'"]),
    "all-ct": ("CHEST", [], ["{{ context.dicom.series.all('0008','0060') }} == 'CT'"]),
    "thin": ("CHEST", [], ["{{ context.dicom.series.any('0018','0050') }} < '3'"]),
    "women": ("CHEST", [], ["{{ context.input.patient_details.sex }} == 'F'"]),
    "no-name": ("CHEST", [], ["{{ context.input.patient_details.name }} == NULL"]),
    "original": ("CHEST", [], ["{{ context.dicom.series.any('0008','0008') }} CONTAINS 'ORIGINAL'"]),
    "coded": ("CHEST", [], ["{{ context.dicom.series.any('0008','0100') }} == 'T-28000'"]),
    "two-conditions": (
        "CHEST",
        [],
        ["{{ context.input.patient_details.sex }} == 'F'", "{{ context.dicom.series.any('0008','0060') }} == 'CT'"],
    ),
    "head": ("HEAD", [], []),
}


@pytest.fixture(scope="module")
def specs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("specs")
    for name, (ae, origins, predicate) in WORKFLOWS.items():
        text = SPEC.format(name=name, ae=ae, origins=json.dumps(origins), predicate=json.dumps(predicate), more="")
        (folder / f"{name}.yaml").write_text(text)
    return folder


def _sequence(**attributes: Any) -> Sequence:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Sequence([item])


def _no_file_meta_problem(folder: Path) -> Path:
    """A study of which one more file is cut in the middle of its header."""
    write_study(folder)
    whole = (folder / "s0" / "im0.dcm").read_bytes()
    (folder / "s0" / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "README.txt").write_text("not DICOM")
    (folder / "s0" / "text.dcm").write_text("not DICOM either")
    return folder


STUDIES = {
    "ct": lambda folder: write_study(folder),
    "mr": lambda folder: write_study(folder, [MR]),
    "ct-and-mr": lambda folder: write_study(folder, [CT, MR]),
    "mixed-in-one-series": lambda folder: write_study(
        folder, [{**CT, "images": [{"Modality": "CT"}, {"Modality": "SC"}]}]
    ),
    "no-modality": lambda folder: write_study(folder, [{**CT, "Modality": None}]),
    "some-lack-modality": lambda folder: write_study(folder, [CT, {**MR, "Modality": None}]),
    "thickness-is-text": lambda folder: write_study(folder, [{**CT, "SliceThickness": ""}]),
    "man": lambda folder: write_study(folder, patient={**PATIENT, "PatientSex": "M"}),
    "anonymous": lambda folder: write_study(folder, patient={}),
    "implicit": lambda folder: write_study(folder, syntax=ImplicitVRLittleEndian),
    "big-endian": lambda folder: write_study(folder, [{**CT, "Rows": 512}], syntax=ExplicitVRBigEndian),
    "deflated": lambda folder: write_study(folder, syntax=DeflatedExplicitVRLittleEndian),
    "image-type": lambda folder: write_study(folder, [{**CT, "ImageType": ["ORIGINAL", "PRIMARY"]}]),
    "derived": lambda folder: write_study(folder, [{**CT, "ImageType": ["DERIVED", "SECONDARY"]}]),
    "code-in-sequence": lambda folder: write_study(
        folder, [{**CT, "AnatomicRegionSequence": _sequence(CodeValue="T-28000")}]
    ),
    "damaged": _no_file_meta_problem,
}

# study, called, calling -> the workflows that want it; all others of WORKFLOWS must not
ALWAYS = {"all"}
WOMAN = {"women", "two-conditions"}
TABLE = [
    ("ct", "CHEST", "X", {"all", "any-ct", "all-ct", *WOMAN}),
    ("ct", "CHEST", "CT01", {"all", "from-ct01", "any-ct", "all-ct", *WOMAN}),
    ("ct", "CHEST", "CT 02", {"all", "from-ct01", "any-ct", "all-ct", *WOMAN}),
    ("ct", "CHEST", " CT01 ", {"all", "from-ct01", "any-ct", "all-ct", *WOMAN}),
    ("ct", "CHEST", "ct01", {"all", "any-ct", "all-ct", *WOMAN}),
    ("ct", " CHEST ", "X", {"all", "any-ct", "all-ct", *WOMAN}),
    ("ct", "chest", "X", set()),
    ("ct", "NOBODY", "X", set()),
    ("ct", "HEAD", "X", {"head"}),
    ("mr", "CHEST", "X", {"all", "thin", "women"}),
    ("ct-and-mr", "CHEST", "X", {"all", "any-ct", "thin", *WOMAN}),
    ("mixed-in-one-series", "CHEST", "X", {"all", "any-ct", *WOMAN}),
    ("no-modality", "CHEST", "X", {"all", "women"}),
    ("some-lack-modality", "CHEST", "X", {"all", "any-ct", "thin", *WOMAN}),
    ("thickness-is-text", "CHEST", "X", {"all", "any-ct", "all-ct", *WOMAN}),
    ("man", "CHEST", "X", {"all", "any-ct", "all-ct"}),
    ("anonymous", "CHEST", "X", {"all", "any-ct", "all-ct", "no-name"}),
    ("implicit", "CHEST", "X", {"all", "any-ct", "all-ct", *WOMAN}),
    ("big-endian", "CHEST", "X", {"all", "any-ct", "all-ct", *WOMAN}),
    ("deflated", "CHEST", "X", {"all", "any-ct", "all-ct", *WOMAN}),
    ("image-type", "CHEST", "X", {"all", "any-ct", "all-ct", "original", *WOMAN}),
    ("derived", "CHEST", "X", {"all", "any-ct", "all-ct", *WOMAN}),
    ("code-in-sequence", "CHEST", "X", {"all", "any-ct", "all-ct", *WOMAN}),
    ("damaged", "CHEST", "CT01", {"all", "from-ct01", "any-ct", "all-ct", *WOMAN}),
]


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in STUDIES.items()}


def explain(capsys, *words: str | Path) -> tuple[int, Any]:
    """Exit code, and the JSON report."""
    with pytest.raises(SystemExit) as ended:
        main(["explain", *map(str, words), "--json"])
    out = capsys.readouterr().out
    return ended.value.code or 0, json.loads(out) if out else None


def text(capsys, *words: str | Path) -> str:
    with pytest.raises(SystemExit):
        main(["explain", *map(str, words)])
    return capsys.readouterr().out


def workflows_of(report: Any) -> dict[str, Any]:
    ((study),) = report["studies"]
    (answer,) = study["answers"]
    return {item["workflow"]: item for item in answer["workflows"]}


@pytest.mark.parametrize(("study", "called", "calling", "wanted"), TABLE)
def test_the_workflows_that_want_a_study(study, called, calling, wanted, studies, specs, capsys):
    code, report = explain(
        capsys, "--study", studies[study], "--specs", specs, "--called", called, "--calling", calling
    )
    told = workflows_of(report)
    assert set(told) == set(WORKFLOWS)
    assert {name for name, item in told.items() if item["wanted"]} == wanted
    assert all(item["reason"] for item in told.values())
    assert code == (0 if wanted else 1)


@pytest.mark.parametrize(("study", "called", "calling"), [row[:3] for row in TABLE if row[0] != "damaged"])
def test_it_says_what_the_gateway_decides(study, called, calling, studies, specs, tmp_path, capsys):
    """The same files received into a store and routed there, and the explanation of the folder."""
    store = LocalStore(tmp_path / "store")
    intake = Intake(store)
    payload_ids = {_received(intake, path, called, calling) for path in studies[study].rglob("*.dcm")}
    (payload_id,) = payload_ids
    payload = intake.close(payload_id)
    decisions = decide_of_gateway(payload, load_series_tags(store, payload_id), load_folder(specs).workflows)
    _, report = explain(capsys, "--study", studies[study], "--specs", specs, "--called", called, "--calling", calling)
    told = workflows_of(report)
    assert {item.workflow_name: (item.wanted, item.reason) for item in decisions} == {
        name: (item["wanted"], item["reason"]) for name, item in told.items()
    }


def _received(intake: Intake, path: Path, called: str, calling: str) -> str:
    """As the receiver stores a data set that came by C-STORE."""
    ((source),) = (file for series in read_folder(path).series for file in series.files)
    data = path.read_bytes()[source.data_at :]
    syntax = source.entry.transfer_syntax_uid
    who = identify(data, 0, syntax)
    spooled = intake.store.spool() / path.name
    spooled.write_bytes(file_meta(who.sop_class, who.sop, syntax) + data)
    placed = intake.add(Instance(who, called.strip(), calling.strip()), spooled)
    spooled.unlink()
    return placed.payload_id


def test_a_predicate_is_shown_with_the_values_it_saw(studies, specs, capsys):
    _, report = explain(capsys, "--study", studies["ct-and-mr"], "--specs", specs, "--called", "CHEST")
    told = workflows_of(report)
    seen = told["all-ct"]["predicate"][0]
    assert seen["holds"] is False
    assert set(seen["values"]["context.dicom.series.all('0008','0060')"].split(" | ")) == {"'CT'", "'MR'"}
    assert told["all-ct"]["reason"].endswith("is false") and "MR" not in told["all-ct"]["reason"]
    thin = told["thin"]["predicate"][0]
    assert thin["holds"] is True


def test_a_predicate_that_cannot_be_evaluated_says_why(studies, specs, capsys):
    _, report = explain(capsys, "--study", studies["thickness-is-text"], "--specs", specs, "--called", "CHEST")
    thin = workflows_of(report)["thin"]
    assert not thin["wanted"] and "cannot be evaluated" in thin["reason"]
    assert thin["predicate"][0]["holds"] is None and "not a number" in thin["predicate"][0]["error"]


def test_all_conditions_are_judged_though_the_first_decides(studies, specs, capsys):
    _, report = explain(capsys, "--study", studies["man"], "--specs", specs, "--called", "CHEST")
    assert [item["holds"] for item in workflows_of(report)["two-conditions"]["predicate"]] == [False, True]


def test_an_ae_title_nobody_listens_to_comes_with_the_nearest_one(studies, specs, capsys):
    shown = text(capsys, "--study", studies["ct"], "--specs", specs, "--called", "chest")
    assert "No workflow listens to AE title 'chest': the gateway refuses the sender; did you mean 'CHEST'?" in shown
    _, report = explain(capsys, "--study", studies["ct"], "--specs", specs, "--called", "ZZZ")
    assert report["studies"][0]["answers"][0]["did_you_mean"] is None


def test_without_a_called_ae_title_each_is_explained_with_its_own_workflows(studies, specs, capsys):
    _, report = explain(capsys, "--study", studies["ct"], "--specs", specs)
    answers = {answer["called"]: answer["workflows"] for answer in report["studies"][0]["answers"]}
    assert set(answers) == {"CHEST", "HEAD"}
    assert [item["workflow"] for item in answers["HEAD"]] == ["head"]
    from_ct01 = next(item for item in answers["CHEST"] if item["workflow"] == "from-ct01")
    assert from_ct01["wanted"] and from_ct01["origins"] == ["CT01", "CT 02"]


def test_origins_are_named_only_by_workflows_that_listen_to_the_ae_title(studies, specs, capsys):
    _, report = explain(capsys, "--study", studies["ct"], "--specs", specs, "--called", "HEAD")
    from_ct01 = workflows_of(report)["from-ct01"]
    assert not from_ct01["wanted"] and "origins" not in from_ct01


def test_damaged_and_strange_files_are_listed(studies, specs, capsys):
    _, report = explain(capsys, "--study", studies["damaged"], "--specs", specs, "--called", "CHEST")
    assert report["files"]["passed_over"] == 1
    bad = {Path(item["file"]).name: item for item in report["files"]["bad"]}
    assert set(bad) == {"cut.dcm", "text.dcm"}
    assert report["studies"][0]["series"][0]["images"] == 2
    shown = text(capsys, "--study", studies["damaged"], "--specs", specs, "--called", "CHEST")
    assert "text.dcm: it is named as DICOM but does not begin as a DICOM file" in shown
    assert "1 file passed over" in shown


def test_a_header_that_breaks_off_after_its_uids_counts_as_far_as_it_goes(tmp_path, specs, capsys):
    write_study(tmp_path / "study", [{**CT, "StudyID": "1", "ImageComments": "x" * 400}], images=1)
    (path,) = (tmp_path / "study").rglob("*.dcm")
    path.write_bytes(path.read_bytes()[:-200])
    _, report = explain(capsys, "--study", tmp_path, "--specs", specs, "--called", "CHEST")
    assert workflows_of(report)["all-ct"]["wanted"]
    (bad,) = report["files"]["bad"]
    assert bad["used"] and "breaks off" in bad["problem"]


def test_a_copy_of_an_image_counts_once(tmp_path, specs, capsys):
    write_study(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "copy").write_bytes((tmp_path / "a" / "s0" / "im0.dcm").read_bytes())
    _, report = explain(capsys, "--study", tmp_path, "--specs", specs, "--called", "CHEST")
    assert report["files"]["duplicates"] == 1
    assert report["studies"][0]["series"][0]["images"] == 2


def test_several_studies_of_a_folder_are_explained_one_by_one(tmp_path, specs, capsys):
    write_study(tmp_path / "a")
    write_study(tmp_path / "b", [MR])
    code, report = explain(capsys, "--study", tmp_path, "--specs", specs, "--called", "CHEST")
    wanted = [
        {item["workflow"] for item in study["answers"][0]["workflows"] if item["wanted"]} for study in report["studies"]
    ]
    assert code == 0 and len(wanted) == 2
    assert sorted("all-ct" in names for names in wanted) == [False, True]


BRANCHES = """\
name: branches
version: 1
informatics_gateway: {ae_title: B, export_destinations: [PACS]}
tasks:
  - id: route
    type: router
    task_destinations:
      - {name: ct, conditions: ["{{ context.dicom.series.any('0008','0060') }} == 'CT'"]}
      - {name: mr, conditions: ["{{ context.dicom.series.any('0008','0060') }} == 'MR'"]}
      - {name: odd, conditions: ["{{ context.dicom.series.any('0020','0011') }} > '1'"]}
  - id: ct
    type: map
    args: {map: "seg:1"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
    task_destinations:
      - {name: send, conditions: ["{{ context.executions.ct.result.volume }} > '5'"]}
      - name: either
        conditions:
          - "{{ context.input.patient_details.sex }} == 'F' OR {{ context.executions.ct.result.volume }} > '5'"
      - name: neither
        conditions:
          - "{{ context.input.patient_details.sex }} == 'M' AND {{ context.executions.ct.result.volume }} > '5'"
      - {name: after-mr, conditions: ["{{ context.executions.mr.status }} == NULL"]}
  - id: mr
    type: router
    task_destinations: [{name: joined}]
  - {id: odd, type: router}
  - {id: either, type: router, task_destinations: [{name: joined}]}
  - {id: neither, type: router, task_destinations: [{name: last}]}
  - {id: after-mr, type: router}
  - {id: joined, type: router}
  - {id: last, type: router}
  - id: send
    type: export
    export_destinations: [{name: PACS}]
    artifacts: {input: [{name: s, value: "{{ context.input.dicom }}"}]}
"""


def test_branches_are_followed_as_far_as_the_study_decides(tmp_path, capsys):
    spec = tmp_path / "branches.yaml"
    spec.write_text(BRANCHES)
    study = write_study(tmp_path / "study")
    _, report = explain(capsys, "--study", study, "--specs", spec)
    item = workflows_of(report)["branches"]
    assert {task["id"]: task["runs"] for task in item["tasks"]} == {
        "route": "yes",
        "ct": "yes",
        "mr": "no",
        "odd": "no",  # its condition cannot be evaluated, which counts as not holding
        "either": "yes",  # true for women, whatever the volume is
        "neither": "no",  # false for women, whatever the volume is
        "after-mr": "yes",  # a task that never runs has no status
        "joined": "yes",  # one of its ways is taken
        "last": "no",
        "send": "open",
    }
    tasks = {task["id"]: task for task in item["tasks"]}
    assert tasks["send"]["decided_by"] == ["ct"] and tasks["send"]["export_destinations"] == ["PACS"]
    edges = {(edge["from"], edge["to"]): edge for edge in item["edges"]}
    assert edges["route", "mr"]["values"] == {"context.dicom.series.any('0008','0060')": "'CT'"}
    assert "not a number" in edges["route", "odd"]["error"]
    shown = text(capsys, "--study", study, "--specs", spec)
    assert "send      export  may run, decided by ct's result  (to PACS)" in shown
    assert "-> mr: not taken: {{ context.dicom.series.any('0008','0060') }} == 'MR'" in shown


def test_what_follows_a_review_is_decided_by_it(tmp_path, capsys):
    spec = tmp_path / "review.yaml"
    artifacts = 'artifacts: {input: [{name: s, value: "{{ context.input.dicom }}"}]}'
    spec.write_text(
        "name: review\nversion: 1\ninformatics_gateway: {ae_title: R}\ntasks:\n"
        f'  - {{id: seg, type: map, args: {{map: "s:1"}}, {artifacts}, task_destinations: [{{name: look}}]}}\n'
        f"  - {{id: look, type: clinical_review, args: {{reviewed_task_id: seg}}, {artifacts},"
        " task_destinations: [{name: send}]}\n  - {id: send, type: router}\n"
    )
    _, report = explain(capsys, "--study", write_study(tmp_path / "study"), "--specs", spec)
    tasks = {task["id"]: task for task in workflows_of(report)["review"]["tasks"]}
    assert tasks["look"]["runs"] == "yes"
    assert tasks["send"]["runs"] == "open" and tasks["send"]["decided_by"] == ["look"]


def test_ways_of_a_task_that_runs_for_each_series_are_counted(tmp_path, capsys):
    ct = {"name": "ct", "conditions": ["{{ context.dicom.series.any('0008','0060') }} == 'CT'"]}
    us = {"name": "us", "conditions": ["{{ context.dicom.series.any('0008','0060') }} == 'US'"]}
    tasks = [
        {
            "id": "each", "type": "map", "for_each": "series", "args": {"map": "seg:1"},
            "artifacts": {"input": [{"name": "s", "value": "{{ context.input.dicom }}"}]},
            "task_destinations": [ct, us],
        },
        {"id": "ct", "type": "router"},
        {"id": "us", "type": "router"},
    ]  # fmt: skip
    spec = tmp_path / "each.json"
    spec.write_text(
        json.dumps({"name": "each", "version": "1", "informatics_gateway": {"ae_title": "E"}, "tasks": tasks})
    )
    study = write_study(tmp_path / "study", [CT, MR])
    _, report = explain(capsys, "--study", study, "--specs", spec)
    item = workflows_of(report)["each"]
    assert {task["id"]: task["runs"] for task in item["tasks"]} == {"each": "yes", "ct": "yes", "us": "no"}
    shown = text(capsys, "--study", study, "--specs", spec)
    assert "-> ct: taken for 1 of 2 series" in shown and "-> us: not taken" in shown
    assert "for each of 2 series" in shown


def test_a_workflow_that_takes_each_series_decides_on_each(tmp_path, capsys):
    spec = tmp_path / "each.yaml"
    predicate = ["{{ context.dicom.series.any('0008','0060') }} == 'CT'"]
    more = ", grouping: series"
    spec.write_text(SPEC.format(name="each", ae="E", origins=[], predicate=json.dumps(predicate), more=more))
    study = write_study(tmp_path / "study", [CT, MR, {**CT, "SeriesDescription": "Thin"}])
    _, report = explain(capsys, "--study", study, "--specs", spec)
    item = workflows_of(report)["each"]
    assert item["wanted"] and sorted(one["wanted"] for one in item["payloads"]) == [False, True, True]
    assert "takes each series by itself: 2 of 3 would run" in text(capsys, "--study", study, "--specs", spec)


def test_defaults_of_the_folder_count_for_one_file_too(studies, tmp_path, capsys):
    (tmp_path / "defaults.yaml").write_text("informatics_gateway: {data_origins: [CT07]}\n")
    spec = tmp_path / "own.yaml"
    spec.write_text("name: own\nversion: 1\ninformatics_gateway: {ae_title: O}\ntasks: [{id: a, type: router}]\n")
    for specs in (spec, tmp_path):
        _, report = explain(capsys, "--study", studies["ct"], "--specs", specs, "--called", "O", "--calling", "CT01")
        assert "CT07" in workflows_of(report)["own"]["reason"]


def test_files_of_workflows_with_errors_are_named_and_the_others_explained(studies, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("name: x\n")
    (tmp_path / "good.yaml").write_text(SPEC.format(name="good", ae="G", origins=[], predicate="[]", more=""))
    code, report = explain(capsys, "--study", studies["ct"], "--specs", tmp_path)
    assert code == 0 and report["specs"]["problems"][0]["file"].endswith("bad.yaml")
    assert "bad.yaml:1" in text(capsys, "--study", studies["ct"], "--specs", tmp_path)


def test_where_no_file_can_be_used_nothing_can_be_said(studies, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("name: bad\n")
    code, report = explain(capsys, "--study", studies["ct"], "--specs", tmp_path / "bad.yaml")
    assert code == 2 and report["specs"]["problems"]


def test_a_payload_of_the_store_is_explained_as_it_was_sent(specs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    intake = Intake(LocalStore(tmp_path / "store"))
    study = write_study(tmp_path / "study")
    (payload_id,) = {_received(intake, path, "CHEST", "CT01") for path in study.rglob("*.dcm")}
    intake.close(payload_id)
    _, report = explain(capsys, "--payload", payload_id, "--specs", specs)
    assert workflows_of(report)["from-ct01"]["wanted"]


@pytest.mark.parametrize(
    "words",
    [
        ("--study", "/nowhere"),
        ("--study", "STUDY", "--called", "MUCH TOO LONG A TITLE"),
        ("--study", "STUDY", "--calling", "back\\slash"),
        ("--study", "EMPTY"),
        ("--study", "STUDY", "--specs", "/nowhere"),
        (),
        ("--study", "STUDY", "--payload", "x"),
    ],
)
def test_bad_input_ends_with_2(words, studies, specs, tmp_path, capsys):
    places = {"STUDY": str(studies["ct"]), "EMPTY": str(tmp_path)}
    given = [places.get(word, word) for word in words]
    with pytest.raises(SystemExit) as ended:
        main(["explain", *given, *([] if "--specs" in given else ["--specs", str(specs)])])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_folder_of_too_many_files_is_refused(tmp_path):
    from airflow_monai.store.study_folder import StudyFolderError

    write_study(tmp_path, images=3)
    with pytest.raises(StudyFolderError, match="more than 2 files"):
        read_folder(tmp_path, most=2)
