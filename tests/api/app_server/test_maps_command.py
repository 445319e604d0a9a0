"""`airflow monai maps` of a server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.api.app_server import registering
from airflow_monai.cli.remote import maps as remote
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store.local import LocalStore
from tests.api.app_server.test_maps import noop as noop
from tests.api.app_server.test_maps import patient as patient


def test_the_life_of_a_map(command: Callable[..., str], noop: Path, site_store: LocalStore) -> None:
    maps = partial(command, "maps")
    words = ("register", "./noop", "--version", "1.0.0", "--ae-title", "NOOP", "--export", "PACS", "--no-gpu")
    told = maps(*words)
    assert told.startswith("Registered noop:1.0.0: folder ")
    assert "for studies sent to AE title NOOP, or by hand" in told and "exports   PACS" in told
    assert " warning: " in told, "what is doubtful of it"
    record = MapRegistry(site_store).of_label("noop:1.0.0")
    assert record is not None and (record.ae_title, record.export_destinations) == ("NOOP", ("PACS",))
    assert "Already registered: noop:1.0.0" in maps(*words)
    (listed,) = json.loads(maps("list", "--json"))
    assert (listed["map"], listed["registered_by"]) == ("noop:1.0.0", "admin") and "noop:1.0.0" in maps("list")
    assert "REVISION" in maps("describe", "noop", who="viewer")
    maps("unregister", "noop:1.0.0", code=1, who="viewer")
    assert "Unregistered" in maps("unregister", "noop:1.0.0")
    assert json.loads(maps("list", "--json")) == []
    maps("describe", "noop", code=2)
    maps("describe", "other:1.0.0", code=1)
    maps("list", "--all", code=2)
    maps("register", "./nowhere", code=1)


def test_a_registration_that_takes_long_is_waited_for(
    command: Callable[..., str], noop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registering, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(remote, "LOOK_SECONDS", 0.1)
    asked: list[str] = []
    waited, told = remote._waited, threading.Semaphore(0)

    def work(*what: Any) -> Any:
        assert told.acquire(timeout=60)
        return registering._work(*what)

    def wait(server: Any, one: Any) -> Any:
        asked.append(one["state"])
        told.release()
        return waited(server, one)

    monkeypatch.setattr("airflow_monai.api.app_server.maps.registrar", registering.Registrar(work))
    monkeypatch.setattr(remote, "_waited", wait)
    assert "Registered noop:1.0.0: folder" in command("maps", "register", "./noop", "--version", "1.0.0")
    (noop / "app.json").write_text("no JSON")
    assert "app.json" in command("maps", "register", "./noop", "--version", "2.0.0", code=1)
    assert asked == ["running", "running"]
