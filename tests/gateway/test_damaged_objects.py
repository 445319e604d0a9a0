"""One object of the store that a power cut or a full disk has damaged keeps nothing else from going on.

Each scene has two of something. Every JSON object of the first is damaged in every way, one at a time; then what a
gateway does now and then is done, and the lists are made that the APIs show: the second must go on, and nothing but an
error of ours may be told of the first. No gateway is started: its chores are called as it calls them. Airflow,
the receivers and the destination are stand-ins.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.datasets.associations import Associations
from airflow_monai.datasets.catalogue import STALE_SECONDS, Datasets
from airflow_monai.engine import Job
from airflow_monai.errors import MonaiError
from airflow_monai.gateway import agenda, chores, shepherd
from airflow_monai.gateway.herald import Herald
from airflow_monai.gateway.mip import Clerk
from airflow_monai.gateway.receivers import site_receivers
from airflow_monai.gateway.removal import Remover
from airflow_monai.gateway.shepherd import Shepherd
from airflow_monai.intake.announcer import Announcer, routing_key
from airflow_monai.intake.events import EventLog
from airflow_monai.intake.workflows import Known
from airflow_monai.jobs.clearing import ClearingKind, Clearings
from airflow_monai.jobs.requests import JobRequests, Priority, WantedJob, run_id_for
from airflow_monai.jobs.starting import JobStarter
from airflow_monai.lifecycle.happening import Happening, What
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.journal import Known as KnownOfAll
from airflow_monai.lifecycle.observed import ChangedRuns, RunSeen, TaskSeen
from airflow_monai.lifecycle.outbox import Outbox, Patience, Verdict
from airflow_monai.lifecycle.watcher import Watcher
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.maps.workflows import TASK
from airflow_monai.mip import delivery
from airflow_monai.mip.ledger import Ledger
from airflow_monai.mip.model import RunId
from airflow_monai.notifications.handlers import Handler, Handlers
from airflow_monai.pulls.tasks import PullFile, PullTask, PullTasks, Report
from airflow_monai.sinks.base import Destination
from airflow_monai.store import Store
from airflow_monai.store.answers import AnswerKind, Awaited, await_answer, awaited_answer
from airflow_monai.store.deletion import deletion_of, is_doomed, request_deletion
from airflow_monai.store.giving import Waiting
from airflow_monai.store.history import history_of, newest
from airflow_monai.store.intake import CloseReason, Intake
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import payload_key
from airflow_monai.store.requests import PayloadRequest, request_key
from airflow_monai.store.runs import Fence, RunFolder
from airflow_monai.store.summaries import PayloadIndex
from airflow_monai.types import TaskRecord, TaskStatus
from tests.datasets.test_catalogue import files
from tests.gateway.conftest import wait_for
from tests.lifecycle.happenings import Ear, happening
from tests.maps.registered import image_map
from tests.mip.cases import asked_for, passed
from tests.store.test_deletion import closed, put

AT = "2026-03-01T00:00:00+00:00"


# -- ways to damage an object ------------------------------------------------------------------------------------------


def damages(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What may be left of an object, each with a name."""
    yield "empty", b""
    yield "cut off", data[: len(data) // 2]
    for other in ("[]", "{}", "7"):
        yield other, other.encode()
    value = json.loads(data)
    yield "numbers for texts", json.dumps(_replaced(value, str, 7)).encode()
    yield "texts for the rest", json.dumps(_replaced(value, (list, dict, int, float), "x", top=True)).encode()
    for name, known in value.items() if isinstance(value, dict) else ():
        for other in ("x" if isinstance(known, (int, float)) else 7, None):
            yield f"{name} is {other!r}", json.dumps({**value, name: other}).encode()


def _replaced(value: Any, kind: Any, by: Any, top: bool = False) -> Any:
    if isinstance(value, kind) and not isinstance(value, bool) and not top:
        return by
    if isinstance(value, dict):
        return {name: _replaced(one, kind, by) for name, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, kind, by) for one in value]
    return value


