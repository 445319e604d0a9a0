"""What a MAP is called when it is registered, its workflow, and its place among the others."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import RegistryError
from airflow_monai.factory.builder import build_dag
from airflow_monai.maps.inspection import Inspected, inspect_folder
from airflow_monai.maps.manifest import ManifestFiles
from airflow_monai.maps.registration import Wanted, default_name, default_version, register
from airflow_monai.maps.registry import MapKind, MapRegistry
from airflow_monai.maps.workflows import RegisteredWorkflows, default_ae_title, plan_of_record, workflow_text
from airflow_monai.specs.folder import load_folder
from airflow_monai.store.local import LocalStore
from tests.maps.registered import APP, PKG, digest, image_map

HAND_WRITTEN = """\
name: {name}
version: 1.0.0
informatics_gateway: {{ae_title: {ae}, grouping: {grouping}}}
tasks: [{{id: route, type: router}}]
"""


@pytest.fixture
def registry(tmp_path: Path) -> MapRegistry:
    return MapRegistry(LocalStore(tmp_path / "store"))


@pytest.fixture
def workflows(tmp_path: Path) -> Path:
    folder = tmp_path / "workflows"
    folder.mkdir()
    return folder


def image(
    reference: str, *, version: Any = "1.0.0", content: str = "a", pkg: dict[str, Any] | None = None
) -> Inspected:
    app = json.dumps({**APP, "version": version}).encode()
    files = ManifestFiles(app, json.dumps(pkg or PKG).encode(), reference)
    return Inspected(reference, MapKind.IMAGE, reference, digest(content), files, files.parsed())


def write(folder: Path, name: str, ae: str, grouping: str = "study") -> None:
    (folder / f"{name}.yaml").write_text(HAND_WRITTEN.format(name=name, ae=ae, grouping=grouping))


def registered(registry: MapRegistry, folder: Path, inspected: Inspected, **wanted: Any) -> Any:
    others = load_folder(folder, more=RegisteredWorkflows(registry.store).files).workflows
    return register(registry, inspected, Wanted(**wanted), others)


@pytest.mark.parametrize(
    ("reference", "name", "version"),
    [
        ("lung-seg:1.2.0", "lung-seg", "1.2.0"),
        ("registry.example:5000/team/lung-seg:v2", "lung-seg", "v2"),
        ("lung-seg", "lung-seg", "1.0.0"),
        ("lung-seg:latest", "lung-seg", "1.0.0"),
        ("my_app-x64-workstation-dgpu-linux-amd64:latest", "my_app", "1.0.0"),
        ("my_app-igx-dgpu-linux-arm64:3.1", "my_app", "3.1"),
        (f"team/lung@{digest('a')}", "lung", "1.0.0"),
    ],
)
def test_name_and_version_by_themselves(reference: str, name: str, version: str) -> None:
    assert (default_name(image(reference)), default_version(image(reference))) == (name, version)


def test_a_version_that_nobody_tells_has_to_be_given(registry: MapRegistry, workflows: Path) -> None:
    for version in (None, "0.0.0"):
        with pytest.raises(RegistryError, match="--version"):
            registered(registry, workflows, image("lung:latest", version=version))
    assert registered(registry, workflows, image("lung:latest", version=None), version="7").record.label == "lung:7"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("lung-seg", "LUNG-SEG"),
        ("a.very.long.name_of_a_map", "A-VERY-LONG-NAME"),
        ("breast-density-classifier", "BREAST-DENSITY-C"),
        ("1.2", "1-2"),
        ("abcdefghijklmno.x", "ABCDEFGHIJKLMNO"),
    ],
)
def test_ae_title_by_itself(name: str, title: str) -> None:
    assert default_ae_title(name) == title


def test_the_workflow_runs_the_map_by_name_and_makes_what_the_map_makes() -> None:
    plan = plan_of_record(image_map())
    assert (plan.dag_id, plan.ae_title, plan.version) == ("map.lung.1.0.0", "LUNG", "1.0.0")
    (task,) = plan.tasks
    assert task.args["map"] == "lung:1.0.0"
    assert [(item.name, item.mandatory) for item in task.outputs] == [("results", True)]
    assert task.resources is None


def test_exports_are_a_task_after_it() -> None:
    plan = plan_of_record(image_map(export_destinations=("PACS", "ARCHIVE")))
    run, export = plan.tasks
    assert export.export_destinations == ("PACS", "ARCHIVE")
    assert [(edge.source, edge.target) for edge in plan.edges] == [(run.id, export.id)]


@pytest.mark.parametrize(
    ("resources", "use_gpu", "wanted"),
    [
        ({"gpu": 1, "gpuMemory": "6Gi"}, True, (1, "6Gi")),
        ({"gpuMemory": "500MB"}, True, (1, "500000000")),
        ({"gpu": 1.5}, True, (2, None)),
        ({"gpu": 1, "gpuMemory": "6Gi"}, False, (0, None)),
    ],
)
def test_its_cards_are_known_before_it_runs(resources: dict[str, Any], use_gpu: bool, wanted: tuple[Any, Any]) -> None:
    (task,) = plan_of_record(image_map(resources=resources, use_gpu=use_gpu)).tasks
    assert task.resources is not None
    assert (task.resources.gpu, task.resources.gpu_memory) == wanted


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(60, 1), (61, 2), (7200, 120), (0.5, 1), (10**9, 525_600), (0, 60), (None, 60)]
)
def test_airflow_knows_its_time_limit(seconds: float | None, minutes: int) -> None:
    """One that takes two hours by its manifest is not ended after the hour of other tasks; without a limit it is."""
    app = {name: value for name, value in {**APP, "timeout": seconds}.items() if value is not None}
    plan = plan_of_record(image_map(app=json.dumps(app)))
    assert plan.tasks[0].timeout_minutes == minutes
    (task,) = build_dag(plan).tasks
    assert task.execution_timeout is not None
    assert timedelta(0) < task.execution_timeout - timedelta(minutes=minutes) <= timedelta(hours=1)


def test_every_text_of_a_manifest_stays_text() -> None:
    record = image_map(location="'\n- evil: {{ x }}", registered_by="x")
    assert plan_of_record(record).dag_id == "map.lung.1.0.0"
    assert "evil" not in workflow_text(record)


def test_a_title_that_follows_from_the_name_is_not_shared_by_accident(registry: MapRegistry, workflows: Path) -> None:
    write(workflows, "mine", "LUNG")
    with pytest.raises(RegistryError, match=r"'LUNG'.*mine.*--ae-title LUNG"):
        registered(registry, workflows, image("lung:1"))
    done = registered(registry, workflows, image("lung:1"), ae_title="LUNG")
    assert done.beside == ("mine",)
    with pytest.raises(RegistryError, match=r"map\.lung\.1, mine"):
        registered(registry, workflows, image("lung:2", content="b"))
    assert not registered(registry, workflows, image("lung:1")).is_new  # what it is registered with stays


@pytest.mark.parametrize("title", ["A\\B", "", "   ", "SEVENTEEN-LETTERS", "Ä"])
def test_a_title_that_dicom_does_not_allow_is_refused(registry: MapRegistry, workflows: Path, title: str) -> None:
    with pytest.raises(RegistryError, match="AE title"):
        registered(registry, workflows, image("lung:1"), ae_title=title)
    assert registry.listing().maps == ()


def test_a_workflow_of_the_same_name_is_in_the_way(registry: MapRegistry, workflows: Path) -> None:
    write(workflows, "map.lung.1", "OTHER")
    with pytest.raises(RegistryError, match=r"map\.lung\.1.*taken by the workflow"):
        registered(registry, workflows, image("lung:1"))
    write(workflows, "by-series", "SERIES", "series")
    with pytest.raises(RegistryError, match="by series"):
        registered(registry, workflows, image("liver:1"), ae_title="SERIES")
    assert registry.listing().maps == ()


def test_maps_of_one_version_are_in_the_way_of_each_other(registry: MapRegistry, workflows: Path) -> None:
    registered(registry, workflows, image("lung:1"))
    with pytest.raises(RegistryError, match=r"maps/lung/1\.map.*Nothing was changed"):
        registered(registry, workflows, image("other:1", content="b"), name="LUNG", ae_title="ELSEWHERE")
    assert registered(registry, workflows, image("liver:1", content="c"), ae_title="LUNG").beside == ("map.lung.1",)
    assert [record.label for record in registry.listing().maps] == ["liver:1", "lung:1"]


def test_a_written_workflow_that_comes_later_keeps_its_name(registry: MapRegistry, workflows: Path) -> None:
    registered(registry, workflows, image("lung:1"))
    write(workflows, "map.lung.1", "OTHER")
    found = load_folder(workflows, more=RegisteredWorkflows(registry.store).files)
    assert [plan.ae_title for plan in found.workflows] == ["OTHER"]
    assert [problem.file for problem in found.problems] == ["maps/lung/1.map"]


def test_a_folder_is_pinned_by_its_files(tmp_path: Path, registry: MapRegistry, workflows: Path) -> None:
    folder = tmp_path / "lung"
    (folder / "app").mkdir(parents=True)
    (folder / "app.json").write_text(json.dumps({**APP, "version": 2.5}))
    (folder / "pkg.json").write_text("{}")
    (folder / "app" / "main.py").write_text("print(1)")
    (folder / "app" / "model.bin").write_bytes(bytes(20_000_000))
    first = registered(registry, workflows, inspect_folder(folder)).record
    assert (first.label, first.kind, first.location) == ("lung:2.5", MapKind.FOLDER, str(folder))
    (folder / "app" / "__pycache__").mkdir()
    (folder / "app" / "__pycache__" / "main.pyc").write_bytes(b"x")
    assert inspect_folder(folder).digest == first.digest
    for path, content in (("app/main.py", b"print(2)"), ("app/model.bin", bytes(20_000_000 - 1) + b"x")):
        before = (folder / path).read_bytes()
        (folder / path).write_bytes(content)
        assert inspect_folder(folder).digest != first.digest
        (folder / path).write_bytes(before)
    with pytest.raises(RegistryError, match="files-sha256"):
        registered(registry, workflows, image("lung:2.5"))
