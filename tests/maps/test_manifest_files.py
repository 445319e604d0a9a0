"""Manifests as real packages have them, and broken ones; ``manifests/<case>`` holds what is expected of each."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import ManifestError, MapNotFound
from airflow_monai.maps.manifest import load_manifests, parse_manifest

CASES = sorted(path for path in (Path(__file__).parent / "manifests").iterdir() if path.is_dir())
APP = {"command": "run", "input": {}, "output": {}}
RESOURCES = "pkg.json resources"


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_a_package_is_read_as_expected(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    found = json.loads(json.dumps(asdict(load_manifests(folder))))
    assert {name: found[name] for name in expected} == expected


def test_both_generations_and_a_dozen_deviations_are_among_them() -> None:
    assert {"generation-0.1", "generation-1.0"} <= {path.name for path in CASES}
    assert len(CASES) >= 14


@pytest.mark.parametrize("name", ["03_segmentation_app", "sdk0.4.0__05_full_tutorial"])
def test_published_packages(name: str) -> None:
    """They are no part of the project: the test reads them where somebody has put them beside it."""
    beside = Path(__file__).resolve().parents[3]
    app = next(beside.glob(f"*/samples/manifests/{name}__app.json"), None)
    if app is None:
        pytest.skip("the published sample is not beside this checkout")
    pkg = app.with_name(f"{name}__pkg.json")
    manifest = parse_manifest(app.read_bytes(), pkg.read_bytes(), where=name)
    assert manifest.command[0] == "python3" and manifest.resources.gpu == 1
    assert manifest.models and manifest.timeout_seconds is None


BROKEN: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("app.json command", {"command": None}, {}),
    ("app.json command", {"command": 7}, {}),
    ("app.json command", {"command": "['python3', 'app']"}, {}),
    ("app.json command", {"command": 'run "half'}, {}),
    ("app.json command", {"command": ["run", 1]}, {}),
    ("app.json timeout", {"timeout": "10m"}, {}),
    ("app.json timeout", {"timeout": -5}, {}),
    ("app.json timeout", {"timeout": [1]}, {}),
    ("app.json workingDirectory", {"workingDirectory": "work"}, {}),
    ("app.json workingDirectory", {"workingDirectory": {}}, {}),
    ("app.json environment", {"environment": "A=1"}, {}),
    ("app.json environment.A=B", {"environment": {"A=B": "1"}}, {}),
    ("app.json input", {"input": ["input/"]}, {}),
    ("app.json output.path", {"input": {"path": "x"}, "output": {"path": "x/"}}, {}),
    ("app.json output.path", {"input": {"path": "/data"}, "output": {"path": "/data/out"}}, {}),
    ("app.json version", {"version": {"major": 1}}, {}),
    ("app.json resultKeys", {"resultKeys": "volume"}, {}),
    (f"{RESOURCES}", {}, {"resources": [1]}),
    (f"{RESOURCES}.cpu", {}, {"resources": {"cpu": "1,024"}}),
    (f"{RESOURCES}.cpu", {}, {"resources": {"cpu": "-1.0"}}),
    (f"{RESOURCES}.gpu", {}, {"resources": {"gpu": "all"}}),
    (f"{RESOURCES}.memory", {}, {"resources": {"memory": "4 cups"}}),
    (f"{RESOURCES}.memory", {}, {"resources": {"memory": "-1Gi"}}),
    (f"{RESOURCES}.gpuMemory", {}, {"resources": {"gpuMemory": "6GX"}}),
    (f"{RESOURCES}.sharedMemoryLimit", {}, {"resources": {"sharedMemoryLimit": "much"}}),
    (f"{RESOURCES}.fragments.model.gpuMemory", {}, {"resources": {"fragments": {"model": {"gpuMemory": "x"}}}}),
    (f"{RESOURCES}.fragments", {}, {"resources": {"fragments": ["model"]}}),
    ("pkg.json applicationRoot", {}, {"applicationRoot": "opt/app"}),
    ("pkg.json modelRoot", {}, {"modelRoot": "models"}),
    ("pkg.json models", {}, {"models": "model.ts"}),
    ("pkg.json models", {}, {"models": [{"path": "/x"}]}),
    ("pkg.json models", {}, {"models": [{"name": "two words"}]}),
    ("pkg.json models", {}, {"models": {"m" * 129: "/x"}}),
    ("pkg.json models", {}, {"models": {"m": 1}}),
]


@pytest.mark.parametrize(("field", "app", "pkg"), BROKEN, ids=[f"{n}-{case[0]}" for n, case in enumerate(BROKEN)])
def test_a_broken_manifest_is_refused_by_its_field(field: str, app: dict[str, Any], pkg: dict[str, Any]) -> None:
    with pytest.raises(ManifestError) as raised:
        parse_manifest(json.dumps({**APP, **app}).encode(), json.dumps(pkg).encode(), where="x:1")
    assert raised.value.field == field
    assert str(raised.value).startswith(f"{field.partition(' ')[0]} of x:1 ")
    assert field.partition(" ")[2].rpartition(".")[2] in ("path", *words(str(raised.value)))


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z=]+", text)


@pytest.mark.parametrize("content", [None, b"", b"{]", b"[1]", b'"text"', b"\xff\xfe{\x00}\x00", b"{" * 60_000])
def test_a_file_that_is_no_object_is_refused_by_its_name(content: bytes | None) -> None:
    for app, pkg, name in ((content, b"{}", "app.json"), (json.dumps(APP).encode(), content, "pkg.json")):
        with pytest.raises(ManifestError, match=f"{name} of x:1") as raised:
            parse_manifest(app, pkg, where="x:1")
        assert raised.value.field == name


def test_a_folder_without_one_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(MapNotFound, match=r"no unpacked MAP: it holds no app\.json"):
        load_manifests(tmp_path)
    (tmp_path / "app.json").write_text(json.dumps(APP))
    with pytest.raises(ManifestError, match=r"pkg\.json .* is missing"):
        load_manifests(tmp_path)
