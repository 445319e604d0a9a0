"""Airflow's FAB auth manager, the real one: its roles, its log-ins, and rights on single DAGs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.api.auth_managers.conftest import FAB, Server, starting
from tests.api.auth_managers.rights import CONNECT, GONE, SEE, WORK, instances, rights_of, seen
from tests.api.auth_managers.server import ADMIN
from tests.keycloak_server import CLIENT, CLIENT_SECRET, Keycloak, Person, keycloak

HEART_ONLY = {
    "heart-reader": [("can_read", "DAG:heart")],
    "heart-worker": [("can_read", "DAG:heart"), ("can_edit", "DAG:heart")],
}
"""Custom roles beside what they share: rights on one DAG."""
READ = [("can_read", name) for name in ("DAG Runs", "Task Instances", "Task Logs", "HITL Detail")]
CHANGE = [(do, name) for do in ("can_create", "can_edit") for name in ("DAG Runs", "Task Instances")]


WEBSERVER_CONFIG = """
from flask_appbuilder.const import AUTH_OAUTH
AUTH_TYPE = AUTH_OAUTH
AUTH_USER_REGISTRATION = True
AUTH_ROLES_SYNC_AT_LOGIN = True
AUTH_ROLES_MAPPING = {{"radiology": ["User"], "cardiology": ["heart-reader"]}}
OAUTH_PROVIDERS = [{{"name": "keycloak", "token_key": "access_token", "remote_app": {{
    "client_id": {client!r}, "client_secret": {secret!r}, "client_kwargs": {{"scope": "openid email profile"}},
    "server_metadata_url": "{issuer}/.well-known/openid-configuration", "api_base_url": "{issuer}/protocol/",
}}}}]
"""
BY_OPENID = (Person("rita", frozenset({"radiology"}), "pw"), Person("carl", frozenset({"cardiology"}), "pw"))


@pytest.fixture(scope="module")
def site(servers: tuple[Server, Server]) -> Server:
    found = servers[0].wait()
    boss = {"authorization": f"Bearer {token(found, ADMIN, ADMIN)}"}
    for role, extra in HEART_ONLY.items():
        wanted = [*READ, *extra, *(CHANGE if "worker" in role else [])]
        pairs = [{"action": {"name": action}, "resource": {"name": name}} for action, name in wanted]
        _made(found, "roles", {"name": role, "actions": pairs}, boss)
    for role in ("Public", "Viewer", "User", "Op", *HEART_ONLY):
        person = {"first_name": role, "last_name": role, "email": f"{role}@x.example", "roles": [{"name": role}]}
        _made(found, "users", {"username": role.lower(), "password": role.lower(), **person}, boss)
    return found


@pytest.fixture(scope="module", autouse=True)
def by_openid(site: Server) -> Iterator[tuple[Server, Keycloak]]:
    """A second API server, whose FAB signs people in at a stand-in of an OpenID Connect provider. It starts beside the
    other tests, once the first has made FAB's roles, which it leaves alone."""
    with keycloak(*BY_OPENID) as provider:
        config = site.hospital.folder / "webserver_config.py"
        config.write_text(WEBSERVER_CONFIG.format(client=CLIENT, secret=CLIENT_SECRET, issuer=provider.issuer))
        more = {"CONFIG_FILE": str(config), "AUTH_ROLE_PUBLIC": "heart-reader", "UPDATE_FAB_PERMS": "False"}
        more = {f"AIRFLOW__FAB__{name}": value for name, value in more.items()}
        with starting(site.hospital, FAB, **more) as server:
            yield server, provider


def _made(site: Server, what: str, body: dict[str, object], headers: dict[str, str]) -> None:
    answer = requests.post(f"{site.url}/auth/fab/v1/{what}", json=body, headers=headers, timeout=60)
    assert answer.status_code in (200, 201), answer.text


def token(site: Server, name: str, password: str) -> str:
    answer = requests.post(f"{site.url}/auth/token", json={"username": name, "password": password}, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["access_token"])


def by_token(site: Server, name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token(site, name, name)}"}


def test_rights_of_its_roles(site: Server) -> None:
    assert rights_of(site, by_token(site, "viewer")) == SEE
    assert rights_of(site, by_token(site, "user")) == SEE | WORK
    assert rights_of(site, by_token(site, "op")) == SEE | WORK | set(CONNECT)
    assert rights_of(site, by_token(site, ADMIN)) == SEE | WORK | set(CONNECT)


def test_who_has_rights_on_one_dag_has_them_on_no_other(site: Server) -> None:
    for name in HEART_ONLY:
        assert rights_of(site, by_token(site, name)) == set(), name
    for name, dags in {**{key: {"heart"} for key in HEART_ONLY}, "viewer": {"heart", "lung"}}.items():
        assert seen(site, by_token(site, name)) == dags
        workflows = requests.get(site.monai("/workflow-manager/workflows"), auth=(name, name), timeout=60).json()
        assert len(workflows) == len(dags)
        listed = requests.get(f"{site.url}/ui/dags", headers=by_token(site, name), timeout=60)
        assert {dag["dag_id"] for dag in listed.json()["dags"]} == dags, "Airflow's own list"


