"""DICOM files of a folder as the payloads that the gateway would make of them, without storing any.

For a person who has the files and wants to know, or to try, what a workflow makes of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from airflow_monai.errors import MonaiError
from airflow_monai.store.describe import Describer
from airflow_monai.store.elements import DamagedDataSet, Element, Encoding, short_elements
from airflow_monai.store.foreign import HEAD_BYTES, begins_as_dicom, problem_of_stranger, recognise
from airflow_monai.store.part10 import NotIdentified, mapped
from airflow_monai.store.payloads import payload_id_of
from airflow_monai.types import FailureKind, PatientDetails, Payload, PayloadFile, SeriesTags

MAX_FILES = 100_000
_TRANSFER_SYNTAX = 0x00020010
_TIME = "1970-01-01T00:00:00+00:00"


class StudyFolderError(MonaiError):
    """A folder does not hold what it is said to hold."""

    failure = FailureKind.INVALID


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the folder.

    :param entry: the instance as a payload's manifest has it.
    :param data_at: where its data set begins.
    """

    path: Path
    entry: PayloadFile
    data_at: int


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """One series, whole."""

    study_uid: str
    series_uid: str
    files: tuple[SourceFile, ...]
    patient: PatientDetails
    tags: SeriesTags


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that is, or is named as, DICOM and of which something is wrong.

    :param problem: without any value of the file.
    :param used: it counts nevertheless, as far as it could be read.
    """

    path: Path
    problem: str
    used: bool = False


@dataclass(frozen=True, slots=True)
class FolderContent:
    """What a folder holds.

    :param passed_over: files that are no DICOM images.
    :param duplicates: files of an instance that another one holds.
    """

    series: tuple[FoundSeries, ...]
    bad: tuple[BadFile, ...] = ()
    passed_over: int = 0
    duplicates: int = 0

    def studies(self) -> dict[str, tuple[FoundSeries, ...]]:
        """Study Instance UID -> its series."""
        found: dict[str, tuple[FoundSeries, ...]] = {}
        for series in self.series:
            found[series.study_uid] = (*found.get(series.study_uid, ()), series)
        return found


def read_folder(folder: Path, most: int = MAX_FILES) -> FolderContent:
    """Read the headers of all files below a folder (or of one file).

    :param most: files that it may have.
    :raises StudyFolderError: when there is no such folder, or it has more files.
    """
    if not folder.exists():
        raise StudyFolderError(f"There is no folder {folder}.")
    reader = _Reader()
    for number, path in enumerate(_paths(folder)):
        if number == most:
            raise StudyFolderError(f"The folder {folder} has more than {most} files: name the folder of one study.")
        reader.read(path)
    return reader.content()


def payload_of(series: Sequence[FoundSeries], called_aet: str, calling_aets: Iterable[str]) -> Payload:
    """The payload that series of one study (or of one patient) become when they are sent at once."""
    files = sorted((file.entry for item in series for file in item.files), key=lambda entry: entry.path)
    study_uid = min(item.study_uid for item in series)
    return Payload(
        payload_id=payload_id_of(study_uid, called_aet, 0),
        study_instance_uid=study_uid,
        called_aet=called_aet,
        calling_aets=tuple(calling_aets),
        sequence=0,
        files=tuple(files),
        received_first=_TIME,
        received_last=_TIME,
        closed=_TIME,
        patient=_patient(series),
    )


def tags_of(series: Iterable[FoundSeries]) -> SeriesTags:
    """Attributes of these series."""
    return {uid: tags for item in series for uid, tags in item.tags.items()}


def _patient(series: Iterable[FoundSeries]) -> PatientDetails:
    """As the gateway has it: of each attribute the first value in the order of the files' paths."""
    in_order = sorted(series, key=lambda item: (item.study_uid, item.series_uid))
    names = [one.name for one in fields(PatientDetails)]
    found = {name: [getattr(item.patient, name) for item in in_order] for name in names}
    return PatientDetails(**{name: next((value for value in found[name] if value), None) for name in names})


def _paths(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        yield folder
        return
    for top, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(top, name)


@dataclass(slots=True)
class _Reader:
    found: dict[str, SourceFile] = field(default_factory=dict)
    describers: dict[tuple[str, str], Describer] = field(default_factory=dict)
    waiting: dict[tuple[str, str], list[SourceFile]] = field(default_factory=dict)
    bad: list[BadFile] = field(default_factory=list)
    passed_over: int = 0
    duplicates: int = 0

    def read(self, path: Path) -> None:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                return
            with open(path, "rb") as file:
                head = file.read(HEAD_BYTES)
            if not begins_as_dicom(head):
                self._strange(path, head)
                return
            with mapped(path) as data:
                self._take(path, data)
        except (NotIdentified, DamagedDataSet) as error:
            self.bad.append(BadFile(path, str(error).rstrip(".")))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            self.bad.append(BadFile(path, f"it cannot be read: {reason}"))

    def _strange(self, path: Path, head: bytes) -> None:
        if problem := problem_of_stranger(path.name, head):
            self.bad.append(BadFile(path, problem))
        else:
            self.passed_over += 1

    def _take(self, path: Path, data: memoryview) -> None:
        image = recognise(data)
        if image is None:
            self.passed_over += 1
            return
        who = image.identity
        if who.sop in self.found:
            self.duplicates += 1
            return
        name = f"dcm/{who.study}/{who.series}/{who.sop}.dcm"
        entry = PayloadFile(name, image.size, who.sop, who.sop_class, who.series, image.transfer_syntax)
        self.found[who.sop] = source = SourceFile(path, entry, image.data_at)
        self.waiting.setdefault((who.study, who.series), []).append(source)

    def content(self) -> FolderContent:
        series = tuple(self._series(*key, files) for key, files in sorted(self.waiting.items()))
        return FolderContent(series, tuple(self.bad), self.passed_over, self.duplicates)

    def _series(self, study_uid: str, series_uid: str, files: list[SourceFile]) -> FoundSeries:
        describer = Describer()
        files.sort(key=lambda file: file.entry.path)
        for file in files:
            with mapped(file.path) as data:
                if not describer.add(file.entry.path, file.entry.size, _elements(data, file)):
                    problem = "its header breaks off; conditions see what comes before the damage"
                    self.bad.append(BadFile(file.path, problem, used=True))
        known = describer.description()
        return FoundSeries(study_uid, series_uid, tuple(files), known.patient, known.tags)


def _elements(data: memoryview, file: SourceFile) -> Iterator[Element]:
    """As the gateway's own copy of the file would have them."""
    syntax = file.entry.transfer_syntax_uid
    yield Element(_TRANSFER_SYNTAX, "UI", syntax.encode("latin-1"))
    yield from short_elements(data, Encoding.of(syntax), start=file.data_at)