# -- scenes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """
    :param build: makes it, and says which keys are of the first; a folder stands for all below it.
    :param go: does what a gateway does, makes the lists, and asserts that the second went on.
    """

    build: Callable[[LocalStore], list[str]]
    go: Callable[[LocalStore, Path], None]


def job(name: str) -> WantedJob:
    run_id = run_id_for(name, "lung:1.0.0", PAYLOAD, Priority.ROUTINE)
    return WantedJob("map.lung.1.0.0", run_id, PAYLOAD, "lung:1.0.0", 1, "sha256:a", "routine", "anna", AT)


PAYLOAD = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"


def ask_for_jobs(store: LocalStore) -> list[str]:
    MapRegistry(store).register(image_map())
    store.write_json(f"payloads/{PAYLOAD}/payload.json", {})
    requests = JobRequests(store)
    for name in ("first", "second"):
        requests.place(name, "asked", lambda name=name: [job(name)])  # type: ignore[misc]
        requests.cancel(job(f"{name} cancelled"), "anna")
        requests.place(f"{name} never", "asked", lambda name=name: [job(f"{name} never")])  # type: ignore[misc]
        requests.never_start(job(f"{name} never"), reason="gone")
    store.write_json("jobs/open/abandoned.json", {"time": time.time() - 10_000})
    return [
        "jobs/requests/first.json",
        "jobs/open/first.json",
        "jobs/open/abandoned.json",
        "jobs/requests/first never.json",
        *(f"jobs/{folder}/{job('first cancelled').job_id}.json" for folder in ("cancelling", "unstarted")),
        f"jobs/unstarted/{job('first never').job_id}.json",
    ]


def begin_jobs(store: LocalStore, folder: Path) -> None:
    from airflow_monai.api.app_server import job_finding

    requests = JobRequests(store)
    shown = {one.job_id for one in job_finding.known_of(requests.index.entries(), requests, set()).values()}
    seconds = {job(f"second{more}").job_id for more in ("", " cancelled", " never")}
    assert seconds <= shown
    made: list[str] = []

    class Runs:
        def create_run(self, dag_id: str, run_id: str, partition_key: str) -> bool:
            made.append(run_id)
            return True

    def end(dag_id: str, run_id: str, by: str) -> None:
        made.append(f"ended {run_id}")

    JobStarter(store, Runs(), end).start_open()
    assert job("second").run_id in made and not requests.is_open("second") and not requests.is_open("second never")
    assert f"ended {job('second cancelled').run_id}" in made


def ask_for_clearing(store: LocalStore) -> list[str]:
    found = []
    for name in ("first", "second"):
        folder = RunFolder(store, PAYLOAD, "map.lung.1.0.0", name)
        output = folder.output_key(TASK, -1, 1)
        store.write(f"{output}/seg.dcm", b"x")
        folder.write_record(
            TaskRecord(TASK, "map", TaskStatus.SUCCEEDED, "e", output_dir=output, artifacts={"r": (f"{output}/a",)})
        )
        Fence(folder, TASK, -1, 1, AT).claim()
        Clearings(store).want(folder, ClearingKind.FINALIZED, by="anna")
        found.append(f"jobs/clearing/{next(n for n in store.children('jobs/clearing') if f'{n}' not in str(found))}")
    firsts = RunFolder(store, PAYLOAD, "map.lung.1.0.0", "first").task_key(TASK)
    return [found[0], firsts]


def clear(store: LocalStore, folder: Path) -> None:
    Clearings(store).sweep()
    second = RunFolder(store, PAYLOAD, "map.lung.1.0.0", "second")
    assert not store.exists(f"{second.output_key(TASK, -1, 1)}/seg.dcm")


def studies(store: LocalStore) -> tuple[str, str]:
    """Two open payloads that a message asked for, with an image each."""
    intake, found = Intake(store), []
    for number in range(2):
        payload_id = put(intake, store, number, f"1.2.{number}")
        store.write_json(request_key(payload_id), PayloadRequest("CTLUNG", ("CT01",), "b", ("look",), "c").to_dict())
        intake.tell_whole(payload_id)
        found.append(payload_id)
    intake.note_arriving(found[0], "another")
    return found[0], found[1]


def receive(store: LocalStore) -> list[str]:
    first, _ = studies(store)
    return [payload_key(first), f"pending/{first}"]


def receive_and_close(store: LocalStore) -> list[str]:
    payload_ids = studies(store)
    for payload_id in payload_ids:
        Intake(store).close(payload_id, CloseReason.QUIET)
        routing = [{"workflow": "look", "dag_id": "look", "version": "1", "wanted": True, "reason": "it fits"}]
        store.write_json(routing_key(payload_id), routing)
        store.write_json(
            payload_key(payload_id, "reruns", "look", "r2.json"), {"dag_id": "look", "run_id": "r", "time": 1.0}
        )
        store.write_json(payload_key(payload_id, "waiting", "_.json"), {"reason": "r", "since": AT, "tried": AT})
    return [payload_key(payload_ids[0]), f"pending/{payload_ids[0]}"]


class Launches:
    """Stands in for the engine."""

    def __init__(self) -> None:
        self.launched: list[str] = []

    def launch(self, wanted: Job) -> bool:
        self.launched.append(wanted.payload_id)
        return True


class NoWait:
    def quiet_seconds(self, ae_title: str) -> float:
        return -3600.0


def second_study() -> str:
    from airflow_monai.store.payloads import payload_id_of

    return payload_id_of("1.2.1", "CTLUNG", 0)


def see_through(store: LocalStore, folder: Path) -> None:
    show_payloads(store, second_study())
    engine, events = Launches(), EventLog(None)
    announcer = Announcer(store, engine, lambda: Known((), ""), events)  # type: ignore[arg-type]
    keeper = Shepherd(Intake(store), NoWait(), announcer, events, lambda state: False)  # type: ignore[arg-type]
    pending = sorted(keeper._intake.pending())
    assert second_study() in pending
    for payload_id in pending:  # what its threads do, without their pauses
        for steps in (keeper._closing, keeper._announcing):
            if steps is keeper._closing or payload_id in keeper._announcing:
                steps._step(payload_id)
    assert second_study() in engine.launched and second_study() not in keeper._intake.pending()
    show_payloads(store, second_study())


def show_payloads(store: LocalStore, second: str) -> None:
    assert second in {summary.payload_id for summary in newest(store, 10)}
    assert second in {summary.payload_id for summary in PayloadIndex(store).find()}
    for payload_id in store.children("payloads"):
        told(lambda payload_id=payload_id: history_of(store, payload_id))  # type: ignore[misc]
        told(lambda payload_id=payload_id: deletion_of(store, payload_id))  # type: ignore[misc]


def told(ask: Callable[[], object]) -> None:
    """Whatever is asked of the first, the answer is an error of ours at most."""
    try:
        ask()
    except MonaiError:
        pass


def ask_for_deletion(store: LocalStore) -> list[str]:
    first, second = (closed(store, 1, f"1.2.{number}").payload_id for number in range(2))
    for payload_id in (first, second):
        request_deletion(store, payload_id, "anna", "by mistake")
    return [payload_key(first), f"deletions/{first}"]


def remove(store: LocalStore, folder: Path) -> None:
    show_payloads(store, second_study())
    remover = Remover(store, EventLog(None), lambda payload_id: False)
    for payload_id in sorted(store.children("deletions")):
        remover.remove(payload_id)
    assert is_doomed(store, second_study()) and not store.exists(f"deletions/{second_study()}")
    show_payloads(store, second_study())


def submit_runs(store: LocalStore) -> list[str]:
    ledger = Ledger(store)
    for name in ("first", "second"):
        ended = ledger.submit(asked_for(name, dag_id=name), None)
        passed(store, ended, "a")
        key = ledger.key(ended.run_id, "deliveries", "OLD", "a")
        since = (datetime.now(timezone.utc) - timedelta(minutes=5)).isoformat()
        store.write_json(f"{key}/1.json", {"since": since})
        done = {"destination": "OLD", "module": "a", "state": "later", "reason": "r", "at": since}
        store.write_json(f"{key}/1.done.json", done)
        waiting = ledger.submit(asked_for(f"{name}-waits", dag_id=f"{name}w"), None)
        ledger.refused_since(waiting.run_id)
    return [
        *(f"mip/jobs/{name}" for name in ("first", "first-waits")),
        *(f"mip/open/{name}-1.json" for name in ("first", "first-waits")),
    ]


def tend(store: LocalStore, folder: Path) -> None:
    from airflow_monai.api.mip.desk import Desk

    ledger, asked = Ledger(store), []
    out = folder / "out"
    out.mkdir()
    destination = lambda name: Destination(name, "monai_folder", extra={"path": str(out)})  # noqa: E731

    class OfEach:
        def may(self, right: object, dag_id: str = "") -> bool:
            return bool(dag_id)

    runs = [run.run_id.job for run in ledger.waiting_runs()]
    assert "second-waits" in runs
    desk = Desk(OfEach())  # type: ignore[arg-type]
    desk.ledger = ledger
    assert {"second-1", "second-waits-1"} <= {str(run_id) for run_id in desk.visible(ledger.run_ids())}
    for run_id in ledger.run_ids():
        told(lambda run_id=run_id: delivery.told(store, run_id))  # type: ignore[misc]
    clerk = Clerk(store, asked.append, destination, lambda: ("OLD",))
    clerk.tend()
    clerk.deliver()
    assert RunId("second-waits", 1) in asked
    assert [news.state.value for news in delivery.told(store, RunId("second", 1))] == ["delivered"]
    assert RunId("second", 1) not in ledger.open_runs()


def register_handlers(store: LocalStore) -> list[str]:
    firsts = []
    for number, name in enumerate(("first", "second")):
        handler = Handler(
            str(uuid.uuid5(uuid.NAMESPACE_OID, name)), "http://127.0.0.1:1/", (What.WORKFLOW_COMPLETED,), (), (),
            "secret", "anna", datetime.now(timezone.utc).isoformat(), 1,
        )  # fmt: skip
        Handlers(store).add(handler)
        store.write_json(f"notifications/confirmed/{handler.id}.json", {"at": datetime.now(timezone.utc).isoformat()})
        payload_id = f"{_PAYLOADS}{number}"
        store.write_json(request_key(payload_id), PayloadRequest("CTLUNG", ("CT01",), "b", ("look",), "c").to_dict())
        if not number:
            firsts = [f"notifications/handlers/{handler.id}.json", f"notifications/confirmed/{handler.id}.json"]
            firsts += [f"lifecycle/channels/{handler.channel}", request_key(payload_id)]
    journal = Journal(store)
    known = KnownOfAll(store, journal)
    for name in ("first", "second"):
        known.add(lambda name=name: [happening(name)] if happening(name) not in heard(store) else [])  # type: ignore[misc]
        if name == "first":
            firsts += ["lifecycle/journal/0000000/0000000001.json", *store.list("lifecycle/instances")]
    known.note()
    for handler in Handlers(store).all():
        # one event was told, one waits
        verdicts = iter((Verdict.REFUSED,))
        ear = Ear(lambda event, verdicts=verdicts: next(verdicts, Verdict.STOPPED))  # type: ignore[misc]
        Outbox(store, journal, handler.channel, ear, start=1, patience=Patience(first=0.0, last=0.0)).step()
    store.write_json("lifecycle/cursor.json", {"at": datetime.now(timezone.utc).isoformat()})
    # those are of the whole site; damaged they cost that something is told twice under the same id
    return [*firsts, "lifecycle/cursor.json", "lifecycle/known.json"]


_PAYLOADS = "0b8ee4f2-0000-4000-8000-00000000000"


def heard(store: LocalStore) -> list[Happening]:
    journal = Journal(store)
    return [event for number in range(1, journal.end() + 1) for event in journal.read(number) or ()]


class Changing:
    """Stands in for Airflow: two runs on the two payloads have ended."""

    def runs_changed(self, since: datetime, until: datetime) -> ChangedRuns:
        now = datetime.now(timezone.utc)
        when = now.isoformat(timespec="microseconds")
        seen = [
            RunSeen("look", f"r{number}", "look", f"{_PAYLOADS}{number}", "success", when, when, when)
            for number in range(2)
        ]
        return ChangedRuns(tuple(seen), now)

    def tasks_changed(self, since: datetime, until: datetime) -> Iterable[TaskSeen]:
        return ()

    def tasks_of(self, dag_id: str, run_id: str) -> Iterable[TaskSeen]:
        return ()

    def run(self, dag_id: str, run_id: str) -> RunSeen | None:
        return None


def tell(store: LocalStore, folder: Path) -> None:
    second = str(uuid.uuid5(uuid.NAMESPACE_OID, "second"))
    assert second in {handler.id for handler in Handlers(store).all()}
    watcher = Watcher(store, Journal(store), Changing())  # type: ignore[arg-type]
    watcher.begin(datetime.now(timezone.utc) - timedelta(minutes=1))
    watcher.look()
    assert {"r0", "r1"} <= {event.run_id for event in heard(store)}
    receivers = site_receivers(store)
    assert f"handler-{second}" in receivers() and f"handler-{second}" in receivers()
    for name, receiver in receivers().items():
        if receiver.waits:
            continue
        ear = Ear()
        Outbox(store, Journal(store), name, ear, start=receiver.start).step()
        assert {"second", "r0", "r1"} <= {event.run_id for event in ear.heard}


def ask_for_exports(store: LocalStore) -> list[str]:
    tasks, firsts = PullTasks(store, "OUTSIDE"), []
    for number, name in enumerate(("first", "taken", "reported", "second")):
        run_id = f"{name}__{PAYLOAD}"
        task = PullTask(
            str(uuid.UUID(int=number)), "OUTSIDE", "i", PAYLOAD, "d", run_id, "c", ("PACS2",),
            (PullFile("a/1.dcm", "1.dcm", 10, "1.2.3"),), f"2026-01-01T00:00:0{number}+00:00",
            Waiting(PAYLOAD, "d", run_id, "to-pacs", -1, 1, "answer"),
        )  # fmt: skip
        tasks.ask(task)
        Fence(RunFolder(store, PAYLOAD, "d", run_id), "to-pacs", -1, 1, AT).claim()
        (key,) = (key for key in store.list("pulls-open") if task.task_id in key)
        if name == "taken":
            take = {"client": "c", "lease": "l", "until": AT}
            store.write_json(f"pulls/OUTSIDE/{task.task_id}/take-1.json", take)
        if name == "reported":  # and whoever did was killed before he said so
            report = {"status": "Success", "files": {}, "message": "", "client": "c", "time": AT}
            store.write_json(f"pulls/OUTSIDE/{task.task_id}/report.json", report)
        if name != "second":
            firsts += [key, f"pulls/OUTSIDE/{task.task_id}", f"payloads/{PAYLOAD}/workflows/d/{run_id}"]
        ids = (name, "1")
        await_answer(store, AnswerKind.EXPORT, ids, Awaited(task.waiting, "out", (("seg", "SEG"),)))  # type: ignore[arg-type]
    return [*firsts, *(key for key in store.list("answers") if b"first" in store.read(key))]


def pull(store: LocalStore, folder: Path) -> None:
    tasks, second = PullTasks(store, "OUTSIDE"), str(uuid.UUID(int=3))
    assert second in {task.task_id for task in tasks.open_ones()}
    for name in ("first", "second"):
        told(lambda name=name: awaited_answer(store, AnswerKind.EXPORT, (name, "1")))  # type: ignore[misc]
    taken = {task.task_id: (task, take) for task, take in tasks.take("client", 10, 60)}
    assert second in taken
    task, take = taken[second]
    assert tasks.report(task, take.lease, Report("Success", {"a/1.dcm": "Success"}))


def upload(store: LocalStore) -> list[str]:
    found = []
    for number in range(2):
        made, _ = Datasets(store).make(files(store, 1, f"1.2.9{number}"), name=f"n{number}", by="anna", source="upload")
        Associations(store).add(made.id, "lung:1.0.0", "anna")
        store.write_json(f"datasets/unfinished/{made.id}.json", {"time": 1.0})
        found.append(made.id)
    first = found[0]
    return [
        f"datasets/records/{first}.json",
        f"datasets/unfinished/{first}.json",
        f"associations/by-dataset/{first}",
        payload_key(first),
    ]


def sweep_uploads(store: LocalStore, folder: Path) -> None:
    datasets = Datasets(store)
    assert "n1" in {dataset.name for dataset in datasets.page(0, 10).datasets}
    (second,) = (dataset.id for dataset in datasets.page(0, 10).datasets if dataset.name == "n1")
    assert "n1" in {datasets.name_of_mark(mark) for mark in datasets.name_marks()}
    assert second in {pair.dataset_id for pair in Associations(store).all()}
    assert second in {pair.dataset_id for pair in Associations(store).of_map("lung:1.0.0")}
    told(lambda: datasets.named("n0"))
    datasets.sweep(0.0)
    datasets.sweep(2 * STALE_SECONDS)
    assert not store.exists(f"datasets/unfinished/{second}.json")
    show_payloads(store, second)


SCENES = {
    "jobs": Scene(ask_for_jobs, begin_jobs),
    "clearings": Scene(ask_for_clearing, clear),
    "received": Scene(receive, see_through),
    "closed": Scene(receive_and_close, see_through),
    "deletions": Scene(ask_for_deletion, remove),
    "mip runs": Scene(submit_runs, tend),
    "handlers": Scene(register_handlers, tell),
    "exports": Scene(ask_for_exports, pull),
    "datasets": Scene(upload, sweep_uploads),
}


@pytest.mark.parametrize("name", SCENES)
def test_a_damaged_object_keeps_no_other_thing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    internal: list[str] = []
    for module in (agenda, chores, shepherd):
        monkeypatch.setattr(module, "log_internal", lambda what, error: internal.append(f"{what}: {error!r}"))
    monkeypatch.setenv("AIRFLOW__MONAI__BROKER_CONN_ID", "")
    scene = SCENES[name]
    origin = LocalStore(tmp_path / "origin")
    folders = scene.build(origin)
    keys = sorted({key for folder in folders for key in (*origin.list(folder), folder) if origin.exists(key)})
    keys = [key for key in keys if is_json(origin, key)]
    wrong: list[str] = []
    assert not _went_on(scene, tmp_path, "", "not at all", b"")
    for key in keys:
        for damage, data in damages(origin.read(key)):
            wrong += _went_on(scene, tmp_path, key, damage, data)
    assert len(keys) > 1 and not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:60])
    assert not internal, internal[:10]


def _went_on(scene: Scene, tmp_path: Path, key: str, damage: str, data: bytes) -> list[str]:
    """What went wrong; nothing when the second went on."""
    place = tmp_path / "case"
    shutil.copytree(tmp_path / "origin", place / "store", copy_function=os.link)
    store = LocalStore(place / "store")
    if key:
        (place / "store" / key).unlink()
        (place / "store" / key).write_bytes(data)
    try:
        scene.go(store, place)
    except Exception as error:  # noqa: BLE001 - all that goes wrong is shown at once
        where = traceback.extract_tb(error.__traceback__)[-1]
        return [f"{key} ({damage}): {type(error).__name__} in {where.filename}:{where.lineno}: {str(error)[:200]}"]
    finally:
        shutil.rmtree(place)
    return []


def is_json(store: Store, key: str) -> bool:
    try:
        store.read_json(key)
    except MonaiError:  # a folder, an image
        return False
    return True


@pytest.mark.parametrize("which", ["handlers", "confirmed"])
def test_what_waits_for_a_damaged_handler_is_kept(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__BROKER_CONN_ID", "")
    store = LocalStore(tmp_path)
    first = next(key for key in register_handlers(store) if key.startswith("lifecycle/channels/"))
    store.write(f"notifications/{which}/{first.partition('handler-')[2]}.json", b"")
    place = store.read(f"{first}/place.json")
    herald = Herald(store, Changing(), site_receivers(store), EventLog(None), idle_seconds=0.05, look_seconds=0.05)
    herald.start()
    try:
        wait_for(lambda: {"r0", "r1"} <= {event.run_id for event in heard(store)})  # it looks, and has others told
    finally:
        herald.stop(30)
    assert store.read(f"{first}/place.json") == place


def test_a_damaged_object_is_told_of_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("jobs/clearing/told-once.json", b"{")
    for _ in range(3):
        assert Clearings(store).sweep() == 0
    (line,) = (record.getMessage() for record in caplog.records if "told-once" in record.getMessage())
    assert "damaged" in line and store.read("jobs/clearing/told-once.json") == b"{"
