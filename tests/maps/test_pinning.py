"""A registered image that is on the engine runs, also when its registry does not answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_monai.errors import MapNotFound, MapUnregistered, RegistryConflict, RegistryUnavailable
from airflow_monai.maps import pinning
from airflow_monai.maps.pinning import registered_map
from airflow_monai.maps.registry import MapKind, MapRegistry, RegisteredMap
from airflow_monai.store.local import LocalStore
from tests.maps.registered import digest, image_map

ID = "sha256:" + "a" * 64
PINNED = "registry.hospital.example/lung@sha256:" + "b" * 64
RECORD = RegisteredMap(
    name="lung",
    version="1.0.0",
    kind=MapKind.IMAGE,
    location="registry.hospital.example/lung:1",
    digest=ID,
    repo_digest=PINNED,
    app='{"command": "run"}',
    pkg="{}",
    ae_title="LUNG",
)


def runner(**answers: Exception | str) -> Any:
    def find(reference: str, manifest: object) -> str:
        answer = answers["by_id" if reference == ID else "by_digest"]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(name="docker", find_registered=find)


@pytest.mark.parametrize("away", [MapNotFound("not there"), RegistryUnavailable("away")])
def test_it_is_known_by_its_id_too(away: Exception) -> None:
    assert registered_map(runner(by_digest=away, by_id="found"), RECORD) == "found"
    with pytest.raises(type(away), match=str(away)):
        registered_map(runner(by_digest=away, by_id=MapNotFound("no such id")), RECORD)


def test_a_task_that_runs_a_version_keeps_it_from_another_content(tmp_path: Path) -> None:
    registry = MapRegistry(LocalStore(tmp_path))
    registry.register(image_map())
    assert pinning._in_use(registry, "other", "1.0.0") is None
    found = pinning._in_use(registry, "lung", "1.0.0")
    assert found is not None and found.digest == digest("a")
    registry.unregister("lung", "1.0.0")
    with pytest.raises(RegistryConflict, match="that was run"):
        registry.register(image_map(content="b"))


def test_a_task_that_begins_while_a_version_changes_its_content_runs_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mark comes too late to be seen: it must not run what it has seen before."""
    registry, mark, meanwhile = MapRegistry(LocalStore(tmp_path)), MapRegistry.mark_used, ["unregister", "register"]
    registry.register(image_map())

    def slowly(self: MapRegistry, record: RegisteredMap) -> None:
        while meanwhile:
            if meanwhile.pop(0) == "unregister":
                registry.unregister("lung", "1.0.0")
            else:
                registry.register(image_map(content="b"))
        mark(self, record)

    monkeypatch.setattr(MapRegistry, "mark_used", slowly)
    found = pinning._in_use(registry, "lung", "1.0.0")
    assert found is not None and found.digest == digest("b")
    meanwhile.append("unregister")
    with pytest.raises(MapUnregistered):
        pinning._in_use(registry, "lung", "1.0.0")
