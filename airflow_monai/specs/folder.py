"""A folder of workflow files, read again cheaply when little has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_monai.specs.claims import Claim, Claims
from airflow_monai.specs.defaults.lookup import (
    LINK_CODE,
    LINK_HINT,
    LINK_MESSAGE,
    STEM,
    SUFFIXES,
    Defaults,
    DefaultsTree,
    is_defaults_name,
    leads_out,
    parsed,
)
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.specs.problems import Problem, in_order
from airflow_monai.specs.stamp import FileStamp, stamp_of

_NO_STAMP = FileStamp()
_NAMED = 3
"""How many workflows a problem of a defaults file names that it keeps from loading."""


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
    :param defaults: what it took where it did not say it, the nearest first.
    """

    stamp: FileStamp
    plan: WorkflowPlan | None
    problems: tuple[Problem, ...]
    place: tuple[int, int] = (1, 1)
    kept: bool = False
    defaults: tuple[Defaults, ...] = ()


def spec_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """The workflow files below a folder, sorted; without dot files, dot folders and ``defaults.*``."""
    return _sorted(entry for entry in _entries(os.fspath(folder)) if is_spec_name(entry.name))


def defaults_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """The folders from this one down that hold a file of defaults, sorted."""
    found = _sorted(entry for entry in _entries(os.fspath(folder)) if is_defaults_name(entry.name))
    return sorted({path.parent for path in found})


def _sorted(entries: Iterable[os.DirEntry[str]]) -> list[Path]:
    return sorted(Path(entry.path) for entry in entries)


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
            elif entry.name.lower().endswith(SUFFIXES) and _may_be_file(entry):
                yield entry


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link that cannot be followed: reading tells why."""
    try:
        return entry.is_file()
    except OSError:
        return True


def is_spec_name(name: str) -> bool:
    """Whether a file of this name may hold a workflow."""
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in SUFFIXES and stem != STEM and not name.startswith(".")


def load_folder(
    folder: str | os.PathLike[str], more: Callable[[], Mapping[Path, SpecFile]] | None = None
) -> FolderSpecs:
    """The workflows below a folder, and all problems of its files; a missing folder holds nothing.

    :param more: as :class:`SpecFolder` takes it.
    """
    return SpecFolder(folder, more=more).scan()


class SpecFolder:
    """A folder that is scanned again and again: files that are as before are not read again.

    :param folder: may come into being later.
    :param keep: the workflow of a file that becomes bad stays as it was, until the file is good again or gone.
    :param more: gives workflows that are no files of the folder, and come after those.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        keep: bool = False,
        more: Callable[[], Mapping[Path, SpecFile]] | None = None,
    ):
        self.folder = Path(folder)
        self._keep = keep
        self._more = more
        self._files: dict[Path, SpecFile] = {}
        self._others: Mapping[Path, SpecFile] = {}
        self._defaults = DefaultsTree(self.folder)

    def scan(self) -> FolderSpecs:
        """The workflows as they are now. The later of two files with the same workflow name is refused."""
        self._defaults.refresh()
        entries = list(_entries(os.fspath(self.folder)))
        paths = _sorted(entry for entry in entries if is_spec_name(entry.name))
        folders = {Path(entry.path).parent for entry in entries if is_defaults_name(entry.name)}
        self._files = {path: read for path in paths if (read := self._read(path))}
        self._others = self._more() if self._more else {}
        return combined(self.files, _nearest(self._defaults, sorted(folders)))

    @property
    def files(self) -> Mapping[Path, SpecFile]:
        """What the last scan read, good or bad, those that are no files of the folder included."""
        return {**self._files, **self._others}

    def _read(self, path: Path) -> SpecFile | None:
        try:
            stamp = stamp_of(path)
        except FileNotFoundError:
            return None
        except OSError:
            stamp = _NO_STAMP
        defaults = self._defaults.above(path.parent)
        known = self._files.get(path)
        is_same = known is not None and known.stamp == stamp and known.defaults == defaults
        if known and is_same and stamp.settled() and not leads_out(path, self.folder):
            return known
        read = read_within(path, self.folder, stamp, defaults)
        if self._keep and read.plan is None and known and known.plan:
            return replace(known, stamp=stamp, problems=read.problems, kept=True, defaults=defaults)
        return read


def read_spec(path: Path, stamp: FileStamp = _NO_STAMP, defaults: tuple[Defaults, ...] = ()) -> SpecFile:
    """A file read now."""
    from airflow_monai.specs.compile import plan_of
    from airflow_monai.specs.reading import check_with

    spec, problems = check_with(path, defaults)
    if spec is None:
        return SpecFile(stamp, None, tuple(problems), defaults=defaults)
    return SpecFile(stamp, plan_of(spec), tuple(problems), spec.place, defaults=defaults)


def read_within(
    path: Path, folder: Path, stamp: FileStamp = _NO_STAMP, defaults: tuple[Defaults, ...] = ()
) -> SpecFile:
    """A file of a folder read now; a link that leads out of the folder is a problem, and is not read."""
    if leads_out(path, folder):
        problem = Problem(str(path), 1, 1, LINK_CODE, LINK_MESSAGE, LINK_HINT)
        return SpecFile(stamp, None, (problem,), defaults=defaults)
    return read_spec(path, stamp, defaults)


def combined(files: Mapping[Path, SpecFile], defaults: Sequence[Defaults] = ()) -> FolderSpecs:
    """The workflows of several files. Of two with the same name, or with other groupings for one AE title, the later
    one is refused.

    :param defaults: files of defaults whose problems are told also where no workflow is below them.
    """
    workflows: list[WorkflowPlan] = []
    problems: list[Problem] = []
    shared = _SharedProblems(defaults)
    claims = Claims()
    lost = []
    for path, file in files.items():
        problems += [problem for problem in file.problems if not shared.take(problem, path)]
        if file.plan is None:
            lost.append(str(path))
            continue
        conflict = claims.take(_claim(file.plan, path))
        if conflict:
            problems.append(Problem(str(path), *file.place, conflict.code, conflict.message, conflict.hint))
            lost.append(str(path))
        else:
            workflows.append(file.plan)
    kept = tuple(str(path) for path, file in files.items() if file.kept)
    return FolderSpecs(tuple(workflows), (*shared.problems(), *problems), kept, tuple(lost))


def _nearest(tree: DefaultsTree, folders: Iterable[Path]) -> list[Defaults]:
    return [found[0] for folder in folders if (found := tree.above(folder))]


def _claim(plan: WorkflowPlan, path: Path) -> Claim:
    return Claim(plan.name, plan.dag_id, plan.ae_title, plan.grouping, str(path))


class _SharedProblems:
    """Problems of defaults files: each is told once, however many workflows it is a problem of."""

    def __init__(self, defaults: Iterable[Defaults]):
        self._found = {problem.place: problem for one in defaults for problem in parsed(one).problems}
        self._users: dict[tuple[str, int, int, str], list[str]] = {}

    def take(self, problem: Problem, path: Path) -> bool:
        """Take over a workflow's problem where it is one of another file."""
        if problem.file == str(path):
            return False
        self._found.setdefault(problem.place, problem)
        self._users.setdefault(problem.place, []).append(path.name)
        return True

    def problems(self) -> list[Problem]:
        return in_order(self._told(problem) for problem in self._found.values())

    def _told(self, problem: Problem) -> Problem:
        users = list(dict.fromkeys(self._users.get(problem.place, ())))
        if not users or not problem.is_error:
            return problem
        more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
        return replace(problem, message=f"{problem.message} (it keeps {', '.join(users[:_NAMED])}{more} from loading)")
