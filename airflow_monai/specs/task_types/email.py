"""``email``: tell people about a study, without telling who the patient is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_monai.specs.addresses import is_address, listed
from airflow_monai.specs.findings import Finding, Location
from airflow_monai.specs.patient_attributes import may_name_patient, names_patient
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.problems import nearest
from airflow_monai.specs.task_types.base import Arg, Form, TaskTypeSpec
from airflow_monai.specs.templates import paths_of

if TYPE_CHECKING:
    from airflow_monai.specs.model import TaskSpec
    from airflow_monai.specs.view import SpecView

_NO_PATIENT = "an e-mail must not tell who the patient is: name the study by context.dicom.study_id or AccessionNumber"


def _check(view: SpecView, at: Location, task: TaskSpec) -> Iterator[Finding]:
    args = {name.lower(): name for name in task.args}
    if not {"recipient_emails", "recipient_roles"} & set(args) and not view.doubts.lost(*at, "args"):
        message = f"task {task.id!r}: an email task needs args.recipient_emails or args.recipient_roles"
        place = (*at, "args") if args else at
        yield Finding(place, "missing-argument", message, "recipient_emails: a@hospital.example")
    for name, check in (("recipient_emails", _addresses), ("metadata_values", _metadata)):
        if name in args:
            given = task.args[args[name]]
            place = (*at, "args", args[name])
            for index, part in enumerate(given) if isinstance(given, list) else [(None, given)]:
                yield from check(place if index is None else (*place, index), task, listed(part))
    for name in ("subject", "body"):
        text = task.args.get(args.get(name, ""))
        for path in paths_of(text) if isinstance(text, str) else ():
            if names_patient(path):
                message = f"task {task.id!r}: args.{name} must not hold {path[:100]!r}"
                yield Finding((*at, "args", args[name]), "patient-in-email", message, _NO_PATIENT)


def _addresses(place: Location, task: TaskSpec, addresses: list[str]) -> Iterator[Finding]:
    for address in addresses:
        if not is_address(address) and "{{" not in address:
            message = f"task {task.id!r}: {address[:60]!r} is no e-mail address"
            yield Finding(place, "bad-address", message, "for example radiology@hospital.example")


def _metadata(place: Location, task: TaskSpec, names: list[str]) -> Iterator[Finding]:
    from airflow_monai.specs.attributes import keywords, nearest_keyword

    for name in names:
        tag, _, without = keywords().get(name, "").partition(" ")
        if not tag:
            near = nearest(name, [nearest_keyword(name) or ""])
            message = f"task {task.id!r}: {name[:60]!r} is no DICOM keyword"
            yield Finding(place, "unknown-keyword", message, near or "for example Modality, StudyDescription")
        elif may_name_patient(tag):
            message = f"task {task.id!r}: args.metadata_values must not hold {name!r}"
            yield Finding(place, "patient-in-email", message, _NO_PATIENT)
        elif without:
            message = f"task {task.id!r}: {name!r} holds no text that could be sent"
            yield Finding(place, "unknown-keyword", message, "for example Modality, StudyDescription")


SPEC = TaskTypeSpec(
    TaskType.EMAIL,
    "Sends an e-mail about the study, which never tells who the patient is.",
    args=(
        Arg(
            "recipient_emails",
            "Addresses of those who get it.",
            Form.NAMES,
            template=False,
            example="radiology@hospital.example, ai@hospital.example",
        ),
        Arg(
            "recipient_roles",
            "Roles of those who get it; [monai] recipient_roles says their addresses.",
            Form.NAMES,
            template=False,
            example="radiologist",
        ),
        Arg(
            "metadata_values",
            "DICOM keywords; their values over the series of the study are in the e-mail.",
            Form.NAMES,
            template=False,
            example="Modality, StudyDescription",
        ),
        Arg(
            "subject",
            "The subject; templates are filled in when it is sent.",
            default="MONAI workflow <name>",
            example="Lung volume of {{ context.executions.segment.result.volume_ml }} ml",
        ),
        Arg(
            "body",
            "The text before the metadata values; templates are filled in when it is sent.",
            default="which task of which workflow sends it",
            example="Please look at study {{ context.dicom.study_id }}.",
        ),
    ),
    check=_check,
)
