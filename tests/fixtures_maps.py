"""The sample MAPs for tests: their folders, their images, and a phantom study that one has segmented.

A conftest takes what it needs with ``from tests.fixtures_maps import map_images  # noqa: F401``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_monai.local.phantom import StudyInfo, generate
from tests.conftest import require

MAPS_FOLDER = Path(__file__).resolve().parents[1] / "examples" / "maps"
BUILD = MAPS_FOLDER / "build.py"


@dataclass(frozen=True)
class Segmented:
    """A phantom study and the folder with what lung-seg made of it."""

    study: StudyInfo
    output: Path


@pytest.fixture(scope="session")
def map_images() -> dict[str, str]:
    """The tags of the images by the name of the MAP, built where they are not yet: lung-seg and noop."""
    require("docker")
    check = subprocess.run([sys.executable, BUILD, "--check"], capture_output=True, text=True, check=False)
    if check.returncode != 0:
        if os.environ.get("REQUIRE_REAL_PARTS") == "1":
            pytest.fail(check.stdout.strip())
        pytest.skip(check.stdout.strip())
    built = subprocess.run([sys.executable, BUILD], capture_output=True, text=True, check=False, timeout=500)
    assert built.returncode == 0, built.stderr
    return {tag.split(":")[0]: tag for tag in built.stdout.split()}


@pytest.fixture(scope="session")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Segmented:
    """A phantom of 30 slices of 128 x 128 and its segmentation, made by the application as a process."""
    study = generate(tmp_path_factory.mktemp("study"), slices=30, rows=128, seed=1)
    output = tmp_path_factory.mktemp("segmented")
    done = run_map("lung-seg", study.folder, output)
    assert done.returncode == 0, done.stderr
    return Segmented(study, output)


def run_map(
    name: str, source: Path, target: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a sample MAP from its folder, as a person in a shell would."""
    return subprocess.run(
        [sys.executable, "-B", str(MAPS_FOLDER / name / "app"), "-i", str(source), "-o", str(target)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **(environment or {})},
    )


def run_image(
    tag: str, source: Path, target: Path, *options: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run an image as tightly as a hospital would: no network, nothing to write but its output."""
    target.mkdir(exist_ok=True)
    target.chmod(0o777)
    source.chmod(0o755)  # pytest's folders are for their owner only
    tight = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    mounts = ["-v", f"{source}:/var/holoscan/input:ro", "-v", f"{target}:/var/holoscan/output"]
    variables = [word for name, value in (environment or {}).items() for word in ("-e", f"{name}={value}")]
    command = ["docker", "run", "--rm", *tight, *mounts, *variables, *options, tag]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
