"""Pairs of dataset and MAP, as people keep them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_monai.datasets.associations import Associations
from airflow_monai.store.local import LocalStore
from tests.api.app_server.conftest import dicom

Api = Callable[..., TestClient]
URL = "/app-server"


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the registry of MAPs: it knows two."""
    from airflow_monai.maps.registry import MapRegistry

    class Record:
        is_registered = True

    known = {("seg", "1.0"), ("nodule", "2.0")}
    monkeypatch.setattr(MapRegistry, "newest", lambda self, *label: Record() if label in known else None)


def upload(client: TestClient) -> str:
    answer = client.post(f"{URL}/datasets", content=dicom(), headers={"content-type": "application/dicom"})
    return str(answer.json()["id"])


def test_pairs_are_kept_listed_and_undone(api: Api, maps: None, site_store: LocalStore) -> None:
    client = api("op")
    one, two = sorted((upload(client), upload(client)))

    def put(dataset_id: str, label: str) -> int:
        return client.put(f"{URL}/datasets/{dataset_id}/associations/{label}").status_code

    def listed(**params: Any) -> list[tuple[str, str]]:
        found = client.get(f"{URL}/associations", params=params).json()["associations"]
        return [(item["dataset_id"], item["map"]) for item in found]

    assert [put(one, "seg:1.0"), put(one, "nodule:2.0"), put(two, "seg:1.0"), put(one, "seg:1.0")] == [201] * 3 + [200]
    assert listed() == [(one, "nodule:2.0"), (one, "seg:1.0"), (two, "seg:1.0")]
    assert listed(map="seg:1.0") == [(one, "seg:1.0"), (two, "seg:1.0")]
    assert listed(dataset_id=one) == [(one, "nodule:2.0"), (one, "seg:1.0")]
    assert client.get(f"{URL}/associations", params={"limit": 1}).json()["next"] == one
    assert listed(limit=1, after=one) == [(two, "seg:1.0")]
    assert len(client.get(f"{URL}/datasets/{one}/associations").json()["associations"]) == 2
    assert [pair.map for pair in Associations(site_store).of_dataset(one)] == ["nodule:2.0", "seg:1.0"]

    where = f"{URL}/datasets/{one}/associations/seg:1.0"
    assert [client.delete(where).status_code for _ in range(2)] == [204, 404]
    assert client.delete(f"{URL}/datasets/{two}").status_code == 204  # its pairs go with it
    assert listed() == [(one, "nodule:2.0")] and listed(map="seg:1.0") == []


def test_both_sides_must_be_there_and_rights_are_asked(api: Api, maps: None) -> None:
    client = api("op")
    dataset_id = upload(client)
    assert client.put(f"{URL}/datasets/{dataset_id}/associations/other:1.0").status_code == 404
    assert client.put(f"{URL}/datasets/{dataset_id}/associations/no-map").status_code == 404
    assert client.put(f"{URL}/datasets/nothing/associations/seg:1.0").status_code == 404
    for path in (f"{URL}/associations", f"{URL}/datasets/{dataset_id}/associations"):
        assert api(None).get(path).status_code == 401
        assert api("viewer").get(path).status_code == 200
    where = f"{URL}/datasets/{dataset_id}/associations/seg:1.0"
    assert api("viewer").put(where).status_code == 403
    assert api("viewer").delete(where).status_code == 403
    assert api("user").put(where).status_code == 201


def test_a_pair_that_was_half_made_or_half_undone_is_brought_in_order(site_store: LocalStore) -> None:
    pairs = Associations(site_store)
    pairs.add("d1", "seg:1.0", "anna")
    site_store.delete("associations/by-dataset/d1/" + next(iter(site_store.children("associations/by-dataset/d1"))))
    assert list(pairs.of_map("seg:1.0")) == [] and list(pairs.all()) == []
    assert pairs.add("d1", "seg:1.0", "ben")[1]
    assert [pair.created_by for pair in pairs.of_map("seg:1.0")] == ["ben"]
