"""``airflow monai payloads``: what was received and what became of it."""

from __future__ import annotations

import io
import json

import pytest

from airflow_monai.cli.here.payloads import RunNow, run_list, run_now, run_show, run_start
from airflow_monai.engine import Job
from airflow_monai.errors import InvalidArgument, PayloadNotFound
from airflow_monai.hooks.airflow_api import RunNotCreated
from airflow_monai.intake.announcer import Announcer
from airflow_monai.intake.events import EventLog
from airflow_monai.intake.starting import NotStarted, Starter
from airflow_monai.intake.workflows import Known
from airflow_monai.sinks.base import DeliveryState
from airflow_monai.sinks.ledger.pages import Entry, Ledger
from airflow_monai.specs.plan import TaskPlan, TaskType, WorkflowPlan
from airflow_monai.store.arrival import note_foreign_run
from airflow_monai.store.base import safe_name
from airflow_monai.store.finding import NothingFound
from airflow_monai.store.history import PayloadFilter, summarise
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import (
    DATASETS_AET,
    manifest_key,
    not_started_key,
    payload_id_of,
    payload_key,
    run_id_of,
)
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import PatientDetails, Payload, PayloadFile, TaskRecord, TaskStatus

STUDY = "1.2.3"
CLOSED = payload_id_of(STUDY, "CTLUNG", 0)
OPEN = payload_id_of(STUDY, "CTLUNG", 1)


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(tmp_path)
    file = PayloadFile(
        "dcm/1.2.3/1.2.3.4/1.2.3.4.5.dcm", 10, "1.2.3.4.5", "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.840"
    )
    times = {"received_first": "2026-01-02T03:04:05+00:00", "received_last": "2026-01-02T03:04:06+00:00"}
    payload = Payload(
        CLOSED, STUDY, "CTLUNG", ("CT01",), 0, (file,), closed="2026-01-02T03:04:16+00:00",
        patient=PatientDetails(id="MRN-777", name="Doe^Jane"), **times,
    )  # fmt: skip
    store.write_json(manifest_key(CLOSED), payload.to_dict())
    _announcer(store).route(payload)
    opened = {"study_instance_uid": STUDY, "called_aet": "CTLUNG", "sequence": 1, "opened": payload.closed}
    store.write_json(payload_key(OPEN, "open.json"), opened)
    store.write_json(payload_key(OPEN, "calling", "CT01"), {})
    return store


class _Api:
    """Stands in for Airflow, which makes every run at once, unless it is down."""

    def __init__(self):
        self.runs: list[tuple[str, str]] = []
        self.down = ""

    def launch(self, job: Job) -> bool:
        if self.down:
            raise RunNotCreated(self.down)
        there = (job.workflow, job.name) in self.runs
        self.runs.append((job.workflow, job.name))
        return not there


_TASK = TaskPlan("route", TaskType.ROUTER)
_WORKFLOWS = (
    WorkflowPlan("ct lung", "ct-lung", "1", "0", "ct.yaml", "CTLUNG", (_TASK,)),
    WorkflowPlan("mr", "mr", "1", "0", "mr.yaml", "MR", (_TASK,)),
)


def _announcer(store: LocalStore, api: _Api | None = None, workflows=_WORKFLOWS) -> Announcer:
    return Announcer(store, api or _Api(), lambda: Known(workflows), EventLog())


def _starter(store: LocalStore, api: _Api, workflows=_WORKFLOWS) -> Starter:
    return Starter(store, api, lambda: Known(workflows), _announcer(store, api, workflows), None)


def _ran(store: LocalStore) -> None:
    run_id = run_id_of(CLOSED)
    _announcer(store).announce(CLOSED)
    folder = RunFolder(store, CLOSED, "ct-lung", run_id)
    folder.write_record(
        TaskRecord("to-pacs", "export", TaskStatus.FAILED, "y", start_time="2", error_msg="PACS refused 1")
    )
    folder.write_record(TaskRecord("segment", "map", TaskStatus.SUCCEEDED, "x", start_time="1", result={"name": "Doe"}))


def _printed(function, *args) -> str:
    out = io.StringIO()
    assert function(*args, out) == 0
    return out.getvalue()


