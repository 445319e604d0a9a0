"""The DAGs of registered MAPs, as Airflow gets to see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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


def test_a_registered_map_is_a_dag_with_the_next_refresh_and_goes_with_the_one_after(
    folder: Path, make_bundle: MakeBundle, registry: MapRegistry
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
    assert "maps/liver/2.json of a registered MAP is damaged" in errors["maps/liver/2.map.py"]
