"""Small studies, and ways to send them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"


def image(study: str, series: str, number: int, *, size: int = 2048, **attributes: object) -> Dataset:
    """A CT image with ``size`` bytes of noise for pixels."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CT
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientBirthDate = "SECRET-ID", "SECRET^NAME", "F", "19700102"
    ds.Modality, ds.InstanceNumber, ds.SliceThickness = "CT", number, "1.6000"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20260102", "101112", "", ""
    ds.ReferringPhysicianName = ds.PositionReferenceIndicator = ds.FrameOfReferenceUID = ""
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 32, size // 64, 16, 16, 15
    ds.PixelRepresentation, ds.SamplesPerPixel, ds.PhotometricInterpretation = 0, 1, "MONOCHROME2"
    ds.PixelData = os.urandom(size)
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def study(folder: Path, count: int = 5, *, series: int = 1, size: int = 2048, uid: str | None = None) -> list[Path]:
    """Write a study of ``count`` images for each of ``series`` series; its Study Instance UID is the folder's."""
    uid = uid or generate_uid()
    files = []
    folder.mkdir(parents=True, exist_ok=True)
    for s in range(series):
        series_uid = generate_uid(None)
        for n in range(count):
            files.append(folder / f"{s}-{n}.dcm")
            image(uid, series_uid, n + 1, size=size).save_as(files[-1], enforce_file_format=True)
    return files


def storescu(
    port: int, files: Sequence[Path], *options: str, called: str = "CTLUNG", calling: str = "CT01"
) -> subprocess.CompletedProcess[str]:
    """Send with dcmtk."""
    command = ["storescu", "-aec", called, "-aet", calling, *options, "127.0.0.1", str(port), *map(str, files)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "TCP_NODELAY": "1"}, check=False
    )
