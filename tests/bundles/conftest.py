"""A workflow folder, and bundles of it with their own store and storage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_monai.bundles.workflow_folder import WorkflowSpecBundle

SPEC = """\
name: {name}
version: 1.0.0
informatics_gateway:
  ae_title: CTLUNG
  export_destinations: [PACS]
tasks:
  - id: send
    type: export
    export_destinations: [{{name: PACS}}]
    artifacts:
      input: [{{name: study, value: "{{{{ context.input.dicom }}}}"}}]
"""


def spec(name: str) -> str:
    return SPEC.format(name=name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "workflow_specs"
    path.mkdir()
    return path


@pytest.fixture
def make_bundle(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorkflowSpecBundle]:
    """Bundles as processes of their own would have them; ``host`` names the disk that they keep their files on."""
    from airflow.dag_processing.bundles import base

    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))

    def make(version: str | None = None, host: str = "host") -> WorkflowSpecBundle:
        monkeypatch.setattr(base, "get_bundle_storage_root_path", lambda: tmp_path / host)
        monkeypatch.setattr(base, "STALE_BUNDLE_TRACKING_FOLDER", tmp_path / host / "_tracking")
        return WorkflowSpecBundle(path=folder, name="workflows", version=version)

    return make
