"""The walks of docs/ on a real Airflow: jobs end, a notification comes, a study starts a workflow, a client fetches.

All are gone at once, each in a folder of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from airflow_monai.local.environment import USER
from airflow_monai.local.ports import choose
from airflow_monai.local.stack import LocalStack
from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.store.payloads import payload_key
from tests.conftest import require
from tests.e2e.helpers import Maps, payloads_of, store_of, wait_for_runs
from tests.e2e.test_api import asked, token
from tests.e2e.test_jobs import call, told
from tests.e2e.walks import Walk, Walker
from tests.fixtures_maps import MAPS_FOLDER

SECONDS = 500
IMAGES = 20
APP_SERVER, NOTIFICATIONS = Walk.of("app-server.md"), Walk.of("notifications.md")
SIGN_IN, BY_COMMANDS, CREDENTIALS = Walk.of("api.md").steps


class Walks:
    """Those that are under way."""

    def __init__(self, folder: Path, instead: dict[str, str]):
        self._folder, self._instead = folder, instead
        self._started: dict[str, tuple[Walker, subprocess.Popen[str]]] = {}
        self._until = time.monotonic() + SECONDS

    def start(self, name: str, files: dict[str, str], *steps: str) -> None:
        folder = self._folder / name
        folder.mkdir()
        walker = Walker(folder, self._instead)
        self._started[name] = walker, walker.start(files, *steps)

    def ended(self, name: str) -> tuple[Path, str]:
        """The folder of a walk that has come to its end, and what it said."""
        walker, process = self._started[name]
        try:
            code = process.wait(max(1.0, self._until - time.monotonic()))
        except subprocess.TimeoutExpired:
            code = None
        assert code == 0, f"{name}: {code}\n{walker.said()}"
        return walker.folder, walker.said()

    def stop(self) -> None:
        """Also what they have left running."""
        for _, process in self._started.values():
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
            process.wait(60)


@pytest.fixture(scope="module")
def walks(stack: LocalStack, maps: Maps, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walks]:
    require("curl")
    password = stack.secrets.password
    instead = {
        "http://localhost:8080": stack.ui,
        "localhost:11112": f"127.0.0.1:{stack.ports.dicom}",
        "USER_AND_PASSWORD=admin:...": f"USER_AND_PASSWORD={USER}:{password}",
        "MONAI_USER=admin MONAI_PASSWORD=...": f"MONAI_USER={USER} MONAI_PASSWORD={password}",
        "8123": str(choose(0)),
    }
    if maps.runner == "process":  # as the pages say
        shutil.copytree(MAPS_FOLDER / "lung-seg", maps.folder / "lung-seg", dirs_exist_ok=True)
        instead |= {
            '"image": "lung-seg:1.0.0"': '"folder": "lung-seg"',
            "register lung-seg:1.0.0": "register ./lung-seg",
        }
    found = Walks(tmp_path_factory.mktemp("walks"), instead)
    manager, workload = Walk.of("workflow-manager.md"), Walk.of("workload-manager.md")
    registered, receiving, heard = NOTIFICATIONS.steps
    try:
        found.start("jobs", dict(NOTIFICATIONS.files), registered, receiving, *APP_SERVER.steps, heard)
        found.start("studies", dict(manager.files), *manager.steps)
        found.start("clients", dict(workload.files), *workload.steps)
        found.start("commands", {}, BY_COMMANDS)
        yield found
    finally:
        found.stop()


def documents(said: str) -> list[Any]:
    """Answers of one line that are JSON."""
    return [json.loads(line) for line in said.splitlines() if line.startswith(("{", "["))]


def names_in(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        return sorted(Path(name).name for name in opened.namelist())


def command(stack: LocalStack, *words: str, code: int = 0, **environment: str) -> str:
    """What a command of ours prints, on stderr when it fails."""
    env = {"PATH": os.environ["PATH"], "MONAI_URL": stack.ui, **environment}
    done = subprocess.run(
        [sys.executable, "-m", "airflow_monai", *words], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code and not done.stdout else done.stdout


def test_a_job_of_the_app_server_and_the_notification_of_its_end(stack: LocalStack, walks: Walks) -> None:
    folder, said = walks.ended("jobs")
    answers = documents(said)
    assert [one["files"] for one in answers if "created_now" in one and "files" in one] == [IMAGES, 1]
    assert names_in(folder / "dataset.zip") == sorted(f"{uid}.dcm" for uid in sop_uids(folder, 2))
    stored = next(one["00081199"]["Value"] for one in answers if "00081199" in one)
    assert len(stored) == 1
    begun, *seen = [one for one in answers if one.get("status") in ("QUEUED", "RUNNING", "SUCCEEDED")]
    assert seen[-1]["status"] == "SUCCEEDED" and begun["map"] == "lungs:1.0.0"
    job = begun["id"]
    (asked_for,) = [one["jobs"][0] for one in answers if one.get("jobs") and "total" not in one]
    assert asked_for["id"] == job
    assert seen[-1]["resources"]["used"]["seconds"] > 0 and seen[-1]["map_digest"] and seen[-1]["outputs"]["available"]
    listed = next(one for one in answers if "files" in one and one.get("total") and "name" in one["files"][0])
    assert names_in(folder / "results.zip") == sorted(file["name"] for file in listed["files"]) == ["seg.dcm", "sr.dcm"]
    assert (folder / "first.dcm").stat().st_size == listed["files"][0]["size"]
    assert "segmented" in (folder / "log.txt").read_text()
    assert any(one.get("id") == job and one.get("until") for one in answers)

    events = [json.loads(line) for line in (folder / "received.txt").read_text().splitlines()]
    assert "test" in {one["event"] for one in events}  # what else ran meanwhile may have ended before it was asked for
    (end,) = [one for one in events if one.get("job_id") == job]
    assert (end["event"], end["status"], end["dag_id"]) == ("workflow.completed", "Succeeded", "map.lungs.1.0.0")
    assert any("deliveries" in one for one in answers)

    again = {"map": "lungs:1.0.0", "dataset": begun["dataset"]}
    same = call(stack, "POST", "/jobs", json=again, headers={"Idempotency-Key": begun["dataset"]})
    assert [one["id"] for one in told(same, 200)["jobs"]] == [job]
    assert told(call(stack, "DELETE", f"/jobs/{job}/results"), 204) is None
    assert call(stack, "GET", f"/jobs/{job}/results.zip").status_code == 410
    assert call(stack, "POST", f"/jobs/{job}/finalize").status_code == 200
    assert told(call(stack, "GET", f"/jobs/{job}"))["status"] == "SUCCEEDED"


def sop_uids(folder: Path, count: int) -> list[str]:
    """Of the first images of the study that was sent."""
    files = sorted((folder / "study").glob("*.dcm"))[:count]
    return [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files]


def test_a_workflow_from_its_registration_to_a_payload_that_it_was_started_for(stack: LocalStack, walks: Walks) -> None:
    folder, said = walks.ended("studies")
    answers = documents(said)
    assert any(isinstance(one, dict) and one.get("version_id") == "2" for one in answers)
    (payload,) = payloads_of(stack, "LOOK") or [None]
    shown = next(one for one in answers if isinstance(one, dict) and one.get("file_count") == IMAGES)
    assert payload is None or payload["payload_id"] == shown["id"]  # a gateway may have deleted it already
    instance = [one for one in answers if isinstance(one, dict) and "Data" in one][-1]["Data"][0]
    assert (instance["workflow_name"], instance["status"], instance["payload_id"]) == (
        "second-look", "Succeeded", shown["id"],
    )  # fmt: skip
    assert {task["task_id"]: task["status"] for task in instance["tasks"]} == {
        "segment": "Succeeded", "to-pacs": "Succeeded",
    }  # fmt: skip
    counted = next(one for one in answers if isinstance(one, dict) and "TotalSucceeded" in one)
    assert (counted["TotalExecutions"], counted["TotalSucceeded"]) == (2, 2)
    assert names_in(folder / "study.zip") == sorted(f"{uid}.dcm" for uid in sop_uids(folder, IMAGES))
    health = {one["check"]: one["result"] for one in answers[-1]["checks"]}
    assert {"store", "airflow database", "gateway"} <= set(health) and set(health.values()) == {"Healthy"}

    def is_gone() -> bool:
        found = asked(stack, f"/workflow-manager/payload/{shown['id']}", auth=(USER, stack.secrets.password)).json()
        return bool(found["payload_deleted"] == "Yes" and found["deletion"]["reason"] == "a phantom")

    stack.wait_for(is_gone, seconds=180, what="the deletion")
    assert not list(store_of(stack).children(payload_key(shown["id"], "dcm")))
    left = asked(stack, f"/workflow-manager/workflowinstances/{instance['id']}", auth=(USER, stack.secrets.password))
    assert left.json()["status"] == "Succeeded"


def test_a_client_fetches_results_and_its_report_ends_the_run(stack: LocalStack, walks: Walks) -> None:
    folder, said = walks.ended("clients")
    (taken,) = json.loads((folder / "taken.json").read_text())
    (payload,) = payloads_of(stack, "OUT")
    assert taken["payload_id"] == payload["payload_id"] in said
    with zipfile.ZipFile(folder / "files.zip") as archive:
        (name,) = archive.namelist()
        result = pydicom.dcmread(archive.open(name), stop_before_pixels=True)
    study = pydicom.dcmread(folder / "study" / "IM0001.dcm", stop_before_pixels=True)
    assert (result.Modality, result.StudyInstanceUID) == ("SEG", study.StudyInstanceUID)
    assert result.SOPInstanceUID == taken["files"][0]["sop_instance_uid"]
    (run,) = wait_for_runs(stack, "outside", 1).values()
    assert run["state"] == "success"
    ((uid, entry),) = Ledger(store_of(stack), taken["payload_id"], "OUTSIDE").entries()
    assert (uid, entry.state.value) == (result.SOPInstanceUID, "accepted")


def test_the_commands_that_ask_a_server(stack: LocalStack, walks: Walks) -> None:
    folder, said = walks.ended("commands")
    assert "status: Healthy" in said and "lungs:1.0.0  SUCCEEDED" in said and "segmented" in said
    assert sorted(path.name for path in (folder / "results").iterdir()) == ["seg.dcm", "sr.dcm"]
    assert pydicom.dcmread(folder / "results" / "seg.dcm", stop_before_pixels=True).Modality == "SEG"
    assert len(names_in(folder / "study.zip")) == IMAGES
    assert "TOTAL EXECUTIONS" in said and "its outputs can be fetched until" in said
    by_token = {"MONAI_TOKEN": token(stack)}
    jobs = json.loads(command(stack, "jobs", "list", "--map", "lungs:1.0.0", "--json", **by_token))
    assert {one["status"] for one in jobs} == {"SUCCEEDED"}
    refused = json.loads(command(stack, "jobs", "show", "nosuch", "--json", code=1, **by_token))
    assert refused["status"] == 404
    wrong = command(stack, "jobs", "list", code=2, MONAI_USER=USER, MONAI_PASSWORD="wrong")
    assert "does not know who asks" in wrong
    assert "no results yet" not in command(stack, "jobs", "wait", jobs[0]["id"], **by_token)
    programs = Path(sys.executable).parent
    by_airflow = subprocess.run(
        [programs / "airflow", "monai", "jobs", "show", jobs[0]["id"], "--json"],
        env={**stack.env, "MONAI_URL": stack.ui, **by_token}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert by_airflow.returncode == 0, by_airflow.stderr
    assert json.loads(by_airflow.stdout)["status"] == "SUCCEEDED"


def test_no_job_of_a_map_that_was_unregistered(stack: LocalStack, walks: Walks) -> None:
    """The last one: the walks before run its jobs."""
    job = told(call(stack, "GET", "/jobs", params={"map": "lungs:1.0.0", "limit": 1}))["jobs"][0]
    told(call(stack, "DELETE", "/maps/lungs/1.0.0"), 204)
    again = {"map": "lungs:1.0.0", "dataset": job["dataset"]}
    assert call(stack, "POST", "/jobs", json=again).status_code == 409
