"""What every operator of ours does around its work."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout, DownstreamTasksSkipped

from airflow_monai.errors import Fenced, MapFailed, MapTimedOut, RunnerUnavailable, StoreError, UnexpectedError
from airflow_monai.operators.base import MonaiOperator, task_run_from
from airflow_monai.operators.gate import EdgeNode
from airflow_monai.operators.map import MapOperator
from airflow_monai.store.runs import RunFolder
from airflow_monai.tasks.artifacts import resolve_input
from airflow_monai.tasks.run import Outcome, TaskRun, condition_context
from airflow_monai.types import FailureKind, TaskRecord, TaskStatus
from tests.operators.map_tasks import DAG_ID, context_of, make_payload

LARGE = ["{{ context.executions.segment.result.volume_ml }} > '500'"]


class Measures(MonaiOperator):
    """Leaves one file and says that it has a volume."""

    spec_type = "map"

    def __init__(self, volume: float = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.volume = volume

    def perform(self, run: TaskRun, context: Any) -> Outcome:
        key = f"{run.output_key}/{self.task_id}.dcm"
        run.store.write(key, b"x")
        return Outcome({"volume_ml": self.volume}, {"seg": (key,)}, output_dir=run.output_key)


class Site:
    """A store with a payload, and tasks over it."""

    def __init__(self, store: str):
        self.store = store
        self.payload_id = make_payload(store, slices=1)

    def run(self, operator: MonaiOperator, **how: Any) -> None:
        operator.execute(context_of(operator, self.payload_id, **how))

    def task_run(self, task_id: str) -> TaskRun:
        return task_run_from(context_of(Measures(task_id=task_id), self.payload_id))

    @property
    def folder(self) -> RunFolder:
        return self.task_run("any").folder

    def record(self, task_id: str = "segment") -> TaskRecord:
        record = self.folder.record(task_id)
        assert record is not None
        return record


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    yield Site(str(tmp_path / "store"))


@pytest.mark.parametrize(
    ("payload_id", "words"),
    [("", "names no payload"), (str(uuid.uuid4()), "There is no payload"), ("../../etc", "There is no payload")],
)
def test_a_run_without_a_payload_fails_at_once_and_says_what_to_do(
    payload_id: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path))
    operator = MapOperator(task_id="segment", map="noop:1.0.0")
    with pytest.raises(AirflowFailException, match=words):
        operator.execute(context_of(operator, payload_id))
    assert list(tmp_path.iterdir()) == [], "nothing may be left in the store"


def segment(volume: float, **edge: Any) -> Measures:
    edges = [{"node": "segment.to.refine", "conditions": LARGE, **edge}]
    return Measures(volume=volume, task_id="segment", edges=edges)


@pytest.mark.parametrize("told", [True, False], ids=["told by the factory", "seen in the DAG"])
def test_what_lies_behind_an_edge_that_is_not_taken_no_longer_counts(site: Site, told: bool) -> None:
    """A person clears a segmentation; the new one is too small to be refined: the old refinement must go nowhere."""
    edge = {"behind": ["refine", "report"]} if told else {}
    site.run(segment(900, **edge))
    site.run(Measures(task_id="refine"))
    site.run(Measures(task_id="report"))
    with DAG(DAG_ID):
        again = segment(100, **edge)
        _ = again >> EdgeNode(task_id="segment.to.refine") >> Measures(task_id="refine") >> Measures(task_id="report")
    with pytest.raises(DownstreamTasksSkipped):
        site.run(again, try_number=2, cleared=1)

    send = site.task_run("send")
    assert resolve_input(send, "{{ context.executions.refine.artifacts.seg }}").keys == ()
    assert resolve_input(send, "{{ context.executions.segment.artifacts.seg }}").keys != ()
    assert condition_context(send)("context.executions.report.status") is None
    assert site.record().result == {"volume_ml": 100}


def test_what_lies_behind_an_edge_that_is_taken_stands(site: Site) -> None:
    site.run(Measures(task_id="refine"))
    site.run(segment(900, behind=["refine"]))
    assert site.record("refine").output_dir


FIRST = datetime(2026, 1, 1, 8, 30, tzinfo=timezone.utc)
LATER = FIRST.astimezone(timezone(timedelta(hours=-5))) + timedelta(minutes=1)  # another offset is another text


def test_a_deleted_run_that_is_made_anew_under_its_id_begins_a_generation_of_its_own(site: Site) -> None:
    site.run(segment(900), run_started=FIRST)
    site.run(segment(900), run_started=FIRST, try_number=2)  # a retry
    assert site.record().generation == 1
    site.run(segment(700), run_started=LATER)
    assert (site.record().generation, site.record().result) == (2, {"volume_ml": 700})
    assert "/g2/" in site.record().artifacts["seg"][0]
    site.run(segment(700), run_started=LATER, try_number=2)
    assert site.record().generation == 2, "a retry of the new run stays in its generation"
    site.run(segment(700), run_started=LATER, try_number=3, cleared=2)
    assert site.record().generation > 2, "a clear begins another one"
    with pytest.raises(Fenced, match="newer run"):
        site.run(segment(900), run_started=FIRST, try_number=9)


def test_a_finished_run_that_is_cleared_keeps_counting_its_generations(site: Site) -> None:
    """Airflow gives a finished run that is cleared a new start, too."""
    site.run(segment(900), run_started=FIRST)
    site.run(segment(900), run_started=LATER, try_number=2, cleared=1)
    assert site.record().generation == 2


def test_a_fence_of_an_earlier_release_is_understood(site: Site) -> None:
    run = site.task_run("segment")
    run.store.write_json(f"{run.folder.task_key('segment')}/fence.json", {"try_number": 1})
    site.run(segment(900), run_started=FIRST, try_number=2)
    assert site.record().generation == 1


@pytest.mark.parametrize("key", ["return_value", "edges"])
def test_the_record_says_failed_when_what_the_task_has_to_say_is_refused(site: Site, key: str) -> None:
    """A value that the database of Airflow cannot hold fails the task, and so it must in the store."""
    operator = segment(900)
    context = context_of(operator, site.payload_id)
    pushed = context["ti"].xcom

    class Refuses(dict[str, Any]):
        def __setitem__(self, name: str, value: Any) -> None:
            if name == key:
                raise ValueError("cannot be kept")
            super().__setitem__(name, value)

    context["ti"].xcom = Refuses(pushed)
    with pytest.raises(UnexpectedError, match="unexpected ValueError"):
        operator.execute(context)
    assert site.record().status is TaskStatus.FAILED
    assert site.record().error_msg == "ValueError"
    assert site.record().artifacts, "what it made is still known: a retry need not make it again"


class Breaks(Measures):
    """Fails with an error of the kind that it is told."""

    def __init__(self, *, error: BaseException, **kwargs: Any):
        super().__init__(**kwargs)
        self.error = error

    def perform(self, run: TaskRun, context: Any) -> Outcome:
        raise self.error


POLICIES: list[tuple[BaseException, dict[str, str], bool]] = [
    (MapFailed("exit code 7"), {}, False),
    (MapFailed("exit code 7"), {"exit_code": "retry"}, True),
    (MapTimedOut("too slow"), {"exit_code": "retry"}, False),
    (RunnerUnavailable("no engine"), {}, True),
    (RunnerUnavailable("no engine"), {"connection": "fail"}, False),
    (ZeroDivisionError("secret"), {}, True),
    (ZeroDivisionError("secret"), {"internal": "fail"}, False),
    (AirflowTaskTimeout("time"), {}, False),
    (AirflowTaskTimeout("time"), {"timeout": "retry"}, True),
]


@pytest.mark.parametrize(("error", "policy", "retried"), POLICIES, ids=lambda value: str(value))
def test_the_kind_of_a_failure_decides_whether_it_is_tried_again(
    site: Site, error: BaseException, policy: dict[str, str], retried: bool
) -> None:
    with pytest.raises(BaseException) as caught:
        site.run(Breaks(error=error, task_id="segment", retries=1, failure_policy=policy))
    if retried:
        assert caught.value is error or isinstance(caught.value, UnexpectedError)
    assert isinstance(caught.value, AirflowFailException) is not retried
    record = site.record()
    assert record.status is TaskStatus.FAILED
    kind = "timeout" if isinstance(error, AirflowTaskTimeout) else getattr(error, "failure", FailureKind.INTERNAL).value
    assert record.stats["error_kind"] == kind


def test_a_try_that_was_replaced_is_not_final(site: Site) -> None:
    """Else its late end would fail the newer try's task."""
    site.run(segment(900), try_number=2)
    with pytest.raises(Fenced):
        site.run(segment(900), try_number=1)


