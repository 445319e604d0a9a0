"""Notification handlers as callers see them; what is sent to them goes over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient

from airflow_monai.api.app_server.map_names import dag_id_for
from airflow_monai.hooks.notification_sender import HandlerTeller, Hosts
from airflow_monai.lifecycle.happening import What
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.outbox import Outbox, Patience
from airflow_monai.notifications.body import Links
from airflow_monai.notifications.handlers import Handlers
from airflow_monai.notifications.lasting import Lasting
from airflow_monai.store.local import LocalStore
from tests.api.app_server import job_scene
from tests.lifecycle.happenings import happening
from tests.notifications.receiver import Receiver

Api = Callable[..., TestClient]
HANDLERS = "/app-server/notification-handlers"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import crypto
    from cryptography.fernet import Fernet

    monkeypatch.setenv("AIRFLOW__MONAI__NOTIFICATION_HOSTS", "127.0.0.1, *.hospital.example")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.hospital.example/")
    crypto.get_fernet.cache_clear()


def register(api: Api, receiver: Receiver, person: str = "user", **more: object) -> dict:
    answer = api(person).post(HANDLERS, json={"url": receiver.url, **more})
    assert answer.status_code == 201, answer.text
    receiver.secret = answer.json()["secret"] or more["secret"]
    return answer.json()


def deliver(store: LocalStore, handler_id: str) -> Outbox:
    """What a gateway does."""
    from airflow_monai.hooks.fernet import AirflowFernet

    handlers = Handlers(store)
    handler = handlers.get(handler_id)
    assert handler is not None
    lasting = Lasting(handlers, handler)
    teller = HandlerTeller(lasting, AirflowFernet(), Hosts(("127.0.0.1",)), Links("https://a.example"))
    outbox = Outbox(store, Journal(store), handler.channel, teller, start=handler.start, patience=Patience(give_up=30))
    outbox.step()
    return outbox


def test_a_registered_handler_is_tested_told_and_unregistered(api: Api, receiver: Receiver, site_store: LocalStore):
    made = register(api, receiver, description="RIS")
    client, place = api("user"), f"{HANDLERS}/{made['id']}"
    assert made["secret"] and made["events"] == ["workflow.completed"]
    tested = client.post(f"{place}/test").json()
    assert tested["delivered"] and receiver.got[0] == {**receiver.got[0], "event": "test", "id": tested["event_id"]}

    Journal(site_store).create(1, [happening("a", what) for what in What])
    deliver(site_store, made["id"])
    told = receiver.got[1]
    assert told["event"] == "workflow.completed" and told["status"] == "Succeeded"
    instance = told["workflow_instance_id"]
    assert told["links"]["workflow_instance"].endswith(f"/monai/workflow-manager/workflowinstances/{instance}")
    assert "job_id" not in told and "job" not in told["links"], "it is a run of a workflow, of which no job is known"
    shown = client.get(f"{place}/deliveries").json()["deliveries"]
    assert [(one["state"], one["event_id"]) for one in shown] == [("delivered", told["id"])]
    assert client.get(place).json()["told"] == 1

    assert client.delete(place).status_code == 204
    assert client.get(place).status_code == client.delete(place).status_code == 404
    assert client.get(HANDLERS).json() == {"handlers": []}
    assert not receiver.bad


def test_the_secret_is_told_once_and_lies_encrypted(api: Api, receiver: Receiver, site_store: LocalStore):
    made = register(api, receiver)
    given = api("user").post(HANDLERS, json={"url": receiver.url, "secret": "known to both of us"}).json()
    assert given["secret"] is None
    for answer in (api("admin").get(HANDLERS), api("user").get(f"{HANDLERS}/{made['id']}")):
        assert made["secret"] not in answer.text and "secret" not in answer.text
    kept = b"".join(site_store.read(key) for key in site_store.list("notifications"))
    assert made["secret"].encode() not in kept and b"known to both" not in kept
    receiver.secret = "known to both of us"
    assert api("user").post(f"{HANDLERS}/{given['id']}/test").json()["delivered"]


def test_filters(api: Api, receiver: Receiver, site_store: LocalStore):
    job = happening("b").instance_id
    made = register(api, receiver, "admin", events=["task.completed", "workflow.completed"], jobs=[job.upper()])
    other = register(api, receiver, "admin", workflows=["elsewhere"], maps=["lung-seg:1.2.0"])
    assert other["dag_ids"] == [dag_id_for("lung-seg:1.2.0"), "elsewhere"]
    Journal(site_store).create(1, [happening(run, what) for run in "ab" for what in What])
    receiver.secret = made["secret"]
    deliver(site_store, made["id"])
    deliver(site_store, other["id"])
    assert [(one["run_id"], one["event"]) for one in receiver.got] == [
        ("b", "task.completed"),
        ("b", "workflow.completed"),
    ]
    assert receiver.got[0]["task"]["task_id"] == "segment"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "url"),
        ({"url": "ftp://127.0.0.1/"}, "https"),
        ({"url": "https://me:word@127.0.0.1/"}, "no user"),
        ({"url": "http://[::1"}, "no address"),
        ({"url": "http://169.254.169.254/latest"}, "may not be called"),
        ({"url": "http://10.0.0.1/"}, "notification_hosts"),
        ({"url": "http://127.0.0.1/", "events": ["everything"]}, "events"),
        ({"url": "http://127.0.0.1/", "events": []}, "events"),
        ({"url": "http://127.0.0.1/", "jobs": ["17"]}, "UUID"),
        ({"url": "http://127.0.0.1/", "maps": ["lung-seg"]}, "name:version"),
        ({"url": "http://127.0.0.1/", "secret": "short"}, "secret"),
        ({"url": "http://127.0.0.1/", "colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_registered(api: Api, body: dict, said: str):
    answer = api("user").post(HANDLERS, json=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.text


def test_where_no_host_is_allowed_none_can_be_registered(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRFLOW__MONAI__NOTIFICATION_HOSTS", "")
    answer = api("admin").post(HANDLERS, json={"url": "http://127.0.0.1/"})
    assert answer.status_code == 400 and "notification_hosts" in answer.text


def test_without_a_key_no_secret_is_kept(api: Api, monkeypatch: pytest.MonkeyPatch):
    from airflow.sdk import crypto

    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    crypto.get_fernet.cache_clear()
    answer = api("admin").post(HANDLERS, json={"url": "http://127.0.0.1/"})
    assert answer.status_code == 503 and "fernet_key" in answer.text


def test_who_may(api: Api, receiver: Receiver):
    assert api(None).post(HANDLERS, json={"url": receiver.url}).status_code == 401
    assert api(None).get(HANDLERS).status_code == 401
    assert api("viewer").post(HANDLERS, json={"url": receiver.url}).status_code == 403
    made = register(api, receiver, "user")
    place = f"{HANDLERS}/{made['id']}"
    for method, path in (("GET", place), ("DELETE", place), ("POST", f"{place}/test"), ("GET", f"{place}/deliveries")):
        assert api(None).request(method, path).status_code == 401
        assert api("viewer").request(method, path).status_code == 404
    assert api("viewer").get(HANDLERS).json() == {"handlers": []}
    assert len(api("op").get(HANDLERS).json()["handlers"]) == 1
    assert api("op").delete(place).status_code == 204


def test_one_person_cannot_take_the_place_of_all_others(
    api: Api, receiver: Receiver, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("airflow_monai.notifications.handlers.MOST_OF_ONE", 2)
    first, _ = register(api, receiver, "user"), register(api, receiver, "user")
    refused = api("user").post(HANDLERS, json={"url": receiver.url})
    assert refused.status_code == 400 and "You have 2" in refused.text
    register(api, receiver, "op")
    listed = api("op").get(HANDLERS).json()["handlers"]
    assert sorted(one["owner"] for one in listed) == sorted([first["owner"]] * 2 + [listed[-1]["owner"]])
    assert api("op").delete(f"{HANDLERS}/{first['id']}").status_code == 204
    register(api, receiver, "user")


def test_what_cannot_be_delivered_is_told_with_the_reason(api: Api, receiver: Receiver, site_store: LocalStore):
    made = register(api, receiver)
    place = f"{HANDLERS}/{made['id']}"
    receiver.status, receiver.location = 302, "http://127.0.0.1:1/"
    tested = api("user").post(f"{place}/test").json()
    assert not tested["delivered"] and "redirect" in tested["reason"]
    receiver.status, receiver.location = 500, ""
    at = datetime.now(timezone.utc).isoformat()
    Journal(site_store).create(1, [happening("a", at=at), happening("b", at=at)])
    outbox = deliver(site_store, made["id"])
    shown = api("user").get(f"{place}/deliveries").json()["deliveries"]
    assert [(one["state"], one["tries"], one["reason"]) for one in shown] == [
        ("waiting", 1, "the handler answered 500"),
        ("waiting", 1, "the handler answered 500"),
    ]
    assert api("user").get(place).json()["state"] == "failing"

    outbox._clock = lambda: datetime.now(timezone.utc).timestamp() + 60
    outbox.step()
    outbox.step()
    shown = api("user").get(f"{place}/deliveries").json()["deliveries"]
    assert {one["state"] for one in shown} == {"failed"} and api("user").get(place).json()["failed"] == 2
    again = api("user").post(f"{place}/deliveries/retry", json={"events": [shown[0]["event_id"]]})
    assert again.status_code == 202 and [one["event_id"] for one in again.json()["deliveries"]] == [
        shown[0]["event_id"]
    ]
    receiver.status = 204
    deliver(site_store, made["id"])
    assert receiver.ids == [shown[0]["event_id"]]
    assert [one["state"] for one in api("user").get(f"{place}/deliveries").json()["deliveries"]] == [
        "failed",
        "delivered",
    ]


def test_nothing_is_sent_after_unregistering(api: Api, receiver: Receiver, site_store: LocalStore):
    made = register(api, receiver)
    receiver.status = 503
    Journal(site_store).create(1, [happening("a")])
    outbox = deliver(site_store, made["id"])
    receiver.status, tried = 204, receiver.tried
    assert api("user").delete(f"{HANDLERS}/{made['id']}").status_code == 204
    outbox._clock = lambda: datetime.now(timezone.utc).timestamp() + 3
    Journal(site_store).create(2, [happening("b")])
    outbox.step()
    assert receiver.tried == tried and receiver.got == []


def test_changes_are_in_the_audit_log(api: Api, receiver: Receiver):
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    made = register(api, receiver)
    api("user").post(f"{HANDLERS}/{made['id']}/test")
    api("user").delete(f"{HANDLERS}/{made['id']}")
    with create_session() as session:
        rows = session.execute(select(Log.event, Log.owner, Log.extra).order_by(Log.id)).all()
    assert [row[0] for row in rows] == ["monai.handler.register", "monai.handler.test", "monai.handler.unregister"]
    assert {json.loads(row[2])["handler"] for row in rows} == {made["id"]}
    assert made["secret"] not in str(rows)


def test_an_owner_who_may_no_more_is_told_no_more(
    api: Api, receiver: Receiver, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
):
    """They still sign in, but may not start all workflows any more."""
    from airflow_monai.api.common.access import Caller

    made, other = register(api, receiver), register(api, receiver, "op")
    may = Caller.may
    with monkeypatch.context() as patch:
        patch.setattr(Caller, "may", lambda self, *what: self.name != "user" and may(self, *what))
        (shown,) = api("user").get(HANDLERS).json()["handlers"]
        assert (shown["id"], shown["state"], shown["until"]) == (made["id"], "lapsed", None)
        assert api("user").post(f"{HANDLERS}/{made['id']}/test").status_code == 409
    Journal(site_store).create(1, [happening("a")])
    deliver(site_store, made["id"])
    assert receiver.got == []
    receiver.secret = other["secret"]
    deliver(site_store, other["id"])
    assert len(receiver.got) == 1
    by_id = {one["id"]: one for one in api("admin").get(HANDLERS).json()["handlers"]}
    assert by_id[made["id"]]["state"] == "lapsed" and "no right" in by_id[made["id"]]["reason"]
    assert api("user").get(f"{HANDLERS}/{made['id']}").json()["state"] == "lapsed"  # for good
    assert api("admin").delete(f"{HANDLERS}/{made['id']}").status_code == 204
    left = [key for key in site_store.list("notifications") if made["id"] in key]
    assert left == [f"notifications/removed/{made['id']}.json"]


def test_a_handler_that_its_owner_does_not_ask_for_lapses(
    api: Api, receiver: Receiver, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
):
    from airflow_monai.gateway.receivers import site_receivers

    monkeypatch.setenv("AIRFLOW__MONAI__NOTIFICATION_HANDLER_DAYS", "30")
    kept, left = register(api, receiver), register(api, receiver, "op")
    for made in (kept, left):
        key = f"notifications/handlers/{made['id']}.json"
        site_store.write_json(key, {**site_store.read_json(key), "registered": "2001-01-01T00:00:00.000+00:00"})
    key = f"notifications/handlers/{kept['id']}.json"
    late = datetime.now(timezone.utc) - timedelta(days=29)
    site_store.write_json(key, {**site_store.read_json(key), "registered": late.isoformat()})
    for _ in range(2):  # an administrator's look is not its owner's
        shown = {one["id"]: one for one in api("admin").get(HANDLERS).json()["handlers"]}
        assert shown[kept["id"]]["until"].startswith((late + timedelta(days=30)).isoformat()[:16])
        assert shown[left["id"]]["state"] == "lapsed" and "30 days" in shown[left["id"]]["reason"]
    (shown,) = api("user").get(HANDLERS).json()["handlers"]
    assert shown["until"] > (datetime.now(timezone.utc) + timedelta(days=29)).isoformat()
    assert list(site_receivers(site_store)()) == [f"handler-{kept['id']}"]
    Journal(site_store).create(1, [happening("a")])
    deliver(site_store, left["id"])
    assert receiver.got == []
    receiver.secret = kept["secret"]
    deliver(site_store, kept["id"])
    assert len(receiver.got) == 1


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From now on the person ``user`` may start runs of this DAG only; empty: of none."""
    from airflow_monai.api.common.access import Caller, Right

    may = Caller.may

    def limit(dag_id: str) -> None:
        def limited(self: Caller, right: Right, name: str | None = None) -> bool:
            is_limited = self.name == "user" and right is Right.START_RUNS
            return name is not None and name == dag_id if is_limited else may(self, right, name)

        monkeypatch.setattr(Caller, "may", limited)

    return limit


