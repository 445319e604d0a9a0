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
    return subprocess.run(["make", *words], cwd=folder, env=env, capture_output=True, text=True, timeout=60)


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
