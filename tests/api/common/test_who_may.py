"""What the document says of who may is what the routes ask for."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from airflow_monai.api.app import create_app
from airflow_monai.api.common.access import Caller, Right
from airflow_monai.api.common.who_may import ASKED_WITHIN, NOBODY_ASKED, SIGNED_IN, permission
from airflow_monai.store.local import LocalStore

Api = Callable[[str | None], TestClient]
FOR_ALL = dict.fromkeys(("GET /workflow-manager/artifacts/types", "GET /mip/mip_client.py"), SIGNED_IN)
ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"


def test_every_route_says_who_may(api: Api) -> None:
    said = {
        f"{method.upper()} {path}": operation["x-who-may"]
        for path, item in create_app().openapi()["paths"].items()
        for method, operation in item.items()
    }
    others = {name: text for name, text in said.items() if "has the right to" not in text and text != NOBODY_ASKED}
    assert others == FOR_ALL and len(said) > 90
    assert {name.upper().split()[0] + " " + name.split()[1] for name in ASKED_WITHIN} <= set(said)


def test_what_a_route_asks_for_is_what_it_says(
    api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first right at least, without which nothing is answered; others say how much is."""
    asked: list[str] = []

    def refuse(caller: Caller, right: Right, name: str | None = None) -> bool:
        asked.append(permission(right))
        return False

    monkeypatch.setattr(Caller, "_may", refuse)
    client, seen, strange = api("admin"), 0, []
    for path, item in create_app().openapi()["paths"].items():
        for method, operation in item.items():
            asked.clear()
            client.request(method, re.sub(r"\{[^}]*\}", ID, path), json={})
            said = operation["x-who-may"]
            strange += [(method, path, right) for right in asked[:1] if right not in said]
            seen += bool(asked)
    assert strange == [] and seen > 50
