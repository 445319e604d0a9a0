"""A trial runs what is registered at the site under the names that its workflow says."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.factory.compile import compile_plan
from airflow_monai.local.trial.registered import registered_at_site
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store.local import LocalStore
from tests.maps.registered import image_map

SPEC = """name: ct
version: 1.0.0
informatics_gateway: {ae_title: CT}
tasks:
  - id: segment
    type: map
    args: {map: "lung-seg:1.2.0"}
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}]}
"""


def test_a_trial_takes_over_what_its_workflow_names_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site, own = LocalStore(tmp_path / "site"), LocalStore(tmp_path / "own")
    registry = MapRegistry(site)
    registry.register(image_map(name="lung-seg", version="1.2.0"))
    registry.unregister("lung-seg", "1.2.0")
    registry.register(image_map(name="other", version="1.0.0"))
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "site"))
    plan = compile_plan(SPEC, "ct.yaml", ())
    assert [label for label, _ in registered_at_site(own, plan)] == ["lung-seg:1.2.0"]
    taken = MapRegistry(own)
    assert [record.is_registered for record in taken.history("lung-seg", "1.2.0")] == [True, False]
    assert taken.of_label("other:1.0.0") is None


def test_a_site_without_a_store_has_nothing_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "none"))
    assert list(registered_at_site(LocalStore(tmp_path / "own"), compile_plan(SPEC, "ct.yaml", ()))) == []
    assert not (tmp_path / "none").exists()
