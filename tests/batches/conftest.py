"""A real store with payloads in it, and a workflow with a schedule."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.specs import load_workflow, plan_of
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import manifest_key, payload_id_of, payload_key, tags_key
from airflow_monai.types import Payload

WORKFLOW = """
name: lungs
version: "{version}"
informatics_gateway: {{ae_title: LUNGS}}
schedule: {{cron: "0 2 * * *"}}
tasks: [{{id: route, type: router}}]
"""
Put = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def put(store: LocalStore) -> Put:
    """Puts a closed payload into the store, as the gateway leaves one; returns its id."""

    def put(
        closed: str = "2026-03-01T10:00:00+00:00",
        *,
        aet: str = "LUNGS",
        calling: str = "CT01",
        uid: str = "",
        modality: str = "CT",
        routing: list[dict[str, Any]] | None = None,
        version: str | None = None,
    ) -> str:
        uid = uid or f"2.25.{uuid.uuid4().int}"
        payload_id = payload_id_of(uid, aet, 0)
        payload = Payload(payload_id, uid, aet, (calling,), 0, (), closed, closed, closed)
        store.write_json(manifest_key(payload_id), payload.to_dict())
        store.write_json(tags_key(payload_id), {"1.2.3": {"00080060": [modality]}})
        if routing is not None:
            store.write_json(payload_key(payload_id, "routing.json"), routing)
        if version is not None:
            record = {"dag_id": "lungs", "run_id": f"monai__{payload_id}", "version": version}
            store.write_json(payload_key(payload_id, "runs", "lungs.json"), record)
        return payload_id

    return put


@pytest.fixture
def plan(tmp_path: Path) -> Callable[[str], WorkflowPlan]:
    """The workflow ``lungs`` in some version."""

    def plan(version: str = "1.0.0") -> WorkflowPlan:
        path = tmp_path / f"lungs-{version}.yaml"
        path.write_text(WORKFLOW.format(version=version))
        return plan_of(load_workflow(path))

    return plan