def test_the_list_shows_open_payloads_first_and_what_waits(store):
    head, first, second = _printed(run_list, store, 50, False).splitlines()
    assert head.split() == ["PAYLOAD", "STATE", "AE", "TITLE", "FROM", "IMAGES", "CLOSED", "WORKFLOWS"]
    assert first.split() == [OPEN, "open", "CTLUNG", "CT01", "0", "-", "-"]
    assert second.split() == [CLOSED, "waiting", "CTLUNG", "CT01", "1", "2026-01-02T03:04:16", "ct-lung", "(waiting)"]


def test_the_list_is_limited_and_json_is_for_programs(store):
    _ran(store)
    (only,) = json.loads(_printed(run_list, store, 1, True))
    assert only["payload_id"] == OPEN
    closed = json.loads(_printed(run_list, store, 9, True))[1]
    assert (closed["wanted"], closed["announced"]) == (["ct-lung"], ["ct-lung"])


def test_a_payload_s_story_is_told_in_order_and_without_the_patient(store):
    _ran(store)
    text = _printed(run_show, store, CLOSED, False)
    assert "ct lung: wanted: sent to AE title 'CTLUNG'" in text
    assert "mr: not wanted: it listens to AE title 'MR'" in text
    assert text.index("segment  Succeeded") < text.index("to-pacs  Failed")
    assert "PACS refused 1" in text
    for printed in (text, _printed(run_show, store, CLOSED, True), _printed(run_list, store, 9, True)):
        assert "Doe" not in printed and "MRN-777" not in printed and STUDY not in printed.replace(CLOSED, "")


def test_a_run_that_is_not_there_yet_is_said(store):
    assert "ct lung: wanted (run not created yet)" in _printed(run_show, store, CLOSED, False)
    assert "Routing: not decided yet" in _printed(run_show, store, OPEN, False)


def test_a_run_that_will_not_be_is_said_with_the_reason(store):
    store.write_json(not_started_key(CLOSED, "ct-lung"), {"dag_id": "ct-lung", "reason": "it is gone", "time": 1.0})
    assert "ct-lung (not started)" in _printed(run_list, store, 50, False)
    shown = _printed(run_show, store, CLOSED, False)
    assert "not started, and tried no more: it is gone" in shown and "not created yet" not in shown
    assert json.loads(_printed(run_show, store, CLOSED, True))["not_started"] == {"ct-lung": "it is gone"}
    _ran(store)
    assert "not started, and" in _printed(run_show, store, CLOSED, False), "it is given up"


def test_an_empty_store_and_an_unknown_id(tmp_path):
    assert "holds no payload yet" in _printed(run_list, LocalStore(tmp_path / "new"), 5, False)
    with pytest.raises(PayloadNotFound):
        run_show(LocalStore(tmp_path), CLOSED, False, io.StringIO())


def test_the_list_can_be_of_some_only(store):
    def listed(**wanted: str) -> list[str]:
        out = io.StringIO()
        run_list(store, 50, True, out, PayloadFilter(**wanted))
        return [item["payload_id"] for item in json.loads(out.getvalue())]

    assert listed(standing="open") == [OPEN]
    assert listed(standing="waiting") == listed(standing="closed") == [CLOSED]
    assert listed(standing="unrouted") == listed(called_aet="MR") == []
    assert listed(called_aet="CTLUNG", since="2026-01-03") == [OPEN]
    _ran(store)
    assert listed(standing="started") == [CLOSED]
    out = io.StringIO()
    run_list(store, 50, False, out, PayloadFilter(called_aet="MR"))
    assert out.getvalue() == "No payload is so.\n"


def test_a_payload_is_found_by_what_a_person_knows_of_the_study(store):
    store.create(payload_key(CLOSED, "dcm", STUDY, "1.2.3.4", "1.2.3.4.5.dcm"), b"x")
    store.write_json(payload_key(CLOSED, "tags.json"), {"1.2.3.4": {"00080050": ["ACC-4711"]}})
    for which in (CLOSED, CLOSED.upper(), run_id_of(CLOSED), f"{run_id_of(CLOSED)}__r2", STUDY, "ACC-4711"):
        text = _printed(run_show, store, which, False)
        assert text.startswith(f"Payload {CLOSED}") and "ACC-4711" not in text
    for which in ("1.2.3.99", "ACC-1"):
        with pytest.raises(NothingFound) as error:
            run_show(store, which, False, io.StringIO())
        assert which not in str(error.value)


