from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import ManifestError, MapNotFound
from airflow_monai.maps.manifest import (
    MapResources,
    load_manifests,
    parse_manifest,
    run_environment,
    same_version,
    with_resources,
)
from airflow_monai.maps.resolve import find_folder

GIB = 1024**3

NEW_APP = {
    "apiVersion": "1.0.0",
    "command": '["python3", "/opt/holoscan/app"]',
    "environment": {"HOLOSCAN_INPUT_PATH": "input/", "HOLOSCAN_OUTPUT_PATH": "output/", "THREADS": 4, "FLAG": True},
    "input": {"path": "input/", "formats": None},
    "output": {"path": "output/", "formats": None},
    "timeout": 0,
    "version": 1.0,
    "workingDirectory": "/var/holoscan",
}
NEW_PKG = {
    "applicationRoot": "/opt/holoscan/app",
    "modelRoot": "/opt/holoscan/models",
    "models": {"model": "/opt/holoscan/models/model"},
    "resources": {"cpu": 1, "gpu": 1, "memory": "1.5Gi", "gpuMemory": "6Gi"},
    "version": 1.0,
}
OLD_APP = {
    "api-version": "0.1.0",
    "command": "python3 -u /opt/monai/app/app.py",
    "environment": {},
    "input": {"formats": [], "path": "input"},
    "output": {"format": {}, "path": "output"},
    "timeout": 600,
    "version": "0.0.0",
    "working-directory": "/var/monai/",
}
OLD_PKG = {
    "application-root": "/var/monai/",
    "models": [{"name": "model-54dd", "path": "/opt/monai/models/model/model.ts"}],
    "resources": {"cpu": 1, "gpu": 1, "memory": "7168Mi", "shared-memory": "1Gi"},
}


def parsed(app: Any, pkg: Any = None) -> Any:
    return parse_manifest(json.dumps(app).encode(), json.dumps(pkg or {}).encode(), where="x:1")


def test_generation_1() -> None:
    manifest = parsed(NEW_APP, NEW_PKG)
    assert manifest.command == ("python3", "/opt/holoscan/app")
    assert (manifest.input_path, manifest.output_path) == ("/var/holoscan/input", "/var/holoscan/output")
    assert manifest.version == "1.0"
    assert manifest.timeout_seconds is None
    assert manifest.resources == MapResources(1, int(1.5 * GIB), 64 * 1024**2, 1, 6 * GIB)
    assert manifest.environment["THREADS"] == "4"
    assert manifest.environment["FLAG"] == "true"


def test_generation_0() -> None:
    manifest = parsed(OLD_APP, OLD_PKG)
    assert manifest.command == ("python3", "-u", "/opt/monai/app/app.py")
    assert (manifest.input_path, manifest.output_path) == ("/var/monai/input", "/var/monai/output")
    assert manifest.application_root == "/opt/monai/app"
    assert manifest.models_path == "/opt/monai/models"
    assert manifest.timeout_seconds == 600
    assert manifest.resources.memory_bytes == 7 * GIB
    assert manifest.resources.shared_memory_bytes == GIB


def test_defaults_are_those_of_the_specification() -> None:
    manifest = parsed({"command": "run", "input": {}, "output": {}})
    assert manifest.working_directory == "/var/holoscan"
    assert manifest.resources == MapResources(1, GIB, 64 * 1024**2, 0, 0)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python3 '/opt/my app' -x", ("python3", "/opt/my app", "-x")),
        (["python3", "app"], ("python3", "app")),
        ("cd /opt && ./run $HOME", ("/bin/sh", "-c", "cd /opt && ./run $HOME")),
        ("OMP_NUM_THREADS=1 python3 app", ("/bin/sh", "-c", "OMP_NUM_THREADS=1 python3 app")),
        ("python3 app --size=4", ("python3", "app", "--size=4")),
    ],
)
def test_command_forms(command: Any, words: tuple[str, ...]) -> None:
    assert parsed({**NEW_APP, "command": command}).command == words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": ""}, "no usable command"),
        ({"command": "[1, 2]"}, "no usable command"),
        ({"command": "['a']"}, "begins like a JSON array"),
        ({"command": "run 'x"}, "cannot be split"),
        ({"command": "[" * 60_000}, "begins like a JSON array"),
        ({"command": [""]}, "no usable command"),
        ({"command": ["a\0b"]}, "no usable command"),
        ({"command": "run \0"}, "no usable command"),
        ({"command": ["\ud800"]}, "no usable command"),
        ({"command": "run", "environment": {"A": "\ud800"}}, "cannot be set"),
        ({"timeout": -1}, "timeout = -1"),
        ({"timeout": "soon"}, "timeout = 'soon'"),
        ({"workingDirectory": "here"}, "absolute path"),
        ({"environment": ["A=1"]}, "environment that is not an object"),
        ({"environment": {"A B": "1"}}, "'A B'"),
        ({"input": {"path": "/data"}, "output": {"path": "/data/out"}}, "beside each other"),
        ({"input": "input/"}, "'input' that is not an object"),
    ],
)
def test_unusable_app_json_is_told_with_file_and_map(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message) as raised:
        parsed({**NEW_APP, **change})
    assert str(raised.value).startswith("app.json of x:1 ")


