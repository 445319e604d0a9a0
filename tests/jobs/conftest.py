"""A store of each kind with a registered MAP and a payload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store import Store
from airflow_monai.store.local import LocalStore
from tests.maps.registered import image_map
from tests.s3_server import s3  # noqa: F401

PAYLOAD = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    made = LocalStore(tmp_path) if request.param == "local" else request.getfixturevalue("s3").store(tmp_path)
    MapRegistry(made).register(image_map())
    made.write_json(f"payloads/{PAYLOAD}/payload.json", {})
    return made


@pytest.fixture
def asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the store is asked for from now on, as ``<operation> <key>``; empty it to count anew."""
    found: list[str] = []

    def counted(name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Store, key: str, *args: Any) -> Any:
            found.append(f"{name} {key}")
            return ask(self, key, *args)

        return call

    for name in ("children", "create", "delete", "exists", "read", "write"):
        monkeypatch.setattr(type(store), name, counted(name, getattr(type(store), name)))
    return found
