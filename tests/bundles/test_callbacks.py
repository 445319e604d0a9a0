"""Callbacks of workflow tasks, in a real DAG processor manager."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_monai.bundles.workflow_folder import WorkflowSpecBundle
from tests.bundles.conftest import spec

MakeBundle = Callable[..., WorkflowSpecBundle]


@pytest.fixture
def manager(folder: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A DAG processor manager that has found the bundle's one file."""
    from airflow.dag_processing import manager as module

    monkeypatch.setattr(
        module.DagFileProcessorManager, "prepare_callback_bundle", _bundle_of_version(make_bundle), raising=True
    )
    (folder / "a.yaml").write_text(spec("ct"))
    bundle = make_bundle()
    bundle.initialize()
    found = module.DagFileProcessorManager(max_runs=-1)
    found._dag_bundles = [bundle]
    return found


def _bundle_of_version(make_bundle: MakeBundle) -> Callable[..., Any]:
    """Airflow's own step without its configuration: the bundle of the request's version."""
    return lambda self, request: make_bundle(request.bundle_version)


def request(callback_type: str | None, bundle_name: str = "workflows", version: str | None = None) -> Any:
    return SimpleNamespace(
        bundle_name=bundle_name,
        bundle_version=version,
        filepath="a.yaml.py",
        task_callback_type=callback_type,
    )


def version_of(manager: Any) -> str:
    return manager._dag_bundles[0].get_current_version().version


def test_a_gate_that_ended_well_starts_no_process(manager: Any) -> None:
    manager._add_callback_to_queue(request("success", version=version_of(manager)))
    assert not manager._file_queue


def test_a_failure_callback_runs_with_the_code_of_its_run_and_leaves_no_second_entry(manager: Any) -> None:
    version = version_of(manager)
    manager._add_callback_to_queue(request("failed", version=version))
    (queued,) = manager._file_queue
    assert queued.absolute_path == manager._dag_bundles[0].path / "a.yaml.py"
    assert queued.bundle_version is None, "a version here makes Airflow 3.3 parse the file without end"


def test_other_bundles_are_left_alone(manager: Any) -> None:
    theirs = request("success", bundle_name="other", version="1")
    manager._add_callback_to_queue(theirs)
    (queued,) = manager._file_queue
    assert queued.bundle_version == "1"


def test_nothing_is_touched_twice_or_outside_a_dag_processor(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from airflow.dag_processing.manager import DagFileProcessorManager

    before = DagFileProcessorManager.prepare_callback_bundle
    manager._dag_bundles[0].refresh()
    assert DagFileProcessorManager.prepare_callback_bundle is before
    monkeypatch.delitem(sys.modules, "airflow.dag_processing.manager")
    manager._dag_bundles[0].refresh()
