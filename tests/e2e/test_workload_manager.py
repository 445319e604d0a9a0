"""Results that a client elsewhere fetches, from a study's arrival to the end of its run."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import Any

import pydicom
import requests

from airflow_monai.local.environment import USER
from airflow_monai.local.stack import LocalStack
from airflow_monai.sinks.ledger import Ledger
from tests.e2e.helpers import Maps, add_workflows, export, make_study, send, store_of, wait_for_runs, work, workflow


class Client:
    """A gateway elsewhere."""

    def __init__(self, stack: LocalStack):
        self.base = f"{stack.ui}/monai/workload-manager/sinks"
        self.auth = (USER, stack.secrets.password)

    def call(self, method: str, path: str = "", body: Any = None) -> requests.Response:
        answer = requests.request(method, self.base + path, json=body, auth=self.auth, timeout=60)
        assert answer.ok, answer.text
        return answer

    def take(self, sink: str) -> dict[str, Any]:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if found := self.call("POST", f"/{sink}/tasks/take", {"client": "elsewhere"}).json():
                return dict(found[0])
            time.sleep(0.5)
        raise AssertionError("no export task came")


def test_a_client_fetches_results_and_its_report_ends_the_run(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    client = Client(stack)
    client.call("POST", body={"name": "E2E_OUTSIDE", "extra": {"destinations": "PACS2"}})
    spec = workflow("e2e-pull", "E2EPULL", work(maps.reference()), export(destinations=("E2E_OUTSIDE",)))
    spec["informatics_gateway"]["export_destinations"] = ["E2E_OUTSIDE"]
    add_workflows(stack, spec)
    study = make_study(tmp_path, "E2EPULL")
    send(stack, study)
    task = client.take("E2E_OUTSIDE")
    assert task["payload_id"] == study.payload_id and task["destinations"] == ["PACS2"]
    archive = zipfile.ZipFile(
        io.BytesIO(client.call("GET", f"/E2E_OUTSIDE/tasks/{task['export_task_id']}/files").content)
    )
    (name,) = archive.namelist()
    result = pydicom.dcmread(io.BytesIO(archive.read(name)))
    assert result.StudyInstanceUID == study.uid
    assert result.SOPInstanceUID == task["files"][0]["sop_instance_uid"]
    report = {"lease": task["lease"], "status": "Success"}
    client.call("PUT", f"/E2E_OUTSIDE/tasks/{task['export_task_id']}", report)
    run = wait_for_runs(stack, "e2e-pull", 1)[study.run_id]
    assert run["state"] == "success"
    ((uid, entry),) = Ledger(store_of(stack), study.payload_id, "E2E_OUTSIDE").entries()
    assert (uid, entry.state.value) == (result.SOPInstanceUID, "accepted")