@pytest.mark.parametrize("fate", ["waits", "cancelled"])
def test_a_job_that_has_not_begun_is_told_of_as_long_as_its_map_may_be_started(
    api: Api, receiver: Receiver, site_store: LocalStore, only: Callable[[str], None], fate: str
):
    job_scene.register(site_store, parsed=False)
    wanted = {"map": job_scene.LABEL, "dataset": job_scene.dataset(site_store)}
    (job,) = api("op").post(job_scene.URL, json=wanted).json()["jobs"]
    if fate == "cancelled":
        assert api("op").post(f"{job_scene.URL}/{job['id']}/cancel").status_code == 200
    only("another")
    assert api("user").post(HANDLERS, json={"url": receiver.url, "jobs": [job["id"]]}).status_code == 403
    only(job_scene.DAG)
    made = register(api, receiver, jobs=[job["id"]])
    (shown,) = api("user").get(HANDLERS).json()["handlers"]
    assert shown["state"] == "well"
    only("another")
    (shown,) = api("user").get(HANDLERS).json()["handlers"]
    assert shown["state"] == "lapsed" and "no right" in shown["reason"]
    assert api("user").post(f"{HANDLERS}/{made['id']}/test").status_code == 409


def test_a_handler_of_what_nobody_knows_neither_lapses_nor_counts_longer(
    api: Api, receiver: Receiver, site_store: LocalStore, only: Callable[[str], None]
):
    """As when the run was removed from Airflow: what it was a run of is not known any more."""
    made = register(api, receiver, jobs=[happening("b").instance_id])
    key = f"notifications/handlers/{made['id']}.json"
    early = datetime.now(timezone.utc) - timedelta(days=80)
    site_store.write_json(key, {**site_store.read_json(key), "registered": early.isoformat()})
    only("ct-lung")
    (shown,) = api("user").get(HANDLERS).json()["handlers"]
    assert shown["state"] == "well" and shown["until"].startswith((early + timedelta(days=90)).isoformat()[:16])
    refused = api("user").post(HANDLERS, json={"url": receiver.url, "jobs": [happening("c").instance_id]})
    assert refused.status_code == 403