@pytest.mark.parametrize("resources", [{"memory": "much"}, {"cpu": "1,024"}, {"gpu": True}, {"memory": "-1Gi"}, [1]])
def test_unusable_resources_are_told(resources: Any) -> None:
    with pytest.raises(ManifestError, match=r"pkg\.json of x:1"):
        parsed(NEW_APP, {"resources": resources})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"x" * 2_000_000])
def test_broken_file_is_told(content: bytes) -> None:
    with pytest.raises(ManifestError, match=r"app\.json of x:1"):
        parse_manifest(content, b"{}", where="x:1")


def test_missing_pkg_json_is_told() -> None:
    with pytest.raises(ManifestError, match=r"pkg\.json of x:1 is missing"):
        parse_manifest(json.dumps(NEW_APP).encode(), None, where="x:1")


def test_limits_win_over_requests_and_the_spec_over_both() -> None:
    pkg = {"resources": {"cpu": 1, "cpuLimit": 2, "memory": "1Gi", "memoryLimit": "2Gi", "gpu": 1}}
    manifest = parsed(NEW_APP, pkg)
    assert (manifest.resources.cpu, manifest.resources.memory_bytes) == (2, 2 * GIB)
    nothing = parsed(NEW_APP, {"resources": {"memory": "0", "memoryLimit": "0Gi", "sharedMemory": 0}}).resources
    assert (nothing.memory_bytes, nothing.shared_memory_bytes) == (GIB, 64 << 20), "0 would be no limit at all"
    wanted = {"memory": "4Gi", "sharedMemory": "1Gi", "gpu": 0, "cpu": None}
    changed = with_resources(manifest, wanted).resources
    assert changed == MapResources(2, 4 * GIB, GIB, 0, 0)


def test_fragments_of_an_application_share_one_container() -> None:
    fragments = {"a": {"sharedMemory": "2Gi"}, "b": {"memory": "3Gi"}}
    resources = parsed(NEW_APP, {"resources": {"memory": "1Gi", "fragments": fragments}}).resources
    assert (resources.memory_bytes, resources.shared_memory_bytes) == (3 * GIB, 2 * GIB)


def test_environment_serves_both_generations() -> None:
    environment = run_environment(parsed(NEW_APP, NEW_PKG), job_id="ab" * 16, timeout_seconds=1.5)
    assert environment["HOLOSCAN_INPUT_PATH"] == environment["MONAI_INPUTPATH"] == "/var/holoscan/input/"
    assert environment["HOLOSCAN_OUTPUT_PATH"] == environment["MONAI_OUTPUTPATH"] == "/var/holoscan/output/"
    assert environment["HOLOSCAN_MODEL_PATH"] == environment["MONAI_MODELPATH"] == "/opt/holoscan/models/"
    assert environment["MONAI_JOBID"] == "ab" * 16
    assert environment["MONAI_TIMEOUT"] == "2"
    assert environment["THREADS"] == "4"


def unpacked(folder: Path, version: str, *, below: str = "") -> None:
    (folder / below).mkdir(parents=True)
    (folder / below / "app.json").write_text(json.dumps({**NEW_APP, "version": version}))
    (folder / below / "pkg.json").write_text(json.dumps(NEW_PKG))


@pytest.mark.parametrize("below", ["", "etc", "etc/holoscan", "etc/monai"])
def test_folder_of_an_unpacked_map(tmp_path: Path, below: str) -> None:
    unpacked(tmp_path / "lung", "1.2.0", below=below)
    assert load_manifests(tmp_path / "lung").version == "1.2.0"


def test_find_folder_by_name_and_version(tmp_path: Path) -> None:
    unpacked(tmp_path / "a" / "lung", "1.0.0")
    unpacked(tmp_path / "b" / "lung", "2.0.0")
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert find_folder("lung:2.0", folders)[0] == tmp_path / "b" / "lung"
    assert find_folder("registry:5000/team/lung:1.0.0", folders)[0] == tmp_path / "a" / "lung"
    assert find_folder("lung", folders)[0] == tmp_path / "a" / "lung"
    with pytest.raises(MapNotFound, match=r"'lung:3'.*version 1\.0\.0.*version 2\.0\.0"):
        find_folder("lung:3", folders)
    with pytest.raises(MapNotFound, match="absent"):
        find_folder("liver:3", folders)
    with pytest.raises(MapNotFound, match="map_path is empty"):
        find_folder("liver:3", [])


@pytest.mark.parametrize("reference", ["../lung:1", "lung@sha256:00", "", "a b:1", "/etc", "..:1"])
def test_references_that_are_no_names_are_refused(tmp_path: Path, reference: str) -> None:
    unpacked(tmp_path / "lung", "1")
    with pytest.raises(MapNotFound):
        find_folder(reference, [str(tmp_path / "maps")])


def test_versions() -> None:
    assert same_version("1.0", "1.0.0")
    assert same_version("v1.2", "1.2")
    assert not same_version("1.0", "1.0.1")
