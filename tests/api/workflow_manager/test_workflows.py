"""Workflows over HTTP: registered, updated, deleted, and seen."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store.local import LocalStore
from airflow_monai.workflows.catalog import fixed_id
from airflow_monai.workflows.registry import NewText, WorkflowRegistry
from tests.maps.registered import image_map
from tests.workflows.definitions import PUBLISHED, simple

Api = Callable[[str | None], TestClient]
AT = "/workflow-manager"
NOBODY = "00000000-0000-4000-8000-000000000000"


def register(client: TestClient, definition: dict[str, Any] | None = None) -> str:
    answer = client.post(f"{AT}/workflows", json=definition or simple())
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status and told["title"] and told["detail"]
    return dict(told)


def audit() -> list[tuple[str, str, str, dict[str, Any]]]:
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        entries = session.scalars(select(Log).where(Log.event.like("monai.%")).order_by(Log.id))
        return [(str(e.event), str(e.owner), str(e.dag_id), json.loads(e.extra or "{}")) for e in entries]


def test_the_life_of_a_workflow_as_the_seed_tells_it(api: Api) -> None:
    client = api("admin")
    registered = client.post(f"{AT}/workflows", json=simple("ct"))
    assert registered.status_code == 200 and list(registered.json()) == ["id"]
    known = registered.json()["id"]
    assert str(uuid.UUID(known)) == known
    assert client.get(f"{AT}/workflows").json() == [{"workflow_id": known, "version_id": "1", "status": "active"}]
    assert client.get(f"{AT}/workflow", params={"id": known}).json() == simple("ct")
    assert client.get(f"{AT}/workflow", params={"name": "CT"}).json() == simple("ct")
    updated = client.put(f"{AT}/workflows/{known}", json={"version": "1.1.0", "description": "newer"})
    assert (updated.status_code, updated.json()) == (200, {"id": known, "version_id": "2"})
    whole = {**simple("ct"), "version": "1.1.0", "description": "newer"}
    assert client.get(f"{AT}/workflow", params={"id": known}).json() == whole
    revision = client.get(f"{AT}/workflows/{known}").json()
    assert (revision["workflow_id"], revision["revision"], revision["workflow"]) == (known, 2, whole)
    assert revision["Version"] and revision["id"] != known and revision["changed_by"] == "admin"
    history = client.get(f"{AT}/workflows/{known}/revisions").json()
    assert [(one["revision"], one["workflow"]["version"], one["deleted"]) for one in history] == [
        (1, "1.0.0", None),
        (2, "1.1.0", None),
    ]
    assert history[1]["id"] == revision["id"] != history[0]["id"]
    deleted = client.delete(f"{AT}/workflows/{known}")
    assert (deleted.status_code, deleted.content) == (200, b"")
    assert client.get(f"{AT}/workflows").json() == []
    problem(client.get(f"{AT}/workflows/{known}"), 404)
    problem(client.delete(f"{AT}/workflows/{known}"), 404)
    history = client.get(f"{AT}/workflows/{known}/revisions").json()
    assert [one["revision"] for one in history] == [1, 2] and all(one["deleted"] for one in history)
    assert audit() == [
        ("monai.workflow.register", "admin", "ct", {"workflow_id": known, "revision": 1}),
        ("monai.workflow.update", "admin", "ct", {"workflow_id": known, "revision": 2}),
        ("monai.workflow.delete", "admin", "ct", {"workflow_id": known, "revision": 2}),
    ]
    again = register(client, simple("ct"))
    assert again != known
    assert [one["revision"] for one in client.get(f"{AT}/workflows/{known}/revisions").json()] == [1, 2]


def test_published_definitions_are_taken_and_given_back_unchanged(api: Api) -> None:
    client = api("admin")
    for published in PUBLISHED:
        known = register(client, published)
        assert client.get(f"{AT}/workflow?id={known}").json() == published
        assert client.get(f"{AT}/workflows/{known}").json()["workflow"] == published


def test_yaml_is_kept_as_it_is_written(api: Api, site_store: LocalStore) -> None:
    client = api("admin")
    text = "# why\n" + yaml.safe_dump({**simple("ct"), "version": "1.10"}).replace("'1.10'", "1.10  # no number")
    known = client.post(f"{AT}/workflows", content=text, headers={"content-type": "application/yaml"}).json()["id"]
    assert site_store.read("workflows/ct/1.yaml").decode().partition("\n")[2] == text
    assert client.get(f"{AT}/workflow?id={known}").json() == {**simple("ct"), "version": "1.10"}
    change = "description: 1.20\n"
    client.put(f"{AT}/workflows/{known}", content=change, headers={"content-type": "text/yaml; charset=utf-8"})
    assert client.get(f"{AT}/workflow?id={known}").json() == {
        **simple("ct"),
        "version": "1.10",
        "description": "1.20",
    }


def test_a_partial_update_replaces_what_it_names_and_takes_out_what_it_names_without_a_value(api: Api) -> None:
    client = api("admin")
    start = {**simple("ct", data_origins=["CT01"]), "description": "old", "dataRetentionDays": 5}
    known = register(client, start)
    change = {"Description": None, "informatics_gateway": {"ae_title": "CT2", "export_destinations": ["PACS"]}}
    assert client.put(f"{AT}/workflows/{known}", json=change).json()["version_id"] == "2"
    now = client.get(f"{AT}/workflow?id={known}").json()
    assert "description" not in now and now["dataRetentionDays"] == 5 and now["tasks"] == start["tasks"]
    assert now["informatics_gateway"] == change["informatics_gateway"]


def test_the_shipped_form_replaces_the_whole(api: Api) -> None:
    client = api("admin")
    known = register(client, {**simple("ct"), "description": "old"})
    shipped = {"original_workflow_name": "ct", "workflow": {**simple("ct"), "version": "2.0.0"}}
    assert client.put(f"{AT}/workflows/{known}", json=shipped).json() == {"id": known, "version_id": "2"}
    assert client.get(f"{AT}/workflow?id={known}").json() == shipped["workflow"]
    got = client.get(f"{AT}/workflows/{known}").json()
    got["workflow"]["version"] = "3.0.0"
    own = {name: got[name] for name in ("id", "Version", "workflow_id", "revision", "workflow")}
    assert client.put(f"{AT}/workflows/{known}", json=own).json()["version_id"] == "3"
    assert register(client, {"original_workflow_name": "", "workflow": simple("mr")})
    wrong = problem(client.put(f"{AT}/workflows/{known}", json={**shipped, "original_workflow_name": "pet"}), 400)
    assert wrong["errors"][0]["field"] == "body.original_workflow_name"
    part = problem(client.put(f"{AT}/workflows/{known}", json={"workflow": {"version": "4"}}), 400)
    assert {error["field"] for error in part["errors"]} >= {"body.workflow.name", "body.workflow.tasks"}


def test_a_name_stays(api: Api) -> None:
    client = api("admin")
    known = register(client)
    told = problem(client.put(f"{AT}/workflows/{known}", json={"name": "other"}), 400)
    assert told["errors"][0]["field"] == "body.name" and "delete" in told["errors"][0]["hint"]


def test_everything_that_is_wrong_is_told_with_its_place(api: Api) -> None:
    client = api("admin")
    bad = simple("ct")
    bad["tasks"][0] = {**bad["tasks"][0], "type": "exprt", "task_destinations": [{"name": "nowhere"}]}
    bad["versoin"] = bad.pop("version")
    told = problem(client.post(f"{AT}/workflows", json=bad), 400)
    fields = {error["field"]: error for error in told["errors"]}
    assert {"body.versoin", "body.tasks[0].type"} <= set(fields)
    assert "version" in fields["body.versoin"]["hint"] and "export" in fields["body.tasks[0].type"]["hint"]
    assert fields["body.versoin"]["line"] == 1 and fields["body.versoin"]["column"] > 1
    text = "name: ct\nversion: 1.0.0\ntasks: []\n"
    told = problem(client.post(f"{AT}/workflows", content=text, headers={"content-type": "application/yaml"}), 400)
    assert ("body.tasks", 3) in [(error["field"], error["line"]) for error in told["errors"]]
    assert client.get(f"{AT}/workflows").json() == []
    known = register(client)
    told = problem(client.put(f"{AT}/workflows/{known}", json={"tasks": [{"id": "a b", "type": "router"}]}), 400)
    assert told["errors"][0]["field"] == "body.tasks[0].id"
    assert "line" not in told["errors"][0]  # it is about the definition as it would be, which nobody sent
    assert client.get(f"{AT}/workflows").json()[0]["version_id"] == "1"


UNREADABLE = [
    (b"{", "application/json", 400),
    (b"", "application/json", 400),
    (b'{"name": "a", "name": "b"}', "application/json", 400),
    (b'{"a": NaN}', "application/json", 400),
    (b"[]", "application/json", 400),
    (b"\xff\xfe", "application/yaml", 400),
    (b"a: [", "application/yaml", 400),
    (b'{"workflow": 3}', "application/json", 400),
    (b"[" * 100_000, "application/json", 400),
    (b"a: " + b"[" * 50 + b"]" * 50, "application/yaml", 400),
    (b"&a [*a]", "application/yaml", 400),
    (b"<a/>", "application/xml", 415),
    (b"x" * 1_100_000, "application/yaml", 413),
]


def test_what_cannot_be_read_is_refused(api: Api) -> None:
    client = api("admin")
    known = register(client)
    for body, kind, status in UNREADABLE:
        for method, path in (("POST", "workflows"), ("POST", "workflows/validate"), ("PUT", f"workflows/{known}")):
            problem(client.request(method, f"{AT}/{path}", content=body, headers={"content-type": kind}), status)


def test_large_definitions_are_bounded(api: Api) -> None:
    client = api("admin")
    tasks = [{"id": f"t{number}", "type": "router"} for number in range(5_000)]
    began = time.monotonic()
    told = problem(client.post(f"{AT}/workflows", json={**simple(), "tasks": tasks}), 400)
    assert time.monotonic() - began < 60 and len(told["errors"]) < 200
    assert told["errors"][0]["field"] == "body.tasks" and "1000" in told["errors"][0]["message"]


def test_validate(api: Api, site_store: LocalStore) -> None:
    client = api("admin")
    answer = client.post(f"{AT}/workflows/validate", json=simple("ct"))
    assert (answer.status_code, answer.content) == (204, b"")
    assert list(site_store.list("workflows")) == []
    register(client, simple("ct"))
    told = problem(client.post(f"{AT}/workflows/validate", json=simple("CT")), 400)
    assert told["errors"][0]["field"] == "body.name"
    shipped = {"original_workflow_name": "ct", "workflow": simple("ct")}
    assert client.post(f"{AT}/workflows/validate", json=shipped).status_code == 204
    problem(client.post(f"{AT}/workflows/validate", json={"original_workflow_name": "ct", "workflow": {}}), 400)


def test_a_name_is_taken_once(api: Api, site_store: LocalStore, tmp_path: Path) -> None:
    client = api("admin")
    known = register(client, simple("ct"))
    for name in ("ct", "CT"):
        told = problem(client.post(f"{AT}/workflows", json=simple(name)), 409)
        assert told["errors"][0]["field"] == "body.name" and known in told["detail"]
    (tmp_path / "workflows" / "written.yaml").write_text(yaml.safe_dump(simple("mr")))
    told = problem(client.post(f"{AT}/workflows", json=simple("MR")), 409)
    assert "written.yaml" in told["detail"] and str(tmp_path) not in json.dumps(told)
    MapRegistry(site_store).register(image_map())
    problem(client.post(f"{AT}/workflows", json=simple("map.lung.1.0.0")), 409)
    series = simple("other")
    series["informatics_gateway"]["grouping"] = "series"
    told = problem(client.post(f"{AT}/workflows", json=series), 409)
    assert told["errors"][0]["field"] == "body.informatics_gateway.grouping"


def test_workflows_in_files_and_of_maps_are_seen_and_are_changed_elsewhere(
    api: Api, site_store: LocalStore, tmp_path: Path
) -> None:
    client = api("admin")
    folder = tmp_path / "workflows"
    text = yaml.safe_dump(simple("mr")).replace("PACS", "MAINPACS")
    (folder / "a.yaml").write_text(text)
    MapRegistry(site_store).register(image_map())
    register(client, simple("ct"))
    listed = client.get(f"{AT}/workflows").json()
    assert [one["status"] for one in listed] == ["active"] * 3
    by_name = {one["workflow"]["name"]: one for one in client.get(f"{AT}/workflows?pageNumber=1").json()["Data"]}
    assert {name: one["origin"] for name, one in by_name.items()} == {
        "ct": "registered",
        "map.lung.1.0.0": "map",
        "mr": "file",
    }
    assert by_name["mr"]["workflow"] == yaml.safe_load(text)
    assert by_name["mr"]["workflow_id"] == fixed_id("MR")
    before = client.get(f"{AT}/workflows/{fixed_id('mr')}").json()
    (folder / "a.yaml").write_text(text + "description: newer\n")
    after = client.get(f"{AT}/workflows/{fixed_id('mr')}").json()
    assert after["workflow"]["description"] == "newer" and after["id"] != before["id"]
    assert client.get(f"{AT}/workflows/{fixed_id('mr')}/revisions").json() == [after]
    for name, words in (("mr", "file"), ("map.lung.1.0.0", "registered MAP")):
        put = problem(client.put(f"{AT}/workflows/{fixed_id(name)}", json={"version": "2"}), 409)
        gone = problem(client.delete(f"{AT}/workflows/{fixed_id(name)}"), 409)
        assert words in put["detail"] and words in gone["detail"] and str(tmp_path) not in put["detail"]


def test_a_file_of_its_name_that_comes_later_goes_first(api: Api, tmp_path: Path) -> None:
    client = api("admin")
    known = register(client, simple("ct"))
    (tmp_path / "workflows" / "a.yaml").write_text(yaml.safe_dump({**simple("ct"), "description": "written"}))
    listed = {one["workflow_id"]: one["status"] for one in client.get(f"{AT}/workflows").json()}
    assert listed == {fixed_id("ct"): "active", known: "refused"}
    assert client.get(f"{AT}/workflow?name=ct").json()["description"] == "written"
    assert client.delete(f"{AT}/workflows/{known}").status_code == 200


def test_pages_and_ae_titles(api: Api) -> None:
    client = api("admin")
    for number in range(5):
        register(client, simple(f"w{number}", ae_title="EVEN" if number % 2 == 0 else "ODD"))
    page = client.get(f"{AT}/workflows?pageNumber=2&pageSize=2").json()
    assert [one["workflow"]["name"] for one in page["Data"]] == ["w2", "w3"]
    assert (page["TotalRecords"], page["TotalPages"], page["Succeeded"]) == (5, 3, True)
    assert page["NextPage"] == f"{AT}/workflows?pageNumber=3&pageSize=2"
    beyond = client.get(f"{AT}/workflows?pageNumber=9")
    assert beyond.status_code == 200 and beyond.json()["Data"] == []
    even = client.get(f"{AT}/workflows/aetitle/EVEN?pageSize=2").json()
    assert [one["workflow"]["name"] for one in even["Data"]] == ["w0", "w2"] and even["TotalRecords"] == 3
    problem(client.get(f"{AT}/workflows/aetitle/NONE"), 404)
    problem(client.get(f"{AT}/workflows/aetitle/%20"), 400)
    for path in ("workflows?pageNumber=x", "workflows?pageSize=1.5", "workflows/aetitle/EVEN?pageSize=a"):
        assert problem(client.get(f"{AT}/{path}"), 400)["errors"][0]["field"].startswith("query.page")


def routes(known: str) -> list[tuple[str, str, Any]]:
    return [
        ("POST", "workflows", simple("new")),
        ("POST", "workflows/validate", simple("new")),
        ("PUT", f"workflows/{known}", {"version": "9"}),
        ("DELETE", f"workflows/{known}", None),
        ("GET", "workflows", None),
        ("GET", "workflows?pageNumber=1", None),
        ("GET", f"workflows/{known}", None),
        ("GET", f"workflows/{known}/revisions", None),
        ("GET", "workflows/aetitle/CTLUNG", None),
        ("GET", f"workflow?id={known}", None),
        ("GET", "workflow?name=ct-lung", None),
    ]


def test_who_may(api: Api) -> None:
    known = register(api("admin"))
    for method, path, body in routes(known):
        problem(api(None).request(method, f"{AT}/{path}", json=body), 401)
        viewer = api("viewer").request(method, f"{AT}/{path}", json=body)
        if method == "GET":
            assert viewer.status_code == 200
        else:
            problem(viewer, 403)
    broken = {"content-type": "application/json"}
    problem(api("viewer").post(f"{AT}/workflows", content=b"{", headers=broken), 403)
    assert [one["version_id"] for one in api("admin").get(f"{AT}/workflows").json()] == ["1"]
    assert {entry[0] for entry in audit()} == {"monai.workflow.register"}


def test_who_may_see_some_workflows_sees_these_only(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The auth manager is a stand-in here: Airflow's simple one knows no rights for single DAGs."""
    from airflow_monai.api.common.access import Caller

    client = api("admin")
    hidden, seen = register(client, simple("hidden")), register(client, simple("seen", ae_title="SEEN"))
    monkeypatch.setattr(Caller, "may", lambda self, right, name=None: name == "seen")
    assert [one["workflow_id"] for one in client.get(f"{AT}/workflows").json()] == [seen]
    assert client.get(f"{AT}/workflows?pageNumber=1").json()["TotalRecords"] == 1
    for path in (
        f"workflows/{hidden}",
        f"workflows/{hidden}/revisions",
        f"workflow?id={hidden}",
        "workflow?name=hidden",
        "workflows/aetitle/CTLUNG",
    ):
        problem(client.get(f"{AT}/{path}"), 404)
    problem(client.put(f"{AT}/workflows/{hidden}", json={"version": "2"}), 404)
    problem(client.delete(f"{AT}/workflows/{hidden}"), 404)
    problem(client.post(f"{AT}/workflows", json=simple("third")), 403)
    assert client.put(f"{AT}/workflows/{seen}", json={"version": "2"}).status_code == 200