def test_a_request_that_is_sent_again_makes_no_second_handler(api: Api, receiver: Receiver, site_store: LocalStore):
    body = {"url": receiver.url, "workflows": ["ct-lung"], "jobs": [happening("a").instance_id]}
    key = {"Idempotency-Key": "RIS, 1"}
    first = api("user").post(HANDLERS, json=body, headers=key)
    again = api("user").post(HANDLERS, json=body, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json() and first.json()["secret"], "whoever missed the answer missed the secret"
    receiver.secret = again.json()["secret"]
    Journal(site_store).create(1, [happening("a")])
    for one in api("admin").get(HANDLERS).json()["handlers"]:
        deliver(site_store, one["id"])
    assert len(receiver.got) == 1 and not receiver.bad

    others = [
        api("user").post(HANDLERS, json={**body, "events": ["workflow.started"]}, headers=key),
        api("user").post(HANDLERS, json={**body, "secret": "known to both of us"}, headers=key),
        api("user").post(HANDLERS, json={**body, "workflows": []}, headers=key),
    ]
    assert [one.status_code for one in others] == [409] * 3 and "Idempotency-Key" in others[0].json()["detail"]
    assert api("user").post(HANDLERS, json=body, headers={"Idempotency-Key": "RIS, 2"}).status_code == 201
    assert api("op").post(HANDLERS, json=body, headers=key).status_code == 201, "it is another person's"
    assert api("user").post(HANDLERS, json=body).status_code == api("user").post(HANDLERS, json=body).status_code == 201
    assert len(api("admin").get(HANDLERS).json()["handlers"]) == 5


def test_a_request_that_comes_late_brings_no_handler_back(api: Api, receiver: Receiver):
    asked = {"json": {"url": receiver.url}, "headers": {"Idempotency-Key": "k"}}
    made = api("user").post(HANDLERS, **asked).json()
    assert api("user").delete(f"{HANDLERS}/{made['id']}").status_code == 204
    late = api("user").post(HANDLERS, **asked)
    assert late.status_code == 409 and "unregistered" in late.json()["detail"]
    assert api("admin").get(HANDLERS).json() == {"handlers": []}


def test_two_servers_that_get_a_request_at_once_make_one_handler(
    api: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    """Each has seen that there is none before it makes one."""
    asked = {"json": {"url": receiver.url}, "headers": {"Idempotency-Key": "k"}}
    first, real, seen = api("user").post(HANDLERS, **asked), Handlers.get, []

    def late(self: Handlers, handler_id: str) -> object:
        seen.append(handler_id)
        return None if len(seen) == 1 else real(self, handler_id)

    monkeypatch.setattr(Handlers, "get", late)
    second = api("user").post(HANDLERS, **asked)
    assert second.status_code == 200 and second.json() == first.json()


def test_a_secret_is_told_again_for_a_day_and_one_that_was_given_never(
    api: Api, receiver: Receiver, site_store: LocalStore
):
    for given in ({}, {"secret": "known to both of us"}):
        asked = {"json": {"url": receiver.url, **given}, "headers": {"Idempotency-Key": f"k{len(given)}"}}
        made = api("user").post(HANDLERS, **asked).json()
        again = api("user").post(HANDLERS, **asked)
        assert again.status_code == 200 and again.json()["secret"] == made["secret"]
        key = f"notifications/handlers/{made['id']}.json"
        yesterday = (datetime.now(timezone.utc) - timedelta(days=1)).isoformat()
        site_store.write_json(key, {**site_store.read_json(key), "registered": yesterday})
        again = api("user").post(HANDLERS, **asked)
        assert again.status_code == 200 and again.json()["secret"] is None and again.json()["id"] == made["id"]
