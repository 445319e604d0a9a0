"""Small DICOM studies, written to disk as a scanner's export would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

PATIENT = {"PatientID": "P1", "PatientName": "Doe^Jane", "PatientSex": "F", "PatientBirthDate": "19700102"}
CT = {"Modality": "CT", "SeriesDescription": "Chest", "SliceThickness": "5"}


def write_study(
    folder: Path,
    series: Sequence[Mapping[str, Any]] = (CT,),
    *,
    images: int = 2,
    patient: Mapping[str, Any] = PATIENT,
    study_uid: str | None = None,
    syntax: str = ExplicitVRLittleEndian,
) -> Path:
    """One study with these series below a folder.

    :param series: attributes of each; a value of None leaves the attribute out, a list of images' attributes under
        ``images`` differs from image to image.
    """
    study_uid = study_uid or generate_uid()
    for number, given in enumerate(series):
        attributes = dict(given)
        each = attributes.pop("images", [{}] * images)
        uid = generate_uid()
        for index, more in enumerate(each):
            ds = _dataset({**patient, **attributes, **more})
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study_uid, uid, generate_uid()
            ds.SOPClassUID = CTImageStorage
            ds.file_meta = _meta(ds, syntax)
            path = folder / f"s{number}" / f"im{index}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            ds.save_as(path, enforce_file_format=True)
    return folder


def _dataset(attributes: Mapping[str, Any]) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        if value is not None:
            setattr(ds, keyword, value)
    return ds


def _meta(ds: Dataset, syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    return meta
