"""Which runner the demo uses for its MAP: Docker where its image is there or can be built, else a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airflow_monai.errors import MonaiError

BUILD_SECONDS = 900


@dataclass(frozen=True, slots=True)
class RunnerChoice:
    """:param name: ``docker`` or ``process``; ``reason``: why, in one line."""

    name: str
    reason: str


def choose_runner(maps: Path, wanted: str, log: Path, say: Callable[[str], None]) -> RunnerChoice:
    """The runner to use for the sample MAP.

    :param wanted: ``docker``, ``process``, or empty for the best that this machine can do.
    :raises MonaiError: when Docker is wanted and the image cannot be had.
    """
    if wanted == "process":
        return RunnerChoice("process", "asked for by RUNNER=process")
    if wanted not in ("", "docker"):
        raise MonaiError(f"RUNNER={wanted}: choose docker or process.")
    possible, reason = _check(maps)
    if possible:
        possible, reason = _build(maps, log, say)
    if possible:
        return RunnerChoice("docker", reason)
    if wanted == "docker":
        raise MonaiError(f"RUNNER=docker is not possible here: {reason}")
    return RunnerChoice("process", reason)


def _check(maps: Path) -> tuple[bool, str]:
    done = _run(maps, "--check")
    reason = _last_line(done.stdout + done.stderr)
    return done.returncode == 0, reason.removeprefix("yes: ").removeprefix("no: ")


def _build(maps: Path, log: Path, say: Callable[[str], None]) -> tuple[bool, str]:
    """Build the image, at no cost where it is there; a build that fails is a reason, not an error."""
    say("building the MAP's image, where it is not there yet")
    done = _run(maps, "lung-seg")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(done.stdout + done.stderr)
    if done.returncode == 0:
        return True, "a Docker engine answers and has the MAP's image"
    return False, f"the MAP's image cannot be built ({_last_line(done.stderr)}; all of it in {log})"


def _run(maps: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(maps / "build.py"), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"the build took longer than {BUILD_SECONDS} s")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
