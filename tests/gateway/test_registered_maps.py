"""The gateway routes to registered MAPs, and stops when they are not registered any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.intake.events import EventLog
from airflow_monai.intake.workflows import Workflows
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store.local import LocalStore
from airflow_monai.workflows.site import SiteWorkflows
from tests.gateway.conftest import wait_for, write_workflow
from tests.maps.registered import image_map


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def workflows(store: LocalStore, folder: Path) -> Workflows:
    folder.mkdir(exist_ok=True)
    return Workflows(folder, 1.0, EventLog(None), SiteWorkflows(store).files)


def test_an_ae_title_is_known_as_long_as_its_map_is_registered(store: LocalStore, tmp_path: Path) -> None:
    known, registry = workflows(store, tmp_path / "workflows"), MapRegistry(store)
    assert not known.knows("LUNG")
    registry.register(image_map())
    assert wait_for(lambda: known.knows("LUNG"), 10.0) and known.ae_titles() == ["LUNG"]
    write_workflow(tmp_path / "workflows", "mine", "LUNG")
    assert [plan.dag_id for plan in known.known().workflows] == ["mine", "map.lung.1.0.0"]
    registry.unregister("lung", "1.0.0")
    assert [plan.dag_id for plan in known.known().workflows] == ["mine"]


def test_a_record_that_cannot_be_read_is_a_doubt_and_not_a_no(store: LocalStore, tmp_path: Path) -> None:
    MapRegistry(store).register(image_map())
    known = workflows(store, tmp_path / "workflows")
    store.write("maps/liver/1.json", b"{}")
    now = known.known()
    assert [plan.dag_id for plan in now.workflows] == ["map.lung.1.0.0"]
    assert "maps/liver/1.map" in now.doubt


def test_a_store_that_is_away_leaves_what_is_known(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MapRegistry(store).register(image_map())
    known = workflows(store, tmp_path / "workflows")
    assert known.knows("LUNG")
    (tmp_path / "store" / "maps").rename(tmp_path / "away")
    (tmp_path / "store" / "maps").symlink_to("maps")  # a circle: the system cannot tell what is there
    now = known.known()
    assert [plan.ae_title for plan in now.workflows] == ["LUNG"]
    assert "registered MAPs and workflows cannot be read" in now.doubt
