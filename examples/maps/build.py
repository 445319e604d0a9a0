#!/usr/bin/env python3
"""Build the images of the sample MAPs, with a registry or without; needs only the standard library.

    build.py [--base-image IMAGE] [NAME ...]     build what is not built yet, print the tags
    build.py --check                             say in one line whether that is possible here (exit 0 or 1)

The base image is ``--base-image`` or ``$BASE_IMAGE``: any image with Python 3.11 and pip; the build then downloads its
packages itself. Where none is given, one is made of Debian packages (root, mmdebstrap; about 40 s, once) and kept as
``airflow-monai-map-base:bookworm``, the packages are downloaded outside by your pip and its configuration, and the
build has no network. An image is built again only when the files of its folder have changed (label
``airflow-monai.content``).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAPS = ("lung-seg", "noop")
SUITE = "bookworm"
SUITE_PYTHON = "3.11"
OWN_BASE = f"airflow-monai-map-base:{SUITE}"
BASE_PACKAGES = "python3,python3-pip"
WITHOUT_DOCUMENTATION = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
CONTENT_LABEL = "airflow-monai.content"
BASE_LABEL = "airflow-monai.base"
STAGE_LABEL = "airflow-monai.stage"  # marks what a build leaves behind
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class CannotBuild(Exception):
    """Why images cannot be built here, in one line with what to do."""


@dataclass(frozen=True)
class SampleMap:
    """A folder beside this file that becomes one image."""

    folder: Path

    @property
    def tag(self) -> str:
        version = json.loads((self.folder / "app.json").read_text())["version"]
        return f"{self.folder.name}:{version}"

    @property
    def content(self) -> str:
        """A hash of the files that go into the image."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(self.folder)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()[:32]

    def is_built(self, base_image: str | None) -> bool:
        """Whether the engine has this image, of these files and, where one is asked for, on this base."""
        labels = _labels(self.tag)
        return labels.get(CONTENT_LABEL) == self.content and base_image in (None, labels.get(BASE_LABEL))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the images of the sample MAPs.")
    parser.add_argument("--check", action="store_true", help="only say whether building is possible here")
    parser.add_argument("--base-image", default=os.environ.get("BASE_IMAGE") or None, help="default: $BASE_IMAGE")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(MAPS)}")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.names) - set(MAPS))
    if unknown:
        parser.error(f"no such MAP: {', '.join(unknown)}; there are {', '.join(MAPS)}")
    maps = [SampleMap(HERE / name) for name in args.names or MAPS]
    try:
        how = _check(maps, args.base_image)
        if args.check:
            print(f"yes: {how}")
            return 0
        with _one_at_a_time():
            for sample in maps:
                _build(sample, args.base_image)
    except CannotBuild as error:
        print(f"no: {error}" if args.check else f"build.py: {error}", file=sys.stdout if args.check else sys.stderr)
        return 1
    return 0


def _check(maps: Sequence[SampleMap], base_image: str | None) -> str:
    """How building would be done; raises CannotBuild with the reason where it cannot be."""
    _require_engine()
    if all(sample.is_built(base_image) for sample in maps):
        return "the images are built already"
    if base_image and base_image != OWN_BASE:
        return f"with the base image {base_image}"
    _pip()
    if _exists(OWN_BASE):
        return f"with the base image {OWN_BASE}"
    if os.geteuid() != 0 or not shutil.which("mmdebstrap") or not shutil.which("apt-get"):
        raise CannotBuild(
            "there is no base image: set BASE_IMAGE to one with Python 3.11 and pip, "
            "or be root on Debian with mmdebstrap (apt-get install mmdebstrap)"
        )
    _archive()
    return f"{OWN_BASE} can be made with mmdebstrap"


def _require_engine() -> None:
    if not shutil.which("docker"):
        raise CannotBuild("the docker command is not installed (apt-get install docker.io)")
    asked = _docker("version", "--format", "{{.Server.Version}}")
    if "permission denied" in asked.stderr.lower():
        raise CannotBuild("your user may not use the Docker engine: join the group docker (or run this as root)")
    if asked.returncode != 0:
        raise CannotBuild("no Docker engine answers (start it, or set DOCKER_HOST)")


