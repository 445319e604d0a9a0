"""Jobs through the App Server API, on Airflow's tables; what scheduler and workers do, the scene does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from airflow_monai.api.instances.starting import RunsHere, end_run
from airflow_monai.datasets.associations import Associations
from airflow_monai.errors import MonaiError
from airflow_monai.hooks.airflow_api import AirflowApi, RunNotCreated
from airflow_monai.jobs.index import Entry, JobIndex, Why, workflow_mark
from airflow_monai.jobs.requests import JobRequests, WantedJob
from airflow_monai.jobs.starting import JobStarter
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.maps.workflows import TASK
from airflow_monai.store.local import LocalStore
from tests.api import airflow_rows
from tests.api.app_server import job_scene
from tests.api.app_server.job_scene import DAG, LABEL, URL
from tests.api.mip import scene as mip_scene
from tests.api.test_instance_lists import statements
from tests.api.workflow_manager.scene import only

Api = Callable[..., TestClient]


@pytest.fixture
def dataset(site_store: LocalStore, airflow_tables: str) -> str:
    job_scene.register(site_store)
    return job_scene.dataset(site_store)


def parse_registered(store: LocalStore) -> None:
    record = MapRegistry(store).of_label(LABEL)
    assert record is not None
    job_scene.parse(record)


def patient_api(api: Api) -> AirflowApi:
    """Airflow's API as a gateway sees it, of which only our part is there."""

    class Ours(AirflowApi):
        def _call(self, method: str, path: str, body: Any = None, query: Any = None) -> Any:
            assert path.startswith("/monai/")
            return api("admin").request(method, path.removeprefix("/monai"))

    return Ours("unused")


def start(client: TestClient, dataset: str, key: str | None = None, **more: Any) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    answer = client.post(URL, json={"map": LABEL, "dataset": dataset, **more}, headers=headers)
    assert answer.status_code in (200, 201, 202), answer.text
    (job,) = answer.json()["jobs"]
    return dict(job)


def runs() -> int:
    from airflow.models.dagrun import DagRun

    with create_session() as session:
        return int(session.scalar(select(func.count(DagRun.id))) or 0)


def test_a_job_is_a_run_of_the_map_s_workflow(api: Api, dataset: str, site_store: LocalStore) -> None:
    client = api("user")
    answer = client.post(URL, json={"map": LABEL, "dataset": dataset})
    assert answer.status_code == 201
    (job,) = answer.json()["jobs"]
    assert answer.headers["location"] == f"jobs/{job['id']}"
    assert (job["map"], job["dataset"], job["status"], job["created_by"]) == (LABEL, dataset, "QUEUED", "user")

    told = client.get(f"{URL}/{job['id']}").json()
    assert told["workflow"] == DAG and told["run"].startswith(f"monai__{dataset}__jr")
    assert told["queue_position"] == 0 and told["map_digest"] == f"sha256:{'a' * 64}"
    assert told["resources"]["requested"]["memory_bytes"] == 1 << 30 and told["resources"]["used"] is None

    job_scene.set_run(job["id"], "running", "running")
    told = client.get(f"{URL}/{job['id']}").json()
    assert told["status"] == "RUNNING" and told["started_at"] and told["queue_position"] is None

    job_scene.finish(site_store, job)
    told = client.get(f"{URL}/{job['id']}").json()
    assert told["status"] == "SUCCEEDED" and told["ended_at"] and told["reason"] is None
    assert told["resources"]["used"]["peak_memory_bytes"] == 1024
    assert told["outputs"] == {"files": 2, "available": True, "finalized_at": None, "until": None}


