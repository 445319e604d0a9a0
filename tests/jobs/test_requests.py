"""What was asked for stays asked for, and is begun once, whoever dies or comes twice."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.hooks.airflow_api import DagNotThere
from airflow_monai.jobs.requests import JobRequests, KeyReused, Priority, WantedJob, request_id, run_id_for
from airflow_monai.jobs.starting import PATIENCE, JobStarter
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store import Store
from airflow_monai.store.arrival import starts_of
from tests.jobs.conftest import PAYLOAD
from tests.maps.registered import image_map


class Runs:
    """Stands in for Airflow: makes runs, each once."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.ended: list[str] = []
        self.knows = True
        self.refused: set[str] = set()
        self.asked = 0
        self._lock = threading.Lock()

    def create_run(self, dag_id: str, run_id: str, partition_key: str) -> bool:
        self.asked += 1
        if not self.knows or dag_id in self.refused:
            raise DagNotThere("not parsed yet")
        with self._lock:
            if run_id in self.made:
                return False
            self.made.append(run_id)
            return True

    def end(self, dag_id: str, run_id: str, cancelled_by: str) -> None:
        if run_id not in self.made:
            raise LookupError(run_id)
        self.ended.append(run_id)


def wanted(request: str, label: str = "lung:1.0.0") -> WantedJob:
    run_id = run_id_for(request, label, PAYLOAD, Priority.ROUTINE)
    return WantedJob(
        "map.lung.1.0.0", run_id, PAYLOAD, label, 1, "sha256:a", "routine", "anna", "2026-03-01T00:00:00+00:00"
    )


def test_a_key_is_a_callers_own() -> None:
    assert request_id("anna", "k") == request_id("anna", "k") != request_id("ben", "k")
    assert request_id("anna", None) != request_id("anna", None)


def test_of_many_that_ask_at_once_all_learn_of_one_request(store: Store) -> None:
    found: list[tuple[str, bool]] = []
    barrier = threading.Barrier(8)

    def ask(number: int) -> None:
        barrier.wait()
        request, is_new = JobRequests(store).place("r", "asked", lambda: [wanted(f"r{number}")])
        found.append((request.jobs[0].run_id, is_new))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run_id for run_id, _ in found}) == 1 and sorted(is_new for _, is_new in found) == [False] * 7 + [True]
    with pytest.raises(KeyReused):
        JobRequests(store).place("r", "something else", list)


@pytest.mark.parametrize("cleared", ["before it is placed", "after it is placed"])
def test_a_request_that_is_placed_while_a_wrong_clock_clears_it_away_is_begun(
    store: Store, monkeypatch: pytest.MonkeyPatch, cleared: str
) -> None:
    """Its note is there, it itself not yet, and a gateway takes it for one that somebody gave up long ago."""
    requests, sweeper = JobRequests(store), JobRequests(store)
    create, find, placed = type(store).create, sweeper.find, []

    def clear_away() -> None:
        with monkeypatch.context() as ahead:
            ahead.setattr(time, "time", lambda: 4e9)
            assert list(sweeper.open()) == []

    def place() -> None:
        placed.append(requests.place("r", "asked", lambda: [wanted("r")]))

    if cleared == "before it is placed":

        def create_later(self: Store, key: str, data: bytes) -> bool:
            if key.startswith("jobs/requests/"):
                monkeypatch.setattr(type(store), "create", create)
                clear_away()
            return create(self, key, data)

        monkeypatch.setattr(type(store), "create", create_later)
        place()
    else:
        store.write_json("jobs/open/r.json", {"time": 1.0})

        def find_none(request: str) -> object:
            sweeper.find = find  # type: ignore[method-assign]
            place()
            store.write_json("jobs/open/r.json", {"time": 1.0})  # as it was read a moment ago
            return None

        sweeper.find = find_none  # type: ignore[method-assign,assignment]
        clear_away()
    assert placed[0][1]
    assert [request.id for request in JobRequests(store).open()] == ["r"]
    assert requests.waiting_job(placed[0][0].jobs[0].job_id) is not None


def test_a_request_is_begun_when_it_can_be_and_once(store: Store) -> None:
    runs, requests = Runs(), JobRequests(store)
    requests.place("r", "asked", lambda: [wanted("r")])
    starter = JobStarter(store, runs, runs.end)
    runs.knows = False
    assert starter.start_open() == 0 and requests.waiting_job(wanted("r").job_id) is not None
    runs.knows = True
    assert (starter.start_open(), starter.start_open()) == (1, 0)
    assert runs.made == [wanted("r").run_id] and not requests.is_open("r")
    assert [start.run_id for start in starts_of(store, PAYLOAD)] == runs.made  # the payload's history has it


def test_whoever_dies_after_the_run_was_made_is_no_matter(store: Store) -> None:
    runs = Runs()
    request, _ = JobRequests(store).place("r", "asked", lambda: [wanted("r")])
    runs.create_run("map.lung.1.0.0", request.jobs[0].run_id, PAYLOAD)  # and then its process died
    assert JobStarter(store, runs, runs.end).start_open() == 1
    assert runs.made == [wanted("r").run_id]


def test_a_note_without_a_request_is_nobodys(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = JobRequests(store)
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "create", _full)
        with pytest.raises(StoreError):
            requests.place("r", "asked", lambda: [wanted("r")])
    assert list(requests.open()) == [] and requests.is_open("r")
    store.write_json("jobs/open/r.json", {"time": time.time() - 7200})
    assert list(requests.open()) == [] and not requests.is_open("r")


def _full(*_: object) -> bool:
    raise StoreError("the disk is full")


