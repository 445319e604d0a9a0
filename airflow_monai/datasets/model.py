"""What a dataset is, as others are told of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_monai.errors import PayloadNotFound, StoreError
from airflow_monai.store.shapes import moment
from airflow_monai.types import Payload

MOST_STUDIES = 1000


class State(str, Enum):
    """How far a dataset is."""

    RECEIVING = "receiving"  # its files are being put into the store
    READY = "ready"


class DatasetNotFound(PayloadNotFound):
    """There is no such dataset (any more)."""


class NotUploaded(StoreError):
    """A payload was received for workflows; it is no dataset that may be deleted as one."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file for a dataset.

    :param file: as the store is to have it, on this host.
    :param path: ``dcm/<study>/<series>/<sop>.dcm``.
    :param sha256: of its bytes, in hex.
    """

    file: Path
    path: str
    size: int
    sha256: str

    @property
    def study(self) -> str:
        return self.path.split("/")[1]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset without what its files say of the patient.

    :param id: a UUID, and the id of its payload.
    :param created: UTC, ISO 8601.
    :param source: how it came: ``upload``, ``stow``, or ``received`` for a payload that was received for workflows.
    :param studies: Study Instance UIDs, the first thousand of them.
    :param series: how many there are.
    """

    id: str
    name: str
    state: State
    created: str
    created_by: str
    source: str
    files: int
    size: int
    series: int
    studies: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "state": self.state.value, "studies": list(self.studies)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Dataset:
        known = {name: data[name] for name in cls.__dataclass_fields__}
        moment(known["created"])
        return cls(**{**known, "state": State(known["state"]), "studies": tuple(known["studies"])})

    @classmethod
    def of_payload(cls, payload: Payload) -> Dataset:
        """A study that was received for workflows, as a dataset."""
        return cls(
            id=payload.payload_id,
            name="",
            state=State.READY,
            created=payload.closed,
            created_by="",
            source="received",
            files=len(payload.files),
            size=sum(file.size for file in payload.files),
            series=len({file.series_instance_uid for file in payload.files}),
            studies=tuple(sorted(payload.studies))[:MOST_STUDIES],
        )

    def in_state(self, state: State) -> Dataset:
        return replace(self, state=state)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the datasets, the newest first.

    :param total: how many there are in all.
    """

    datasets: tuple[Dataset, ...]
    total: int


def dataset_files(payload: Payload, offset: int = 0, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The files of a dataset as others are told of them, with UIDs that only those may see who may read data."""
    for file in payload.files[offset : None if limit is None else offset + limit]:
        yield {
            "sop_instance_uid": file.sop_instance_uid,
            "sop_class_uid": file.sop_class_uid,
            "series_instance_uid": file.series_instance_uid,
            "study_instance_uid": file.path.split("/")[1],
            "transfer_syntax_uid": file.transfer_syntax_uid,
            "size": file.size,
        }
