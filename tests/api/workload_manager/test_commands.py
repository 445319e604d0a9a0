"""`airflow monai sinks` and `export-tasks` as a client elsewhere uses them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from airflow_monai.pulls.tasks import PullTask
from airflow_monai.store.payloads import payload_id_of
from tests.api.workload_manager.test_exports import TASK_ID
from tests.api.workload_manager.test_exports import task as task
from tests.api.workload_manager.test_payloads import archive as archive
from tests.api.workload_manager.test_payloads import listened as listened

Command = Callable[..., str]


def test_a_task_is_taken_fetched_and_reported(
    command: Command, task: PullTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = partial(command, "export-tasks", who="user")
    there = ("OUTSIDE", TASK_ID)
    assert TASK_ID in exports("list", "OUTSIDE") and "b.dcm" in exports("show", *there)
    (taken,) = json.loads(exports("take", "OUTSIDE", "--count", "5", "--client", "gateway-2", "--json"))
    assert (taken["export_task_id"], taken["taken_by"]) == (TASK_ID, "gateway-2")
    assert TASK_ID not in exports("take", "OUTSIDE")
    exports("download", *there)
    assert sorted(zipfile.ZipFile(f"{TASK_ID}.zip").namelist()) == ["0-a.dcm", "1-b.dcm"]
    exports("download", *there, "--output", "out")
    assert Path("out/1-b.dcm").read_bytes() == task.files[1].path.encode()
    exports("renew", *there, code=2)
    monkeypatch.setenv("MONAI_LEASE", taken["lease"])
    assert "yours until" in exports("renew", *there, "--lease-seconds", "600")
    assert "back" in exports("return", *there)
    (again,) = json.loads(exports("take", "OUTSIDE", "--json"))
    exports("report", *there, "--status", "Success", code=1)  # with the lease of before
    files = ("--file", f"{task.files[0].path}=Success", "--file", f"{task.files[1].path}=ServiceError")
    exports("report", *there, "--status", "PartialFailure", *files, "--lease", again["lease"])
    assert json.loads(exports("list", "OUTSIDE", "--json")) == []
    assert "state: done" in exports("show", *there)


def test_files_arrive_at_an_ae_title(command: Command, listened: None, archive: tuple[bytes, str]) -> None:
    payloads = partial(command, "payloads", who="user")
    Path("study.zip").write_bytes(archive[0])
    payload_id = payload_id_of(archive[1], "LOOK", 0)
    told = json.loads(payloads("upload", "study.zip", "--called", "LOOK", "--calling", "CT01", "--json"))
    assert (told["payload_ids"], told["images"]) == ([payload_id], 3)
    assert payload_id in payloads("upload", "study.zip", "--called", "LOOK", "--complete")
    Path("bad.dcm").write_bytes(b"no image")
    assert "refused: bad.dcm" in payloads("upload", "study.zip", "bad.dcm", "--called", "LOOK", code=1)
    payloads("upload", "study.zip", "--called", "NOBODY", code=1)
    payloads("upload", "nowhere", "--called", "LOOK", code=2)


def test_sinks(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    sinks = partial(command, "sinks")
    monkeypatch.setenv("PASSWORD", "hush-hush")
    told = sinks("create", "OUTSIDE")
    words = ("--type", "monai_dicomweb", "--host", "pacs.example.org", "--login", "me", "--extra", "path=dicom-web")
    told += sinks("create", "WEB", *words, "--secret-env", "PASSWORD", "--json") + sinks("list")
    found = json.loads(sinks("list", "--json"))
    assert [(one["name"], one["type"], one["extra"]) for one in found] == [
        ("OUTSIDE", "monai_pull", {}),
        ("WEB", "monai_dicomweb", {"path": "dicom-web"}),
    ]
    assert "hush-hush" not in told
    assert "no sink of type" in sinks("create", "X", "--type", "fax", code=1)
    sinks("delete", "WEB")
    sinks("delete", "WEB", code=1)
    assert "no right" in sinks("list", code=1, who="viewer")