def test_who_has_no_right_gets_nothing_from_any_route(site: Server) -> None:
    own = by_token(site, "public")
    document = requests.get(site.monai("/openapi.json"), headers=own, timeout=60).json()
    names = {"payload_id": site.payloads["heart"], "instance_id": site.payloads["heart"], "sink": "OUTSIDE"}
    told = ("heart", "lung", *site.payloads.values())
    let_in = 0
    for path, operations in document["paths"].items():
        for method in operations:
            address = site.monai(re.sub(r"{(\w+)}", lambda name: names.get(name.group(1), GONE), path))
            answer = requests.request(method, address, headers=own, json=None if method == "get" else {}, timeout=60)
            assert answer.status_code < 500 or path.startswith("/mip/"), (method, path, answer.text)
            if answer.ok:
                let_in += 1
                assert method == "get" and not any(name in answer.text for name in told), (method, path, answer.text)
    assert let_in > 10, "lists without anything in them, and what tells nothing of the site"


def test_what_a_right_on_one_dag_opens(site: Server) -> None:
    tokens = {name: by_token(site, name) for name in (*HEART_ONLY, "viewer")}

    def status(name: str, path: str, method: str = "GET", **more: Any) -> int:
        return requests.request(method, site.monai(path), headers=tokens[name], timeout=60, **more).status_code

    for name in HEART_ONLY:
        for dag, payload in site.payloads.items():
            mine = dag == "heart"
            run = f"monai__{payload}"
            assert status(name, f"/workflow-manager/payload/{payload}") == (200 if mine else 404)
            assert status(name, f"/workflow-manager/payload/{payload}/download") == (200 if mine else 404)
            task = f"/dags/{dag}/runs/{run}/tasks/work"
            assert status(name, task) == (200 if mine else 403)
            assert status(name, f"{task}/artifacts/seg/0") == (200 if mine else 403)
    executions = {one["workflow_name"]: one["tasks"][0]["execution_id"] for one in instances(site, tokens["viewer"])}
    ending = {"json": {"status": "Canceled"}}
    for name, (heart, lung) in {"heart-worker": (409, 404), "heart-reader": (403, 404), "viewer": (403, 403)}.items():
        found = {dag: status(name, f"/workflow-manager/tasks/{executions[dag]}", "PUT", **ending) for dag in executions}
        assert found == {"heart": heart, "lung": lung}, name


def test_ways_to_sign_in(site: Server) -> None:
    own = site.monai("/workflow-manager/workflowinstances")
    assert requests.get(own, auth=("viewer", "viewer"), timeout=60).status_code == 200
    for name, password in (("viewer", "user"), ("viewer", ""), ("nobody", "viewer")):
        refused = requests.get(own, auth=(name, password), timeout=60)
        assert refused.status_code == 401 and "Basic" in refused.headers["www-authenticate"], (name, refused.text)
    assert requests.get(own, headers={"authorization": "Bearer x.y.z"}, timeout=60).status_code == 401
    assert requests.get(own, timeout=60).status_code == 401


def test_the_cookie_of_its_log_in_page(site: Server) -> None:
    with requests.Session() as browser:
        page = browser.get(f"{site.url}/auth/login/", timeout=60).text
        csrf = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
        assert csrf is not None
        form = {"username": "user", "password": "user", "csrf_token": csrf.group(1)}
        browser.post(f"{site.url}/auth/login/", data=form, timeout=60, allow_redirects=False)
        assert browser.cookies.get("_token")
        assert "None yet" in browser.get(site.monai("/maps"), timeout=60).text
        elsewhere = {"origin": "http://evil.example"}
        assert browser.post(site.monai("/app-server/datasets"), headers=elsewhere, timeout=60).status_code == 403
        assert browser.post(site.monai("/app-server/datasets"), timeout=60).status_code == 415


def test_who_is_not_active_any_more_is_nobody(site: Server) -> None:
    boss = by_token(site, ADMIN)
    person = {"first_name": "L", "last_name": "L", "email": "leaver@x.example", "roles": [{"name": "Admin"}]}
    _made(site, "users", {"username": "leaver", "password": "leaver", **person}, boss)
    hers = by_token(site, "leaver")
    assert requests.delete(f"{site.url}/auth/fab/v1/users/leaver", headers=boss, timeout=60).status_code == 204
    ways: list[dict[str, Any]] = [{"headers": hers}, {"auth": ("leaver", "leaver")}]
    for way in ways:
        assert requests.get(site.monai("/app-server/datasets"), timeout=60, **way).status_code == 401


def test_who_came_by_openid_connect_has_rights_by_roles(by_openid: tuple[Server, Keycloak]) -> None:
    url, provider = by_openid[0].wait().url, by_openid[1]
    stranger = requests.get(f"{url}/monai/workflow-manager/workflowinstances", timeout=60)
    assert {one["workflow_name"] for one in stranger.json()["Data"]} == {"heart"}, "as the site says of strangers"
    for person, listed in zip(BY_OPENID, ({"heart", "lung"}, {"heart"}), strict=True):
        with requests.Session() as browser:
            page = browser.get(f"{url}/auth/login/keycloak", timeout=60)
            assert page.url.startswith(provider.authorization)
            browser.post(page.url, data={"username": person.name, "password": "pw"}, timeout=60)
            found = browser.get(f"{url}/monai/workflow-manager/workflowinstances", timeout=60)
            assert {one["workflow_name"] for one in found.json()["Data"]} == listed
        refused = requests.get(f"{url}/monai/app-server/datasets", auth=(person.name, "pw"), timeout=60)
        assert refused.status_code == 401, "the password is one of the provider"