def test_a_job_tells_its_progress(api: Api, dataset: str) -> None:
    import json

    from airflow.models.dagrun import DagRun
    from airflow.models.task_state_store import TaskStateStoreModel

    job = start(api("user"), dataset)
    job_scene.set_run(job["id"], "running", "running")
    with create_session() as session:
        run = session.scalars(select(DagRun)).one()
        value = json.dumps({"percent": 42.0, "stage": "inference", "at": "2026-03-01T09:00:00+00:00"})
        session.add(
            TaskStateStoreModel(
                dag_run_id=run.id, task_id=TASK, key="progress", dag_id=DAG, run_id=run.run_id, value=value
            )
        )
    told = api("viewer").get(f"{URL}/{job['id']}").json()
    assert told["progress"]["percent"] == 42.0 and told["progress"]["stage"] == "inference"


def test_who_may_not_read_a_dataset_has_no_job_run_on_it(
    api: Api, dataset: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a job of one's own would be the way to data of others: whose run it is may read what it runs on."""
    client, mine = api("user"), mip_scene.dataset(site_store, by="user")
    with only(monkeypatch, DAG):
        refused = client.post(URL, json={"map": LABEL, "dataset": dataset})
        assert refused.status_code == 403 and "right to read" in refused.json()["detail"]
        assert runs() == 0 and not list(JobRequests(site_store).open())
        start(client, mine)
    start(api("admin"), dataset)
    with only(monkeypatch, DAG):
        start(client, dataset)  # a run of this workflow on it, which they may read, is there
    with only(monkeypatch, DAG, data=False):
        assert client.post(URL, json={"map": LABEL, "dataset": dataset}).status_code == 403
    assert runs() == 3


def test_one_key_is_one_job(api: Api, dataset: str) -> None:
    client = api("user")
    first = start(client, dataset, "key 1")
    assert (
        client.post(URL, json={"map": LABEL, "dataset": dataset}, headers={"Idempotency-Key": "key 1"}).status_code
        == 200
    )
    assert start(client, dataset, "key 1")["id"] == first["id"]
    assert start(client, dataset, "key 2")["id"] != first["id"]
    assert start(client, dataset)["id"] != start(client, dataset)["id"]
    assert start(api("admin"), dataset, "key 1")["id"] != first["id"]  # another's key
    assert runs() == 5
    other = client.post(
        URL, json={"map": LABEL, "dataset": dataset, "priority": "urgent"}, headers={"Idempotency-Key": "key 1"}
    )
    assert other.status_code == 409 and runs() == 5


def test_of_many_with_one_key_at_two_servers_one_job_comes(api: Api, dataset: str) -> None:
    from airflow_monai.api.app import create_app

    servers = [api("user"), TestClient(create_app(), headers=api("user").headers)]
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda n=number: found.append(start(servers[n % 2], dataset, "one")["id"]))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert runs() == 1


def test_without_a_map_all_that_the_dataset_is_associated_with_run(
    api: Api, dataset: str, site_store: LocalStore
) -> None:
    client = api("user")
    assert client.post(URL, json={"dataset": dataset}).status_code == 409
    other = job_scene.register(site_store, "heart", "2.0.0")
    gone = job_scene.register(site_store, "liver", "1.0.0")
    for label in (LABEL, other, gone):
        Associations(site_store).add(dataset, label, "anna")
    MapRegistry(site_store).unregister("liver", "1.0.0")
    answer = client.post(URL, json={"dataset": dataset}, headers={"Idempotency-Key": "all"})
    assert answer.status_code == 201
    assert sorted(job["map"] for job in answer.json()["jobs"]) == [other, LABEL]
    Associations(site_store).remove(dataset, other)
    again = client.post(URL, json={"dataset": dataset}, headers={"Idempotency-Key": "all"})
    assert again.status_code == 200 and again.json()["jobs"] == answer.json()["jobs"]
    assert runs() == 2