def _build(sample: SampleMap, base_image: str | None) -> None:
    """Build one image unless it is there already, and print its tag."""
    if not sample.is_built(base_image):
        base = base_image or OWN_BASE
        if base == OWN_BASE and not _exists(OWN_BASE):
            make_base(OWN_BASE, BASE_PACKAGES)
        with tempfile.TemporaryDirectory(prefix="map-build-") as scratch:
            context = Path(scratch) / sample.folder.name
            shutil.copytree(sample.folder, context, ignore=shutil.ignore_patterns("__pycache__"))
            _docker_build(sample, base, context)
    print(sample.tag)


def _docker_build(sample: SampleMap, base: str, context: Path) -> None:
    options = ["--build-arg", f"BASE_IMAGE={base}", "--tag", sample.tag]
    options += ["--label", f"{CONTENT_LABEL}={sample.content}", "--label", f"{BASE_LABEL}={base}"]
    if base == OWN_BASE:
        options += ["--network", "none"]
        if (context / "requirements.txt").exists():
            _download_wheels(context / "requirements.txt", context / "wheels")
    _note(f"building {sample.tag} on {base}")
    done = _docker("build", "--force-rm", *options, str(context))
    if done.returncode != 0:
        raise CannotBuild(f"docker build of {sample.tag} failed:\n{_tail(done)}")
    _docker("image", "prune", "--force", "--filter", f"label={STAGE_LABEL}={sample.folder.name}")


def _download_wheels(requirements: Path, folder: Path) -> None:
    """Fetch the wheels for the Python of the base image, which need not be the one that runs this."""
    arch = _docker("version", "--format", "{{.Server.Arch}}").stdout.strip()
    machine = MACHINES.get(arch, arch)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (28, 27, 24, 17)] + [f"manylinux2014_{machine}"]
    options = ["--dest", str(folder), "--only-binary", ":all:", "--implementation", "cp"]
    options += ["--python-version", SUITE_PYTHON, "--requirement", str(requirements)]
    for platform in platforms:
        options += ["--platform", platform]
    _note(f"downloading the packages of {requirements.parent.name}")
    done = _run(*_pip(), "download", "--quiet", *options)
    if done.returncode != 0:
        raise CannotBuild(f"pip could not download the packages of {requirements.parent.name}:\n{_tail(done)}")


def make_base(tag: str, packages: str) -> None:
    """Give the engine a small Debian with these packages, separated by commas. Needs root and mmdebstrap."""
    _note(f"making the base image {tag}, once")
    options = ["--variant=minbase", f"--include={packages}", "--quiet"]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in WITHOUT_DOCUMENTATION]
    with tempfile.TemporaryDirectory(prefix="map-base-") as scratch:
        tar = Path(scratch) / "base.tar"
        for command in (
            ("mmdebstrap", *options, SUITE, str(tar), _archive()),
            ("docker", "import", "--change", 'CMD ["/bin/bash"]', str(tar), tag),
        ):
            done = _run(*command)
            if done.returncode != 0:
                raise CannotBuild(f"{command[0]} could not make the base image:\n{_tail(done)}")


def _archive() -> str:
    """The Debian archive that this machine's own apt uses."""
    listed = _run(
        "apt-get", "indextargets", "--format", "$(ORIGIN) $(SUITE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"
    )
    for line in listed.stdout.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[0] == "Debian" and fields[2] == "main" and "-" not in fields[1]:
            return fields[3]
    raise CannotBuild("apt knows no Debian archive (run apt-get update), and no BASE_IMAGE is set")


def _pip() -> list[str]:
    """The command of a pip: of this Python, else of the system."""
    if _run(sys.executable, "-m", "pip", "--version").returncode == 0:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if not found:
        raise CannotBuild("there is no pip to download packages with (apt-get install python3-pip)")
    return [found]


def _labels(image: str) -> dict[str, str]:
    done = _docker("image", "inspect", "--format", "{{json .Config.Labels}}", image)
    return (json.loads(done.stdout) or {}) if done.returncode == 0 else {}


def _exists(image: str) -> bool:
    return _docker("image", "inspect", image).returncode == 0


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run("docker", *arguments)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((done.stdout + done.stderr).splitlines()[-15:])


def _note(message: str) -> None:
    print(f"build.py: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let two of these take turns: the second then finds what the first has built."""
    lock = Path(tempfile.gettempdir()) / f"airflow-monai-map-build-{os.getuid()}.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    raise SystemExit(main())
