"""The pages below ``/monai``: who sees what, and that nothing of an address or a file name gets further than it should.

Who a request is from is the test's to say; Airflow's own sign-in in front of them is seen in tests/e2e.
"""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount

from airflow_monai.api.app import create_app
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store.local import LocalStore
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus
from tests.maps.registered import digest, image_map

PAYLOAD = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"
RUN = f"monai__{PAYLOAD}"
TASK = f"/dags/ct-lung/runs/{RUN}/tasks/segment"
EVIL = '<script>alert(1)</script>&".dcm'


class Visitor:
    """Says what the auth manager would."""

    def __init__(self) -> None:
        self.signed_in = True
        self.denied: set[str] = set()
        self.asked: list[tuple[str, str | None]] = []
        self.noted: list[tuple[Any, ...]] = []

    def get_name(self) -> str:
        return "anna"

    def note(self, caller: Any, event: str, *, extra: Any, **place: Any) -> None:
        """In the audit log's place, which is Airflow's database."""
        self.noted.append((caller.name, event, *place.values(), extra))

    def is_authorized_dag(self, *, method: str, access_entity: Any, details: Any, user: Any) -> bool:
        entity = access_entity.name if access_entity else ""
        self.asked.append((entity, details.id))
        return method == "GET" and entity not in self.denied and details.id not in self.denied

    def filter_authorized_dag_ids(self, *, dag_ids: set[str], user: Any, team_name: str | None) -> set[str]:
        return dag_ids - self.denied


@pytest.fixture
def visitor(monkeypatch: pytest.MonkeyPatch) -> Visitor:
    visitor = Visitor()
    monkeypatch.setattr("airflow.api_fastapi.core_api.security.get_auth_manager", lambda: visitor)
    monkeypatch.setattr("airflow_monai.api.common.access.get_auth_manager", lambda: visitor)
    monkeypatch.setattr("airflow.models.dag.DagModel.get_team_name", lambda dag_id: None)
    monkeypatch.setattr("airflow.models.dag.DagModel.get_dag_id_to_team_name_mapping", lambda dag_ids: {})
    return visitor


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    return LocalStore(tmp_path / "store")


