"""What a runner prepares for a job before its application starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_monai.errors import MapError
from airflow_monai.maps.logs import MAX_LOG_BYTES
from airflow_monai.maps.manifest import MapResources, parse_manifest
from airflow_monai.maps.runners.base import FoundMap, MapJob
from airflow_monai.maps.runners.docker.config import container_config
from airflow_monai.maps.runners.folders import empty_output


def job(output: Path, user: str = "") -> MapJob:
    found = FoundMap("made:1", "sha256:1", parse_manifest(b'{"command": "run"}', b"{}", where="made"))
    state = output.with_name("g1.run")
    return MapJob("monai-made", found, {}, {}, {}, (), output, state, MapResources(), user=user)


def test_engine_keeps_a_bounded_log_that_can_be_read_back(tmp_path: Path) -> None:
    log = container_config(job(tmp_path), local_engine=False)["HostConfig"]["LogConfig"]
    assert log["Type"] == "json-file"
    one = int(log["Config"]["max-size"].removesuffix("m")) * 2**20
    assert one > MAX_LOG_BYTES  # engines lose lines for those who follow when a file gives way to the next
    assert one * int(log["Config"]["max-file"]) <= 2**30


def test_output_that_everybody_may_write_lies_where_nobody_else_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)  # a worker that may not give a folder away
    task = tmp_path / "task"
    task.mkdir()
    task.chmod(0o755)
    empty_output(job(task / "g1", user=f"{task.stat().st_uid + 1}:1"))
    assert task.stat().st_mode & 0o777 == 0o750
    assert (task / "g1").stat().st_mode & 0o777 == 0o777


def test_output_of_the_worker_s_own_user_keeps_its_folders_as_they_are(tmp_path: Path) -> None:
    task = tmp_path / "task"
    task.mkdir()
    task.chmod(0o755)
    empty_output(job(task / "g1", user=f"{task.stat().st_uid}:1"))
    assert task.stat().st_mode & 0o777 == 0o755
    assert (task / "g1").stat().st_mode & 0o002 == 0


def test_output_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "task").write_text("in the way")
    with pytest.raises(MapError, match="cannot be prepared"):
        empty_output(job(tmp_path / "task" / "g1"))
