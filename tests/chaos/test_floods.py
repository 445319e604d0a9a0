"""The long form of the floods in the table of failures: 10 GB of output, a million files, a gigabyte of log."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.maps.logs import MAX_LOG_BYTES
from tests.operators.conftest import Site, site  # noqa: F401
from tests.operators.map_tasks import STUDY
from tests.operators.test_container import run

pytestmark = [pytest.mark.chaos, pytest.mark.parametrize("site", ["docker"], indirect=True)]
BYTES = int(os.environ.get("CHAOS_FLOOD_BYTES", 10 * 10**9))
FILES = int(os.environ.get("CHAOS_FLOOD_FILES", 10**6))
LOG = int(os.environ.get("CHAOS_FLOOD_LOG", 10**9))


def task(site: Site, script: str, **arguments: object) -> dict[str, object]:  # noqa: F811
    output = {"name": "out", "type": "Folder", "mandatory": False}
    common = {
        "task_id": "segment",
        "image": "noop:1.0.0",
        "inputs": [STUDY],
        "outputs": [output],
        "runner": site.runner,
    }
    paths = {"study": "/in", "out": "/out"}
    return {**common, "paths": paths, "entrypoint": ["python3", "-c"], "command": [script], **arguments}


def test_a_large_output_is_stopped_long_before_it_is_whole(site: Site) -> None:  # noqa: F811
    free = shutil.disk_usage(Path(site.store).parent).free
    script = f"f = open('/out/x', 'wb')\nfor _ in range({BYTES} // 2**20): f.write(bytes(2**20))"
    with pytest.raises(AirflowFailException, match="wrote more than the 1024 MiB"):
        run(site, **task(site, script, sandbox={"output_quota": "1Gi"}))
    assert not site.output().exists()
    assert site.traces() == []
    assert shutil.disk_usage(Path(site.store).parent).free > free - 2**28


def test_a_million_files_are_stopped_and_removed(site: Site) -> None:  # noqa: F811
    script = f"import os\nfor n in range({FILES}):\n open(f'/out/{{n}}', 'w').close()"
    begun = time.monotonic()
    with pytest.raises(AirflowFailException, match="wrote more than the 100000 files"):
        run(site, **task(site, script))
    assert not site.output().exists()
    assert site.traces() == []
    print(f"stopped and removed after {time.monotonic() - begun:.0f} s")


def test_a_flood_of_log_is_cut(site: Site) -> None:  # noqa: F811
    line = "x" * 999
    script = f"for _ in range({LOG} // 1000): print({line!r})\nprint('the end'); raise SystemExit(3)"
    begun = time.monotonic()
    with pytest.raises(AirflowFailException, match=r"exit code 3.* It last said: 'the end'"):
        run(site, **task(site, script, resources={"cpu": 1}))
    key = site.folder.log_key("segment", -1, 1)
    path = site.folder.store.local_path(key)
    assert path is not None and path.stat().st_size < MAX_LOG_BYTES * 1.1
    assert site.traces() == []
    print(f"ended after {time.monotonic() - begun:.0f} s")