def test_all_payloads_of_a_study_are_shown(store):
    for payload_id in (CLOSED, OPEN):
        store.create(payload_key(payload_id, "dcm", STUDY, "1.2.3.4", f"{payload_id}.dcm"), b"x")
    text = _printed(run_show, store, STUDY, False)
    assert f"Payload {CLOSED}" in text and f"Payload {OPEN}" in text
    lines = [json.loads(line) for line in _printed(run_show, store, STUDY, True).splitlines()]
    assert {line["payload_id"] for line in lines} == {CLOSED, OPEN}


def test_arrival_closing_runs_and_deliveries_are_told(store):
    store.write_json(payload_key(CLOSED, "closing.json"), {"time": "x", "reason": "open-too-long"})
    for identical in (True, False):
        store.append(payload_key(CLOSED, "duplicates.jsonl"), json.dumps({"identical": identical}).encode() + b"\n")
    store.append(payload_key(CLOSED, "duplicates.jsonl"), b'{"ident')
    _ran(store)
    page = {
        "1.2.1": Entry(DeliveryState.ACCEPTED, "0000", time="2026-01-02T04:00:00+00:00"),
        "1.2.2": Entry(DeliveryState.REFUSED, "A700", "out of resources", "Doe^Jane", "2026-01-02T04:00:01+00:00"),
        "1.2.3": Entry(DeliveryState.UNKNOWN, time="2026-01-02T04:00:02+00:00"),
    }
    Ledger(store, CLOSED, "MAINPACS").write_page("one", page)
    out = io.StringIO()
    run_show(store, CLOSED, False, out, lambda dag_id, run_id: RunNow("running"))
    text = out.getvalue()
    assert "received 2026-01-02T03:04:05 to 2026-01-02T03:04:06, 1 series" in text
    assert "2 images came again, 1 of them with other content" in text
    assert "closed 2026-01-02T03:04:16" in text and "images went on coming" in text
    assert f"Run ct-lung {run_id_of(CLOSED)}, created 20" in text and ", running" in text
    assert text.count("Run ct-lung") == 1
    assert "Export to MAINPACS: 1 accepted, 1 refused, 1 unknown, last news 2026-01-02T04:00:02" in text
    assert "refused A700 out of resources: 1" in text and "Doe" not in text
    told = json.loads(_printed(run_show, store, CLOSED, True))
    assert told["exports"][0]["states"] == {"accepted": 1, "refused": 1, "unknown": 1}


def test_what_keeps_a_payload_is_told_until_it_is_over(store):
    api = _Api()
    api.down = "Airflow cannot be reached"
    announcer = _announcer(store, api)
    assert announcer.announce(CLOSED)
    text = _printed(run_show, store, CLOSED, False)
    assert "ct-lung waits since 20" in text and "Airflow cannot be reached (last tried 20" in text
    api.down = ""
    assert announcer.announce(CLOSED) is None
    assert "waits" not in _printed(run_show, store, CLOSED, False)
    assert list(store.list(payload_key(CLOSED, "waiting"))) == []


def _started(store, api, workflow="", again=False, workflows=_WORKFLOWS, which=CLOSED) -> str:
    out = io.StringIO()
    assert run_start(store, which, _starter(store, api, workflows), workflow, again, out) == 0
    return out.getvalue()


def test_start_creates_what_is_missing_once_and_another_only_when_asked(store):
    api = _Api()
    first, second, third = run_id_of(CLOSED), f"{run_id_of(CLOSED)}__r2", f"{run_id_of(CLOSED)}__r3"
    assert f"run {first} created" in _started(store, api)
    assert f"run {first} was there already" in _started(store, api)
    assert f"run {second} created" in _started(store, api, again=True)
    assert f"run {third} created" in _started(store, api, "ct lung", again=True)
    assert set(api.runs) == {("ct-lung", run) for run in (first, second, third)}
    assert _announcer(store, api).announce(CLOSED) is None
    text = _printed(run_show, store, CLOSED, False)
    assert text.count("by hand") == 3 and f"Run ct-lung {third}, created" in text


