"""``airflow monai validate --site``: with a real store, real connections and a real unpacked application."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_monai.cli.here.site import application_of, destination_problem
from airflow_monai.gpu.inventory import parse_inventory, save_inventory
from airflow_monai.settings import load
from airflow_monai.store import open_store
from tests.conftest import require

REPOSITORY = Path(__file__).parents[3]
WORKFLOW = """name: w
version: 1
informatics_gateway: {ae_title: A, export_destinations: [MAINPACS, ARCHIVE, WEB]}
tasks:
  - id: segment
    type: map
    args: {map: "noop:1.0.0"}
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}], output: [{name: seg}]}
    resources: {gpu_memory: 80Gi}
    task_destinations:
      - {name: absent, conditions: ["{{ context.executions.segment.result.volme }} > '1'"]}
      - {name: send, conditions: ["{{ context.executions.segment.result.volume_ml }} > '1'"]}
  - id: absent
    type: map
    args: {map: "noop:9.9.9"}
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}]}
    resources: {gpu_memory: 8Gi}
  - id: send
    type: export
    export_destinations: [{name: MAINPACS}, {name: ARCHIVE}, {name: WEB}]
    artifacts: {input: [{name: seg, value: "{{ context.executions.segment.artifacts.seg }}"}]}
"""


def _site(folder: Path) -> dict[str, str]:
    """The environment of a site with one application, one card and two connections."""
    shutil.copytree(REPOSITORY / "examples" / "maps" / "noop", folder / "maps" / "noop")
    manifest = next((folder / "maps" / "noop").rglob("app.json"))
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "resultKeys": ["volume_ml"]}))
    card = parse_inventory({"hosts": {"gpu01": [{"model": "A100", "memory": "40 GiB"}]}})
    save_inventory(open_store(str(folder / "store")), card)
    return {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "home"),
        "AIRFLOW_CONN_MAINPACS": '{"conn_type": "dicom", "host": "pacs", "port": 104}',
        "AIRFLOW_CONN_WEB": '{"conn_type": "http", "host": "web"}',
        "AIRFLOW__MONAI__STORE": str(folder / "store"),
        "AIRFLOW__MONAI__RUNNER": "process",
        "AIRFLOW__MONAI__MAP_PATH": str(folder / "maps"),
    }


def test_what_this_site_lacks_is_told_and_is_no_failure(tmp_path: Path):
    spec = tmp_path / "w.yaml"
    spec.write_text(WORKFLOW)
    command = [sys.executable, "-m", "airflow_monai", "validate", "--json", str(spec)]
    found = {}
    for flags in ([], ["--site"]):
        done = subprocess.run([*command, *flags], env=_site(tmp_path / f"site{len(flags)}"), capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        found[bool(flags)] = json.loads(done.stdout)
    assert found[False] == []
    assert [(problem["line"], problem["code"], problem["severity"]) for problem in found[True]] == [
        (9, "site-capacity", "warning"),
        (11, "site-result-key", "warning"),
        (15, "site-application", "warning"),
        (20, "site-destination", "warning"),
        (20, "site-destination", "warning"),
    ]
    texts = [problem["message"] for problem in found[True]]
    assert "the largest card here is a100 with 40 GiB" in texts[0]
    assert texts[1] == "the application of task 'segment' declares no result 'volme'"
    assert "no unpacked MAP 'noop:9.9.9'" in texts[2]
    assert texts[3].startswith("there is no Airflow connection 'ARCHIVE'")
    assert texts[4].startswith("the Airflow connection 'WEB' has the type 'http'")


def test_an_image_that_a_docker_host_does_not_have_is_told_and_not_pulled(monkeypatch):
    require("docker")
    monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "docker")
    told = application_of("nobody.invalid/none:1", load())
    assert "nobody.invalid/none:1 is not on this Docker host" in told.problem


def test_an_engine_that_is_away_is_told(monkeypatch):
    monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "docker")
    monkeypatch.setenv("AIRFLOW__MONAI__DOCKER_URL", "unix:///nowhere/docker.sock")
    assert "/nowhere/docker.sock" in application_of("none:1", load()).problem


def test_a_registered_map_is_known_by_its_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_monai.cli.here.site import pinned
    from airflow_monai.maps.registry import MapRegistry
    from tests.maps.registered import APP, digest, image_map

    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "kubernetes")
    registry = MapRegistry(open_store(str(tmp_path / "store")))
    app = json.dumps({**APP, "resultKeys": ["volume_ml"]})
    registry.register(image_map(app=app, repo_digest=f"reg.example/lung@{digest('c')}"))
    assert application_of("lung:1.0.0", load()).result_keys == ("volume_ml",)
    assert pinned({"map": "lung:1.0.0"}, load())["map"] == f"reg.example/lung@{digest('c')}"
    assert pinned({"map": "other:1"}, load()) == {"map": "other:1"}
    registry.unregister("lung", "1.0.0")
    assert "was unregistered at" in application_of("lung:1.0.0", load()).problem
    monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "process")
    registry.register(image_map("liver", "2"))
    assert "which only" not in application_of("liver:2", load()).problem
    assert "the process runner runs folders" in application_of("liver:2", load()).problem


def test_a_destination_is_checked_as_far_as_nobody_must_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(task_type: str = "export", **connection: object) -> str:
        monkeypatch.setenv("AIRFLOW_CONN_THERE", json.dumps(connection))
        return destination_problem("THERE", task_type)

    assert told(conn_type="monai_dicomweb", host="web", schema="http") == ""
    assert "schema = 'ftp' is neither http nor https" in told(conn_type="monai_dicomweb", host="web", schema="ftp")
    assert told(conn_type="monai_s3", host="results") == ""
    assert "no name of a bucket" in told(conn_type="monai_s3")
    assert "which tasks of type export_hl7 deliver" in told(conn_type="monai_mllp", host="his", port=2575)
    assert told("export_hl7", conn_type="monai_mllp", host="his", port=2575) == ""
    assert "has no port" in told("export_hl7", conn_type="monai_mllp", host="his")
    assert "has no port" in told(conn_type="dicom", host="pacs")
    assert told(conn_type="monai_broker", extra={"agent": "monaiscu"}) == ""
