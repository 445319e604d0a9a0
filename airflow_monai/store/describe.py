"""What the headers of a payload's files say: its manifest's entries, the patient, the tags of each series."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from airflow_monai.errors import StoreError
from airflow_monai.store.base import Store
from airflow_monai.store.elements import DamagedDataSet, Element
from airflow_monai.store.part10 import file_elements, mapped
from airflow_monai.store.tags import TagCollector, as_text, dictionary_vr
from airflow_monai.types import PatientDetails, PayloadFile, SeriesTags

log = logging.getLogger(__name__)

_TRANSFER_SYNTAX, _SOP_CLASS, _CHARSET = 0x00020010, 0x00080016, 0x00080005
_PATIENT = {
    0x00100010: "name",
    0x00100020: "id",
    0x00100021: "hospital_id",
    0x00100030: "dob",
    0x00100040: "sex",
    0x00101010: "age",
}
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
    collector = TagCollector()
    patient: dict[str, str] = {}
    files = []
    for path in sorted(sizes):
        noted = _read(store, f"{folder}/{path}", PurePosixPath(path).parts[-2], collector)
        for tag, name in _PATIENT.items():
            if name not in patient and noted.get(tag):
                patient[name] = noted[tag]
        files.append(_entry(path, sizes[path], noted))
    if collector.truncated:
        log.warning(
            "%s: %d values of its headers are too many; conditions do not see them", folder, collector.truncated
        )
    return Description(tuple(files), PatientDetails(**patient), collector.tags())


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


def _read(store: Store, key: str, series_uid: str, collector: TagCollector) -> dict[int, str]:
    """Add one file to ``collector`` and return the values of the noted elements."""
    path = store.local_path(key)
    if path is None:
        raise StoreError(f"{key} is not on this host; the gateway needs a store in a folder.")
    noted: dict[int, Element] = {}
    try:
        with mapped(path) as data:
            collector.add(series_uid, _noting(file_elements(data), noted))
    except DamagedDataSet:
        pass  # what came before the damage is collected; the file is kept as it was sent
    except (OSError, ValueError) as error:
        raise StoreError(f"{key} cannot be read: {error}.") from error
    return _texts(noted)


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
