"""``airflow monai maps`` as a person or a program uses it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.cli.standalone import main
from airflow_monai.gpu.inventory import parse_inventory, save_inventory
from airflow_monai.store import open_store
from tests.fixtures_maps import MAPS_FOLDER, map_images  # noqa: F401


class Shell:
    """A site with the process runner, and its command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]):
        self._capsys = capsys

    def __call__(self, *words: str | Path, code: int = 0) -> str:
        """Output of ``airflow monai maps WORDS``, which ends with this exit code; its errors too."""
        with pytest.raises(SystemExit) as ended:
            main(["maps", *map(str, words)])
        said = self._capsys.readouterr()
        assert ended.value.code == code, said.out + said.err
        return said.out + said.err

    def json(self, *words: str | Path, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))


@pytest.fixture
def maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    (tmp_path / "workflows").mkdir()
    options = {"STORE": tmp_path / "store", "WORKFLOW_FOLDER": tmp_path / "workflows", "RUNNER": "process"}
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__MONAI__{name}", str(value))
    return Shell(capsys)


def unpacked(folder: Path, **app: Any) -> Path:
    shutil.copytree(MAPS_FOLDER / "noop", folder, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = folder / "app.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **app}))
    return folder


def test_from_a_folder_to_its_end(maps: Shell, tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "quick", version="2.1.0")
    told = maps("register", folder, "--export", "PACS")
    assert "Registered quick:2.1.0" in told and "map.quick.2.1.0" in told and "AE title QUICK" in told
    assert "Already registered: quick:2.1.0" in maps("register", folder)
    assert "quick:2.1.0  registered  QUICK     PACS" in maps("list")
    told = maps("describe", "quick")
    assert "revision 1         registered at" in told and '["python3", "/opt/holoscan/app"]' in told
    assert "Unregistered quick:2.1.0" in maps("unregister", "quick:2.1.0")
    assert "No MAP is registered yet" in maps("list")
    assert "quick:2.1.0  unregistered" in maps("list", "--all")
    assert "not registered any more" in maps("describe", "quick:2.1.0")
    assert "is no <name>:<version>" in maps("unregister", "quick", code=1)


def test_what_became_of_a_registered_folder_is_told(
    maps: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unpacked(tmp_path / "quick", version="2.1.0")
    assert "error: runner" not in maps("register", folder)
    (folder / "app" / "more.py").write_text("x = 1")
    assert "has changed since it was registered" in maps("describe", "quick")
    shutil.rmtree(folder)
    assert "is not on this host" in maps("describe", "quick")
    monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "docker")
    assert "which only the process runner runs" in maps("describe", "quick")
    assert "(registered: quick:2.1.0)" in maps("unregister", "quick", code=1)


@pytest.mark.parametrize("path", ["/", "/etc", "/proc/x", "/opt/holoscan/app", "/opt", "/etc/../..//proc"])
def test_an_output_folder_that_hides_the_application_or_the_system_is_an_error(
    maps: Shell, tmp_path: Path, path: str
) -> None:
    folder = unpacked(tmp_path / "odd", output={"path": path, "formats": ["SEG"]})
    (problem,) = [one for one in maps.json("inspect", folder, code=1)["problems"] if one["level"] == "error"]
    assert problem["field"] == "app.json output.path"


def test_programs_get_json(maps: Shell, tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "quick")
    done = maps.json("register", folder, "--ae-title", "Q", "--name", "fast", "--version", "7")
    assert (done["label"], done["dag_id"], done["ae_title"], done["is_new"]) == ("fast:7", "map.fast.7", "Q", True)
    assert done["digest"].startswith("files-sha256:") and "app" not in done
    assert [item["label"] for item in maps.json("list")] == ["fast:7"]
    told = maps.json("describe", "fast:7")
    assert [item["revision"] for item in told["history"]] == [1]
    assert told["resources"]["memory_bytes"] == 128 * 1024**2
    assert maps.json("unregister", "fast:7")["is_registered"] is False


def test_another_content_or_title_is_refused_and_nothing_changes(maps: Shell, tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "quick")
    first = maps.json("register", folder)
    (folder / "app" / "more.py").write_text("x = 1")
    told = maps("register", folder, code=1)
    assert first["digest"] in told and told.count("files-sha256:") == 2 and "--version" in told
    other = unpacked(tmp_path / "other")
    maps("register", other, "--version", "5")
    assert "--replace" in maps("register", other, "--version", "5", "--ae-title", "ELSE", code=1)
    assert maps.json("register", other, "--version", "5", "--ae-title", "ELSE", "--replace")["revision"] == 2


def test_a_folder_is_not_registered_where_only_containers_run(
    maps: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "docker")
    told = maps("register", unpacked(tmp_path / "quick"), code=1)
    assert "only the process runner runs a folder: register its image" in told and "Registered" not in told
    assert "No MAP is registered yet" in maps("list", "--all")


def test_a_folder_that_was_registered_by_mistake_gives_its_version_back(maps: Shell, tmp_path: Path) -> None:
    maps("register", unpacked(tmp_path / "one" / "quick"))
    right = unpacked(tmp_path / "two" / "quick", timeout=90)
    assert "`airflow monai maps unregister quick:1.0.0` frees the version" in maps("register", right, code=1)
    maps("unregister", "quick:1.0.0")
    assert "Registered quick:1.0.0" in maps("register", right)
    assert "time limit         90 s" in maps("describe", "quick")


def test_inspect_says_what_would_run_and_what_is_wrong(maps: Shell, tmp_path: Path) -> None:
    cards = parse_inventory({"hosts": {"gpu01": [{"model": "T4", "memory": "15 GiB"}]}})
    save_inventory(open_store(str(tmp_path / "store")), cards)
    folder = unpacked(tmp_path / "big", timeout=90)
    resources = {"cpu": 2, "memory": "3Gi", "gpu": 1, "gpuMemory": "6Gi"}
    (folder / "pkg.json").write_text(json.dumps({"resources": resources}))
    told = maps("inspect", folder)
    for line in ("time limit         90 s", "cores              2", "memory             3 GiB", "pool gpu_t4, 6 slots"):
        assert line in told, told
    assert "HOLOSCAN_INPUT_PATH=/var/holoscan/input/" in told
    (folder / "pkg.json").write_text(json.dumps({"resources": {**resources, "gpuMemory": "60Gi"}}))
    facts = maps.json("inspect", folder, code=1)
    assert facts["pool"] is None
    assert facts["problems"][0]["level"] == "error" and facts["problems"][0]["field"] == "pkg.json resources.gpu"


def test_inspect_names_the_field_of_a_broken_manifest(maps: Shell, tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "broken", timeout="soon")
    assert "has timeout = 'soon'" in maps("inspect", folder, code=1)
    (problem,) = maps.json("inspect", folder, code=1)["problems"]
    assert (problem["level"], problem["field"]) == ("error", "app.json timeout")
    assert "There is no folder" in maps("inspect", tmp_path / "nothing", code=1)
    (tmp_path / "empty").mkdir()
    assert "is no unpacked MAP" in maps("inspect", tmp_path / "empty", code=1)


def test_the_process_runner_s_own_folder_is_found_by_name_without_an_engine(
    maps: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked(tmp_path / "maps" / "quick", version="2.1.0")
    monkeypatch.setenv("AIRFLOW__MONAI__MAP_PATH", str(tmp_path / "maps"))
    monkeypatch.setenv("AIRFLOW__MONAI__DOCKER_URL", f"unix://{tmp_path}/nobody.sock")
    assert str(tmp_path / "maps" / "quick") in maps("inspect", "quick")
    assert "Registered quick:2.1.0" in maps("register", "quick:2.1.0")
    assert "cannot be reached" in maps("inspect", "quick:3", code=1), "what is no folder is looked for as an image"


@pytest.mark.usefixtures("map_images")
def test_an_image_is_inspected_and_registered(maps: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    told = maps("inspect", "noop:1.0.0")
    assert "platform           linux/" in told and "time limit         300 s" in told
    assert "[monai] runner = process" in maps("register", "noop:1.0.0", code=1)
    monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "docker")
    done = maps.json("register", "noop:1.0.0")
    assert done["label"] == "noop:1.0.0" and done["kind"] == "image" and done["digest"].startswith("sha256:")
    assert done["digest"] in maps("inspect", "noop:1.0.0")
    told = maps("register", "lung-seg:1.0.0", "--name", "noop", code=1)
    assert done["digest"] in told and told.count("sha256:") == 2
    assert "docker pull nobody/has-it:1" in maps("inspect", "nobody/has-it:1", code=1)


def test_explain_tells_of_registered_maps_too(maps: Shell, tmp_path: Path) -> None:
    from airflow_monai.cli.here.explain import read_specs
    from airflow_monai.maps.workflows import RegisteredWorkflows

    registered = RegisteredWorkflows(open_store(str(tmp_path / "store"))).files
    maps("register", unpacked(tmp_path / "quick"))
    assert [plan.name for plan in read_specs(tmp_path / "workflows", registered).workflows] == ["map.quick.1.0.0"]
    assert [plan.name for plan in read_specs(tmp_path / "absent", registered).workflows] == ["map.quick.1.0.0"]
