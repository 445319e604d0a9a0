"""The study that the demo sends: a folder of the user's, checked before anything starts, or a phantom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from airflow_monai.errors import DestinationError, MonaiError, SinkUnavailable

_TAGS = ("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
_SHOWN = 3


class StudyError(MonaiError):
    """The folder does not hold exactly one study that can be sent."""


@dataclass(frozen=True, slots=True)
class StudyFile:
    """One instance to send."""

    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str


@dataclass(frozen=True, slots=True)
class Study:
    """All instances of one study."""

    folder: Path
    study_instance_uid: str
    files: tuple[StudyFile, ...]
    generated: bool = False


def phantom(folder: Path) -> Study:
    """A generated chest CT of 60 slices."""
    from airflow_monai.local.phantom import generate

    generate(folder)
    found = read(folder)
    return Study(folder, found.study_instance_uid, found.files, generated=True)


def read(folder: Path) -> Study:
    """The one study in a folder, its subfolders included; files that are not DICOM are left out.

    :raises StudyError: when there is none, or more than one.
    """
    if folder.is_file():
        raise StudyError(f"STUDY={folder}: this is a file; give the folder that holds the study's images.")
    if not folder.is_dir():
        raise StudyError(f"STUDY={folder}: there is no such folder.")
    studies: dict[str, list[StudyFile]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        uid, file = _header(path)
        if file is not None:
            studies.setdefault(uid, []).append(file)
    if not studies:
        raise StudyError(f"STUDY={folder}: there is no DICOM image in this folder.")
    if len(studies) > 1:
        raise StudyError(f"STUDY={folder}: it holds {len(studies)} studies; give the folder of one of them.")
    ((uid, files),) = studies.items()
    return Study(folder, uid, tuple(_distinct(files)))


def require_modality(study: Study, modality: str) -> None:
    """Raise :class:`StudyError` when the study has no image of this modality."""
    found = {file.modality for file in study.files}
    if modality not in found:
        kinds = ", ".join(sorted(found)[:_SHOWN]) or "no"
        raise StudyError(f"STUDY={study.folder}: it has {kinds} images, and the demo's workflow takes {modality}.")


def send(study: Study, port: int, *, called_aet: str, stop: Callable[[], bool]) -> None:
    """Send all instances by C-STORE in one association, until ``stop`` says so.

    :raises StudyError: when an instance is refused or not answered.
    """
    from airflow_monai.local.ports import LOOPBACK
    from airflow_monai.sinks.dimse.association import Peer, associate
    from airflow_monai.sinks.part10 import seek_dataset

    syntaxes = sorted({(file.sop_class_uid, file.transfer_syntax_uid) for file in study.files})
    try:
        association = associate(Peer(LOOPBACK, port, called_aet, "DEMO"), syntaxes)
        try:
            for number, file in enumerate(study.files, start=1):
                if stop():
                    break
                if (file.sop_class_uid, file.transfer_syntax_uid) not in association.contexts:
                    raise StudyError(f"The gateway does not take images like number {number} of {len(study.files)}.")
                with open(file.path, "rb") as dataset:
                    seek_dataset(dataset)
                    answer = association.store(
                        file.sop_class_uid, file.sop_instance_uid, file.transfer_syntax_uid, dataset
                    )
                if answer.status:
                    told = f"status {answer.status:04X} {answer.comment}".strip()
                    raise StudyError(f"The gateway did not take image {number} of {len(study.files)}: {told}.")
        finally:
            association.release()
    except (SinkUnavailable, DestinationError) as error:
        raise StudyError(f"The gateway on port {port} did not take the study: {error}") from error


def _header(path: Path) -> tuple[str, StudyFile | None]:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        ds = dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        syntax = str(ds.file_meta.TransferSyntaxUID)
    except (InvalidDicomError, AttributeError, EOFError, OSError, ValueError):
        return "", None
    if not all(ds.get(keyword) for keyword in _TAGS[:3]):
        return "", None  # a DICOMDIR, or not an image
    uid, sop, sop_class, modality = (str(ds.get(keyword) or "") for keyword in _TAGS)
    return uid, StudyFile(path, sop, sop_class, syntax, modality)


def _distinct(files: Iterable[StudyFile]) -> list[StudyFile]:
    """Each instance once, the first of its copies."""
    return list({file.sop_instance_uid: file for file in reversed(list(files))}.values())[::-1]
