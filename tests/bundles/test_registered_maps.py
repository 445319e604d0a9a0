"""The DAGs of registered MAPs, as Airflow gets to see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.bundles.workflow_folder import WorkflowSpecBundle
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store.local import LocalStore
from tests.bundles.conftest import spec
from tests.bundles.test_workflow_folder import dag_files, load, version_of
from tests.maps.registered import image_map

MakeBundle = Callable[..., WorkflowSpecBundle]


@pytest.fixture
def registry(tmp_path: Path) -> MapRegistry:
    return MapRegistry(LocalStore(tmp_path / "store"))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """A database of Airflow's own models; what it gives sets the state of a run in it. No DAG stays without one."""
    from datetime import timedelta

    from airflow import settings
    from airflow.models import DagRun, import_all_models
    from airflow.models.base import Base
    from airflow.utils.types import DagRunType
    from sqlalchemy import create_engine, delete
    from sqlalchemy.orm import sessionmaker

    import_all_models()
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine, expire_on_commit=False)
    monkeypatch.setattr(settings, "Session", sessions)
    monkeypatch.setattr("airflow_monai.bundles.ending.GRACE", timedelta(0))

    def set_state(dag_id: str, run_id: str, state: str) -> None:
        with sessions.begin() as session:
            session.execute(delete(DagRun).where(DagRun.run_id == run_id))
            session.add(DagRun(dag_id=dag_id, run_id=run_id, run_type=DagRunType.MANUAL, state=state))

    return set_state


SetState = Callable[[str, str, str], None]


def test_a_registered_map_is_a_dag_with_the_next_refresh_and_goes_with_the_one_after(
    folder: Path, make_bundle: MakeBundle, registry: MapRegistry, runs: SetState
) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    bundle = make_bundle()
    bundle.initialize()
    before, written = version_of(bundle), (bundle.path / "a.yaml.py").stat().st_mtime_ns
    registry.register(image_map())
    bundle.refresh()
    dags, errors = load(bundle)
    assert sorted(dags) == ["ct", "map.lung.1.0.0"] and not errors
    assert dag_files(bundle) == ["a.yaml.py", "maps/lung/1.0.0.map.py"]
    assert "lung:1.0.0" in (bundle.path / "maps/lung/1.0.0.map.py").read_text()
    assert (bundle.path / "a.yaml.py").stat().st_mtime_ns == written  # Airflow parses only what is new
    during = version_of(bundle)
    assert during != before
    bundle.refresh()
    assert version_of(bundle) == during
    registry.unregister("lung", "1.0.0")
    bundle.refresh()
    assert sorted(load(bundle)[0]) == ["ct"]
    assert version_of(bundle) == before


def test_unregistered_it_stays_for_the_runs_that_it_still_has_and_nothing_starts_it(
    folder: Path, make_bundle: MakeBundle, registry: MapRegistry, runs: SetState
) -> None:
    registry.register(image_map())
    bundle = make_bundle()
    bundle.initialize()
    assert timetable(load(bundle)[0]["map.lung.1.0.0"]) == "PartitionedAssetTimetable"
    runs("map.lung.1.0.0", "one", "running")
    runs("map.lung.1.0.0", "two", "queued")
    registry.unregister("lung", "1.0.0")
    bundle.refresh()
    dags, errors = load(bundle)
    closing = dags["map.lung.1.0.0"]
    assert not errors and "unregistered" in closing.tags  # type: ignore[attr-defined]
    assert timetable(closing) == "NullTimetable"
    other = make_bundle(version=version_of(bundle), host="other")
    other.initialize()
    assert "closing=True" in (other.path / "maps/lung/1.0.0.map.py").read_text()
    bundle = make_bundle()
    bundle.initialize()
    runs("map.lung.1.0.0", "one", "success")
    bundle.refresh()
    assert "map.lung.1.0.0" in load(bundle)[0]
    runs("map.lung.1.0.0", "two", "failed")
    bundle.refresh()
    assert load(bundle)[0] == {}
    registry.register(image_map())
    bundle.refresh()
    assert timetable(load(bundle)[0]["map.lung.1.0.0"]) == "PartitionedAssetTimetable"


def timetable(dag: Any) -> str:
    return type(dag.timetable).__name__


def test_a_database_that_cannot_be_asked_lets_the_dag_stay(
    folder: Path, make_bundle: MakeBundle, registry: MapRegistry, runs: SetState, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow import settings
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker

    registry.register(image_map())
    registry.unregister("lung", "1.0.0")
    monkeypatch.setattr(settings, "Session", sessionmaker(create_engine("sqlite://")))
    bundle = make_bundle()
    bundle.initialize()
    assert list(load(bundle)[0]) == ["map.lung.1.0.0"]


def test_its_form_asks_for_a_payload_only(folder: Path, make_bundle: MakeBundle, registry: MapRegistry) -> None:
    registry.register(image_map(export_destinations=("PACS",)))
    bundle = make_bundle()
    bundle.initialize()
    dag = load(bundle)[0]["map.lung.1.0.0"]
    assert list(dag.params) == ["payload_id"]  # type: ignore[attr-defined]
    assert sorted(dag.task_ids) == ["export", "run"]  # type: ignore[attr-defined]


def test_another_host_makes_the_same_of_the_version(
    folder: Path, make_bundle: MakeBundle, registry: MapRegistry
) -> None:
    registry.register(image_map())
    bundle = make_bundle()
    bundle.initialize()
    version = version_of(bundle)
    text = (bundle.path / "maps/lung/1.0.0.map.py").read_text()
    registry.unregister("lung", "1.0.0")
    other = make_bundle(version=version, host="other")
    other.initialize()
    assert (other.path / "maps/lung/1.0.0.map.py").read_text() == text


def test_a_written_workflow_of_its_name_makes_it_an_import_error(
    folder: Path, make_bundle: MakeBundle, registry: MapRegistry
) -> None:
    registry.register(image_map())
    (folder / "z.yaml").write_text(spec("map.lung.1.0.0"))
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert [dag.relative_fileloc for dag in dags.values()] == ["z.yaml.py"]  # type: ignore[attr-defined]
    assert "already in z.yaml" in errors["maps/lung/1.0.0.map.py"]


def test_a_written_file_can_never_have_the_place_of_one(
    folder: Path, make_bundle: MakeBundle, registry: MapRegistry
) -> None:
    registry.register(image_map())
    for path, name in {"maps/lung/1.0.0.yaml": "a", "maps/lung/1.0.0.map.yaml": "b", "maps/lung.yaml": "c"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(spec(name))
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert sorted(dags) == ["a", "b", "c", "map.lung.1.0.0"] and not errors


def test_a_map_whose_cards_this_site_lacks_is_an_import_error_and_nothing_else(
    folder: Path, make_bundle: MakeBundle, registry: MapRegistry
) -> None:
    registry.register(image_map("big", resources={"gpu": 1, "gpuMemory": "900Gi"}))
    registry.register(image_map())
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert list(dags) == ["map.lung.1.0.0"]
    assert "no GPU inventory is known" in errors["maps/big/1.0.0.map.py"]


def test_a_damaged_record_is_one_import_error(
    folder: Path, make_bundle: MakeBundle, registry: MapRegistry, tmp_path: Path
) -> None:
    registry.register(image_map())
    (tmp_path / "store" / "maps" / "liver").mkdir(parents=True)
    (tmp_path / "store" / "maps" / "liver" / "2.json").write_text('{"name": "liver"}')
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert list(dags) == ["map.lung.1.0.0"]
    assert "maps/liver/2.json of the store is damaged" in errors["maps/liver/2.map.py"]