def test_a_rerun_whose_starter_was_killed_is_not_taken_for_another(store):
    api = _Api()
    _started(store, api)
    api.runs.append(("ct-lung", f"{run_id_of(CLOSED)}__r2"))  # it was created, and then not recorded
    assert f"{run_id_of(CLOSED)}__r3 created" in _started(store, api, again=True)


def test_a_workflow_can_be_started_that_does_not_want_the_payload(store):
    api = _Api()
    assert f"mr: run {run_id_of(CLOSED)} created" in _started(store, api, "mr")
    assert api.runs == [("mr", run_id_of(CLOSED))]
    with pytest.raises(InvalidArgument, match=r"There are: ct lung, mr\."):
        _started(store, api, "lung")


def test_an_unrouted_payload_is_started_where_a_workflow_wants_it_now(store):
    store.write_json(payload_key(CLOSED, "routing.json"), [])
    api = _Api()
    assert "none wants it" in _printed(run_list, store, 50, False)
    with pytest.raises(NotStarted, match="mr: it listens to AE title"):
        _started(store, api, workflows=_WORKFLOWS[1:])
    assert f"ct-lung: run {run_id_of(CLOSED)} created" in _started(store, api)


def test_one_that_was_given_up_can_be_started_when_its_workflow_is_back(store):
    store.write_json(not_started_key(CLOSED, "ct-lung"), {"dag_id": "ct-lung", "reason": "it is gone", "time": 1.0})
    _started(store, _Api())
    assert "not started" not in _printed(run_show, store, CLOSED, False)


def test_an_open_payload_and_a_full_disk_start_nothing(store):
    class Full:
        def refusal(self) -> str:
            return "the disk is full"

    api = _Api()
    with pytest.raises(NotStarted, match="still open"):
        _started(store, api, which=OPEN)
    starter = Starter(store, api, lambda: Known(_WORKFLOWS), _announcer(store, api), Full())  # type: ignore[arg-type]
    with pytest.raises(NotStarted, match="the disk is full"):
        starter.start(CLOSED)
    with pytest.raises(PayloadNotFound):
        _started(store, api, which=payload_id_of("9.9", "X", 0))
    assert api.runs == []


def test_the_list_tells_what_a_person_has_started(store: LocalStore) -> None:
    api = _Api()
    assert "mr (by hand)" not in _printed(run_list, store, 9, False)
    _started(store, api, "mr")
    assert "mr (by hand)" in _printed(run_list, store, 9, False)
    store.write_json(payload_key(CLOSED, "routing.json"), [])
    assert PayloadFilter(standing="started").takes(summarise(store, CLOSED))


def test_the_beginning_of_an_id_will_do_where_it_is_of_one_payload_only(store: LocalStore) -> None:
    beginning = next(CLOSED[:count] for count in range(4, 37) if not OPEN.startswith(CLOSED[:count]))
    for which in (beginning, beginning.upper(), f"monai__{beginning}"):
        out = io.StringIO()
        run_show(store, which, False, out)
        assert f"Payload {CLOSED}" in out.getvalue()
    twin = f"{CLOSED[:8]}-0000-4000-8000-000000000000"
    store.write_json(payload_key(twin, "open.json"), {"called_aet": "CTLUNG", "sequence": 0, "opened": ""})
    with pytest.raises(InvalidArgument, match=f"2 payload ids begin so: .*{CLOSED}.*Give more"):
        run_show(store, CLOSED[:8], False, io.StringIO())
    with pytest.raises(NothingFound):
        run_show(store, CLOSED[:3], False, io.StringIO())


