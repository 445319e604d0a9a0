"""From a folder of DICOM files to one CT volume in Hounsfield units, whatever the order of the files and the slices."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from problems import NoCt, Undecodable, Unreadable
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DA, TM

HEADER = [
    "SOPClassUID",
    "SeriesInstanceUID",
    "ImageType",
    "InstanceNumber",
    "AcquisitionNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
]
# what a result takes over from its images and highdicom is strict about: present, and well formed
TAKEN_OVER = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
PARSED = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM, "PatientSex": hd.PatientSexValues}


@dataclass(frozen=True)
class CtSeries:
    """A stack of parallel slices.

    :param images: the data sets without their pixels, sorted along the normal of the slices.
    :param hu: int16 of shape (slices, rows, columns), in the order of ``images``.
    :param thickness_mm: the part of the patient that each slice stands for, from the distance to its neighbours.
    :param pixel_mm: distance between rows and between columns (PixelSpacing).
    :param axes: unit vectors in LPS of the three array axes: slice, row index, column index.
    """

    images: tuple[Dataset, ...]
    hu: np.ndarray
    thickness_mm: np.ndarray
    pixel_mm: tuple[float, float]
    axes: np.ndarray


@dataclass(frozen=True)
class _Slice:
    path: Path
    header: Dataset

    @property
    def stack(self) -> tuple[object, ...]:
        """What slices of one stack have in common."""
        orientation = tuple(round(float(value), 3) for value in self.header.ImageOrientationPatient)
        spacing = tuple(round(float(value), 4) for value in self.header.PixelSpacing)
        return str(self.header.SeriesInstanceUID), self.header.Rows, self.header.Columns, spacing, orientation

    @property
    def position_mm(self) -> float:
        """Distance along the normal of the image plane (PS3.3 section C.7.6.2.1.1)."""
        return float(np.dot(_axes(self.header)[0], np.array(self.header.ImagePositionPatient, dtype=float)))

    @property
    def order(self) -> tuple[float, int, int]:
        acquisition = self.header.get("AcquisitionNumber") or 0
        return round(self.position_mm, 2), int(acquisition), int(self.header.get("InstanceNumber") or 0)


def load(folder: Path) -> CtSeries:
    """Read the CT stack with the most slices under ``folder``.

    :raises NoCt: when there is none.
    :raises Undecodable: when its pixels cannot be decompressed.
    :raises Unreadable: when a folder or file may not be read.
    """
    stacks: dict[tuple[object, ...], list[_Slice]] = {}
    for piece in _ct_slices(folder):
        stacks.setdefault(piece.stack, []).append(piece)
    if not stacks:
        raise NoCt("the input holds no CT images with position, orientation and pixel spacing")
    chosen = max(sorted(stacks, key=str), key=lambda stack: len(_distinct(stacks[stack])))
    pieces = _distinct(stacks[chosen])
    images = [_forgive(pydicom.dcmread(piece.path)) for piece in pieces]
    return CtSeries(
        images=tuple(images),
        hu=np.stack([_take_hounsfield(image) for image in images]),
        thickness_mm=_thickness([piece.position_mm for piece in pieces], images[0]),
        pixel_mm=(float(images[0].PixelSpacing[0]), float(images[0].PixelSpacing[1])),
        axes=_axes(images[0]),
    )


def _ct_slices(folder: Path) -> Iterable[_Slice]:
    for path in sorted(_files(folder)):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=HEADER)
        except InvalidDicomError:
            continue
        except PermissionError as error:
            raise _unreadable() from error
        if header.get("SOPClassUID") == CTImageStorage and _has_geometry(header):
            yield _Slice(path, header)


def _files(folder: Path) -> Iterable[Path]:
    """All files under ``folder``; Path.rglob would take a folder that may not be read for an empty one."""

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise _unreadable() from error

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent, name) for name in names)


def _unreadable() -> Unreadable:
    return Unreadable(
        f"the input may not be read by user {os.getuid()}: make it readable for the user of the container"
    )


def _has_geometry(header: Dataset) -> bool:
    needed = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
    if any(len(header.get(keyword) or ()) != count for keyword, count in needed.items()):
        return False
    is_localizer = "LOCALIZER" in (header.get("ImageType") or ())
    return not is_localizer and bool(header.get("FrameOfReferenceUID")) and header.get("Rows", 0) > 0


def _distinct(pieces: list[_Slice]) -> list[_Slice]:
    """Sorted along the normal, one slice for each position: the first acquisition wins."""
    by_position: dict[float, _Slice] = {}
    for piece in sorted(pieces, key=lambda piece: piece.order):
        by_position.setdefault(piece.order[0], piece)
    return list(by_position.values())


def _axes(header: Dataset) -> np.ndarray:
    along_row = np.array(header.ImageOrientationPatient[:3], dtype=float)
    along_column = np.array(header.ImageOrientationPatient[3:], dtype=float)
    return np.stack([np.cross(along_row, along_column), along_column, along_row])


def _forgive(image: Dataset) -> Dataset:
    """Add what is missing and empty what is against its definition: no birth date must cost the result."""
    for keyword in TAKEN_OVER:
        if keyword not in image:
            setattr(image, keyword, "")
    for keyword, parse in PARSED.items():
        try:
            if image.get(keyword):
                parse(image[keyword].value)
        except ValueError:
            setattr(image, keyword, "")
    return image


def _take_hounsfield(image: Dataset) -> np.ndarray:
    """Decode the pixels and drop them from the data set: a thin-slice study would not fit in memory twice."""
    try:
        stored = image.pixel_array
    except (NotImplementedError, RuntimeError, AttributeError, ValueError) as error:
        syntax = image.file_meta.get("TransferSyntaxUID", "unknown")
        name = getattr(syntax, "name", syntax)
        raise Undecodable(f"cannot decode the pixels of a CT image, transfer syntax {name}") from error
    slope, intercept = float(image.get("RescaleSlope", 1)), float(image.get("RescaleIntercept", 0))
    hu = np.clip(np.rint(stored.astype(np.float32) * slope + intercept), -1024, 3071).astype(np.int16)
    del image.PixelData
    return hu


def _thickness(positions: list[float], image: Dataset) -> np.ndarray:
    if len(positions) > 1:
        return np.gradient(np.array(positions))
    return np.array([float(image.get("SliceThickness") or 1)])
