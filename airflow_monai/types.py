"""The nouns that every part of the package shares: plain frozen data, no behaviour, no imports of ours.

Names follow DICOM (PS3.3) for what DICOM defines and the MONAI Deploy workflow definition for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any


class TaskStatus(str, Enum):
    """Status of a task as the workflow language names it (``context.executions.<task>.status``)."""

    CREATED = "Created"
    DISPATCHED = "Dispatched"
    ACCEPTED = "Accepted"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    PARTIAL_FAIL = "PartialFail"
    CANCELED = "Canceled"


class FailureKind(str, Enum):
    """Why a task failed, as ``retry_policy`` names it; :mod:`airflow_monai.failures` says which are retried."""

    CONNECTION = "connection"
    """An engine, a destination or a service was out of reach or stopped answering."""
    INTERRUPTED = "interrupted"
    """The application was ended from outside, or asked for another try."""
    EXIT_CODE = "exit_code"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    MISSING_OUTPUT = "missing_output"
    REFUSED = "refused"
    """The far side answered, and did not want it."""
    NOT_FOUND = "not_found"
    """An application, an image or a payload that does not exist."""
    NO_CARD = "no_card"
    """No card was free within the time that a task may wait for one."""
    NOT_STARTED = "not_started"
    """The task's time was over before its application had begun."""
    POLICY = "policy"
    """The site does not allow what was asked for, or what was made."""
    INVALID = "invalid"
    """What the task was told, or what it was given, cannot be used."""
    INTERNAL = "internal"
    """Anything else."""


@dataclass(frozen=True, slots=True)
class PatientDetails:
    """Patient attributes that conditions may ask for, as text of the DICOM attribute or None where it is absent.

    ``dob`` is PatientBirthDate (0010,0030) as DICOM writes it, YYYYMMDD.
    """

    id: str | None = None  # PatientID (0010,0020)
    name: str | None = None  # PatientName (0010,0010)
    sex: str | None = None  # PatientSex (0010,0040)
    dob: str | None = None  # PatientBirthDate (0010,0030)
    age: str | None = None  # PatientAge (0010,1010)
    hospital_id: str | None = None  # IssuerOfPatientID (0010,0021)


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """One received instance. ``path`` is relative to the payload's folder (``dcm/<study>/<series>/<sop>.dcm``)."""

    path: str
    size: int
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Payload:
    """Manifest of an immutable set of received files: by default, one study sent to one AE title.

    :param study_instance_uid: of the first image where they are of several studies.
    :param sequence: 0 for the first payload of a study at an AE title, 1 for images that came after that closed...
    :param received_first: and ``received_last``, ``closed``: UTC, ISO 8601 with offset.
    :param grouping: what its images have in common: ``study``, ``series`` or ``patient``.
    :param follows: the payload that had been closed when these images came; None for the first.
    :param includes: payloads whose images it holds: late ones last, together with all that came before; empty for
        images as they were received.
    """

    payload_id: str
    study_instance_uid: str
    called_aet: str
    calling_aets: tuple[str, ...]
    sequence: int
    files: tuple[PayloadFile, ...]
    received_first: str
    received_last: str
    closed: str
    patient: PatientDetails = field(default_factory=PatientDetails)
    grouping: str = "study"
    follows: str | None = None
    includes: tuple[str, ...] = ()

    @property
    def is_late(self) -> bool:
        """Whether it holds nothing but images that came after the payload before it was closed."""
        return self.sequence > 0 and not self.includes

    @property
    def studies(self) -> frozenset[str]:
        """Study Instance UIDs of its images."""
        paths = (file.path.split("/") for file in self.files)
        return frozenset({self.study_instance_uid, *(parts[1] for parts in paths if len(parts) == 4)})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Payload:
        known = dict(data)
        known["includes"] = tuple(known.get("includes", ()))
        known["files"] = tuple(PayloadFile(**item) for item in known["files"])
        known["calling_aets"] = tuple(known["calling_aets"])
        known["patient"] = PatientDetails(**known.get("patient", {}))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What a task of a workflow instance did, as later tasks and conditions read it; kept in the store.

    :param artifacts: artifact name -> store keys of its files, sorted.
    :param result: the application's ``metadata.json``; may hold what the application wrote about a patient, so it
        stays in the store and only declared keys go to XCom.
    :param output_dir: store key of the folder the task wrote to, or None.
    :param error_msg: reason in one line for a task that failed, else None.
    """

    task_id: str
    task_type: str
    status: TaskStatus
    execution_id: str
    generation: int = 1
    try_number: int = 1
    map_index: int = -1
    previous_task_id: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    output_dir: str | None = None
    error_msg: str | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    stats: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["status"] = self.status.value
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskRecord:
        known = dict(data)
        known["status"] = TaskStatus(known["status"])
        known["artifacts"] = {name: tuple(keys) for name, keys in known.get("artifacts", {}).items()}
        return cls(**known)


SeriesTags = Mapping[str, Mapping[str, list[Any]]]
"""Series Instance UID -> tag as 8 upper-case hex digits -> distinct values over the images of the series.

A value is text, or a list of text for a multi-valued element; None stands for images that lack the element.
A person's name has its other groups (ideographic, phonetic) under its tag with a ``=`` behind it.
"""
