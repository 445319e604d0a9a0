"""Credentials as connections: what the HTTP tasks make of them, and back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_monai.errors import InvalidArgument
from airflow_monai.hooks.credentials import Credential, Stored, read, stored
from airflow_monai.hooks.http_endpoint import endpoint_from

HOST = "https://ai.example"


def sent(credential: Credential) -> dict[str, str]:
    """The headers that a task would send."""
    kept = stored(credential)
    connection: Any = SimpleNamespace(
        conn_id="x", host=kept.host, schema=None, port=kept.port, login=kept.login, password=kept.password
    )
    return dict(endpoint_from(connection, kept.extra).headers)


@pytest.mark.parametrize(
    ("values", "headers"),
    [
        ({"type": "http"}, {}),
        ({"type": "basic", "login": "anna", "secret": "s3cret"}, {"Authorization": "Basic YW5uYTpzM2NyZXQ="}),
        ({"type": "bearer", "secret": "t0ken"}, {"Authorization": "Bearer t0ken"}),
        ({"type": "header", "header": "X-Api-Key", "secret": "k3y"}, {"X-Api-Key": "k3y"}),
        ({"type": "bearer", "secret": "t", "options": {"verify": False}}, {"Authorization": "Bearer t"}),
    ],
)
def test_what_a_service_is_shown(values: dict[str, Any], headers: dict[str, str]) -> None:
    credential = Credential("x", host=HOST, **values)
    assert sent(credential) == headers
    assert read("x", stored(credential)) == credential


def test_other_types_are_connections_as_they_are() -> None:
    credential = Credential("x", "aws", login="AKIA", secret="key", options={"region_name": "eu"})
    assert stored(credential) == Stored("aws", login="AKIA", password="key", extra={"region_name": "eu"})
    assert read("x", stored(credential)) == credential


def test_what_somebody_else_has_made_is_understood() -> None:
    made = {"headers": {"authorization": "Bearer t"}, "verify": "/ca.pem"}
    assert read("x", Stored("http", HOST, extra=made)) == Credential(
        "x", "bearer", host=HOST, secret="t", options={"verify": "/ca.pem"}
    )
    several = {"headers": {"A": "1", "B": "2"}}
    assert read("x", Stored("http", HOST, extra=several)).type == "http"
    assert read("x", Stored("http", HOST, login="anna", password="p")).type == "basic"


def test_a_secret_that_is_not_said_stays_with_its_type_only() -> None:
    before = Credential("x", "bearer", host=HOST, secret="t")
    after = stored(Credential("x", "bearer", host="https://other.example"), before)
    assert after.extra == {"headers": {"Authorization": "Bearer t"}} and after.host == "https://other.example"
    with pytest.raises(InvalidArgument, match="needs a secret"):
        stored(Credential("x", "basic", login="anna", host=HOST), before)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"type": "bearer", "secret": "t", "host": ""}, "needs a host"),
        ({"type": "bearer"}, "needs a secret"),
        ({"type": "bearer", "secret": ""}, "needs a secret"),
        ({"type": "bearer", "secret": "a\r\nX-Evil: 1"}, "printable"),
        ({"type": "bearer", "secret": "s\u00e9cret"}, "printable"),
        ({"type": "bearer", "secret": "t", "login": "anna"}, "no login"),
        ({"type": "basic", "secret": "t"}, "needs a login"),
        ({"type": "http", "secret": "t"}, "no secret"),
        ({"type": "header", "secret": "t"}, "name of a header"),
        ({"type": "bearer", "secret": "t", "header": "X"}, "no other one"),
        ({"type": "header", "secret": "t", "header": "X: Y"}, "cannot be one"),
        ({"type": "bearer", "secret": "t", "options": {"headers": {"A": "b"}}}, "type header"),
    ],
)
def test_what_cannot_stand_is_told_without_the_secret(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as refused:
        stored(Credential("x", **{"host": HOST, **values}))
    assert "secret" not in repr(Credential("x", "bearer", secret="s3cret")) and "s\u00e9" not in str(refused.value)
