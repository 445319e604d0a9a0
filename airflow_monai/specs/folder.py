"""A folder of workflow files, read again cheaply when little has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.specs.problems import Problem
from airflow_monai.specs.stamp import FileStamp, stamp_of

SUFFIXES = (".yaml", ".yml", ".json")
LINK_CODE = "link-out"
LINK_MESSAGE = "the file is a link that leads out of the folder of workflows, and is not followed"
LINK_HINT = "put the file itself here"
_NO_STAMP = FileStamp()


@dataclass(frozen=True, slots=True)
class FolderSpecs:
    """What a folder holds.

    :param workflows: plans of the files without errors, in the order of their paths.
    :param problems: of all files, warnings included, in the order of paths and lines.
    :param kept: files that have become bad; their workflows are as they were before.
    :param lost: files whose workflows are not known, because of errors.
    """

    workflows: tuple[WorkflowPlan, ...]
    problems: tuple[Problem, ...]
    kept: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpecFile:
    """One file as it was last read: a plan or None, its problems, and the place of its name.

    :param kept: the plan is of an earlier reading, when the file was good.
    """

    stamp: FileStamp
    plan: WorkflowPlan | None
    problems: tuple[Problem, ...]
    place: tuple[int, int] = (1, 1)
    kept: bool = False


def spec_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """The workflow files below a folder, sorted; without dot files, dot folders and ``defaults.*``."""
    return sorted(Path(entry.path) for entry in _entries(os.fspath(folder)))


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif is_spec_name(entry.name) and _may_be_file(entry):
                yield entry


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link that cannot be followed: reading tells why."""
    try:
        return entry.is_file()
    except OSError:
        return True


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a file of a folder is a link to what does not lie below the folder: its text would be shown."""
    if not path.is_symlink():
        return False
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def is_spec_name(name: str) -> bool:
    """Whether a file of this name may hold a workflow."""
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in SUFFIXES and stem != "defaults" and not name.startswith(".")


def load_folder(folder: str | os.PathLike[str]) -> FolderSpecs:
    """The workflows below a folder, and all problems of its files; a missing folder holds nothing."""
    return SpecFolder(folder).scan()


class SpecFolder:
    """A folder that is scanned again and again: files that are as before are not read again.

    :param folder: may come into being later.
    :param keep: the workflow of a file that becomes bad stays as it was, until the file is good again or gone.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: bool = False):
        self.folder = Path(folder)
        self._keep = keep
        self._files: dict[Path, SpecFile] = {}

    def scan(self) -> FolderSpecs:
        """The workflows as they are now. The later of two files with the same workflow name is refused."""
        self._files = {path: read for path in spec_paths(self.folder) if (read := self._read(path))}
        return combined(self._files)

    def _read(self, path: Path) -> SpecFile | None:
        try:
            stamp = stamp_of(path)
        except FileNotFoundError:
            return None
        except OSError:
            stamp = _NO_STAMP
        known = self._files.get(path)
        if known and known.stamp == stamp and stamp.settled() and not leads_out(path, self.folder):
            return known
        read = read_within(path, self.folder, stamp)
        if self._keep and read.plan is None and known and known.plan:
            return replace(known, stamp=stamp, problems=read.problems, kept=True)
        return read


def read_spec(path: Path, stamp: FileStamp = _NO_STAMP) -> SpecFile:
    """A file read now."""
    from airflow_monai.specs.compile import plan_of
    from airflow_monai.specs.reading import check_file

    spec, problems = check_file(path)
    if spec is None:
        return SpecFile(stamp, None, tuple(problems))
    return SpecFile(stamp, plan_of(spec), tuple(problems), spec.place)


def read_within(path: Path, folder: Path, stamp: FileStamp = _NO_STAMP) -> SpecFile:
    """A file of a folder read now; a link that leads out of the folder is a problem, and is not read."""
    if leads_out(path, folder):
        return SpecFile(stamp, None, (Problem(str(path), 1, 1, LINK_CODE, LINK_MESSAGE, LINK_HINT),))
    return read_spec(path, stamp)


def combined(files: Mapping[Path, SpecFile]) -> FolderSpecs:
    """The workflows of several files; of two with the same name the later one is refused."""
    workflows: list[WorkflowPlan] = []
    problems: list[Problem] = []
    names: dict[str, Path] = {}
    lost = []
    for path, file in files.items():
        problems += file.problems
        if file.plan is None:
            lost.append(str(path))
            continue
        taken = [names[key] for key in _keys(file.plan) if key in names]
        if taken:
            problems.append(_duplicate(path, file, file.plan.name, taken[0]))
            lost.append(str(path))
        else:
            names.update(dict.fromkeys(_keys(file.plan), path))
            workflows.append(file.plan)
    kept = tuple(str(path) for path, file in files.items() if file.kept)
    return FolderSpecs(tuple(workflows), tuple(problems), kept, tuple(lost))


def _keys(plan: WorkflowPlan) -> tuple[str, str]:
    return f"name {plan.name.lower()}", f"dag {plan.dag_id.lower()}"


def _duplicate(path: Path, file: SpecFile, name: str, first: Path) -> Problem:
    message = f"the name {name!r} is taken by the workflow of {first}"
    hint = "names are compared without regard to case: give each workflow its own"
    return Problem(str(path), *file.place, "duplicate-workflow", message, hint)
