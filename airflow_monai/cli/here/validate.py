"""``airflow monai validate``: what is wrong with workflow files, before Airflow sees them."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from airflow_monai.cli.ending import ends
from airflow_monai.cli.here.configured import known_workflow_folder
from airflow_monai.specs.defaults.lookup import Defaults, DefaultsTree, root_above
from airflow_monai.specs.folder import (
    SUFFIXES,
    SpecFile,
    combined,
    defaults_folders,
    read_spec,
    read_within,
    spec_paths,
)
from airflow_monai.specs.problems import Problem, errors_of
from airflow_monai.specs.site import Site
from airflow_monai.wording import counted


@ends()
def validate(args: Namespace) -> int:
    against = None
    if args.site:
        from airflow_monai.cli.here.site import this_site

        against = this_site()
    roots = {"root": args.root, "site": known_workflow_folder()}
    return run(args.paths, args.json, sys.stdout, **roots, against=against, strict=args.strict)


def run(
    paths: Sequence[str],
    as_json: bool,
    out: TextIO,
    *,
    root: str | None = None,
    site: str | None = None,
    against: Site | None = None,
    strict: bool = False,
) -> int:
    """Check files, and all workflow files below folders, and print what is wrong with them.

    :param as_json: print a list of objects (file, line, column, code, message, hint, severity) instead of text.
    :param root: no files of defaults are looked for above this folder.
    :param site: the site's folder of workflows: the ``root`` of what lies below it, where none is given. Of others it
        is the folder given, or that of the file, or the one above as long as that has defaults, too.
    :param against: what the good files are checked against, too; that gives warnings only.
    :param strict: a warning counts as an error.
    :return: exit code: 1 when there is an error, 0 when all files can be used.
    """
    files, defaults = _read(paths, _absolute(root) if root else None, _absolute(site) if site else None)
    if against is not None:
        files = {path: _against(path, file, against) for path, file in files.items()}
    problems = (*_empty_folders(paths), *combined(files, defaults).problems)
    if as_json:
        out.write(json.dumps([problem.to_dict() for problem in problems], indent=2, ensure_ascii=False) + "\n")
    else:
        out.writelines(f"{problem}\n" for problem in problems)
        out.write(_summary(len(files), problems) + "\n")
    return 1 if errors_of(problems) or (strict and problems) else 0


def _read(paths: Iterable[str], root: Path | None, site: Path | None) -> tuple[dict[Path, SpecFile], list[Defaults]]:
    """Each file once, in the order in which they were named, and all files of defaults below the folders."""
    files: dict[Path, SpecFile] = {}
    found: list[Defaults] = []
    for path in map(Path, paths):
        within = path.is_dir()
        tree = _tree(path, path if within else path.parent, root, site)
        for file in spec_paths(path) if within else [path]:
            if file not in files:
                defaults = tree.above(_absolute(file).parent)
                files[file] = (
                    read_within(file, path, defaults=defaults) if within else read_spec(file, defaults=defaults)
                )
        for folder in defaults_folders(path) if within else ():
            found += tree.above(_absolute(folder))[:1]
    return files, found


def _against(path: Path, file: SpecFile, site: Site) -> SpecFile:
    """A file with what the site lacks for it among its problems."""
    if file.plan is None:
        return file
    from airflow_monai.specs.reading import check_with

    return replace(file, problems=tuple(check_with(path, file.defaults, site)[1]))


def _tree(path: Path, folder: Path, root: Path | None, site: Path | None) -> DefaultsTree:
    folder = _absolute(folder)
    if root is None:
        root = site if site and folder.is_relative_to(site) else root_above(folder)
    return DefaultsTree(root, str if path.is_absolute() else os.path.relpath)


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))


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
    parts = [counted(files, "file"), counted(errors, "error")]
    if len(problems) > errors:
        parts.append(counted(len(problems) - errors, "warning"))
    return ", ".join(parts)