@pytest.mark.parametrize("policy", [{}, {"internal": "fail"}], ids=["tried again", "final"])
def test_what_an_unforeseen_error_quotes_is_told_nowhere(site: Site, policy: dict[str, str]) -> None:
    """It says its class and place; what it read, a patient's name say, Airflow would show in the task's log."""

    class Stumbles(Measures):
        def perform(self, run: TaskRun, context: Any) -> Outcome:
            raise ValueError("DOE^JANE is no number")

    with pytest.raises((UnexpectedError, AirflowFailException)) as caught:
        site.run(Stumbles(task_id="stumbles", failure_policy=policy))
    told = "".join(traceback.format_exception(caught.value))
    assert "unexpected ValueError" in told and "test_base.py" in told
    assert "JANE" not in told.replace('raise ValueError("DOE^JANE is no number")', "")
    assert "JANE" not in str(site.record("stumbles"))


@pytest.mark.parametrize("policy", [{}, {"internal": "fail"}], ids=["tried again", "final"])
@pytest.mark.parametrize("there", [False, True], ids=["missing", "unreadable"])
def test_a_result_s_name_is_told_nowhere(site: Site, there: bool, policy: dict[str, str]) -> None:
    """Applications name files after patients, and the store names what it cannot read."""
    name = "_".join(("DOE", "JANE")) + " 19700102.dcm"

    class Reads(Measures):
        def perform(self, run: TaskRun, context: Any) -> Outcome:
            key = f"{run.output_key}/{name}"
            if there:
                run.store.write(f"{key}/x", b"a folder cannot be read")
            run.store.read(key)
            raise AssertionError

    with pytest.raises((StoreError, AirflowFailException)) as caught:
        site.run(Reads(task_id="reads", failure_policy=policy))
    told = "".join(traceback.format_exception(caught.value))
    assert f"{site.payload_id}/workflows/ct-lung/" in told and "/reads/g1/..." in told
    assert ("IsADirectoryError" in told) is there
    assert "JANE" not in told and "19700102" not in told
    assert "JANE" not in str(site.record("reads"))
