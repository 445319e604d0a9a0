"""The Makefile where it decides something itself; its targets are tried by tests/e2e/test_demo.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_monai.local.stack import project_folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile and what its rules look at, and no .venv."""
    for name in ("Makefile", "setup.cfg", "constraints.txt"):
        shutil.copy(project_folder() / name, tmp_path)
    return tmp_path


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *words], cwd=folder, env=env, capture_output=True, text=True, timeout=180)


def test_a_python_that_is_not_there_is_told_and_no_other_is_taken(checkout: Path) -> None:
    done = make(checkout, "validate", "PYTHON=/nope")
    assert done.returncode != 0
    assert "PYTHON=/nope: no such Python runs here" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_comes_too_late_is_told(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "pip"):
        (checkout / ".venv" / "bin" / name).write_text("#!/bin/sh\necho another\n")
        (checkout / ".venv" / "bin" / name).chmod(0o755)
    (checkout / ".venv" / ".installed-demo").touch()
    told = "changes nothing: .venv was made with another one"
    assert told in make(checkout, "validate", f"PYTHON={sys.executable}").stderr
    assert told not in make(checkout, "validate").stderr


def test_clean_leaves_nothing_that_was_made(checkout: Path) -> None:
    made = (".demo/state", "airflow_monai.egg-info", ".ruff_cache", ".mypy_cache", "airflow_monai/local/__pycache__")
    for name in made:
        (checkout / name).mkdir(parents=True)
    (checkout / "airflow_monai" / "local" / "kept.py").touch()
    assert make(checkout, "clean").returncode == 0
    assert [name for name in made if (checkout / name).exists()] == []
    assert (checkout / "airflow_monai" / "local" / "kept.py").is_file()


def test_the_help_says_that_a_start_erases_the_state(checkout: Path) -> None:
    assert "erases" in make(checkout, "help").stdout


def fake_pip(folder: Path, script: str) -> None:
    """A .venv whose Python does this when asked for pip, and nothing else; stands in for minutes of installing."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\n[ "$2" != pip ] || {{ {script}; }}\n')
    (folder / ".venv" / "bin" / "pip").touch()
    (folder / ".venv" / "bin" / "python").chmod(0o755)


def test_installing_says_how_far_it_is(checkout: Path) -> None:
    fake_pip(checkout, "seq -f 'Collecting p%.0f' 60; echo Installing collected packages: all of them")
    done = make(checkout, "validate")
    assert done.returncode == 0, done.stderr
    assert [line.strip() for line in done.stdout.splitlines() if "packages" in line] == [
        "25 packages found", "50 packages found", "60 packages found: writing them, which takes the longest",
    ]  # fmt: skip


def test_installing_that_fails_is_told_and_tried_again_only_for_the_constraints(checkout: Path) -> None:
    fake_pip(checkout, "echo no network >&2; exit 1")
    failed = make(checkout, "validate")
    assert failed.returncode != 0 and "no network" in failed.stderr and "does not fit" not in failed.stdout
    shutil.rmtree(checkout / ".venv")
    fake_pip(checkout, "case $* in *constraints*) echo ResolutionImpossible >&2; exit 1;; esac")
    done = make(checkout, "validate")
    assert done.returncode == 0 and "does not fit this Python" in done.stdout


def test_the_help_says_how_to_run_one_folder_of_tests(checkout: Path) -> None:
    assert "make test ARGS=tests/specs" in make(checkout, "help").stdout
