"""A registered image that is on the engine runs, also when its registry does not answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_monai.errors import MapNotFound, RegistryUnavailable
from airflow_monai.maps.pinning import registered_map
from airflow_monai.maps.registry import MapKind, RegisteredMap

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
