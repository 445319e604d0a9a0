"""What follows from looks at a run, however few there were."""

from __future__ import annotations

from dataclasses import replace

from airflow_monai.lifecycle.chronicle import Chronicle
from airflow_monai.lifecycle.happening import Happening, What
from airflow_monai.lifecycle.observed import RunSeen, TaskSeen
from airflow_monai.types import TaskStatus

PAYLOAD = "0b8ee4f2-0000-4000-8000-000000000001"
RUN = RunSeen("ct-lung", f"monai__{PAYLOAD}", "CT lung", PAYLOAD, "running", "t0", "2026-03-01T10:00:00+00:00")
ENDED = replace(RUN, state="success", ended="2026-03-01T10:05:00+00:00")


def task(state: str, tries: int = 1, name: str = "segment", at: int = 1, map_index: int = -1) -> TaskSeen:
    ended = f"2026-03-01T10:0{at}:30+00:00" if state in ("success", "failed", "skipped") else ""
    return TaskSeen(RUN.dag_id, RUN.run_id, name, map_index, state, tries, f"2026-03-01T10:0{at}:00+00:00", ended)


class Looks:
    """Looks at one run, one after the other."""

    def __init__(self) -> None:
        self.chronicle = Chronicle(RUN.instance_id)
        self.events: list[Happening] = []

    def __call__(self, run: RunSeen, *tasks: TaskSeen) -> list[str]:
        new = self.chronicle.after(run, tasks, "2026-03-01T10:09:00+00:00", "c")
        for event in new:
            self.chronicle.apply(event)
        # what is kept is enough to go on from
        self.chronicle = Chronicle.from_dict(self.chronicle.to_dict())
        self.events += [Happening.from_dict(event.to_dict()) for event in new]
        return [f"{event.what.value} {event.task_id}".strip() for event in new]


WHOLE = ["workflow.started", "task.started segment", "task.completed segment", "workflow.completed"]


def test_a_run_that_is_watched_all_the_time():
    look = Looks()
    assert look(replace(RUN, state="queued", started="")) == []
    assert look(RUN, task("queued")) == ["workflow.started"]
    assert look(RUN, task("running")) == ["task.started segment"]
    assert look(RUN, task("running")) == []
    assert look(RUN, task("success")) == ["task.completed segment"]
    assert look(ENDED, task("success")) == ["workflow.completed"]
    assert look(ENDED, task("success")) == []


def test_what_nobody_saw_follows_from_the_dates():
    look = Looks()
    assert look(ENDED, task("success", name="export", at=3), task("success")) == [
        "workflow.started",
        "task.started segment",
        "task.completed segment",
        "task.started export",
        "task.completed export",
        "workflow.completed",
    ]
    assert [event.at[14:19] for event in look.events] == ["00:00", "01:00", "01:30", "03:00", "03:30", "05:00"]


def test_ids_are_the_same_whoever_looks_and_how_often():
    often, once = Looks(), Looks()
    often(RUN)
    often(RUN, task("running"))
    often(ENDED, task("success"))
    once(ENDED, task("success"))
    assert [event.id for event in often.events] == [event.id for event in once.events]
    assert len({event.id for event in once.events}) == 4


def test_an_older_look_adds_nothing():
    look = Looks()
    look(ENDED, task("success"))
    assert look(RUN, task("running")) == []
    assert look(replace(RUN, state="queued"), task("")) == []


def test_waiting_and_tries_are_updates_and_told_once():
    look = Looks()
    look(RUN, task("running"))
    assert look(RUN, task("deferred")) == ["task.updated segment"]
    assert look(RUN, task("running")) == []
    assert look(RUN, task("deferred")) == []
    assert look(RUN, task("up_for_retry")) == ["task.updated segment"]
    assert look(RUN, task("running", 2, at=2)) == ["task.updated segment"]
    assert look(RUN, task("failed", 2, at=2)) == ["task.completed segment"]
    assert look.events[-1].status is TaskStatus.FAILED
    assert len({event.execution_id for event in look.events if event.task_id}) == 1


def test_a_cleared_task_begins_anew_with_new_ids():
    look = Looks()
    look(ENDED, task("success"))
    again = replace(RUN, started="2026-03-01T11:00:00+00:00")
    assert look(again, task("")) == ["workflow.started"]
    assert look(again, task("running", 2, at=6)) == ["task.started segment"]
    ended = replace(again, state="failed", ended="2026-03-01T11:05:00+00:00")
    assert look(ended, task("failed", 2, at=6)) == ["task.completed segment", "workflow.completed"]
    assert len({event.id for event in look.events}) == len(look.events) == 8
    executions = {event.execution_id for event in look.events if event.task_id}
    assert len(executions) == 2


def test_a_task_without_a_process_begins_anew_when_it_is_cleared():
    look = Looks()
    look(ENDED, task("success", 0, "route"))
    again = replace(RUN, started="2026-03-01T11:00:00+00:00")
    assert look(again, task("success", 0, "route", at=6)) == [
        "workflow.started",
        "task.started route",
        "task.completed route",
    ]
    assert len({event.id for event in look.events}) == len(look.events)


def test_tasks_that_were_passed_over_are_not_told_of():
    look = Looks()
    assert look(ENDED, task("skipped", 0, "look"), task("upstream_failed", 0, "export"), task("success")) == WHOLE


def test_a_task_that_did_not_end_ends_with_its_workflow():
    look = Looks()
    look(RUN, task("running"))
    assert look(replace(ENDED, state="failed", cancelled=True), task("running")) == WHOLE[2:]
    assert [event.status for event in look.events[-2:]] == [TaskStatus.CANCELED, TaskStatus.CANCELED]
    assert look(replace(ENDED, state="failed", cancelled=True), task("failed")) == []


def test_a_verdict_that_a_person_changes_is_told_of():
    look = Looks()
    look(ENDED, task("success"))
    assert look(replace(ENDED, state="failed"), task("success")) == ["workflow.completed"]
    assert look.events[-1].id != look.events[-2].id


def test_mapped_tasks_are_told_apart():
    look = Looks()
    told = look(ENDED, *(task("success", map_index=index) for index in range(3)))
    assert len(told) == 8
    assert [event.map_index for event in look.events if event.what is What.TASK_STARTED] == [0, 1, 2]


def test_the_execution_id_is_the_one_of_the_task_s_record():
    from unittest.mock import Mock

    from airflow_monai.store.runs import RunFolder
    from airflow_monai.tasks.run import TaskRun

    look = Looks()
    look(RUN, task("running", 3))
    folder = RunFolder(Mock(), PAYLOAD, RUN.dag_id, RUN.run_id)
    run = TaskRun(folder.store, Mock(), folder, "segment", -1, 3, 3, "", "")
    assert look.events[-1].execution_id == run.execution_id