def test_a_task_that_a_person_cancelled_has_not_failed(store: LocalStore) -> None:
    _ran(store)
    folder = RunFolder(store, CLOSED, "ct-lung", run_id_of(CLOSED))
    record = TaskRecord("quality", "map", TaskStatus.FAILED, "z", error_msg="The container was removed", generation=2)
    folder.write_record(record)
    assert "quality  Failed" in _printed(run_show, store, CLOSED, False)
    store.write_json(folder.note_key("quality", -1, 1, "canceled"), {"by": "somebody, earlier"})
    assert "quality  Failed" in _printed(run_show, store, CLOSED, False), "it was cleared since"
    store.write_json(folder.note_key("quality", -1, 2, "canceled"), {"by": "ada", "at": "2026-01-02T03:04:05+00:00"})
    text = _printed(run_show, store, CLOSED, False)
    assert "quality  Canceled" in text and "cancelled by ada" in text and "was removed" not in text


def test_a_run_that_was_started_in_airflow_is_told_and_found_by_its_id(store: LocalStore) -> None:
    run_id, dag_id = "manual__2026-11-28T00:01:22.799640+00:00", "ct lung 2"
    folder = RunFolder(store, CLOSED, dag_id, run_id)
    for _ in range(2):
        note_foreign_run(store, CLOSED, dag_id, run_id, "2026-11-28T00:01:23+00:00")
        note_foreign_run(store, CLOSED, "ct-lung", run_id_of(CLOSED), "2026-11-28T00:01:23+00:00")
    folder.write_record(TaskRecord("segment", "map", TaskStatus.SUCCEEDED, "x", start_time="1"))
    for which in (run_id, safe_name(run_id), f" {run_id} "):
        out = io.StringIO()
        run_show(
            store, which, False, out, lambda dag, run: RunNow("success" if (dag, run) == (dag_id, run_id) else "?")
        )
        assert f"Run {dag_id} {run_id}, created 2026-11-28T00:01:23 by hand, success" in out.getvalue()
        assert out.getvalue().count("Run ") == 1
    with pytest.raises(NothingFound, match="this id, run id"):
        run_show(store, "manual__2026-11-28T00:01:23", False, io.StringIO())


def test_a_dataset_is_not_unrouted(store: LocalStore) -> None:
    """Nobody has forgotten a workflow for it; one that had a job is what that has made of it."""
    ids = [payload_id_of(f"1.2.{number}", DATASETS_AET, 0) for number in (7, 8)]
    for dataset in ids:
        payload = Payload(dataset, "1.2.7", DATASETS_AET, ("UPLOAD",), 0, (), "", "", "2026-01-02T03:04:16+00:00")
        store.write_json(manifest_key(dataset), payload.to_dict())
        store.write_json(payload_key(dataset, "routing.json"), [])
    record = {"dag_id": "lung-seg", "run_id": "x", "time": 1.0, "by_hand": True}
    store.write_json(payload_key(ids[1], "reruns", "lung-seg", "jr1.json"), record)
    assert [summarise(store, dataset).standing for dataset in ids] == ["dataset", "started"]
    text = _printed(run_list, store, 50, False)
    assert "none wants it" not in text and "lung-seg (by hand)" in text
    store.write_json(payload_key(CLOSED, "routing.json"), [])
    assert summarise(store, CLOSED).standing == "unrouted"


def test_the_tasks_of_a_cancelled_run_have_not_failed(store: LocalStore) -> None:
    _ran(store)
    folder = RunFolder(store, CLOSED, "ct-lung", run_id_of(CLOSED))
    ends = {"before": "2026-01-02T04:00:00+00:00", "stopped": "2026-01-02T04:00:06.500+00:00"}
    for name, end in ends.items():
        folder.write_record(TaskRecord(name, "map", TaskStatus.FAILED, "z", end_time=end, error_msg="removed"))
    found = {
        "state": "failed",
        "start_date": "2026-01-02T03:59:00Z",
        "conf": {"monai_cancelled": {"at": "2026-01-02T04:00:05+00:00", "by": "ada"}},
    }

    def shown(**changes: object) -> str:
        out = io.StringIO()
        run_show(store, CLOSED, False, out, lambda dag_id, run_id: run_now({**found, **changes}))
        return out.getvalue()

    text = shown()
    assert ", cancelled\n" in text
    assert "before  Failed" in text and "stopped  Canceled" in text and "cancelled with its run" in text
    assert "Canceled" not in shown(start_date="2026-01-02T04:00:06Z"), "it was cleared since"
    assert ", success\n" in shown(state="success", conf=None)
