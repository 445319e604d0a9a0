"""What an application left in its output folder: its result and the artifacts that the spec declares.

An application decides what it writes, so everything here is untrusted: nothing outside the folder is ever read, file
names become store keys only when they are plain, and what is read is bounded.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_monai.errors import MapError, MissingOutput, StoreError
from airflow_monai.maps.modality import read_modality
from airflow_monai.store.base import check_key, safe_name

METADATA = "metadata.json"
MAX_METADATA_BYTES = 1024 * 1024
MAX_FILES = 100_000
WHOLE_FOLDER_TYPES = frozenset(("", "FOLDER", "UNSET"))
HL7 = "HL7"
_TEMPLATE = re.compile(r"\{\{[^{}]{0,500}\}\}")
# a link to nothing, in a circle, through a file, or too long for the system
_DEAD_LINK = frozenset((errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG))
_RIGHTS_OF_OTHERS = stat.S_ISUID | stat.S_ISGID
"""A program that has these runs with the rights of its owner, whoever starts it: no output needs that."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that JSON can name and PostgreSQL cannot hold."""


@dataclass(frozen=True, slots=True)
class Collected:
    """:param artifacts: artifact name -> paths of its files below the output folder, sorted."""

    result: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def collect(folder: Path, outputs: Sequence[Mapping[str, Any]], *, what: str) -> Collected:
    """The result and the declared artifacts.

    An artifact is what its ``value`` names below the folder, else what bears its name there, else the DICOM files whose
    modality is its type, else, when its type is Folder or not set, everything but ``metadata.json``.

    :param outputs: ``name``, ``type``, ``value``, ``mandatory`` of each declared artifact.
    :param what: which MAP of which task, for messages.
    :raises MissingOutput: when a mandatory one is not there.
    :raises MapError: when ``metadata.json`` is not a JSON object.
    """
    files = _Files(folder, tidy(folder, what))
    artifacts = {str(output["name"]): files.of(output) for output in outputs}
    for output in outputs:
        if output.get("mandatory", True) and not artifacts[str(output["name"])]:
            raise MissingOutput(
                f"{what} ended with exit code 0 but without its mandatory artifact {_told(output)}. In its output "
                f"folder there {files.census()}."
            )
    return Collected(_result(folder, files.paths, what), artifacts)


class _Files:
    """The files of an output folder; modalities are read only when somebody asks."""

    def __init__(self, folder: Path, paths: Sequence[str]):
        self.folder = folder
        self.paths = paths
        self._modalities: dict[str, str | None] = {}

    def of(self, output: Mapping[str, Any]) -> tuple[str, ...]:
        value = _TEMPLATE.sub("", str(output.get("value") or "")).strip().strip("/")
        if value:
            return self._at(value)
        kind = str(output.get("type") or "").strip().upper()
        return self._named(str(output["name"])) or self._typed(kind)

    def _at(self, path: str) -> tuple[str, ...]:
        return tuple(item for item in self.paths if item == path or item.startswith(f"{path}/"))

    def _named(self, name: str) -> tuple[str, ...]:
        """``<name>``, a file or a folder, else the files ``<name>.<anything>`` at the top."""
        return self._at(name) or tuple(path for path in self.paths if "/" not in path and path.startswith(f"{name}."))

    def _typed(self, kind: str) -> tuple[str, ...]:
        if kind in WHOLE_FOLDER_TYPES:
            return tuple(path for path in self.paths if path.rpartition("/")[2] != METADATA)
        if kind == HL7:
            return tuple(path for path in self.paths if _is_hl7(self.folder / path))
        return tuple(path for path in self.paths if self.modality(path) == kind)

    def modality(self, path: str) -> str | None:
        if path not in self._modalities:
            self._modalities[path] = read_modality(self.folder / path)
        return self._modalities[path]

    def census(self) -> str:
        """What there is, in numbers: names are left out, applications put patient ids into them."""
        if not self.paths:
            return "is nothing"
        kinds = Counter(
            {None: "other", "": "DICOM without modality"}.get(self.modality(path), f"DICOM {self.modality(path)}")
            for path in self.paths
        )
        return "are " + ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))


