"""The gateway routes to workflows that are registered themselves, and stops when they are deleted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from airflow_monai.intake.events import EventLog
from airflow_monai.intake.workflows import Workflows
from airflow_monai.store.local import LocalStore
from airflow_monai.workflows.registry import NewText, WorkflowRegistry
from airflow_monai.workflows.site import SiteWorkflows
from tests.gateway.conftest import wait_for, write_workflow
from tests.workflows.definitions import simple


def test_an_ae_title_is_known_as_long_as_its_workflow_is_registered(tmp_path: Path) -> None:
    store, folder = LocalStore(tmp_path / "store"), tmp_path / "workflows"
    folder.mkdir()
    known = Workflows(folder, 1.0, EventLog(None), SiteWorkflows(store).files)
    registry = WorkflowRegistry(store)
    new = NewText("ct", "1", json.dumps(simple("ct")))
    assert not known.knows("CTLUNG")
    made = registry.register(new, "ann")
    assert wait_for(lambda: known.knows("CTLUNG"), 10.0)
    write_workflow(folder, "mine", "CTLUNG")
    assert [plan.dag_id for plan in known.known().workflows] == ["mine", "ct"]
    registry.update(made.workflow_id, lambda before: replace(new, text=json.dumps(simple("ct", "OTHER"))), "bob")
    known.known()
    assert known.ae_titles() == ["CTLUNG", "OTHER"]
    registry.delete(made.workflow_id, "cy")
    assert [plan.dag_id for plan in known.known().workflows] == ["mine"] and not known.known().doubt
    store.write("workflows/mr/1.yaml", b"{}")
    assert "workflows/mr.registered" in known.known().doubt
