#!/usr/bin/env python3
"""Build the image of docker-compose.yaml, with a registry or without; needs only the standard library.

    compose/build.py [--base-image IMAGE] [--tag TAG]

The base image is ``--base-image`` or ``$BASE_IMAGE``: any Debian-like image with Python 3.11 and pip; the build then
downloads its packages itself, as ``docker compose build`` does. Where none is given, one is made of Debian packages
(root, mmdebstrap; about 40 s, once) and kept as ``airflow-monai-base:bookworm``, the packages are downloaded outside by
this Python's pip and its configuration, and the build has no network.

The image is built again only when a file that goes into it has changed (label ``airflow-monai.compose-content``).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from requirements import requirements

ROOT = Path(__file__).resolve().parents[1]
TAG = "airflow-monai:0.1.0"
OWN_BASE = "airflow-monai-base:bookworm"
OWN_BASE_PACKAGES = "python3,python3-pip,bubblewrap"
OWN_BASE_PYTHON = "3.11"
# as in .dockerignore, which `docker compose build` goes by
CONTENT = (
    "LICENSE",
    "README.md",
    "airflow_monai",
    "compose",
    "constraints.txt",
    "pyproject.toml",
    "setup.cfg",
)
CONTENT_LABEL = "airflow-monai.compose-content"
STAGE_LABEL = "airflow-monai.stage=compose"
PACKAGES_TAG = "airflow-monai-packages:0.1.0"  # the stage that costs time, kept for the next build
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class CannotBuild(Exception):
    """Why the image cannot be built here, with what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the image of docker-compose.yaml.")
    parser.add_argument("--base-image", default=os.environ.get("BASE_IMAGE") or None, help="default: $BASE_IMAGE")
    parser.add_argument("--tag", default=os.environ.get("MONAI_IMAGE") or TAG, help=f"default: {TAG}")
    args = parser.parse_args(argv)
    try:
        _require_engine()
        content = _content_hash(args.base_image or OWN_BASE)
        if _label(args.tag) != content:
            _build(args.tag, args.base_image, content)
    except CannotBuild as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    print(args.tag)
    return 0


def _require_engine() -> None:
    asked = _docker("version")
    if "permission denied" in asked.stderr.lower():
        raise CannotBuild("your user may not use the Docker engine: join the group docker (or run this as root)")
    if asked.returncode != 0:
        raise CannotBuild("no Docker engine answers: start it, or set DOCKER_HOST")


def _files() -> Iterator[Path]:
    for name in CONTENT:
        top = ROOT / name
        found = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        yield from (path for path in found if "__pycache__" not in path.parts)


def _content_hash(base: str) -> str:
    digest = hashlib.sha256(base.encode())
    for path in _files():
        digest.update(f"\0{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _build(tag: str, base_image: str | None, content: str) -> None:
    base = base_image or _own_base()
    with tempfile.TemporaryDirectory(prefix="monai-build-") as scratch:
        context = Path(scratch)
        for path in _files():
            target = context / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        options = ["--build-arg", f"BASE_IMAGE={base}", "--label", f"{CONTENT_LABEL}={content}"]
        if base == OWN_BASE:
            _download_wheels(context / "wheels")
            options += ["--network", "none"]
        _note(f"building {tag} on {base}")
        options += ["--force-rm", "--file", str(context / "compose/Dockerfile")]
        for words in (("--target", "packages", "--tag", PACKAGES_TAG), ("--tag", tag)):
            _checked(_docker("build", *words, *options, str(context)), f"docker build of {words[-1]}")
    for label in (CONTENT_LABEL, STAGE_LABEL):  # what this build replaced or passed through
        _docker("image", "prune", "--force", "--filter", f"label={label}")


def _own_base() -> str:
    """A base image of Debian packages, made now where it is not there."""
    if _docker("image", "inspect", OWN_BASE).returncode != 0:
        if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
            raise CannotBuild(
                "there is no base image: set BASE_IMAGE to one with Python 3.11 and pip, "
                "or be root on Debian with mmdebstrap (apt-get install mmdebstrap)"
            )
        maps = _build_of_maps()
        try:
            maps.make_base(OWN_BASE, OWN_BASE_PACKAGES)
        except maps.CannotBuild as error:
            raise CannotBuild(str(error)) from error
    return OWN_BASE


def _build_of_maps() -> ModuleType:
    """The script beside the sample MAPs, which can make a base image."""
    spec = importlib.util.spec_from_file_location("build_of_maps", ROOT / "examples/maps/build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def _download_wheels(folder: Path) -> None:
    """Fetch the wheels for the Python of the base image, which need not be the one that runs this."""
    arch = _docker("version", "--format", "{{.Server.Arch}}").stdout.strip()
    machine = MACHINES.get(arch, arch)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (28, 27, 24, 17)] + [f"manylinux2014_{machine}"]
    options = [word for platform in platforms for word in ("--platform", platform)]
    options += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", OWN_BASE_PYTHON]
    _note("downloading the packages")
    needs = [*requirements(ROOT / "setup.cfg"), "setuptools>=68", "wheel"]
    constraints = ("-c", str(ROOT / "constraints.txt"))
    done = _run(sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), *options, *constraints, *needs)
    _checked(done, "the download of the packages")


def _label(image: str) -> str | None:
    done = _docker("image", "inspect", "--format", "{{json .Config.Labels}}", image)
    return (json.loads(done.stdout) or {}).get(CONTENT_LABEL) if done.returncode == 0 else None


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return _run("docker", *words)
    except FileNotFoundError:
        raise CannotBuild("the docker command is not installed (apt-get install docker.io)") from None


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


def _checked(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode != 0:
        raise CannotBuild(f"{what} failed:\n{_tail(done)}")


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((done.stdout + done.stderr).splitlines()[-15:])


def _note(message: str) -> None:
    print(f"build.py: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
