"""MAPs through the App Server API: real folders, and a real Docker engine where there is one."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.models.log import Log
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import select

from airflow_monai.api.app_server import registering
from airflow_monai.api.app_server.registering import Registrar
from airflow_monai.errors import MapNotFound, PolicyRefused, RegistryUnavailable, RunnerUnavailable
from airflow_monai.local.stack import project_folder
from airflow_monai.maps.registrations import Registrations
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.maps.workflows import RegisteredWorkflows
from airflow_monai.store.local import LocalStore
from tests.api.app_server import job_scene
from tests.conftest import require
from tests.fixtures_maps import map_images  # noqa: F401 - a fixture

Api = Callable[..., TestClient]
URL = "/app-server/maps"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered is told at once, however slow this machine is."""
    monkeypatch.setattr(registering, "WAIT_SECONDS", 60.0)


@pytest.fixture
def noop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An unpacked MAP in a folder that the site allows."""
    folder = tmp_path / "maps" / "noop"
    shutil.copytree(project_folder() / "examples" / "maps" / "noop", folder)
    monkeypatch.setenv("AIRFLOW__MONAI__MAP_PATH", str(tmp_path / "maps"))
    monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "process")
    return folder


def register(client: TestClient, **body: Any) -> Any:
    return client.post(URL, json={"folder": "noop", "version": "1.0.0", **body})


def test_a_folder_is_refused_where_jobs_of_it_could_only_fail(
    api: Api, noop: Path, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "docker")
    refused = register(api("admin"))
    assert refused.status_code == 400 and "register its image" in refused.json()["detail"]
    assert api("admin").get(URL).json()["total"] == 0


def test_a_map_is_registered_listed_described_and_unregistered(api: Api, noop: Path, site_store: LocalStore) -> None:
    client = api("admin")
    made = register(client, ae_title="NOOP", export_destinations=["PACS"])
    assert made.status_code == 201, made.text
    assert made.json()["map"] == "noop:1.0.0" and made.json()["workflow"] == "map.noop.1.0.0"
    assert made.json()["registered_by"] == "admin" and made.json()["created_now"]
    assert [text.source for text in RegisteredWorkflows(site_store).texts()] == ["maps/noop/1.0.0.map"]
    again = register(client)
    assert again.status_code == 200 and not again.json()["created_now"]

    listed = api("viewer").get(URL).json()
    assert [item["map"] for item in listed["maps"]] == ["noop:1.0.0"] and listed["total"] == 1
    described = api("viewer").get(f"{URL}/noop/1.0.0")
    told = described.json()
    assert told["app"]["command"] and "resources" in told["pkg"]
    assert told["facts"]["resources"]["cpu"] >= 1 and told["history"][0]["changed_by"] == "admin"
    assert str(noop.parent) not in described.text

    for _ in range(2):
        assert client.delete(f"{URL}/noop/1.0.0").status_code == 204
    assert api("viewer").get(URL).json()["maps"] == []
    told = api("viewer").get(f"{URL}/noop/1.0.0").json()
    assert not told["registered"] and len(told["history"]) == 2


def test_a_version_is_one_content_for_ever(api: Api, noop: Path) -> None:
    client = api("admin")
    assert register(client).status_code == 201
    assert register(client, version="1.0.1").status_code == 409  # the same AE title, which nobody has said
    assert register(client, version="1.0.1", ae_title="NOOP").status_code == 201
    other = register(client, ae_title="ANOTHER")
    assert other.status_code == 409 and "is already registered with" in other.json()["detail"]
    assert register(client, ae_title="ANOTHER", replace=True).status_code == 201
    (noop / "more.txt").write_text("something else")
    changed = register(client)
    assert changed.status_code == 409 and str(noop.parent) not in changed.text
    client.delete(f"{URL}/noop/1.0.0")
    assert register(client).status_code == 409


def test_what_cannot_be_registered(api: Api, noop: Path, tmp_path: Path) -> None:
    shutil.copytree(noop, tmp_path / "elsewhere")
    (noop.parent / "link").symlink_to(tmp_path / "elsewhere")
    (noop.parent / "broken").mkdir()
    (noop.parent / "broken" / "app.json").write_text("{")
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 400),
        ({"image": "a:1", "folder": "noop"}, 400),
        ({"folder": "noop", "version": "a/b"}, 400),
        ({"folder": "noop", "name": "../x"}, 400),
        ({"folder": "noop", "ae_title": "A" * 17}, 400),
        ({"folder": "noop", "ae_title": "\\"}, 400),
        ({"folder": "noop", "colour": "blue"}, 400),
        ({"folder": "broken"}, 400),
        ({"folder": "nothing"}, 404),
        ({"folder": "../elsewhere"}, 403),
        ({"folder": "/etc"}, 403),
        ({"folder": "link"}, 403),
        ({"folder": "."}, 403),
    ]
    for body, status in cases:
        answer = api("admin").post(URL, json=body)
        assert answer.status_code == status, (body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json" and str(tmp_path) not in answer.text
    assert api("admin").get(URL).json()["total"] == 0


def test_who_may_what(api: Api, noop: Path, site_store: LocalStore) -> None:
    job_scene.register(site_store)
    for role, expected in ((None, 401), ("viewer", 403)):
        assert register(api(role)).status_code == expected
        assert api(role).delete(f"{URL}/lung/1.0.0").status_code == expected
        assert api(role).get(f"{URL}/registrations/x").status_code == expected
    assert api(None).get(URL).status_code == api(None).get(f"{URL}/lung/1.0.0").status_code == 401
    for path in ("lung/2.0.0", "..%2fx/1", "lung/1.0.0%20"):
        assert api("admin").get(f"{URL}/{path}").status_code == 404
    assert api("admin").delete(f"{URL}/lung/2.0.0").status_code == 404
    assert api("admin").get(f"{URL}/registrations/x").status_code == 404


def test_a_list_shows_only_what_the_caller_may_see(
    api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_monai.api.common.access import Caller

    for name in ("heart", "lung"):
        job_scene.register(site_store, name)
    assert [item["map"] for item in api("viewer").get(URL, params={"limit": 1, "offset": 1}).json()["maps"]] == [
        "lung:1.0.0"
    ]
    monkeypatch.setattr(Caller, "may", lambda self, right, name=None: name == "map.lung.1.0.0")
    listed = api("viewer").get(URL).json()
    assert [item["map"] for item in listed["maps"]] == ["lung:1.0.0"] and listed["total"] == 1
    assert api("viewer").get(f"{URL}/heart/1.0.0").status_code == 403


def test_secrets_of_a_manifest_are_not_shown(api: Api, noop: Path) -> None:
    app = json.loads((noop / "app.json").read_text())
    app["environment"] = {"PACS_PASSWORD": "planted", "LEVEL": "3"}
    (noop / "app.json").write_text(json.dumps(app))
    assert register(api("admin")).status_code == 201
    told = api("viewer").get(f"{URL}/noop/1.0.0")
    assert "planted" not in told.text and told.json()["app"]["environment"]["LEVEL"] == "3"


def test_of_many_who_register_at_two_servers_one_does(api: Api, noop: Path, site_store: LocalStore) -> None:
    from airflow_monai.api.app import create_app

    servers = [api("admin"), TestClient(create_app(), headers=api("admin").headers)]
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda n=number: answers.append(register(servers[n % 2]).status_code))
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 5 + [201]
    assert len(MapRegistry(site_store).history("noop", "1.0.0")) == 1


class TestWhatTakesLong:
    """A pull, say: here a stand-in that ends when the test says so."""

    @pytest.fixture
    def gate(self, patient: None, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        monkeypatch.setattr(registering, "WAIT_SECONDS", 0.05)
        return threading.Event()

    @pytest.fixture
    def registrar(self, gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> Registrar:
        def work(asked: Any, store: Any, alive: Callable[[], None]) -> Any:
            while not gate.wait(0.01):
                alive()
            return registering._work(asked, store, alive)

        made = Registrar(work)
        monkeypatch.setattr("airflow_monai.api.app_server.maps.registrar", made)
        return made

    def test_goes_on_and_is_told(self, api: Api, noop: Path, gate: threading.Event, registrar: Registrar) -> None:
        client = api("admin")
        answer = register(client)
        assert answer.status_code == 202
        where = f"/app-server/{answer.headers['location']}"
        assert client.get(where).json()["state"] == "running"
        assert client.get(URL).json()["total"] == 0
        gate.set()
        told = _ended(client, where)
        assert told["state"] == "done" and told["map"] == "noop:1.0.0" and told["created_now"]
        assert client.get(URL).json()["total"] == 1
        number = answer.json()["id"]
        done = {"registration": number, "map": "noop:1.0.0", "created": True}
        assert _noted() == [
            ("monai.map.ask", None, {"registration": number}),
            ("monai.map.register", client.get(URL).json()["maps"][0]["workflow"], done),
        ]

    def test_tells_why_it_failed(
        self, api: Api, noop: Path, gate: threading.Event, registrar: Registrar, tmp_path: Path
    ) -> None:
        client = api("admin")
        where = f"/app-server/{register(client).headers['location']}"
        shutil.rmtree(noop)
        gate.set()
        told = _ended(client, where)
        assert (told["state"], told["status"]) == ("failed", 404) and str(tmp_path) not in told["detail"]

    def test_is_done_anew_when_its_server_died(
        self, api: Api, noop: Path, gate: threading.Event, registrar: Registrar, site_store: LocalStore,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        client = api("admin")
        answer = register(client)
        number = answer.json()["id"]
        monkeypatch.setattr("airflow_monai.api.app_server.maps.registrar", other := Registrar())  # another server
        assert other.look(number, site_store).state.value == "running"  # its own is alive
        found = Registrations(site_store).find(number)
        assert found is not None
        site_store.write_json(f"maps-asked/{number}.json", {**found.to_dict(), "seen": time.time() - 120})
        assert _ended(client, f"/app-server/{answer.headers['location']}")["map"] == "noop:1.0.0"
        gate.set()

    def test_is_taken_up_later_where_there_was_no_place_for_it(
        self, api: Api, noop: Path, gate: threading.Event, registrar: Registrar, site_store: LocalStore,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        client = api("admin")
        answer = register(client)
        number, where = answer.json()["id"], f"/app-server/{answer.headers['location']}"
        monkeypatch.setattr("airflow_monai.api.app_server.maps.registrar", other := Registrar())
        for status in (503, 200):
            found = Registrations(site_store).find(number)
            assert found is not None
            site_store.write_json(f"maps-asked/{number}.json", {**found.to_dict(), "seen": time.time() - 120})
            if status == 503:
                for _ in range(registering.MOST):
                    other._under_way.acquire()
            assert client.get(where).status_code == status
            if status == 503:
                other._under_way.release()
        assert _ended(client, where)["map"] == "noop:1.0.0"
        gate.set()

    def test_too_many_at_once_are_told_to_come_again(
        self, api: Api, noop: Path, gate: threading.Event, registrar: Registrar
    ) -> None:
        client = api("admin")
        answers = [register(client) for _ in range(registering.MOST + 1)]
        gate.set()
        assert [answer.status_code for answer in answers] == [202] * registering.MOST + [503]
        assert answers[-1].headers["retry-after"]


def _noted() -> list[tuple[str, str | None, Any]]:
    with create_session() as session:
        wanted = select(Log.event, Log.dag_id, Log.extra).where(Log.event.like("monai.map.%")).order_by(Log.id)
        return [(event, dag_id, json.loads(extra)) for event, dag_id, extra in session.execute(wanted)]


def _ended(client: TestClient, where: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        told = dict(client.get(where).json())
        if told["state"] != "running":
            return told
        time.sleep(0.02)
    raise AssertionError(told)


def test_what_an_engine_says_is_told_without_where_it_is(
    api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases: list[tuple[Exception, int]] = [
        (RunnerUnavailable("The Docker engine at unix:///var/run/docker.sock cannot be reached."), 503),
        (RegistryUnavailable("The image 'a:1' is not on the Docker engine at tcp://10.0.0.7:2375, and ..."), 503),
        (MapNotFound("The image 'a:1' is not on the Docker engine at unix:///var/run/docker.sock."), 404),
        (PolicyRefused("The image 'a:1' is refused."), 403),
    ]

    errors = iter([error for error, _ in cases])

    def work(*_: Any) -> Any:
        raise next(errors)

    monkeypatch.setattr("airflow_monai.api.app_server.maps.registrar", Registrar(work))
    for _, status in cases:
        answer = api("admin").post(URL, json={"image": "a:1"})
        assert answer.status_code == status, answer.text
        assert "docker.sock" not in answer.text and "10.0.0.7" not in answer.text


def test_without_an_engine_an_image_is_503(
    api: Api, site_store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__DOCKER_URL", f"unix://{tmp_path}/nothing.sock")
    answer = api("admin").post(URL, json={"image": "a:1"})
    assert answer.status_code == 503 and str(tmp_path) not in answer.text


def test_an_image_is_registered(
    api: Api,
    site_store: LocalStore,
    map_images: dict[str, str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require("docker")
    client, image = api("admin"), map_images["noop"]
    made = client.post(URL, json={"image": image, "name": "noop", "version": "7"})
    assert made.status_code == 201, made.text
    told = client.get(f"{URL}/noop/7").json()
    assert told["image"] == image and told["digest"].startswith("sha256:") and told["kind"] == "image"
    assert client.post(URL, json={"image": "there-is-no-such-image:1"}).status_code == 404
    monkeypatch.setenv("AIRFLOW__MONAI__ALLOWED_IMAGES", "registry.example/*")
    assert client.post(URL, json={"image": image, "version": "8"}).status_code == 403
