"""A worker that is not root, and containers of another user: whose files are they, and who removes them?"""

from __future__ import annotations

import grp
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from airflow_monai.errors import MapError
from airflow_monai.maps.runners import user as module
from airflow_monai.maps.runners.user import prepare_output
from airflow_monai.types import TaskStatus
from tests.conftest import require
from tests.fixtures_maps import map_images  # noqa: F401
from tests.maps.test_preparation import job
from tests.operators.map_tasks import STUDY, make_payload, run_folder

WORKER, CONTAINER = 50000, 1000
SCRIPT = "mkdir -p /out/deep/er && echo x > /out/deep/er/file && chmod {mode} /out/deep && exit {code}"


@pytest.fixture
def folder() -> Iterator[Path]:
    """One of the worker's, which that user can get to."""
    made = Path(tempfile.mkdtemp(prefix="worker-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_what_a_container_of_another_user_made_does_not_keep_a_retry_from_running(
    map_images: Any,  # noqa: F811
    folder: Path,
) -> None:
    require("docker")
    if os.getuid() != 0:
        pytest.skip("only root can run a worker of another user")
    store = str(folder / "store")
    payload_id = make_payload(store)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, WORKER, WORKER)

    def run(code: int, try_number: int) -> subprocess.CompletedProcess[str]:
        task = {"task_id": "segment", "image": "noop:1.0.0", "runner": "docker", "inputs": [STUDY], "retries": 2}
        outputs = {"outputs": [{"name": "out", "type": "Folder"}], "paths": {"study": "/in", "out": "/out"}}
        words = {
            "entrypoint": ["/bin/sh", "-c"],
            "command": [SCRIPT.format(code=code, mode=500 if code else 755)],
            "user": str(CONTAINER),
        }
        site = {"RUNNER": "docker", "IMAGE_PULL": "never", "GPU_LEASE_FOLDER": str(folder / "leases")}
        environment = {f"AIRFLOW__MONAI__{name}": value for name, value in site.items()}
        groups = str(grp.getgrnam("docker").gr_gid)
        # it may read what root may, as Python itself may lie there, and write to what its user may
        become = ["setpriv", f"--reuid={WORKER}", f"--regid={WORKER}", f"--groups={groups}"]
        become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        words_of_task = json.dumps({**task, **outputs, **words})
        return subprocess.run(
            [
                *become,
                sys.executable,
                "-m",
                "tests.operators.map_tasks",
                store,
                payload_id,
                words_of_task,
                f"{try_number}",
            ],
            env={**os.environ, "AIRFLOW_HOME": str(folder / "airflow"), "HOME": str(folder), **environment},
            capture_output=True,
            text=True,
            timeout=200,
        )

    told = run(75, 1)
    file = folder.glob("store/payloads/*/workflows/*/*/segment/g1/out/deep/er/file")
    assert [path.stat().st_uid for path in file] == [CONTAINER], told.stderr[-2000:]
    told = run(0, 2)
    record = run_folder(store, payload_id).record("segment")
    assert record is not None and record.status is TaskStatus.SUCCEEDED, told.stderr[-2000:]
    client = docker.from_env(version="auto")
    assert [item.name for item in client.containers.list(all=True) if item.name.endswith("-clear")] == []


def test_where_no_container_can_remove_it_the_mending_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    wanted = job(tmp_path / "task" / "g1", user=f"{CONTAINER}:{CONTAINER}")
    prepare_output(wanted, empty=True)
    (wanted.output / "left").write_text("x")
    os.chown(wanted.output / "left", CONTAINER, CONTAINER)

    def denied(_: Any) -> None:
        raise MapError("cannot be prepared") from PermissionError(13, "Permission denied")

    def no_shell() -> None:
        raise MapError("it has no shell.")

    monkeypatch.setattr(module, "empty_output", denied)
    with pytest.raises(MapError, match=rf"files of user {CONTAINER}.*set \[monai\] container_user to 0:0.*no shell"):
        prepare_output(wanted, empty=True, clear=no_shell)
    (wanted.output / "left").unlink()
    with pytest.raises(MapError, match="root_squash"):
        prepare_output(wanted, empty=True, clear=no_shell)