@pytest.fixture
def client(visitor: Visitor, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    from airflow.api_fastapi.core_api.security import get_user

    def payload_of(dag_id: str, run_id: str) -> str:
        if dag_id != "ct-lung":
            raise HTTPException(404, "There is no run.")
        return PAYLOAD if run_id == RUN else ""

    def user() -> Visitor:
        if not visitor.signed_in:
            raise HTTPException(401, "Not authenticated")
        return visitor

    monkeypatch.setattr("airflow_monai.api.tasks.note", visitor.note)
    monkeypatch.setattr("airflow_monai.api.runs.payload_of", payload_of)
    app = create_app()
    app.dependency_overrides[get_user] = user
    return TestClient(app, raise_server_exceptions=False, headers={"accept": "text/html"})


def ended(store: LocalStore, **changes: Any) -> RunFolder:
    """The record of a task that made two artifacts, one with an unfriendly name in it."""
    folder = RunFolder(store, PAYLOAD, "ct-lung", RUN)
    output = folder.output_key("segment", -1, 1)
    store.write(f"{output}/seg/1.dcm", b"D" * 2048)
    store.write(folder.log_key("segment", -1, 1), b"Doe^Jane was here\n")
    keys = (f"{output}/seg/1.dcm",)
    facts: dict[str, Any] = {
        "status": TaskStatus.SUCCEEDED,
        "output_dir": output,
        "artifacts": {"seg": keys, EVIL: ()},
        "stats": {"map": "lung:1.0.0", "location": digest("a"), "seconds": 1.5},
        "result": {"volume_ml": 12},
    }
    folder.write_record(TaskRecord("segment", "map", execution_id="x", **{**facts, **changes}))
    return folder


def test_a_task_s_artifacts_are_listed_and_fetched(client: TestClient, store: LocalStore) -> None:
    ended(store)
    page = client.get(TASK)
    assert page.status_code == 200
    assert "<code>seg/1.dcm</code>" in page.text and "2.0 KiB" in page.text
    (address,) = re.findall(r'href="[^"]*(/dags/[^"]*/artifacts/[^"]*)"', page.text)
    fetched = client.get(address)
    assert fetched.content == b"D" * 2048
    assert fetched.headers["content-disposition"] == 'attachment; filename="1.dcm"'
    assert client.get(f"{TASK}/log").text == "Doe^Jane was here\n"


def test_who_has_read_what_is_noted(client: TestClient, store: LocalStore, visitor: Visitor) -> None:
    ended(store)
    for address in ("", "/log", "/artifacts/seg/0", "/artifacts/seg/7", "/map"):
        client.get(f"{TASK}{address}")
    place = ("ct-lung", RUN, "segment", -1)
    assert visitor.noted == [
        ("anna", "monai.artifacts.list", *place, {}),
        ("anna", "monai.log.read", *place, {}),
        ("anna", "monai.artifact.read", *place, {"artifact": "seg", "number": 0}),
    ]
    visitor.noted, visitor.denied = [], {"TASK_LOGS"}
    client.get(TASK)
    assert visitor.noted == []


def test_nothing_that_an_application_or_an_author_named_becomes_html(client: TestClient, store: LocalStore) -> None:
    ended(store, error_msg=EVIL, status=TaskStatus.FAILED, stats={"map": EVIL, EVIL: EVIL})
    for address in (TASK, f"{TASK}/map", f"/dags/ct-lung/runs/{RUN}/tasks/{'<script>'}"):
        page = client.get(address)
        assert "<script" not in page.text
        assert "script-src" not in page.headers["content-security-policy"]
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert page.headers["x-content-type-options"] == "nosniff"


def test_values_and_logs_stay_off_the_page(client: TestClient, store: LocalStore) -> None:
    ended(store, result={"finding": "Doe^Jane has it"})
    assert "Doe" not in client.get(TASK).text


def test_who_is_not_signed_in_sees_nothing(client: TestClient, store: LocalStore, visitor: Visitor) -> None:
    ended(store)
    MapRegistry(store).register(image_map())
    visitor.signed_in = False
    for address in (TASK, f"{TASK}/map", f"{TASK}/log", f"{TASK}/artifacts/seg/0", "/maps", "/maps/lung/1.0.0"):
        answer = client.get(address)
        assert answer.status_code == 401 and "Sign in" in answer.text
    assert client.get(TASK, headers={"accept": "application/json"}).json()["detail"] == "Not authenticated"


@pytest.mark.parametrize("below", ["", "/airflow"])
def test_who_is_not_signed_in_is_led_to_the_log_in_and_back(client: TestClient, visitor: Visitor, below: str) -> None:
    visitor.signed_in = False
    server = Starlette(routes=[Mount(f"{below}/monai", client.app)])
    for way in ("/maps", "/maps/lung/1.0.0?a=b&c=%22d"):
        page = TestClient(server, headers=client.headers).get(f"{below}/monai{way}")
        (address,) = re.findall(r'<a href="([^"]*)">Sign in', page.text)
        asked = urlsplit(unescape(address))
        assert page.status_code == 401 and parse_qs(asked.query) == {"next": [f"{below}/monai{way}"]}
        assert asked.path == f"{below}/api/v2/auth/login"


def test_each_page_asks_for_its_right_on_its_dag(client: TestClient, store: LocalStore, visitor: Visitor) -> None:
    ended(store)
    client.get(f"{TASK}/artifacts/seg/0")
    assert visitor.asked == [("TASK_INSTANCE", "ct-lung"), ("TASK_LOGS", "ct-lung")]
    visitor.denied = {"TASK_LOGS"}
    assert client.get(f"{TASK}/map").status_code == 200
    assert client.get(TASK).status_code == 403
    assert client.get(f"{TASK}/log").status_code == 403
    assert client.get(f"{TASK}/artifacts/seg/0").status_code == 403
    visitor.denied = {"ct-lung"}
    assert client.get(TASK).status_code == client.get(f"{TASK}/map").status_code == 403


def test_every_page_asks_the_auth_manager() -> None:
    from fastapi.routing import APIRoute

    # the APIs are asked in test_openapi.py
    routes = [route for route in create_app().routes if isinstance(route, APIRoute)]
    routes = [route for route in routes if route.path.startswith(("/dags", "/maps"))]
    assert len(routes) >= 6
    for route in routes:
        asks = [call.call.__qualname__ for call in route.dependant.dependencies if call.call]
        assert any("requires_access_dag" in name for name in asks), route.path
        assert route.methods == {"GET"}


@pytest.mark.parametrize(
    "address",
    [
        f"{TASK}/artifacts/seg/1",
        f"{TASK}/artifacts/seg/-1",
        f"{TASK}/artifacts/other/0",
        f"{TASK}/artifacts/..%2f..%2fpayload.json/0",
        f"{TASK}/artifacts/seg/0?map_index=4",
        f"/dags/ct-lung/runs/{RUN}/tasks/..%2F..%2F..%2Fx/artifacts/seg/0",
        f"/dags/ct-lung/runs/{RUN}/tasks/other/log",
        "/dags/ct-lung/runs/none/tasks/segment",
        f"/dags/else/runs/{RUN}/tasks/segment",
        "/maps/..%2f..%2fgpu/inventory",
        "/maps/lung/9",
        "/maps/%00/1",
    ],
)
def test_what_is_not_there_is_404(client: TestClient, store: LocalStore, address: str) -> None:
    ended(store)
    assert client.get(address).status_code == 404


def test_files_are_those_of_the_payload_and_no_links(client: TestClient, store: LocalStore, tmp_path: Path) -> None:
    folder = ended(store)
    other = "payloads/00000000-0000-0000-0000-000000000000/payload.json"
    store.write(other, b"secret")
    link = folder.output_key("segment", -1, 1) + "/link"
    path = store.local_path(link)
    assert path is not None
    path.symlink_to(tmp_path / "store" / other)
    ended(store, artifacts={"all": (other, link, f"{link}-gone")})
    assert [client.get(f"{TASK}/artifacts/all/{number}").status_code for number in range(3)] == [404] * 3
    assert client.get(TASK).status_code == 200


def test_a_task_that_has_not_ended(client: TestClient) -> None:
    assert "has not ended yet" in client.get(TASK).text
    assert "has not told yet" in client.get(f"{TASK}/map").text


def test_many_files_are_cut_short(client: TestClient, store: LocalStore) -> None:
    output = RunFolder(store, PAYLOAD, "ct-lung", RUN).output_key("segment", -1, 1)
    ended(store, artifacts={"seg": tuple(f"{output}/{number}.dcm" for number in range(5000))})
    page = client.get(TASK).text
    assert "seg: 5000 files" in page and "and 4800 more" in page and len(page) < 100_000


def test_the_map_of_a_task_is_the_revision_that_it_began_with(client: TestClient, store: LocalStore) -> None:
    registry = MapRegistry(store)
    registry.register(image_map())
    folder = ended(store)
    note = {"label": "lung:1.0.0", "revision": 1, "digest": digest("a")}
    store.write_json(folder.note_key("segment", -1, 1, "map"), note)
    registry.unregister("lung", "1.0.0")
    registry.register(image_map(ae_title="ELSEWHERE"))
    page = client.get(f"{TASK}/map").text
    assert digest("a") in page and "ELSEWHERE" not in page
    assert "[&quot;run&quot;]" in page and "60 s" in page
    assert page.count("unregistered") == 1  # its history


def test_a_map_that_is_not_registered_is_told_as_far_as_it_is_known(client: TestClient, store: LocalStore) -> None:
    import base64

    ended(store)
    assert "its manifests are not at hand" in client.get(f"{TASK}/map").text
    files = {"app.json": json.dumps({"command": "run-it"}), "pkg.json": "{}"}
    cached = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    store.write_json(f"cache/manifests/{'a' * 64}.json", cached)
    assert "run-it" in client.get(f"{TASK}/map").text


def test_registered_maps_are_listed_and_described(client: TestClient, store: LocalStore) -> None:
    assert "None yet" in client.get("/maps").text
    app = json.dumps({"command": "run", "environment": {"PACS_PASSWORD": "hunter2", "MODE": "fast"}})
    MapRegistry(store).register(image_map(app=app, ae_title="<b>"))
    assert "&lt;b&gt;" in client.get("/maps").text
    page = client.get("/maps/lung/1.0.0").text
    assert "fast" in page and "hunter2" not in page and "(not shown)" in page


def test_maps_are_those_that_the_reader_may_see(client: TestClient, store: LocalStore, visitor: Visitor) -> None:
    MapRegistry(store).register(image_map())
    assert "lung:1.0.0" in client.get("/maps").text and client.get("/maps/lung/1.0.0").status_code == 200
    visitor.denied = {"~", "map.lung.1.0.0"}
    assert "None yet" in client.get("/maps").text and client.get("/maps/lung/1.0.0").status_code == 403


@pytest.mark.parametrize(("kind", "names"), [("map", {"Artifacts", "MAP"}), ("container", {"Artifacts"})])
def test_links_of_a_task_as_the_api_server_makes_them(
    kind: str, names: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    from airflow_monai.operators.container import ContainerOperator
    from airflow_monai.operators.map import MapOperator

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://hospital.example/airflow/")
    with DAG("ct-lung") as dag:
        MapOperator(task_id="map", map="lung:1.0.0")
        ContainerOperator(task_id="container", image="lung:1.0.0", paths={})
    assert not dag.get_task(kind).operator_extra_links  # a worker would push them all, at a request each
    task = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task(kind)
    key = SimpleNamespace(dag_id="ct-lung", run_id="manual__2026-01-01T00:00:00+00:00", task_id=kind, map_index=2)
    links = {link.name: link.get_link(task, ti_key=key) for link in task.operator_extra_links}
    base = "https://hospital.example/airflow/monai/dags/ct-lung/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00"
    assert set(links) == names
    assert links["Artifacts"] == f"{base}/tasks/{kind}?map_index=2"
    assert links.get("MAP", f"{base}/tasks/map/map?map_index=2") == f"{base}/tasks/map/map?map_index=2"


def test_the_plugin_imports_nothing_of_it() -> None:
    import subprocess
    import sys

    code = "import sys; from airflow_monai.api.lazy import LazyApp, monai_app; print('fastapi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