def test_what_cannot_be_read_is_400(api: Api, dataset: str) -> None:
    bodies: list[Any] = [
        {},
        {"dataset": ""},
        {"map": LABEL},
        {"map": LABEL, "dataset": 7},
        {"map": "", "dataset": "x"},
        {"map": LABEL, "dataset": "x", "priority": "at once"},
        {"map": LABEL, "dataset": "x", "prioritty": "urgent"},
        [],
    ]
    for body in bodies:
        answer = api("user").post(URL, json=body)
        assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json", body
    long = api("user").post(URL, json={"map": LABEL, "dataset": dataset}, headers={"Idempotency-Key": "k" * 201})
    assert long.status_code == 400
    assert runs() == 0


def test_what_there_is_not_is_told(api: Api, dataset: str, site_store: LocalStore) -> None:
    client = api("user")
    for body, status in (
        ({"map": LABEL, "dataset": "0d5ff1d1-5f6c-5c3e-8f0a-2f4f4d1f6a11"}, 404),
        ({"map": LABEL, "dataset": "../../etc/passwd"}, 404),
        ({"map": "lung:2.0.0", "dataset": dataset}, 404),
        ({"map": "../x", "dataset": dataset}, 404),
    ):
        assert client.post(URL, json=body).status_code == status, body
    MapRegistry(site_store).unregister("lung", "1.0.0")
    answer = client.post(URL, json={"map": LABEL, "dataset": dataset})
    assert answer.status_code == 409 and "not registered any more" in answer.json()["detail"]
    assert runs() == 0
    for number in ("nothing", "0d5ff1d1-5f6c-5c3e-8f0a-2f4f4d1f6a11", "..%2f..%2fx"):
        for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/finalize"), ("DELETE", "/results")):
            assert client.request(method, f"{URL}/{number}{path}").status_code == 404


def test_who_may_what(api: Api, dataset: str) -> None:
    job = start(api("user"), dataset)["id"]
    body = {"map": LABEL, "dataset": dataset}
    for role, expected in ((None, 401), ("viewer", 403)):
        client = api(role)
        assert client.post(URL, json=body).status_code == expected
        for path in ("cancel", "finalize"):
            assert client.post(f"{URL}/{job}/{path}").status_code == expected
        assert client.delete(f"{URL}/{job}/results").status_code == expected
    assert api(None).get(URL).status_code == api(None).get(f"{URL}/{job}").status_code == 401
    assert api("viewer").get(URL).json()["total"] == 1
    assert api("viewer").get(f"{URL}/{job}").status_code == 200


def test_a_list_shows_only_what_the_caller_may_see(api: Api, dataset: str, site_store: LocalStore, monkeypatch) -> None:
    from airflow_monai.api.common.access import Caller

    other = job_scene.register(site_store, "heart", "2.0.0")
    mine, theirs = start(api("user"), dataset), start(api("user"), dataset, map=other)
    monkeypatch.setattr(Caller, "may", lambda self, right, name=None: name == DAG)
    listed = api("viewer").get(URL).json()
    assert [job["id"] for job in listed["jobs"]] == [mine["id"]] and listed["total"] == 1
    assert api("viewer").get(f"{URL}/{theirs['id']}").status_code == 403


