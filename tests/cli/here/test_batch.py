"""``airflow monai batch``, as a person calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import manifest_key, payload_id_of
from airflow_monai.types import PatientDetails, Payload

WORKFLOW = """
name: {name}
version: 1.0.0
informatics_gateway: {{ae_title: LUNGS}}
{schedule}
tasks: [{{id: route, type: router}}]
"""


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """The settings of a site with two workflows and two payloads."""
    store, folder = LocalStore(tmp_path / "store"), tmp_path / "specs"
    folder.mkdir()
    (folder / "lungs.yaml").write_text(WORKFLOW.format(name="lungs", schedule='schedule: {cron: "0 2 * * *"}'))
    (folder / "plain.yaml").write_text(WORKFLOW.format(name="plain", schedule=""))
    for aet in ("LUNGS", "OTHER"):
        payload_id, closed = payload_id_of("1.2.3", aet, 0), "2026-03-01T10:00:00+00:00"
        patient = PatientDetails(name="DOE^JANE")
        payload = Payload(payload_id, "1.2.3", aet, ("CT01",), 0, (), closed, closed, closed, patient)
        store.write_json(manifest_key(payload_id), payload.to_dict())
    settings = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__MONAI__STORE": str(store.root)}
    return {**os.environ, **settings, "AIRFLOW__MONAI__WORKFLOW_FOLDER": str(folder)}


def batch(site: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "airflow_monai", "batch", *words]
    return subprocess.run(command, env=site, capture_output=True, text=True, timeout=120, check=False)


def test_it_tells_what_would_be_taken_and_why_not_the_others(site: dict[str, str]) -> None:
    done = batch(site, "lungs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "lungs 1.0.0: 1 of 2 payloads",
        f"  {payload_id_of('1.2.3', 'LUNGS', 0)}",
        "  1 not taken: not sent to LUNGS",
    ]


def test_as_json(site: dict[str, str]) -> None:
    told = json.loads(batch(site, "lungs", "--json").stdout)
    assert told["taken"] == [payload_id_of("1.2.3", "LUNGS", 0)]
    assert told["passed_over"] == [{"payload_id": payload_id_of("1.2.3", "OTHER", 0), "reason": "not sent to LUNGS"}]
    assert "DOE" not in json.dumps(told)


@pytest.mark.parametrize(
    ("name", "told"), [("lung", "did you mean 'lungs'?"), ("plain", "The workflow 'plain' has no schedule.")]
)
def test_what_cannot_be_told(site: dict[str, str], name: str, told: str) -> None:
    done = batch(site, name)
    assert done.returncode == 1 and told in done.stderr