def _told(output: Mapping[str, Any]) -> str:
    kind, value = output.get("type") or "Unset", output.get("value")
    searched = f"at {value!r}" if value else f"as file or folder {output['name']!r}"
    typed = "" if value or str(kind).upper() in WHOLE_FOLDER_TYPES else f" or as files of type {kind}"
    return f"{output['name']!r} (looked for {searched}{typed})"


def _is_hl7(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\x0b\r\n ").startswith((b"MSH|", b"FHS|", b"BHS|"))


def _result(folder: Path, paths: Sequence[str], what: str) -> Mapping[str, Any]:
    """The ``metadata.json`` nearest the top, as a dict; empty when there is none."""
    found = sorted((path.count("/"), path) for path in paths if path.rpartition("/")[2] == METADATA)
    if not found:
        return {}
    file = folder / found[0][1]
    if file.stat().st_size > MAX_METADATA_BYTES:
        raise MapError(f"{what} wrote a {METADATA} of more than {MAX_METADATA_BYTES} bytes.")
    try:
        # NaN and Infinity are no JSON, and the database that XCom lives in refuses them
        text = file.read_bytes().decode("utf-8-sig")
        result = _storable(json.loads(text, parse_constant=lambda _: None, parse_float=_finite))
    except (ValueError, RecursionError):
        result = None
    if not isinstance(result, dict):
        raise MapError(f"{what} wrote a {METADATA} that is not a JSON object.")
    return result


def _finite(number: str) -> float | None:
    """A number that a float cannot hold (``1e999``) is as good as NaN."""
    value = float(number)
    return value if math.isfinite(value) else None


def _storable(value: Any) -> Any:
    """The value with texts that every database takes."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return value


def tidy(folder: Path, what: str) -> list[str]:
    """Make the folder safe to publish and list its files, sorted.

    Links become what they stand for when that lies within the folder and vanish otherwise; so do sockets and the like;
    what only the application's user could read becomes readable; names that cannot be keys of the store are changed.
    """
    paths: list[str] = []

    def visit(top: Path, prefix: str) -> None:
        _make_readable(top, what, is_folder=True)
        for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
            path = _plain_entry(Path(entry.path), folder, what)
            if path is None:
                continue
            if path.is_dir():
                visit(path, f"{prefix}{path.name}/")
            else:
                paths.append(f"{prefix}{path.name}")
            if len(paths) > MAX_FILES:
                raise MapError(f"{what} wrote more than {MAX_FILES} files.")

    _guarded(lambda: visit(folder, ""), what)
    return sorted(paths)


def _guarded(visit: Callable[[], None], what: str) -> None:
    try:
        visit()
    except RecursionError:
        raise MapError(f"{what} wrote folders that are nested too deeply.") from None
    except OSError as error:
        raise MapError(f"The output of {what} cannot be read: {error.strerror or error}.") from error


def _plain_entry(path: Path, folder: Path, what: str) -> Path | None:
    """The entry as a plain file or folder with a plain name; None when it was none and is gone."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        mode = _replace_link(path, folder)
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        path.unlink(missing_ok=True)
        return None
    if stat.S_ISREG(mode):
        _make_readable(path, what, is_folder=False)
    return _with_plain_name(path)


def _replace_link(link: Path, folder: Path) -> int:
    """Turn a link to a file within the folder into a second name of that file; the mode of what it is now, else 0."""
    try:
        target = Path(os.path.realpath(link, strict=True))
    except OSError as error:
        if error.errno in _DEAD_LINK:
            return 0
        raise
    if not target.is_relative_to(folder.resolve()) or not target.is_file():
        return 0
    link.unlink()
    os.link(target, link)
    return link.lstat().st_mode


def _with_plain_name(path: Path) -> Path:
    try:
        check_key(path.name)
    except StoreError:
        plain = path.with_name(safe_name(path.name))
        path.rename(plain)
        return plain
    return path


def _make_readable(path: Path, what: str, *, is_folder: bool) -> None:
    wanted = 0o755 if is_folder else 0o644
    status = path.lstat()
    mode = (stat.S_IMODE(status.st_mode) | wanted) & ~_RIGHTS_OF_OTHERS
    if mode == stat.S_IMODE(status.st_mode):
        return
    try:
        path.chmod(mode)
    except PermissionError:
        raise MapError(
            f"{what} left files of user {status.st_uid} that this worker may not read. Set [monai] container_user to "
            "the worker's own uid:gid, or leave it empty."
        ) from None