def test_jobs_are_filtered_and_paged(api: Api, dataset: str, site_store: LocalStore) -> None:
    client = api("user")
    made = [start(client, dataset) for _ in range(6)]
    other = job_scene.dataset(site_store)
    elsewhere = start(client, other)
    job_scene.set_run(made[0]["id"], "running", "running")
    job_scene.set_run(made[1]["id"], "running", "queued")
    job_scene.finish(site_store, made[2])
    job_scene.finish(site_store, made[3], error="Task run: lung:1.0.0 ended with exit code 3.")
    assert client.post(f"{URL}/{made[4]['id']}/cancel").status_code == 200

    def of(**params: Any) -> list[str]:
        answer = client.get(URL, params=params)
        assert answer.status_code == 200, answer.text
        assert answer.json()["total"] == len(answer.json()["jobs"]) or "limit" in params
        return [job["id"] for job in answer.json()["jobs"]]

    number = [job["id"] for job in made]
    assert of(status="RUNNING") == [number[0]]
    assert of(status="QUEUED") == [elsewhere["id"], number[5], number[1]]
    assert of(status="SUCCEEDED") == [number[2]]
    assert of(status="FAILED") == [number[3]]
    assert of(status="CANCELLED") == [number[4]]
    assert of(dataset=other) == [elsewhere["id"]]
    assert of(map=LABEL, dataset=dataset) == number[::-1]
    assert of(map="heart:1") == of(map="../x") == []
    assert of(since="2001-01-01T00:00:00Z", until="2002-01-01") == []
    assert len(of(since="2001-01-01")) == 7
    assert of(limit=2, offset=1) == [number[5], number[4]]
    for bad in (
        {"limit": 0},
        {"limit": "many"},
        {"status": "gone"},
        {"since": "soon"},
        {"offset": -1},
        {"since": "9999-12-31T23:59:59-14:00"},
        {"until": "0001-01-01T00:00:00+14:00"},
    ):
        assert client.get(URL, params=bad).status_code == 400
    for job, status in zip(made, ("RUNNING", "QUEUED", "SUCCEEDED", "FAILED", "CANCELLED", "QUEUED"), strict=True):
        assert client.get(f"{URL}/{job['id']}").json()["status"] == status


def test_a_page_costs_as_many_queries_as_any(api: Api, dataset: str) -> None:
    client = api("user")
    counts = []
    for more in (2, 10):
        for _ in range(more):
            start(client, dataset)
        client.get(URL)
        with statements() as said:
            assert client.get(URL, params={"limit": 1000}).json()["total"] >= more
        counts.append(len(said))
    assert counts[0] == counts[1] <= 4


def test_an_error_is_told_without_the_site_s_places(api: Api, dataset: str, site_store: LocalStore) -> None:
    job = start(api("user"), dataset)
    error = "The Docker engine at unix:///var/run/docker.sock cannot be reached (start /srv/x/y.sh). Is it running?"
    job_scene.finish(site_store, job, error=error)
    told = api("user").get(f"{URL}/{job['id']}").json()
    assert told["status"] == "FAILED" and "docker.sock" not in told["reason"] and "/srv" not in told["reason"]
    assert told["reason"].startswith("The Docker engine at (an address of this site) cannot be reached")


def test_who_waits_behind_whom(api: Api, dataset: str) -> None:
    client = api("user")
    batch, first, second = (start(client, dataset, priority=word) for word in ("batch", "routine", "routine"))
    urgent = start(client, dataset, priority="urgent")
    weights = {"batch": 10, "routine": 20, "urgent": 30}
    for job in (batch, first, second, urgent):  # as the DAG's own weight rule gives them, see tests/test_priorities.py
        told = client.get(f"{URL}/{job['id']}").json()
        airflow_rows.set_task(DAG, told["run"], TASK, {"priority_weight": weights[told["priority"]]})

    def position(job: dict[str, Any]) -> int | None:
        found = client.get(f"{URL}/{job['id']}").json()["queue_position"]
        assert found is None or isinstance(found, int)
        return found

    assert [position(job) for job in (urgent, first, second, batch)] == [0, 1, 2, 3]
    job_scene.set_run(urgent["id"], "running", "running")
    assert [position(job) for job in (urgent, first, second, batch)] == [None, 0, 1, 2]


def test_a_cancelled_job_stays_cancelled(api: Api, dataset: str, site_store: LocalStore) -> None:
    client = api("user")
    job = start(client, dataset)
    job_scene.set_run(job["id"], "running", "running")
    for _ in range(2):
        answer = client.post(f"{URL}/{job['id']}/cancel")
        assert answer.status_code == 200 and answer.json()["status"] == "CANCELLED"
    assert answer.json()["reason"] == "Cancelled by user."
    done = start(client, dataset)
    job_scene.finish(site_store, done)
    assert client.post(f"{URL}/{done['id']}/cancel").status_code == 409
    from airflow.models.log import Log

    with create_session() as session:
        entries = session.scalars(select(Log.event).where(Log.event.like("monai.job.%")).order_by(Log.id)).all()
    assert entries == ["monai.job.start", "monai.job.cancel", "monai.job.start"]