def test_ids_that_are_none(api: Api) -> None:
    client = api("admin")
    for wanted, status in ((NOBODY, 404), ("17", 400), ("x" * 400, 400)):
        problem(client.put(f"{AT}/workflows/{wanted}", json=simple()), status)
        problem(client.delete(f"{AT}/workflows/{wanted}"), status)
        for path in (f"workflows/{wanted}", f"workflows/{wanted}/revisions", f"workflow?id={wanted}"):
            problem(client.get(f"{AT}/{path}"), status)


def test_the_definition_of_none(api: Api) -> None:
    client = api("admin")
    problem(client.get(f"{AT}/workflow"), 400)
    problem(client.get(f"{AT}/workflow?name=%20"), 400)
    problem(client.get(f"{AT}/workflow?name=none"), 404)


def test_parallel_updates_through_two_servers_are_revisions_of_their_own(api: Api) -> None:
    from airflow_monai.api.app import create_app
    from airflow_monai.api.workflow_manager import workflows

    first = api("admin")
    workflows._site.cache_clear()
    second = TestClient(create_app(), headers=dict(first.headers), raise_server_exceptions=False)
    known = register(first)
    fields = [("description", f"d{number}") for number in range(8)] + [("version", f"v{number}") for number in range(8)]

    def put(job: tuple[int, tuple[str, str]]) -> int:
        number, (field, value) = job
        workflows._site.cache_clear()  # each has its own view of the store, as another process has
        answer = (first, second)[number % 2].put(f"{AT}/workflows/{known}", json={field: value})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["version_id"])

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(put, enumerate(fields)))
    assert sorted(numbers) == list(range(2, 18))
    history = first.get(f"{AT}/workflows/{known}/revisions").json()
    for number, (field, value) in zip(numbers, fields, strict=True):
        made, before = history[number - 1]["workflow"], history[number - 2]["workflow"]
        assert {**before, field: value} == made


def test_many_revisions_come_in_pages(api: Api, site_store: LocalStore) -> None:
    client = api("admin")
    known = register(client)
    registry = WorkflowRegistry(site_store)
    for number in range(2, 121):
        text = json.dumps({**simple(), "version": str(number)})
        registry.update(known, lambda before, text=text: NewText(before.name, "", text), "ann")  # type: ignore[misc]
    at = f"{AT}/workflows/{known}/revisions"
    assert [one["revision"] for one in client.get(at).json()] == list(range(21, 121))
    page = client.get(f"{at}?pageNumber=12").json()
    assert [one["workflow"]["version"] for one in page["Data"]] == [str(number) for number in range(111, 121)]
    assert (page["TotalRecords"], page["NextPage"]) == (120, None)
    assert client.get(f"{at}?pageNumber=13").json()["Data"] == []


def test_parallel_registrations_of_one_name_make_one(api: Api) -> None:
    client = api("admin")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post(f"{AT}/workflows", json=simple()).status_code, range(8)))
    assert sorted(answers) == [200] + [409] * 7
