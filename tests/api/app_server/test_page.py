"""docs/app-server.md: its commands about datasets and studies do what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

from tests.api.app_server.conftest import Served, dicom, study_files, zipped
from tests.conftest import require

PAGE = (Path(__file__).parents[3] / "docs" / "app-server.md").read_text("utf-8")


def commands(heading: str) -> str:
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\$ (.*)$", section, re.MULTILINE)
    return "\n".join(line.replace("http://localhost:8080/monai", "$SERVER") for line in lines)


def test_the_commands_of_the_page(served: Served, tmp_path: Path) -> None:
    require("curl")
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "study.zip").write_bytes(zipped(study_files(3)))
    for name in ("image.dcm", "other.dcm"):
        (folder / name).write_bytes(dicom())
    script = "set -e\n" + commands("Datasets").replace("\n$ ", "\n") + "\n" + commands("Studies by DICOMweb")
    script = script.replace("curl -su", "curl --fail-with-body -w '\\n' -su")
    env = {**os.environ, "USER_AND_PASSWORD": "op:op", "SERVER": f"http://127.0.0.1:{served.port}", "no_proxy": "*"}

    done = subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [answer.get("files") for answer in answers[:3]] == [3, 1, 2]
    assert answers[3]["total"] == 3 and answers[4]["name"] == "two" and answers[5]["total"] == 2
    assert len(zipfile.ZipFile(folder / "dataset.zip").namelist()) == 2
    assert len(answers[-1]["00081199"]["Value"]) == 1


def test_the_page_has_the_limits_and_routes_of_the_code() -> None:
    from airflow_monai.api.app_server import associations, datasets, studies
    from airflow_monai.get_provider_info import get_provider_info

    options = get_provider_info()["config"]["monai"]["options"]
    for name in (name for name in options if name.startswith("upload_")):
        assert f"`{name}`" in PAGE
    for router in (datasets.router, associations.router, studies.router):
        for route in router.routes:
            path = route.path.removeprefix("/app-server")  # type: ignore[attr-defined]
            shown = re.sub(r"\{[^}]*\}", "{", path)
            assert shown in re.sub(r"\{[^}]*\}", "{", PAGE), path