def test_of_many_who_cancel_one_does(api: Api, dataset: str) -> None:
    job = start(api("user"), dataset)
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda role=role: answers.append(api(role).post(f"{URL}/{job['id']}/cancel").status_code)
        )
        for role in ("user", "op", "admin") * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 6
    from airflow.models.log import Log

    with create_session() as session:
        assert session.scalar(select(func.count(Log.id)).where(Log.event == "monai.job.cancel")) == 1


class TestBeforeTheDagIsThere:
    """A MAP was registered a moment ago, and Airflow has not read its workflow yet."""

    @pytest.fixture
    def dataset(self, site_store: LocalStore, airflow_tables: str) -> str:
        job_scene.register(site_store, parsed=False)
        return job_scene.dataset(site_store)

    def test_a_job_waits_and_begins_when_it_is(self, api: Api, dataset: str, site_store: LocalStore) -> None:
        client = api("user")
        answer = client.post(URL, json={"map": LABEL, "dataset": dataset}, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 202
        (job,) = answer.json()["jobs"]
        told = client.get(f"{URL}/{job['id']}").json()
        assert told["status"] == "QUEUED" and "tried again" in told["reason"]
        listed = client.get(URL).json()
        assert listed["total"] == 1 and listed["jobs"][0] == job
        assert client.get(URL, params={"status": "RUNNING"}).json()["total"] == 0

        record = MapRegistry(site_store).of_label(LABEL)
        assert record is not None
        job_scene.parse(record)
        # a gateway's chore, through Airflow's database in place of its REST API
        starter = JobStarter(site_store, RunsHere("gateway"), end_run)
        assert (starter.start_open(), starter.start_open()) == (1, 0)
        told = client.get(f"{URL}/{job['id']}").json()
        assert told["id"] == job["id"] and told["reason"] is None and runs() == 1
        again = client.post(URL, json={"map": LABEL, "dataset": dataset}, headers={"Idempotency-Key": "k"})
        assert again.status_code == 200 and again.json()["jobs"][0]["id"] == job["id"]
        assert client.get(URL).json()["total"] == 1 and runs() == 1

    def test_whoever_asks_tries_again(self, api: Api, dataset: str, site_store: LocalStore) -> None:
        job = start(api("user"), dataset)
        record = MapRegistry(site_store).of_label(LABEL)
        assert record is not None
        job_scene.parse(record)
        assert api("viewer").get(f"{URL}/{job['id']}").json()["reason"] is None
        assert runs() == 1

    def test_to_ask_for_one_lists_the_index_once(
        self, api: Api, dataset: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It has the names of all jobs that ever went without a run."""
        job, listed = start(api("user"), dataset), list[str]()
        children = LocalStore.children
        monkeypatch.setattr(LocalStore, "children", lambda self, key: listed.append(key) or children(self, key))
        assert api("user").get(f"{URL}/{job['id']}").json()["status"] == "QUEUED"
        assert listed.count("jobs/index") == 1

    def test_it_can_be_cancelled_and_never_begins(self, api: Api, dataset: str, site_store: LocalStore) -> None:
        client = api("user")
        job = start(client, dataset)
        for _ in range(2):
            told = client.post(f"{URL}/{job['id']}/cancel")
            assert told.status_code == 200 and told.json()["status"] == "CANCELLED"
        record = MapRegistry(site_store).of_label(LABEL)
        assert record is not None
        job_scene.parse(record)
        assert JobStarter(site_store, RunsHere("gateway"), end_run).start_open() == 1
        assert runs() == 0
        assert client.get(f"{URL}/{job['id']}").json()["status"] == "CANCELLED"
        assert client.get(URL, params={"status": "CANCELLED"}).json()["total"] == 1
        assert client.post(f"{URL}/{job['id']}/finalize").status_code == 200

    @pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
    def test_one_that_is_cancelled_while_a_gateway_makes_its_run_ends_cancelled(
        self, api: Api, dataset: str, site_store: LocalStore, dies: bool
    ) -> None:
        job = start(api("user"), dataset)
        parse_registered(site_store)
        jobs = patient_api(api)

        class Slow(RunsHere):
            def create_run(self, *args: Any, **more: Any) -> bool:
                assert api("op").post(f"{URL}/{job['id']}/cancel").status_code == 200
                created = super().create_run(*args, **more)
                if dies:
                    raise SystemExit
                return created

        with suppress(SystemExit):
            JobStarter(site_store, Slow("gateway"), jobs.end_run).start_open()
        JobStarter(site_store, RunsHere("gateway"), jobs.end_run).start_open()
        told = api("user").get(f"{URL}/{job['id']}").json()
        assert runs() == 1 and (told["status"], told["reason"]) == ("CANCELLED", "Cancelled by op.")
        assert api("user").get(URL, params={"status": "CANCELLED"}).json()["total"] == 1
        assert airflow_rows.state_of(DAG, told["run"]) == "failed"
        assert not list(JobRequests(site_store).open())

    def test_a_server_that_dies_while_it_cancels_has_cancelled(
        self, api: Api, dataset: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A gateway made the run, and was done with it, between the server's look and its note."""
        from airflow_monai.api.app_server import jobs as app_jobs

        job = start(api("user"), dataset)
        parse_registered(site_store)
        never_start = JobRequests.never_start

        def late(self: JobRequests, *args: Any, **more: Any) -> Any:
            assert JobStarter(site_store, RunsHere("gateway"), end_run).start_open() == 1
            return never_start(self, *args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(JobRequests, "never_start", late)
            patch.setattr(JobStarter, "_see_cancelling_through", lambda _: None, raising=False)
            patch.setattr(app_jobs, "end_run", _raise(RuntimeError("it died")))
            assert api("op").post(f"{URL}/{job['id']}/cancel").status_code == 500
        assert runs() == 1
        for _ in range(2):
            JobStarter(site_store, RunsHere("gateway"), patient_api(api).end_run).start_open()
            told = api("user").get(f"{URL}/{job['id']}").json()
            assert (told["status"], told["reason"]) == ("CANCELLED", "Cancelled by op.")
        assert not list(JobRequests(site_store).cancelling())

    def test_a_job_begins_in_the_name_of_who_wanted_it(self, api: Api, dataset: str, site_store: LocalStore) -> None:
        from airflow.models.dagrun import DagRun

        job = start(api("user"), dataset)
        record = MapRegistry(site_store).of_label(LABEL)
        assert record is not None
        job_scene.parse(record)
        assert api("viewer").get(f"{URL}/{job['id']}").json()["reason"] is None
        with create_session() as session:
            assert list(session.scalars(select(DagRun.triggering_user_name))) == ["user"]

    def test_an_unregistered_map_ends_its_waiting_jobs(self, api: Api, dataset: str, site_store: LocalStore) -> None:
        job = start(api("user"), dataset)
        MapRegistry(site_store).unregister("lung", "1.0.0")
        told = api("user").get(f"{URL}/{job['id']}").json()
        assert told["status"] == "FAILED" and "unregistered before" in told["reason"]
        assert JobStarter(site_store, RunsHere("gateway"), end_run).start_open() == 0 and runs() == 0


def test_a_server_that_dies_before_the_run_exists_loses_nothing(
    api: Api, dataset: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the moment: the request is there whole or not at all, and who sends it again gets its job."""
    client, key = api("user"), {"Idempotency-Key": "k"}
    body = {"map": LABEL, "dataset": dataset}

    for place in ("write_json", "create_json"):
        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, place, _raise(RuntimeError("it died")))
            assert client.post(URL, json=body, headers=key).status_code == 500
        assert runs() == 0 and client.get(URL).json()["total"] == 0
    with monkeypatch.context() as patch:
        patch.setattr(RunsHere, "create_run", _raise(RunNotCreated("away")))
        assert client.post(URL, json=body, headers=key).status_code == 202
    assert client.post(URL, json=body, headers=key).status_code == 200
    assert runs() == 1 and client.get(URL).json()["total"] == 1


def _raise(error: Any) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_one_request_that_cannot_begin_keeps_no_other(api: Api, dataset: str, site_store: LocalStore) -> None:
    class Choosy(RunsHere):
        def create_run(self, dag_id: str, run_id: str, partition_key: str, note: str = "") -> bool:
            if partition_key == dataset:
                raise MonaiError("not this one")
            return super().create_run(dag_id, run_id, partition_key, note)

    other = job_scene.dataset(site_store)
    requests = JobRequests(site_store)
    for payload_id in (dataset, other):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunsHere, "create_run", _raise(RunNotCreated("away")))
            start(api("user"), payload_id)
    assert JobStarter(site_store, Choosy("gateway"), end_run).start_open() == 1
    assert runs() == 1 and len(list(requests.open())) == 1


def test_a_list_reads_no_more_of_jobs_without_a_run_than_its_page(
    api: Api, dataset: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many were cancelled before they began, or wait."""
    requests, client = JobRequests(site_store), api("user")
    other = job_scene.dataset(site_store)
    label, begins = job_scene.register(site_store, "heart", "2.0.0"), datetime(2026, 3, 1, tzinfo=timezone.utc)
    made = []
    for number in range(60):
        created = (begins + timedelta(seconds=number)).isoformat(timespec="milliseconds")
        job = WantedJob(
            "map.heart.2.0.0" if number % 2 else DAG, f"monai__{dataset}__jr{number:x}",
            dataset if number < 40 else other, label, 1, "", "routine", "user", created,
        )  # fmt: skip
        made.append(job.job_id)
        requests.place(f"{number:032x}", "asked", lambda job=job: [job])  # type: ignore[misc]
        if number < 30:
            requests.never_start(job, reason="no", cancelled_by="user" if number < 10 else "")
            requests.close(requests.find(f"{number:032x}"))  # type: ignore[arg-type]
    read, reads = LocalStore.read, list[str]()

    def counted(self: LocalStore, key: str) -> bytes:
        reads.append(key)
        return read(self, key)

    def listed(**query: Any) -> tuple[list[str], int]:
        reads.clear()
        answer = client.get(URL, params=query).json()
        return [job["id"] for job in answer["jobs"]], answer["total"]

    monkeypatch.setattr(LocalStore, "read", counted)
    assert listed(limit=5) == (made[:-6:-1], 60) and len(reads) <= 10
    assert listed(limit=5, offset=57) == (made[2::-1], 60) and len(reads) <= 10
    assert listed(status="CANCELLED") == (made[9::-1], 10)
    assert listed(status="FAILED", limit=3) == (made[29:26:-1], 20)
    assert listed(status="QUEUED", dataset=other, limit=1) == ([made[-1]], 20)
    assert listed(map=LABEL, limit=2) == ([made[58], made[56]], 30)
    since, until = begins + timedelta(seconds=57), begins + timedelta(seconds=59)
    assert listed(since=since.isoformat(), until=until.isoformat()) == ([made[58], made[57]], 2)
    assert listed(status="RUNNING") == ([], 0) and reads == []
    reads.clear()
    assert client.get(f"{URL}/{made[45]}").json()["status"] == "QUEUED" and len(reads) <= 12
    # two servers placed a request at once, and the one that was too late died then
    index = JobIndex(site_store)
    late = Entry("20990101000000000", Why.WAITS, workflow_mark(DAG), dataset, made[0][::-1], f"{0:032x}")
    index.add([late])
    assert listed(limit=1) == ([made[-1]], 60) and late not in list(index.entries())
