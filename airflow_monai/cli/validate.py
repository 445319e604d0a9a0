"""``airflow monai validate``: what is wrong with workflow files, before Airflow sees them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from airflow_monai.specs.folder import SUFFIXES, SpecFile, combined, read_spec, read_within, spec_paths
from airflow_monai.specs.problems import Problem, errors_of


def run(paths: Sequence[str], as_json: bool, out: TextIO) -> int:
    """Check files, and all workflow files below folders, and print what is wrong with them.

    :param as_json: print a list of objects (file, line, column, code, message, hint, severity) instead of text.
    :return: exit code: 1 when there is an error, 0 when all files can be used.
    """
    files = _read(paths)
    problems = (*_empty_folders(paths), *combined(files).problems)
    if as_json:
        out.write(json.dumps([problem.to_dict() for problem in problems], indent=2, ensure_ascii=False) + "\n")
    else:
        out.writelines(f"{problem}\n" for problem in problems)
        out.write(_summary(len(files), problems) + "\n")
    return 1 if errors_of(problems) else 0


def _read(paths: Iterable[str]) -> dict[Path, SpecFile]:
    """Each file once, in the order in which they were named."""
    files: dict[Path, SpecFile] = {}
    for path in map(Path, paths):
        within = path.is_dir()
        for file in spec_paths(path) if within else [path]:
            if file not in files:
                files[file] = read_within(file, path) if within else read_spec(file)
    return files


def _empty_folders(paths: Iterable[str]) -> Iterator[Problem]:
    """A folder without a workflow file: most likely it is not the one that was meant."""
    for path in map(Path, paths):
        if path.is_dir() and not spec_paths(path):
            kinds = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
            message = f"the folder holds no workflow file ({kinds})"
            hint = "check the path; files and folders whose name begins with a dot, and defaults.*, do not count"
            yield Problem(str(path), 1, 1, "no-workflow", message, hint)


def _summary(files: int, problems: Sequence[Problem]) -> str:
    errors = len(errors_of(problems))
    parts = [_count(files, "file"), _count(errors, "error")]
    if len(problems) > errors:
        parts.append(_count(len(problems) - errors, "warning"))
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
