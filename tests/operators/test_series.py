"""Tasks for each series: how the series are counted, and that a task sees its own and nothing of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.errors import InvalidArgument
from airflow_monai.operators.base import series_name
from airflow_monai.operators.series import SeriesOperator
from airflow_monai.specs.conditions.parser import evaluate
from airflow_monai.store import Store, open_store
from airflow_monai.store.payloads import manifest_key, payload_key, tags_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.tasks.artifacts import resolve_input
from airflow_monai.tasks.run import TaskRun, condition_context
from airflow_monai.types import Payload, PayloadFile, TaskRecord, TaskStatus

PAYLOAD_ID = "0a1b2c3d-0000-4000-8000-0000000000aa"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
TOP = f"payloads/{PAYLOAD_ID}"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path))
    return open_store(str(tmp_path))


def make_payload(store: Store, *series: tuple[str, str]) -> Payload:
    """A payload with two images of each (series UID, SOP class); received in that order."""
    files = [
        PayloadFile(f"dcm/1.2/{uid}/{uid}.{number}.dcm", 1, f"{uid}.{number}", sop_class, uid, "1.2.840.10008.1.2")
        for uid, sop_class in series
        for number in (1, 2)
    ]
    times = dict.fromkeys(("received_first", "received_last", "closed"), "2026-01-01T00:00:00+00:00")
    payload = Payload(PAYLOAD_ID, "1.2", "CTLUNG", ("CT01",), 0, tuple(files), **times)
    store.write_json(manifest_key(PAYLOAD_ID), payload.to_dict())
    store.write_json(tags_key(PAYLOAD_ID), {uid: {"00080060": [sop_class]} for uid, sop_class in series})
    return payload


def make_run(store: Store, payload: Payload, map_index: int, task_id: str = "now", for_each: bool = True) -> TaskRun:
    folder = RunFolder(store, PAYLOAD_ID, "dag", "run")
    return TaskRun(store, payload, folder, task_id, map_index, 1, 1, "dag", "", for_each_series=for_each)


def leave(store: Store, task_id: str, map_index: int, *names: str, **result: Any) -> None:
    """Let a task have ended well with a file of each name as its artifact ``seg``."""
    folder = RunFolder(store, PAYLOAD_ID, "dag", "run")
    output = folder.output_key(task_id, map_index, 1)
    keys = tuple(f"{output}/seg/{name}" for name in names)
    for key in keys:
        store.write(key, b"x")
    record = TaskRecord(task_id, "map", TaskStatus.SUCCEEDED, "id", map_index=map_index, output_dir=output)
    folder.write_record(replace(record, result=result, artifacts={"seg": keys}))


def count(store: Store) -> list[int]:
    operator = SeriesOperator(task_id="a.series")
    dag_run = SimpleNamespace(partition_key=PAYLOAD_ID, conf={})
    return operator.execute({"task": operator, "dag_run": dag_run})  # type: ignore[typeddict-item, typeddict-unknown-key]


def test_the_series_are_counted_and_nothing_is_said_of_them(store: Store) -> None:
    make_payload(store, ("1.9", CT), ("1.10", MR), ("1.2", CT))
    assert count(store) == [0, 1, 2]


def test_a_payload_without_images_fails_at_once(store: Store) -> None:
    make_payload(store)
    with pytest.raises(AirflowFailException, match="has no images"):
        count(store)


def test_more_series_than_airflow_maps_over_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make_payload(store, ("1.1", CT), ("1.2", CT))
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "1")
    with pytest.raises(AirflowFailException, match="max_map_length"):
        count(store)


def test_a_task_sees_its_series_in_the_order_of_the_uids(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT), ("1.10", MR))
    found = [resolve_input(make_run(store, payload, index), "{{ context.input.dicom }}") for index in (0, 1)]
    assert [files.folder_key for files in found] == [f"{TOP}/dcm/1.2/1.10", f"{TOP}/dcm/1.2/1.9"]
    assert found[0].keys == (f"{TOP}/dcm/1.2/1.10/1.10.1.dcm", f"{TOP}/dcm/1.2/1.10/1.10.2.dcm")
    assert found[0].relative(found[0].keys[0]) == "1.10.1.dcm"


def test_a_series_in_two_studies_is_staged_by_its_files(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT), ("1.10", MR))
    other = replace(payload.files[0], path="dcm/1.3/1.9/1.9.1.dcm")
    run = make_run(store, replace(payload, files=(other, *payload.files[1:])), 1)
    files = resolve_input(run, "{{ context.input.dicom }}")
    assert files.folder_key is None
    assert files.keys == (f"{TOP}/dcm/1.2/1.9/1.9.2.dcm", f"{TOP}/dcm/1.3/1.9/1.9.1.dcm")


def test_a_map_index_of_another_kind_hides_no_series(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT), ("1.10", MR))
    run = make_run(store, payload, 1, for_each=False)
    assert len(resolve_input(run, "{{ context.input.dicom }}").keys) == 4


def test_a_series_that_is_not_there_is_told(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT))
    with pytest.raises(InvalidArgument, match="which has 1"):
        resolve_input(make_run(store, payload, 1), "{{ context.input.dicom }}")


def test_conditions_see_the_tags_of_their_series(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT), ("1.10", MR))
    condition = f"{{{{ context.dicom.series.any('0008','0060') }}}} == '{MR}'"
    seen = [evaluate(condition, condition_context(make_run(store, payload, index))) for index in (0, 1)]
    assert seen == [True, False]
    folder = "{{ context.input.dicom }}"
    assert evaluate(f"{folder} == '{TOP}/dcm/1.2/1.10'", condition_context(make_run(store, payload, 0)))


def test_conditions_see_what_was_done_for_their_series_or_for_the_study(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT), ("1.10", MR))
    leave(store, "each", 0, volume=1)
    leave(store, "each", 1, volume=2)
    leave(store, "once", -1, volume=3)
    context = condition_context(make_run(store, payload, 1))
    assert context("context.executions.each.result.volume") == 2
    assert context("context.executions.once.result.volume") == 3
    assert context("context.executions.never.result.volume") is None


def test_after_them_any_or_all_of_the_series_are_asked(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT), ("1.10", MR))
    leave(store, "each", 0, volume=1)
    leave(store, "each", 1, volume=5)
    context = condition_context(make_run(store, payload, -1))
    volume = "context.executions.each.{}.result.volume"
    assert evaluate(f"{{{{ {volume.format('any')} }}}} > '4'", context)
    assert not evaluate(f"{{{{ {volume.format('all')} }}}} > '4'", context)
    assert evaluate("{{ context.executions.each.all.status }} == 'Succeeded'", context)
    assert evaluate("{{ context.executions.each.any.result.other }} == NULL", context)
    assert evaluate("{{ context.executions.never.all.status }} == NULL", context)


def test_an_artifact_is_that_of_the_series_and_after_them_those_of_all(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT), ("1.10", MR))
    leave(store, "each", 0, "a.dcm")
    leave(store, "each", 1, "a.dcm", "b.dcm")
    value = "{{ context.executions.each.artifacts.seg }}"
    own = resolve_input(make_run(store, payload, 1), value)
    assert [own.relative(key) for key in own.keys] == ["a.dcm", "b.dcm"]
    everything = resolve_input(make_run(store, payload, -1), value)
    assert [everything.relative(key) for key in everything.keys] == ["0/a.dcm", "1/a.dcm", "1/b.dcm"]
    one = resolve_input(make_run(store, payload, -1), f"{value}/b.dcm")
    assert [one.relative(key) for key in one.keys] == ["1/b.dcm"]
    folders = resolve_input(make_run(store, payload, -1), "{{ context.executions.each.output_dir }}")
    assert [folders.relative(key) for key in folders.keys] == ["0/seg/a.dcm", "1/seg/a.dcm", "1/seg/b.dcm"]


def test_a_series_without_a_result_does_not_get_those_of_the_others(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT), ("1.10", MR))
    leave(store, "each", 0, "a.dcm")
    assert resolve_input(make_run(store, payload, 1), "{{ context.executions.each.artifacts.seg }}").keys == ()


def test_a_series_is_called_by_its_place_and_its_modality(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT), ("1.10", "1.2.3"))
    assert [series_name(make_run(store, payload, index)) for index in (0, 1)] == ["series 1 of 2", "series 2 of 2, CT"]


def test_records_behind_a_way_that_is_given_up_are_retired_for_one_series_or_for_all(store: Store) -> None:
    payload = make_payload(store, ("1.9", CT), ("1.10", MR))
    folder = make_run(store, payload, -1).folder
    for index in (0, 1):
        leave(store, "each", index)
    leave(store, "once", -1)
    folder.retire(["each", "once"], 1)
    assert [record.map_index for record in folder.records("each")] == [0]
    assert folder.record("once") is not None
    folder.retire(["each", "once"])
    assert folder.records("each") == [] and folder.record("once") is None
    assert store.exists(payload_key(PAYLOAD_ID, "workflows", "dag", "run", "each", "0", "task.retired.json"))


SEG = "{{ context.executions.each.artifacts.seg }}"


def review(store: Store, map_index: int, status: TaskStatus, **reviewed: str) -> None:
    """Let the review ``look`` have come so far, of results that it showed."""
    stats = {"reviewed": reviewed} if reviewed else {}
    record = TaskRecord("look", "clinical_review", status, "id", map_index=map_index, stats=stats)
    RunFolder(store, PAYLOAD_ID, "dag", "run").write_record(record)


def test_a_series_that_was_not_accepted_is_left_out(store: Store) -> None:
    """Also one that nobody has answered, and one whose review somebody ended; not one that needed no review."""
    payload = make_payload(store, *((f"1.{number}", CT) for number in range(5)))
    for index in range(5):
        leave(store, "each", index, "a.dcm")
    statuses = (TaskStatus.SUCCEEDED, TaskStatus.PARTIAL_FAIL, TaskStatus.DISPATCHED, TaskStatus.FAILED)
    for index, status in enumerate(statuses):
        review(store, index, status)
    found = resolve_input(make_run(store, payload, -1), SEG, reviews=("look",))
    assert [found.relative(key) for key in found.keys] == ["0/a.dcm", "4/a.dcm"]
    assert found.withheld == 3
    own = [resolve_input(make_run(store, payload, index), SEG, reviews=("look",)) for index in range(5)]
    assert [bool(files.keys) for files in own] == [True, False, False, False, True]


def test_what_a_task_made_anew_is_not_what_was_accepted(store: Store) -> None:
    """Somebody cleared the application alone, and later the export."""
    payload = make_payload(store, ("1.1", CT), ("1.2", CT))
    leave(store, "each", 0, "a.dcm")
    leave(store, "each", 1, "a.dcm")
    review(store, 0, TaskStatus.SUCCEEDED, **{"each/0": "id"})
    review(store, 1, TaskStatus.SUCCEEDED, **{"each/1": "of-before"})
    found = resolve_input(make_run(store, payload, -1), SEG, reviews=("look",))
    assert ([found.relative(key) for key in found.keys], found.withheld) == (["0/a.dcm"], 1)


def test_a_result_of_the_study_that_was_rejected_is_not_there(store: Store) -> None:
    payload = make_payload(store, ("1.1", CT))
    leave(store, "each", -1, "a.dcm")
    run = make_run(store, payload, -1, for_each=False)
    review(store, -1, TaskStatus.PARTIAL_FAIL)
    assert (resolve_input(run, SEG, reviews=("look",)).keys, resolve_input(run, SEG).keys != ()) == ((), True)
    review(store, -1, TaskStatus.SUCCEEDED)
    assert resolve_input(run, SEG, reviews=("look",)).keys


def test_a_result_of_the_study_that_was_rejected_for_one_series_is_not_there(store: Store) -> None:
    payload = make_payload(store, ("1.1", CT), ("1.2", CT))
    leave(store, "each", -1, "a.dcm")
    review(store, 0, TaskStatus.SUCCEEDED)
    review(store, 1, TaskStatus.PARTIAL_FAIL)
    assert not resolve_input(make_run(store, payload, -1, for_each=False), SEG, reviews=("look",)).keys
    assert resolve_input(make_run(store, payload, 0), SEG, reviews=("look",)).keys


def test_a_series_that_has_not_come_the_conditional_way_is_left_out(store: Store) -> None:
    payload = make_payload(store, ("1.1", CT), ("1.2", MR), ("1.3", CT))
    for index, volume in enumerate((700, 900, 100)):
        leave(store, "each", index, "a.dcm", volume=volume)
    modalities = {"1.1": "CT", "1.2": "MR", "1.3": "CT"}
    store.write_json(tags_key(PAYLOAD_ID), {series: {"00080060": [value]} for series, value in modalities.items()})
    run = make_run(store, payload, -1)
    by_result = resolve_input(run, SEG, conditions=["{{ context.executions.each.result.volume }} > '500'"])
    assert [by_result.relative(key) for key in by_result.keys] == ["0/a.dcm", "1/a.dcm"]
    by_tag = resolve_input(run, SEG, conditions=["{{ context.dicom.series.any('0008','0060') }} == 'CT'"])
    assert [by_tag.relative(key) for key in by_tag.keys] == ["0/a.dcm", "2/a.dcm"]