def test_a_damaged_request_keeps_no_other(store: Store) -> None:
    runs, requests = Runs(), JobRequests(store)
    for name in ("a", "b", "c", "d"):
        jobs = [wanted(name)]
        requests.place(name, "asked", lambda: jobs)  # noqa: B023 - called at once
    store.write("jobs/requests/b.json", b"{")
    store.write(f"jobs/unstarted/{wanted('d').job_id}.json", b"")
    assert JobStarter(store, runs, runs.end).start_open() == 2 and len(runs.made) == 2


@pytest.mark.parametrize(("gone", "reason"), [("map", "unregistered before"), ("dataset", "dataset was deleted")])
def test_what_cannot_begin_any_more_is_told(store: Store, gone: str, reason: str) -> None:
    runs, requests = Runs(), JobRequests(store)
    requests.place("r", "asked", lambda: [wanted("r")])
    if gone == "map":
        MapRegistry(store).unregister("lung", "1.0.0")
    else:
        store.delete_tree(f"payloads/{PAYLOAD}")
    assert JobStarter(store, runs, runs.end).start_open() == 1 and runs.made == []
    unstarted = requests.unstarted(wanted("r").job_id)
    assert unstarted is not None and reason in unstarted.reason and not unstarted.cancelled


def test_one_that_was_cancelled_in_between_is_ended(store: Store) -> None:
    runs, requests = Runs(), JobRequests(store)
    requests.place("r", "asked", lambda: [wanted("r")])
    runs.create_run("map.lung.1.0.0", wanted("r").run_id, PAYLOAD)
    requests.never_start(wanted("r"), reason="Cancelled by ben.", cancelled_by="ben")
    assert JobStarter(store, runs, runs.end).start_open() == 1
    assert runs.ended == runs.made


def test_a_run_that_somebody_deleted_is_not_made_again(store: Store) -> None:
    """While another job of the same request still waits."""
    runs, requests = Runs(), JobRequests(store)
    MapRegistry(store).register(image_map("heart"))
    heart = replace(wanted("r", "heart:1.0.0"), dag_id="map.heart.1.0.0")
    requests.place("r", "asked", lambda: [wanted("r"), heart])
    runs.refused = {heart.dag_id}
    starter = JobStarter(store, runs, runs.end)
    assert starter.start_open() == 0 and runs.made == [wanted("r").run_id]
    runs.made.clear()
    MapRegistry(store).unregister("lung", "1.0.0")  # which concerns nothing that has begun
    runs.refused = set()
    assert starter.start_open() == 1 and runs.made == [heart.run_id]
    assert requests.unstarted(wanted("r").job_id) is None


def test_a_workflow_that_is_not_there_is_asked_for_a_few_times_only(store: Store) -> None:
    runs, requests = Runs(), JobRequests(store)
    for number in range(5):
        jobs = [wanted(str(number))]
        requests.place(str(number), "asked", lambda: jobs)  # noqa: B023 - called at once
    runs.knows = False
    assert JobStarter(store, runs, runs.end).start_open() == 0 and runs.asked == PATIENCE


def test_a_pass_tells_the_index_only_of_what_has_changed(store: Store, asked: list[str]) -> None:
    """Nine of a request's ten jobs have begun, and one waits for days."""
    runs, requests = Runs(), JobRequests(store)
    labels = [f"m{number}:1.0.0" for number in range(10)]
    jobs = []
    for label in labels:
        name = label.partition(":")[0]
        MapRegistry(store).register(image_map(name))
        jobs.append(replace(wanted("r", label), dag_id=f"map.{name}.1.0.0"))
    requests.place("r", "asked", lambda: jobs)
    late = jobs[4]
    runs.refused = {late.dag_id}
    starter = JobStarter(store, runs, runs.end)

    def of_index() -> list[str]:
        found = [one for one in asked if "jobs/index" in one]
        asked.clear()
        return found

    of_index()
    assert starter.start_open() == 0 and len(runs.made) == 9
    assert sum(one.startswith("delete ") for one in of_index()) == 9
    assert [entry.job_id for entry in requests.index.entries()] == [late.job_id]
    of_index()
    for _ in range(3):
        assert starter.start_open() == 0
        assert of_index() == []
    # a gateway that has just come up sees to what another may have left undone
    assert JobStarter(store, runs, runs.end).start_open() == 0 and len(of_index()) == 9
    runs.refused = set()
    assert starter.start_open() == 1 and len(runs.made) == 10
    assert list(requests.index.entries()) == [] and starter._told == {}


def test_all_that_begins_at_once_leaves_the_index_once(store: Store, asked: list[str]) -> None:
    MapRegistry(store).register(image_map("heart"))
    heart = replace(wanted("r", "heart:1.0.0"), dag_id="map.heart.1.0.0")
    runs, requests = Runs(), JobRequests(store)
    request, _ = requests.place("r", "asked", lambda: [wanted("r"), heart])
    asked.clear()
    assert JobStarter(store, runs, runs.end).start(request)
    assert len([one for one in asked if one.startswith("delete jobs/index/")]) == 2
    assert list(requests.index.entries()) == [] and not requests.is_open("r")


def test_of_requests_that_are_gone_nothing_is_remembered(store: Store) -> None:
    MapRegistry(store).register(image_map("heart"))
    runs, requests = Runs(), JobRequests(store)
    heart = replace(wanted("r", "heart:1.0.0"), dag_id="map.heart.1.0.0")
    request, _ = requests.place("r", "asked", lambda: [wanted("r"), heart])
    runs.refused = {heart.dag_id}
    starter = JobStarter(store, runs, runs.end)
    assert starter.start_open() == 0 and list(starter._told) == ["r"]
    requests.close(request)  # another gateway was quicker
    assert starter.start_open() == 0 and starter._told == {}
