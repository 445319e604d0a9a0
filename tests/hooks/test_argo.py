"""Connections of type ``argo``: what they say, and their Test button."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_monai.errors import InvalidArgument
from airflow_monai.hooks.argo import ArgoHook, connection_type
from tests.argo_server import ArgoProcess, argo_server


@pytest.fixture
def argo(tmp_path: Path) -> Iterator[ArgoProcess]:
    with argo_server(tmp_path / "cluster") as server:
        yield server


def test_the_test_button_lists_the_namespace(argo: ArgoProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ARGO", argo.connection(namespace="clinic"))
    assert ArgoHook("argo").test_connection() == (
        True,
        f"The Argo Server at {argo.url} shows its workflows in namespace 'clinic'.",
    )
    (request,) = argo.asked("GET")
    assert request["path"].startswith("/api/v1/workflows/clinic?")


def test_a_bad_token_and_a_server_that_is_not_there_are_told(
    argo: ArgoProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_ARGO", json.dumps({"conn_type": "argo", "host": argo.url, "password": "Bearer old"})
    )
    ok, message = ArgoHook("argo").test_connection()
    assert not ok
    assert "HTTP 401: token not valid" in message and "Bearer old" not in message
    argo.kill()
    ok, message = ArgoHook("argo").test_connection()
    assert not ok
    assert "the service cannot be reached" in message


def test_what_a_connection_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"conn_type": "argo", "host": "argo-server.argo", "schema": "https", "port": 2746, "password": "v2:x"}
    monkeypatch.setenv("AIRFLOW_CONN_ARGO", json.dumps({**said, "extra": {"verify": "/etc/ca.pem"}}))
    server = ArgoHook("argo").get_conn()
    assert (server.url, server.namespace) == ("https://argo-server.argo:2746", "argo")
    assert server.client.endpoint.verify == "/etc/ca.pem"
    assert server.page("a") == "https://argo-server.argo:2746/workflows/argo/a"
    monkeypatch.setenv("AIRFLOW_CONN_ARGO", json.dumps({"conn_type": "dicom", "host": "x"}))
    with pytest.raises(InvalidArgument, match="has the type 'dicom', not argo"):
        ArgoHook("argo").get_conn()


def test_the_form_names_the_hook() -> None:
    form = connection_type()
    assert form["hook-class-name"] == f"{ArgoHook.__module__}.{ArgoHook.__name__}"
    assert (form["connection-type"], form["hook-name"]) == (ArgoHook.conn_type, ArgoHook.hook_name)
