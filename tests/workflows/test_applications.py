"""AE titles and sinks of applications, as one command each changes them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from airflow_monai.cli.here import mapping as command
from airflow_monai.errors import InvalidArgument, MapNotFound, MonaiError, RegistryError, WorkflowConflict
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store.local import LocalStore
from airflow_monai.workflows.applications import Applications
from airflow_monai.workflows.catalog import Catalog
from airflow_monai.workflows.definition import Body
from airflow_monai.workflows.registration import Registration
from airflow_monai.workflows.registry import WorkflowRegistry
from tests.maps.registered import image_map

WORKFLOW = """
name: look
version: "1"
informatics_gateway: {ae_title: LOOK, export_destinations: [PACS]}
tasks:
  - id: segment
    type: map
    args: {map: "lung-seg:1.0.0"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: seg, type: SEG}]
    task_destinations: [{name: to-pacs}]
  - id: to-pacs
    type: export
    export_destinations: [{name: PACS}]
    artifacts: {input: [{name: seg, value: "{{ context.executions.segment.artifacts.seg }}"}]}
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "workflows").mkdir()
    return LocalStore(tmp_path / "store")


@pytest.fixture
def catalog(store: LocalStore, tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "workflows", store)


@pytest.fixture
def found(store: LocalStore, catalog: Catalog) -> Applications:
    return Applications(store, catalog, "anna")


@pytest.fixture
def registered(store: LocalStore, catalog: Catalog) -> str:
    Registration(WorkflowRegistry(store), catalog.plans).register(Body({}, WORKFLOW, sent=WORKFLOW), "anna")
    return "look"


def test_a_map_gets_another_ae_title_and_sinks(found: Applications, store: LocalStore) -> None:
    MapRegistry(store).register(image_map())
    assert found.map_ae("lung", "CTLUNG").changed
    assert not found.map_ae("lung:1.0.0", "CTLUNG").changed
    found.map_sink("lung", "PACS")
    mapped = found.map_sink("lung:1.0.0", "OUTSIDE")
    record = MapRegistry(store).resolve("lung")
    assert (
        (record.ae_title, record.export_destinations)
        == ("CTLUNG", ("PACS", "OUTSIDE"))
        == (
            mapped.ae_title,
            mapped.sinks,
        )
    )
    assert found.map_sink("lung", "PACS", remove=True).sinks == ("OUTSIDE",)
    with pytest.raises(InvalidArgument, match="Nothing goes to 'PACS'"):
        found.map_sink("lung", "PACS", remove=True)


def test_a_workflow_gets_another_ae_title_and_sinks(found: Applications, registered: str, catalog: Catalog) -> None:
    assert found.map_ae("look", "CTLUNG").ae_title == "CTLUNG"
    assert found.map_sink("look", "OUTSIDE").sinks == ("PACS", "OUTSIDE")
    assert not found.map_sink("look", "OUTSIDE").changed
    known = catalog.of_name("look")
    assert (known.ae_title, known.revision) == ("CTLUNG", 3)
    definition = catalog.definition(known)
    assert definition["tasks"][1]["export_destinations"] == [{"name": "PACS"}, {"name": "OUTSIDE"}]
    found.map_sink("look", "PACS", remove=True)
    with pytest.raises(InvalidArgument, match="no destination left"):
        found.map_sink("look", "OUTSIDE", remove=True)


def test_what_cannot_be_is_told_and_changes_nothing(
    found: Applications, registered: str, store: LocalStore, catalog: Catalog, tmp_path: Path
) -> None:
    (tmp_path / "workflows" / "written.yaml").write_text(WORKFLOW.replace("name: look", "name: written"))
    with pytest.raises(WorkflowConflict, match="lives in a file"):
        found.map_ae("written", "OTHER")
    with pytest.raises(InvalidArgument, match="no registered MAP 'nothing'"):
        found.map_ae("nothing", "OTHER")
    with pytest.raises(MapNotFound):
        found.map_ae("nothing:1.0.0", "OTHER")
    with pytest.raises(MonaiError):
        found.map_ae("look", "AN AE TITLE THAT IS TOO LONG")
    MapRegistry(store).register(image_map())
    with pytest.raises(RegistryError):
        found.map_ae("lung", "AN AE TITLE THAT IS TOO LONG")
    assert catalog.of_name("look").revision == 1


def test_the_commands_say_what_is_now(found: Applications, registered: str) -> None:
    out = io.StringIO()
    assert command.run_ae(found, "CTLUNG", "look", False, out) == 0
    assert "for studies sent to  CTLUNG" in out.getvalue()
    out = io.StringIO()
    assert command.run_sink(found, "look", "OUTSIDE", False, True, out) == 0
    assert json.loads(out.getvalue())["sinks"] == ["PACS", "OUTSIDE"]
