"""The App Server API's life of a job, from a MAP's registration to the end of its outputs, on a real Airflow."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import Any

import requests

from airflow_monai.local.environment import USER
from airflow_monai.local.stack import LocalStack
from tests.e2e.helpers import Maps, containers, make_study


def call(stack: LocalStack, method: str, path: str, **more: Any) -> requests.Response:
    login = (USER, stack.secrets.password)
    return requests.request(method, f"{stack.ui}/monai/app-server{path}", timeout=120, auth=login, **more)


def told(answer: requests.Response, *statuses: int) -> Any:
    assert answer.status_code in (statuses or (200,)), answer.text
    return answer.json() if answer.content else None


def register(stack: LocalStack, maps: Maps, reference: str, name: str) -> str:
    """Register a MAP; its label."""
    where = {"image": reference} if maps.runner == "docker" else {"folder": reference.partition(":")[0]}
    answer = call(stack, "POST", "/maps", json={**where, "name": name, "version": "1.0.0"})
    done = told(answer, 201, 202)
    while answer.status_code == 202 and done["state"] == "running":
        time.sleep(0.5)
        done = told(call(stack, "GET", f"/maps/registrations/{done['id']}"))
    assert done["map"] == f"{name}:1.0.0"
    return str(done["map"])


def start(stack: LocalStack, label: str, dataset: str, key: str) -> str:
    answer = call(stack, "POST", "/jobs", json={"map": label, "dataset": dataset}, headers={"Idempotency-Key": key})
    (job,) = told(answer, 200, 201, 202)["jobs"]
    return str(job["id"])


def wait_for(stack: LocalStack, job: str, *statuses: str, seconds: float = 120) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def is_so() -> bool:
        found.update(told(call(stack, "GET", f"/jobs/{job}")))
        return found["status"] in statuses

    stack.wait_for(is_so, seconds=seconds, what=f"a job that is {statuses}")
    return found


def upload(stack: LocalStack, folder: Path) -> str:
    """A small study as a dataset; its id."""
    files = [("files", (path.name, path.read_bytes(), "application/dicom")) for path in make_study(folder, "X").files]
    return str(told(call(stack, "POST", "/datasets", files=files), 200, 201)["id"])


def test_from_a_map_s_registration_to_the_end_of_its_outputs(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    label = register(stack, maps, maps.reference("ok", "1"), "api-seg")
    dataset = upload(stack, tmp_path)
    # at once, before Airflow has its DAG: the job is durable, and a gateway begins it
    job = start(stack, label, dataset, "e2e 1")
    assert start(stack, label, dataset, "e2e 1") == job

    done = wait_for(stack, job, "SUCCEEDED", "FAILED", "CANCELLED")
    assert done["status"] == "SUCCEEDED", done
    assert done["resources"]["used"]["seconds"] >= 1 and done["map_digest"] and done["outputs"]["available"]
    listed = told(call(stack, "GET", "/jobs", params={"map": label}))
    assert [(one["id"], one["status"]) for one in listed["jobs"]] == [(job, "SUCCEEDED")]

    files = told(call(stack, "GET", f"/jobs/{job}/results"))["files"]
    archive = call(stack, "GET", f"/jobs/{job}/results.zip").content
    with zipfile.ZipFile(io.BytesIO(archive)) as whole:
        assert sorted(whole.namelist()) == sorted(file["name"] for file in files) != []
    one = call(stack, "GET", f"/jobs/{job}/results/0")
    assert len(one.content) == files[0]["size"]
    assert call(stack, "GET", f"/jobs/{job}/logs").status_code == 200

    assert told(call(stack, "DELETE", f"/jobs/{job}/results"), 204) is None
    assert call(stack, "GET", f"/jobs/{job}/results.zip").status_code == 410
    assert told(call(stack, "POST", f"/jobs/{job}/finalize"))["until"]
    assert call(stack, "POST", f"/jobs/{job}/finalize").status_code == 200
    assert told(call(stack, "GET", f"/jobs/{job}"))["status"] == "SUCCEEDED"
    told(call(stack, "DELETE", "/maps/api-seg/1.0.0"), 204)
    assert call(stack, "POST", "/jobs", json={"map": label, "dataset": dataset}).status_code == 409


def test_a_cancelled_job_leaves_nothing_running(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    label = register(stack, maps, maps.reference("sleep", "600"), "api-sleep")
    dataset = upload(stack, tmp_path)
    job = start(stack, label, dataset, "e2e 2")
    begun = wait_for(stack, job, "RUNNING")
    if maps.runner == "docker":
        stack.wait_for(lambda: _containers(stack, begun["run"]), seconds=60, what="its container")
    assert call(stack, "POST", f"/jobs/{job}/finalize").status_code == 409
    cancelled = told(call(stack, "POST", f"/jobs/{job}/cancel"))
    assert cancelled["status"] == "CANCELLED" and USER in cancelled["reason"]
    assert told(call(stack, "POST", f"/jobs/{job}/cancel"))["status"] == "CANCELLED"
    if maps.runner == "docker":
        stack.wait_for(lambda: not _containers(stack, begun["run"]), seconds=60, what="no container of it")
    assert told(call(stack, "GET", f"/jobs/{job}"))["status"] == "CANCELLED"
    told(call(stack, "DELETE", "/maps/api-sleep/1.0.0"), 204)


def _containers(stack: LocalStack, run_id: str) -> list[str]:
    """Containers of the run, ended ones too."""
    return containers(stack, run=run_id)
