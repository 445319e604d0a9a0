"""The build script says whether it can build, and builds nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures_maps import BUILD, MAPS_FOLDER


def _build(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    command = [sys.executable, str(BUILD), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=180)


def _fake_docker(folder: Path, script: str) -> str:
    """A PATH on which ``docker`` is this shell script, and nothing else is."""
    docker = folder / "docker"
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(0o755)
    return str(folder)


def test_no_docker_command_is_a_reason(tmp_path: Path) -> None:
    done = _build("--check", path=str(tmp_path))
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "docker command is not installed" in done.stdout


def test_no_engine_is_a_reason(tmp_path: Path) -> None:
    done = _build("--check", path=_fake_docker(tmp_path, "exit 1"))
    assert done.returncode == 1
    assert "no Docker engine answers" in done.stdout


def test_an_engine_that_the_user_may_not_use_is_not_called_absent(tmp_path: Path) -> None:
    told = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"
    done = _build("--check", path=_fake_docker(tmp_path, f"echo {told} >&2; exit 1"))
    assert done.returncode == 1
    assert "join the group docker" in done.stdout and "no Docker engine answers" not in done.stdout


def test_no_base_image_is_a_reason_that_says_what_to_do(tmp_path: Path) -> None:
    path = _fake_docker(tmp_path, 'case "$1" in version) exit 0;; *) exit 1;; esac')
    done = _build("--check", path=path)
    assert done.returncode == 1
    assert "set BASE_IMAGE" in done.stdout


def test_a_given_base_image_is_enough(tmp_path: Path) -> None:
    path = _fake_docker(tmp_path, 'case "$1" in version) exit 0;; *) exit 1;; esac')
    done = _build("--check", "--base-image", "site/python:3.11", path=path)
    assert (done.returncode, done.stdout) == (0, "yes: with the base image site/python:3.11\n")


def test_a_given_base_image_is_passed_to_docker_and_a_failure_is_told(tmp_path: Path) -> None:
    path = _fake_docker(
        tmp_path,
        f'case "$1" in version) ;; build) echo "$@" > {tmp_path}/call; echo broken >&2; exit 1;; *) exit 1;; esac',
    )
    done = _build("--base-image", "site/python:3.11", "noop", path=path)
    assert done.returncode == 1
    assert "docker build of noop:1.0.0 failed" in done.stderr
    assert "broken" in done.stderr
    call = (tmp_path / "call").read_text()
    assert "--build-arg BASE_IMAGE=site/python:3.11" in call
    assert "--network none" not in call


def test_an_unknown_map_is_refused() -> None:
    done = _build("nope")
    assert done.returncode == 2
    assert "no such MAP: nope" in done.stderr


@pytest.mark.docker
def test_a_second_call_builds_nothing(map_images: dict[str, str]) -> None:
    done = _build()
    assert done.stdout.split() == ["lung-seg:1.0.0", "noop:1.0.0"] == [map_images["lung-seg"], map_images["noop"]]
    assert done.stderr == ""  # it says what it builds
    assert _build("--check").stdout == "yes: the images are built already\n"


@pytest.mark.docker
def test_images_hold_the_manifests_and_an_ordinary_user(map_images: dict[str, str]) -> None:
    for name, tag in map_images.items():
        shown = subprocess.run(
            ["docker", "run", "--rm", tag, "cat", "/etc/holoscan/app.json"], capture_output=True, text=True, check=True
        )
        assert json.loads(shown.stdout) == json.loads((MAPS_FOLDER / name / "app.json").read_text())
        who = subprocess.run(["docker", "run", "--rm", tag, "id", "-u"], capture_output=True, text=True, check=True)
        assert who.stdout.strip() == "1000"
