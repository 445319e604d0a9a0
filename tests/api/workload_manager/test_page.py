"""docs/workload-manager.md: its commands do what it says."""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from pathlib import Path

from airflow_monai.pulls.tasks import PullState, PullTask, PullTasks
from airflow_monai.store.local import LocalStore
from tests.api.workload_manager.test_exports import task  # noqa: F401
from tests.conftest import require

PAGE = (Path(__file__).parents[3] / "docs" / "workload-manager.md").read_text("utf-8")


def test_a_client_by_hand(served_url: str, site_store: LocalStore, task: PullTask, tmp_path: Path) -> None:  # noqa: F811
    require("curl")
    section = PAGE.split("\n## A client, by hand\n", 1)[1]
    (script,) = re.findall(r"```bash\n(.*?)```", section.split("\n## ", 1)[0], re.DOTALL)
    env = {
        **os.environ,
        "MONAI": f"{served_url}/monai/workload-manager",
        "USER_AND_PASSWORD": "admin:admin",
        "no_proxy": "*",
    }
    script = "set -e\n" + script.replace("curl -su", "curl --fail -su")
    done = subprocess.run(["bash", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(zipfile.ZipFile(tmp_path / "files.zip").namelist()) == 2
    tasks = PullTasks(site_store, "OUTSIDE")
    assert tasks.state(task) is PullState.DONE
    report = tasks.reported(task)
    assert report is not None and (report.status, report.client) == ("Success", "gateway-2")
