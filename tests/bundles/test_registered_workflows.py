"""The DAGs of workflows registered themselves, as Airflow gets to see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_monai.bundles.workflow_folder import WorkflowSpecBundle
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store.local import LocalStore
from airflow_monai.workflows.registry import NewText, WorkflowRegistry
from tests.bundles.conftest import spec
from tests.bundles.test_registered_maps import SetState, runs, timetable  # noqa: F401
from tests.bundles.test_workflow_folder import dag_files, load, version_of
from tests.maps.registered import image_map

MakeBundle = Callable[..., WorkflowSpecBundle]


@pytest.fixture
def registry(tmp_path: Path) -> WorkflowRegistry:
    return WorkflowRegistry(LocalStore(tmp_path / "store"))


def new(name: str = "ct", more: str = "") -> NewText:
    return NewText(name, "1.0.0", spec(name) + more)


def test_it_is_a_dag_with_the_next_refresh_and_another_version_of_it_with_an_update(
    folder: Path, make_bundle: MakeBundle, registry: WorkflowRegistry
) -> None:
    (folder / "a.yaml").write_text(spec("mr"))
    bundle = make_bundle()
    bundle.initialize()
    before, written = version_of(bundle), (bundle.path / "a.yaml.py").stat().st_mtime_ns
    known = registry.register(new(), "ann").workflow_id
    bundle.refresh()
    dags, errors = load(bundle)
    assert sorted(dags) == ["ct", "mr"] and not errors
    assert dag_files(bundle) == ["a.yaml.py", "workflows/ct.registered.py"]
    assert (bundle.path / "a.yaml.py").stat().st_mtime_ns == written  # Airflow parses only what is new
    first = version_of(bundle)
    code = (bundle.path / "workflows/ct.registered.py").read_text()
    assert spec("ct") in code and "airflow monai workflows" in code
    registry.update(known, lambda was: new(more="description: newer\n"), "bob")
    bundle.refresh()
    second = version_of(bundle)
    assert len({before, first, second}) == 3
    assert load(bundle)[0]["ct"].doc_md != dags["ct"].doc_md  # type: ignore[attr-defined]
    other = make_bundle(version=first, host="other")  # a run stays on the version that it began with
    other.initialize()
    assert (other.path / "workflows/ct.registered.py").read_text() == code


def test_deleted_it_stays_for_the_runs_that_it_still_has_and_nothing_starts_it(
    folder: Path,
    make_bundle: MakeBundle,
    registry: WorkflowRegistry,
    runs: SetState,  # noqa: F811
) -> None:
    known = registry.register(new(), "ann").workflow_id
    bundle = make_bundle()
    bundle.initialize()
    runs("ct", "one", "running")
    registry.delete(known, "bob")
    bundle.refresh()
    dags, errors = load(bundle)
    assert not errors and timetable(dags["ct"]) == "NullTimetable"
    (folder / "ct.yaml").write_text(spec("ct"))  # a file of its name need not wait for that
    bundle.refresh()
    dags, errors = load(bundle)
    assert not errors and dag_files(bundle) == ["ct.yaml.py"]
    assert timetable(dags["ct"]) == "PartitionedAssetTimetable"
    (folder / "ct.yaml").unlink()
    runs("ct", "one", "success")
    bundle.refresh()
    assert load(bundle)[0] == {}
    registry.register(new(), "ann")
    bundle.refresh()
    assert timetable(load(bundle)[0]["ct"]) == "PartitionedAssetTimetable"


def test_deleted_it_starts_no_batch_and_one_that_has_begun_goes_on(
    folder: Path,
    make_bundle: MakeBundle,
    registry: WorkflowRegistry,
    runs: SetState,  # noqa: F811
) -> None:
    scheduled = new(more="schedule: {cron: '0 22 * * *'}\n")
    known = registry.register(scheduled, "ann").workflow_id
    bundle = make_bundle()
    bundle.initialize()
    assert timetable(load(bundle)[0]["ct.batch"]) == "CronTriggerTimetable"
    runs("ct.batch", "tonight", "running")
    registry.delete(known, "bob")
    bundle.refresh()
    dags, errors = load(bundle)
    assert not errors and {name: timetable(dag) for name, dag in dags.items()} == {
        "ct": "NullTimetable",
        "ct.batch": "NullTimetable",
    }
    runs("ct.batch", "tonight", "success")
    bundle.refresh()
    assert load(bundle)[0] == {}


def test_files_come_first_then_maps(folder: Path, make_bundle: MakeBundle, registry: WorkflowRegistry) -> None:
    registry.register(new("ct"), "ann")
    registry.register(new("map.lung.1.0.0"), "ann")
    (folder / "z.yaml").write_text(spec("CT"))
    MapRegistry(registry.store).register(image_map())
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    files = sorted(str(dag.relative_fileloc) for dag in dags.values())  # type: ignore[attr-defined]
    assert files == ["maps/lung/1.0.0.map.py", "z.yaml.py"]
    assert "already in z.yaml" in errors["workflows/ct.registered.py"]
    assert "already in maps/lung/1.0.0.map" in errors["workflows/map.lung.1.0.0.registered.py"]


def test_a_written_file_can_never_have_the_place_of_one(
    folder: Path, make_bundle: MakeBundle, registry: WorkflowRegistry
) -> None:
    registry.register(new("ct"), "ann")
    (folder / "workflows").mkdir()
    (folder / "workflows" / "ct.registered.yaml").write_text(spec("other"))
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert sorted(dags) == ["ct", "other"] and not errors


def test_a_damaged_record_is_one_import_error(
    folder: Path, make_bundle: MakeBundle, registry: WorkflowRegistry
) -> None:
    registry.register(new("ct"), "ann")
    registry.store.write("workflows/mr/1.yaml", b"")
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert list(dags) == ["ct"]
    assert "workflows/mr/1.yaml of a registered workflow is damaged" in errors["workflows/mr.registered.py"]
