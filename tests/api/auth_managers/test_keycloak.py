"""Airflow's Keycloak auth manager, the real one, and a stand-in for Keycloak's server (tests/keycloak_server.py)."""

from __future__ import annotations

import time
from urllib.parse import urljoin

import pytest
import requests

from tests.api.auth_managers.conftest import Server
from tests.api.auth_managers.rights import CONNECT, SEE, WORK, rights_of, seen
from tests.keycloak_server import CLIENT, CLIENT_SECRET, REALM, Keycloak


@pytest.fixture(scope="module")
def site(servers: tuple[Server, Server]) -> Server:
    return servers[1].wait()


def token(site: Server, body: dict[str, str]) -> dict[str, str]:
    answer = requests.post(f"{site.url}/auth/token", json=body, timeout=60)
    assert answer.status_code == 201, answer.text
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


def by_token(site: Server, name: str) -> dict[str, str]:
    return token(site, {"username": name, "password": name})


def test_rights_of_its_roles(site: Server, realm: Keycloak) -> None:
    assert rights_of(site, by_token(site, "stranger")) == set()
    assert rights_of(site, by_token(site, "viewer")) == SEE | {CONNECT[0]}, "read-only there is: to read all"
    assert rights_of(site, by_token(site, "user")) == SEE | WORK | {CONNECT[0]}
    assert rights_of(site, by_token(site, "op")) == SEE | WORK | set(CONNECT)
    assert rights_of(site, by_token(site, "admin")) == SEE | WORK | set(CONNECT)
    asked = {(resource, scope, *claims.get("dag_entity", [])) for resource, scope, claims in realm.asked}
    assert {("Dag", "GET"), ("Dag", "POST", "RUN"), ("Dag", "GET", "TASK_LOGS"), ("Connection", "DELETE")} <= asked


def test_a_policy_of_single_dags(site: Server) -> None:
    worker = by_token(site, "heart-worker")
    assert rights_of(site, worker) == set()
    assert seen(site, worker) == {"heart"} and seen(site, by_token(site, "viewer")) == {"heart", "lung"}
    for dag, payload in site.payloads.items():
        answer = requests.get(site.monai(f"/workflow-manager/payload/{payload}"), headers=worker, timeout=60)
        assert answer.status_code == (200 if dag == "heart" else 404)


def test_a_service_and_its_client_credentials(site: Server) -> None:
    said = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": CLIENT_SECRET}
    assert rights_of(site, token(site, said)) == SEE | WORK | {CONNECT[0]}


def test_a_name_and_a_password(site: Server, realm: Keycloak, monkeypatch: pytest.MonkeyPatch) -> None:
    own = site.monai("/app-server/datasets")
    assert requests.get(own, auth=("viewer", "viewer"), timeout=60).status_code == 200
    assert requests.get(own, auth=("stranger", "stranger"), timeout=60).status_code == 403
    assert requests.get(own, auth=("viewer", "wrong"), timeout=60).status_code == 401
    monkeypatch.setattr(realm, "direct_grants", False)
    refused = requests.get(own, auth=("user", "user"), timeout=60)
    assert refused.status_code == 401 and "use a token" in refused.json()["detail"]


def test_the_session_of_a_browser(site: Server) -> None:
    with requests.Session() as browser:
        page = browser.get(f"{site.url}/auth/login", timeout=60)
        assert page.url.startswith(f"{urljoin(page.url, '/')}realms/{REALM}/") and 'name="password"' in page.text
        done = browser.post(page.url, data={"username": "user", "password": "user"}, timeout=60, allow_redirects=False)
        browser.get(done.headers["location"], timeout=60, allow_redirects=False)
        assert {"_token", "_access_token", "_refresh_token"} <= set(browser.cookies.keys())
        assert "None yet" in browser.get(site.monai("/maps"), timeout=60).text
        assert browser.get(site.monai("/workflow-manager/workflowinstances"), timeout=60).json()["TotalRecords"] == 2
        alone = {"authorization": f"Bearer {browser.cookies['_token']}"}
    refused = requests.get(site.monai("/app-server/datasets"), headers=alone, timeout=60)
    assert refused.status_code == 401, "that cookie is nothing without those beside it"


def test_a_token_lasts_as_long_as_keycloak_s_own(
    site: Server, realm: Keycloak, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realm, "lifetime", 1)
    admin = by_token(site, "admin")
    time.sleep(1.1)
    assert rights_of(site, admin) == set()


def test_a_keycloak_that_does_not_answer(site: Server, realm: Keycloak, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = by_token(site, "admin")
    monkeypatch.setattr(realm, "is_down", True)
    for way in ({"headers": admin}, {"auth": ("op", "op")}):
        answer = requests.get(site.monai("/app-server/datasets"), timeout=60, **way)  # type: ignore[arg-type]
        assert answer.status_code == 503 and "auth manager" in answer.json()["detail"]
