"""What the headers of a payload's files say: its manifest's entries, the patient, the tags of each series."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from airflow_monai.errors import StoreError
from airflow_monai.store.base import Store
from airflow_monai.store.elements import DamagedDataSet, Element
from airflow_monai.store.part10 import file_elements, mapped
from airflow_monai.store.tags import TagCollector, as_text, dictionary_vr
from airflow_monai.types import PatientDetails, PayloadFile, SeriesTags

log = logging.getLogger(__name__)

_TRANSFER_SYNTAX, _SOP_CLASS, _CHARSET, _PATIENT_ID = 0x00020010, 0x00080016, 0x00080005, 0x00100020
_PATIENT = {
    0x00100010: "name",
    _PATIENT_ID: "id",
    0x00100021: "hospital_id",
    0x00100030: "dob",
    0x00100040: "sex",
    0x00101010: "age",
}
_START_BYTES = 64 * 1024
"""Hardly any header is longer, its pixels left out."""
_NOTED = frozenset({_TRANSFER_SYNTAX, _SOP_CLASS, _CHARSET, *_PATIENT})


@dataclass(frozen=True, slots=True)
class Description:
    files: tuple[PayloadFile, ...]
    patient: PatientDetails
    tags: SeriesTags


def describe(store: Store, folder: str, sizes: Mapping[str, int]) -> Description:
    """Read the headers of a payload's files. A header that breaks off counts as far as it goes.

    :param folder: the payload's key.
    :param sizes: path below it (``dcm/<study>/<series>/<sop>.dcm``) -> size.
    :raises StoreError: when a file is missing.
    """
    describer = Describer()
    paths = sorted(sizes)
    if store.local_path(folder) is None:
        _read_starts(store, folder, paths, sizes, describer)
    else:
        for path in paths:
            _read(store, f"{folder}/{path}", path, sizes[path], describer)
    if describer.truncated:
        log.warning(
            "%s: %d values of its headers are too many; conditions do not see them", folder, describer.truncated
        )
    if describer.patients > 1:
        log.warning(
            "%s: its images are of %d patients; conditions and messages are told of the first one",
            folder,
            describer.patients,
        )
    return describer.description()


class Describer:
    """Collects what the headers of a payload's files say, which are given in the order of their paths."""

    def __init__(self) -> None:
        self._collector = TagCollector()
        self._patients: dict[str, dict[str, str]] = {}  # by PatientID, empty for none
        self._files: list[PayloadFile] = []

    @property
    def truncated(self) -> int:
        """How many values were left out because there are too many."""
        return self._collector.truncated

    def add(self, path: str, size: int, elements: Iterable[Element]) -> bool:
        """Take one file; whether its header was whole, else it counts as far as it goes.

        :param path: below the payload, ``dcm/<study>/<series>/<sop>.dcm``.
        :param elements: those of its meta group first.
        """
        raw: dict[int, Element] = {}
        whole = True
        try:
            self._collector.add(PurePosixPath(path).parts[-2], _noting(elements, raw))
        except DamagedDataSet:
            whole = False
        noted = _texts(raw)
        details = self._patients.setdefault(noted.get(_PATIENT_ID, ""), {})
        for tag, name in _PATIENT.items():
            if name not in details and noted.get(tag):
                details[name] = noted[tag]
        self._files.append(_entry(path, size, noted))
        return whole

    @property
    def patients(self) -> int:
        """Of how many patients the files say to be; those that name none are not counted."""
        return sum(1 for patient_id in self._patients if patient_id)

    def description(self) -> Description:
        return Description(tuple(self._files), self._patient(), self._collector.tags())

    def _patient(self) -> PatientDetails:
        """One patient's details, and of nobody else: the first one's where the files are of several."""
        details = next((known for patient_id, known in self._patients.items() if patient_id), {})
        if self.patients <= 1:
            details = {**self._patients.get("", {}), **details}
        return PatientDetails(**details)


def _entry(path: str, size: int, noted: Mapping[int, str]) -> PayloadFile:
    parts = PurePosixPath(path)
    return PayloadFile(
        path=path,
        size=size,
        sop_instance_uid=parts.stem,
        sop_class_uid=noted.get(_SOP_CLASS, ""),
        series_instance_uid=parts.parts[-2],
        transfer_syntax_uid=noted.get(_TRANSFER_SYNTAX, ""),
    )


def _read_starts(
    store: Store, folder: str, paths: Sequence[str], sizes: Mapping[str, int], describer: Describer
) -> None:
    """Of a store elsewhere only the beginnings are fetched; the whole of a file whose header is longer than that."""
    starts = store.starts((f"{folder}/{path}" for path in paths), _START_BYTES)
    for path, start in zip(paths, starts, strict=True):
        elements, whole = _elements(start)
        if not whole and len(start) < sizes[path]:
            elements, whole = _elements(store.read(f"{folder}/{path}"))
        describer.add(path, sizes[path], elements if whole else _breaking_off(elements))


def _elements(data: bytes) -> tuple[list[Element], bool]:
    """The elements of a file, as far as it goes, and whether it did not break off."""
    found: list[Element] = []
    try:
        for element in file_elements(memoryview(data)):
            found.append(element)
    except DamagedDataSet:
        return found, False
    return found, True


def _breaking_off(elements: Iterable[Element]) -> Iterator[Element]:
    yield from elements
    raise DamagedDataSet("The data set breaks off.")


def _read(store: Store, key: str, name: str, size: int, describer: Describer) -> None:
    path = store.local_path(key)
    assert path is not None
    try:
        with mapped(path) as data:
            describer.add(name, size, file_elements(data))
    except (OSError, ValueError) as error:
        raise StoreError(f"{key} cannot be read: {error}.") from error


def _noting(elements: Iterable[Element], noted: dict[int, Element]) -> Iterable[Element]:
    for element in elements:
        if element.tag in _NOTED:
            noted.setdefault(element.tag, element)
        yield element


def _texts(raw: Mapping[int, Element]) -> dict[int, str]:
    charset = raw[_CHARSET].value if _CHARSET in raw else b""
    texts = {}
    for tag, element in raw.items():
        text = as_text(element.value, element.vr or dictionary_vr(tag), charset)
        texts[tag] = "\\".join(text) if isinstance(text, list) else text or ""
    return texts
