"""What `inspect` finds wrong or doubtful, and reading real images without starting them."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import MapNotFound, RunnerUnavailable
from airflow_monai.gpu.inventory import parse_inventory
from airflow_monai.maps.doubts import doubts_of, pool_of
from airflow_monai.maps.inspection import Inspected, inspect_folder, inspect_image, inspect_registered
from airflow_monai.maps.manifest import ManifestFiles
from airflow_monai.maps.policy import Policy
from airflow_monai.maps.registry import MapKind
from airflow_monai.store.local import LocalStore
from tests.conftest import require
from tests.maps.registered import image_map

CARDS = parse_inventory({"hosts": {"gpu01": [{"model": "T4", "memory": "15 GiB", "count": 2}]}})
GOOD_APP = {
    "command": "run",
    "input": {"path": "input/", "formats": ["DICOM"]},
    "output": {"path": "output/", "formats": ["SEG"]},
    "timeout": 60,
    "version": "1.2.0",
    "sdk": "monai-deploy",
}
GOOD_PKG = {"resources": {"cpu": 1, "memory": "1Gi", "sharedMemory": "64Mi"}}
GPU = {"memory": "1Gi"}


def seen(app: dict[str, Any] | None = None, pkg: dict[str, Any] | None = None, **more: Any) -> Inspected:
    contents = ({**GOOD_APP, **(app or {})}, {**GOOD_PKG, **(pkg or {})})
    app_json, pkg_json = (json.dumps(content).encode() for content in contents)
    files = ManifestFiles(app_json, pkg_json, "x:1")
    return Inspected("x:1", MapKind.IMAGE, "x:1", "sha256:" + "a" * 64, files, files.parsed(), **more)


def doubts(inspected: Inspected, **more: Any) -> list[str]:
    return [f"{doubt.level} {doubt.field}: {doubt.message}" for doubt in doubts_of(inspected, inventory=CARDS, **more)]


def test_a_good_one_raises_no_doubt() -> None:
    assert doubts(seen(user="1000:1000", platform="linux/amd64", engine_platform="linux/amd64")) == []


TABLE: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    ({"command": "a | b"}, {}, {}, "warning app.json command: needs a shell"),
    ({"sdk": "holoscan"}, {}, {}, "warning app.json sdk: holoscan: it is given --config"),
    ({"sdk": "other"}, {}, {}, "warning app.json sdk: 'other' is neither"),
    (
        {"environment": {"PACS_PASSWORD": "x"}},
        {},
        {},
        "warning app.json environment.PACS_PASSWORD: looks",
    ),
    ({"input": {"formats": None}}, {}, {}, "warning app.json input.formats: says nothing"),
    ({"output": {"format": {}}}, {}, {}, "warning app.json output.formats: says nothing"),
    ({"output": None}, {}, {}, "warning app.json output: is missing"),
    ({"timeout": 0}, {}, {}, "warning app.json timeout: sets no limit"),
    ({"version": "0.0.0"}, {}, {}, "warning app.json version: does not tell"),
    ({"liveness": {"type": "tcp", "port": 1}}, {}, {}, "warning app.json liveness: is not asked"),
    ({}, {"resources": None}, {}, "warning pkg.json resources: says nothing: 1 core, 1 GiB"),
    ({}, {"resources": {"gpumem": "1Gi"}}, {}, "warning pkg.json resources.gpumem: is not known"),
    ({}, {"resources": {"sharedMemry": "1Gi"}}, {}, "did you mean sharedMemory?"),
    ({}, {"resources": {"memory": 4}}, {}, "warning pkg.json resources.memory: 4 has no unit"),
    ({}, {"resources": {**GPU, "gpu": 1}}, {}, "warning pkg.json resources.gpuMemory: is missing: each card is taken"),
    ({}, {"resources": {**GPU, "gpuMemory": "4Gi"}}, {}, "warning pkg.json resources.gpu: is missing beside gpuMemory"),
    ({}, {"resources": {**GPU, "gpu": 0.5}}, {}, "warning pkg.json resources.gpu: 0.5 cards are rounded up to 1"),
    ({}, {"resources": {**GPU, "gpu": 1, "gpuLimit": 2}}, {}, "warning pkg.json resources.gpuLimit: the limit is what"),
    ({}, {"resources": {**GPU, "gpu": 1, "gpuMemory": "80Gi"}}, {}, "error pkg.json resources.gpu: This task asks for"),
    ({}, {"resources": {**GPU, "gpu": 3}}, {}, "error pkg.json resources.gpu: This task asks for 3 cards"),
    ({}, {"resources": {"fragments": {"a": {"cpus": 1}}}}, {}, "warning pkg.json resources.fragments.a.cpus: is not"),
    ({}, {"resources": {"fragments": {"a": {"cpu": 1}}}}, {}, "warning pkg.json resources.fragments: share one"),
    ({}, {}, {"user": ""}, "warning image USER: is root"),
    ({}, {}, {"user": "0:0"}, "warning image USER: is root"),
    (
        {},
        {},
        {"platform": "linux/arm64", "engine_platform": "linux/amd64"},
        "error image platform: linux/arm64",
    ),
    (
        {},
        {"platformConfig": "igpu"},
        {"engine_platform": "linux/amd64"},
        "warning pkg.json platformConfig: igpu",
    ),
]


@pytest.mark.parametrize(
    ("app", "pkg", "image", "expected"), TABLE, ids=[f"{n}-{row[3][:40]}" for n, row in enumerate(TABLE)]
)
def test_what_may_surprise_is_told_by_its_field(
    app: dict[str, Any], pkg: dict[str, Any], image: dict[str, Any], expected: str
) -> None:
    found = doubts(seen(app, pkg, **image))
    assert any(expected in line for line in found), found


def test_without_an_inventory_a_wish_for_a_card_is_a_doubt_and_without_the_wish_it_is_none() -> None:
    inspected = seen(pkg={"resources": {**GPU, "gpu": 1, "gpuMemory": "4Gi"}})
    (told,) = doubts_of(inspected, inventory=None)
    assert told.level == "warning" and "airflow monai pools sync" in told.message
    (told,) = doubts_of(inspected, inventory=None, use_gpu=False)
    assert "without one it may fail" in told.message


def test_more_than_the_site_allows_is_an_error() -> None:
    inspected = seen(pkg={"resources": {"cpu": 64, "memory": "1Gi"}})
    assert doubts(inspected, policy=Policy(max_cpu=8)) == [
        "error pkg.json resources.cpu: 64 cores are more than the 8 of one task ([monai] max_cpu)"
    ]


@pytest.mark.parametrize("works", [True, False])
def test_a_host_that_cannot_shut_a_process_in_is_told(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.maps.runners.process.sandbox.bubblewrap_works", lambda: works)
    folder = replace(seen(), kind=MapKind.FOLDER)
    assert any(line.startswith("warning isolation: bubblewrap does not work") for line in doubts(folder)) is not works


def test_a_host_that_is_too_busy_to_tell_whether_it_can_shut_a_process_in_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def busy() -> bool:
        raise RunnerUnavailable("too busy")

    monkeypatch.setattr("airflow_monai.maps.runners.process.sandbox.bubblewrap_works", busy)
    assert "warning isolation: could not be tried: too busy" in doubts(replace(seen(), kind=MapKind.FOLDER))


def test_an_image_that_the_site_does_not_allow_is_an_error() -> None:
    (told,) = doubts(seen(), policy=Policy(images=("reg.example/*",)))
    assert told.startswith("error image: it matches none of the patterns")
    assert doubts(seen(repo_digest=f"reg.example/x@sha256:{'b' * 64}"), policy=Policy(images=("reg.example/*",))) == []


def test_the_pool_that_it_takes_here() -> None:
    share = seen(pkg={"resources": {"gpu": 1, "gpuMemory": "6Gi"}}).manifest.resources
    pool = pool_of(share, CARDS)
    assert pool is not None and (pool.pool, pool.slots) == ("gpu_t4", 6)
    assert pool_of(share, None) is None
    assert pool_of(seen().manifest.resources, CARDS) is None


def test_a_registered_one_is_read_from_the_registry_alone() -> None:
    inspected = inspect_registered(image_map(resources={"cpu": 3}))
    assert inspected.manifest.resources.cpu == 3 and inspected.user is None


def test_a_folder_with_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(MapNotFound):
        inspect_folder(tmp_path)


MakeImage = Callable[..., str]


@pytest.fixture
def make_image() -> Iterator[MakeImage]:
    """Makes an image of files alone: nothing in it could be started."""
    require("docker")
    import docker

    client = docker.from_env(version="auto")
    made = []

    def make(files: dict[str, str | bytes]) -> str:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for path, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(path)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        name = f"airflow-monai-test/inspect-{uuid.uuid4().hex[:8]}"
        client.api.import_image_from_data(stream.getvalue(), repository=name, tag="1.0.0")
        made.append(f"{name}:1.0.0")
        return made[-1]

    yield make
    for name in made:
        client.images.remove(name, force=True)
    client.close()


def looked_at(reference: str, tmp_path: Path) -> Inspected:
    from airflow_monai.maps.runners.docker.engine import Engine

    return inspect_image(Engine("unix:///var/run/docker.sock"), LocalStore(tmp_path / "store"), reference)


def containers(reference: str) -> list[Any]:
    import docker

    client = docker.from_env(version="auto")
    try:
        return client.api.containers(all=True, filters={"ancestor": reference})
    finally:
        client.close()


@pytest.mark.parametrize("generation", ["monai", "holoscan"])
def test_an_image_is_read_without_being_started(make_image: MakeImage, generation: str, tmp_path: Path) -> None:
    case = Path(__file__).parent / "manifests" / ("generation-0.1" if generation == "monai" else "generation-1.0")
    names = [f"etc/{generation}/{name}.json" for name in ("app", "pkg")]
    reference = make_image({name: (case / name).read_bytes() for name in names})
    inspected = looked_at(reference, tmp_path)
    assert inspected.manifest.command[0] == "python3" and inspected.files.generation == generation
    assert inspected.digest.startswith("sha256:") and inspected.repo_digest == ""
    assert inspected.platform.startswith("linux/") and inspected.platform == inspected.engine_platform
    assert inspected.user == "" and inspected.size is not None
    assert containers(reference) == []
    assert looked_at(reference, tmp_path) == inspected  # from what the store remembers of the image


def test_an_image_without_generation_in_its_fields_is_of_its_folder(make_image: MakeImage, tmp_path: Path) -> None:
    reference = make_image({"etc/monai/app.json": '{"command": "run"}', "etc/monai/pkg.json": "{}"})
    for _ in range(2):
        assert looked_at(reference, tmp_path).manifest.working_directory == "/var/monai"


def test_what_is_no_map_or_not_here(make_image: MakeImage, tmp_path: Path) -> None:
    with pytest.raises(MapNotFound, match="is no MAP"):
        looked_at(make_image({"etc/passwd": "root"}), tmp_path)
    with pytest.raises(MapNotFound, match="docker pull nobody/has-this:1"):
        looked_at("nobody/has-this:1", tmp_path)
