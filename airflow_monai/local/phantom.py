"""A made-up chest CT: something to send when no real study may leave the hospital.

The anatomy is a handful of ellipsoids in millimetres of the patient coordinate system (LPS: x grows to the patient's
left, y to the back, z to the head), so the same chest comes out at every matrix size and slice count, and the true lung
volumes are known by counting. Noise is the only thing that differs between two calls; all UIDs are fresh on each.

From a shell: ``python -m airflow_monai.local.phantom OUT --slices 60``.
"""

from __future__ import annotations

import argparse
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

IMPLEMENTATION_CLASS_UID = UID("2.25.135417023405410186471263208413340264773")
IMPLEMENTATION_VERSION = "AFMONAI_PHANTOM"
RESCALE_INTERCEPT = -1024
FIELD_OF_VIEW_MM = 400.0
LENGTH_MM = 300.0
NOISE_HU = 12.0


class Lung(IntEnum):
    """The values in :func:`truth`, and the segment numbers of the sample segmentation."""

    LEFT = 1
    RIGHT = 2


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid of one tissue; a radius of infinity along z makes it a cylinder."""

    center: tuple[float, float, float]
    radii: tuple[float, float, float]
    hu: int


INFINITE = float("inf")
LUNG_HU = -840
BODY = (
    Ellipsoid((0, 0, 0), (172, 112, INFINITE), -95),  # skin and fat
    Ellipsoid((0, 0, 0), (158, 99, INFINITE), 45),  # muscle
)
LUNGS = {
    Lung.RIGHT: Ellipsoid((-76, 0, 0), (58, 78, 122), LUNG_HU),
    Lung.LEFT: Ellipsoid((76, 0, 0), (56, 78, 118), LUNG_HU),
}
ORGANS = (
    Ellipsoid((26, -34, -35), (52, 44, 58), 42),  # heart: takes its notch from the left lung
    Ellipsoid((-62, 0, -132), (72, 82, 48), 58),  # liver: pushes the right lung up
)
VESSELS = (
    Ellipsoid((-62, 8, 5), (5, 5, 45), 50),
    Ellipsoid((-88, -20, 30), (4, 4, 30), 50),
    Ellipsoid((70, 22, 5), (5, 5, 45), 50),
    Ellipsoid((92, 4, 30), (4, 4, 30), 50),
)
OTHERS = (
    Ellipsoid((0, 68, 0), (19, 17, INFINITE), 320),  # vertebral bodies
    Ellipsoid((0, 66, 0), (9, 8, INFINITE), 160),
    Ellipsoid((0, -88, 20), (14, 6, 90), 260),  # sternum
    Ellipsoid((0, 20, 115), (9, 8, 75), -990),  # trachea, ends above the lungs' hilum
    Ellipsoid((66, -42, -138), (26, 22, 14), -980),  # gas in the stomach, a trap for a threshold
)
TABLE = Ellipsoid((0, 145, 0), (190, 12, INFINITE), -180)


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a phantom: square slices, regular spacing."""

    slices: int
    rows: int

    @property
    def pixel_mm(self) -> float:
        return FIELD_OF_VIEW_MM / self.rows

    @property
    def slice_mm(self) -> float:
        return LENGTH_MM / self.slices

    @property
    def voxel_ml(self) -> float:
        return self.pixel_mm**2 * self.slice_mm / 1000

    @property
    def in_plane_mm(self) -> np.ndarray:
        """The x of each column, which is also the y of each row."""
        return (np.arange(self.rows, dtype=np.float32) + 0.5) * self.pixel_mm - FIELD_OF_VIEW_MM / 2

    def z_mm(self, index: int) -> float:
        return (index + 0.5) * self.slice_mm - LENGTH_MM / 2


@dataclass(frozen=True)
class StudyInfo:
    """What :func:`generate` wrote, with the true volumes by voxel count."""

    folder: Path
    study_uid: str
    series_uid: str
    patient_id: str
    patient_name: str
    accession_number: str
    files: tuple[Path, ...]
    sop_uids: tuple[str, ...]
    left_ml: float
    right_ml: float

    @property
    def volume_ml(self) -> float:
        return self.left_ml + self.right_ml


def generate(
    folder: Path | str,
    *,
    slices: int = 60,
    rows: int = 512,
    seed: int | None = None,
    study_uid: str | None = None,
    patient_id: str | None = None,
    patient_name: str = "Phantom^Chest",
    series_number: int = 1,
) -> StudyInfo:
    """Write one CT series of a chest into ``folder`` and say what was written.

    :param folder: is made if absent; files are called ``IM0001.dcm`` and so on, from the feet up.
    :param slices: number of images; together they always cover 300 mm.
    :param rows: rows and columns of an image; together they always cover 400 mm.
    :param seed: of the noise; None for a new one each time.
    :param study_uid: StudyInstanceUID, for a second series of the same study; None for a new one.
    :param patient_id: PatientID; None for a new one.
    :param series_number: SeriesNumber, by which a person tells the series of a study apart.
    :raises ValueError: when the size is not one that an image can have.
    """
    if slices < 1 or not 8 <= rows <= 4096:
        raise ValueError(f"a phantom needs at least 1 slice and 8 to 4096 rows, got slices={slices}, rows={rows}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    grid = Grid(slices, rows)
    header = _series_header(grid, study_uid, patient_id or f"PH{secrets.randbelow(10**6):06d}", patient_name)
    header.SeriesNumber = series_number
    noise = np.random.default_rng(seed)
    files: list[Path] = []
    sop_uids: list[str] = []
    voxels = dict.fromkeys(Lung, 0)
    for index, (hu, labels) in enumerate(_slices(grid)):
        for lung in Lung:
            voxels[lung] += int(np.count_nonzero(labels == lung))
        path = folder / f"IM{index + 1:04d}.dcm"
        sop_uids.append(_write_image(path, header, grid, index, _noisy(hu, noise)))
        files.append(path)
    return StudyInfo(
        folder=folder,
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        patient_id=str(header.PatientID),
        patient_name=str(header.PatientName),
        accession_number=str(header.AccessionNumber),
        files=tuple(files),
        sop_uids=tuple(sop_uids),
        left_ml=voxels[Lung.LEFT] * grid.voxel_ml,
        right_ml=voxels[Lung.RIGHT] * grid.voxel_ml,
    )


def truth(slices: int = 60, rows: int = 512) -> np.ndarray:
    """The lungs of a phantom of this size: uint8, (slices, rows, rows) from the feet up, values of :class:`Lung`."""
    return np.stack([labels for _, labels in _slices(Grid(slices, rows))])


def _slices(grid: Grid) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Noise-free HU (int16) and lung labels (uint8) of each slice."""
    for index in range(grid.slices):
        yield _draw(grid, grid.z_mm(index))


def _draw(grid: Grid, z: float) -> tuple[np.ndarray, np.ndarray]:
    hu = np.full((grid.rows, grid.rows), -1000, dtype=np.int16)
    labels = np.zeros((grid.rows, grid.rows), dtype=np.uint8)
    _paint(grid, z, TABLE, hu, TABLE.hu)
    for part in BODY:
        _paint(grid, z, part, hu, part.hu)
    for lung, part in LUNGS.items():
        _paint(grid, z, part, hu, part.hu)
        _paint(grid, z, part, labels, int(lung))
    for part in VESSELS:
        _paint(grid, z, part, hu, part.hu)
    for part in (*ORGANS, *OTHERS):
        _paint(grid, z, part, hu, part.hu)
        _paint(grid, z, part, labels, 0)
    return hu, labels


def _paint(grid: Grid, z: float, part: Ellipsoid, image: np.ndarray, value: int) -> None:
    """Set the pixels of ``image`` that lie in ``part``; only its bounding box is computed."""
    (x0, y0, z0), (rx, ry, rz) = part.center, part.radii
    left = 1 - ((z - z0) / rz) ** 2
    if left <= 0:
        return
    axis = grid.in_plane_mm
    columns = slice(*np.searchsorted(axis, (x0 - rx, x0 + rx)))
    lines = slice(*np.searchsorted(axis, (y0 - ry, y0 + ry)))
    across = ((axis[columns] - x0) / rx) ** 2
    down = ((axis[lines] - y0) / ry) ** 2
    image[lines, columns][across[None, :] + down[:, None] <= left] = value


def _noisy(hu: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    stored = noise.standard_normal(hu.shape, dtype=np.float32) * np.float32(NOISE_HU)
    stored += hu
    stored -= RESCALE_INTERCEPT
    return np.clip(np.rint(stored), 0, 4095).astype("<i2")


def _series_header(grid: Grid, study_uid: str | None, patient_id: str, patient_name: str) -> Dataset:
    """What all images of the series share: PS3.3 section A.3, the modules of the CT Image IOD."""
    now = datetime.now()
    ds = Dataset()
    _add_patient_and_study(ds, now, study_uid, patient_id, patient_name)
    _add_series_and_equipment(ds, now)
    _add_acquisition(ds, now, grid)
    _add_pixel_description(ds, grid)
    return ds


def _add_patient_and_study(
    ds: Dataset, now: datetime, study_uid: str | None, patient_id: str, patient_name: str
) -> None:
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = patient_name
    ds.PatientID = patient_id
    ds.PatientBirthDate = "19600101"
    ds.PatientSex = "O"
    ds.StudyInstanceUID = study_uid or generate_uid(prefix=None)
    ds.StudyDate = now.strftime("%Y%m%d")
    ds.StudyTime = now.strftime("%H%M%S")
    ds.StudyID = "1"
    ds.StudyDescription = "CT chest phantom"
    ds.ReferringPhysicianName = ""
    ds.AccessionNumber = f"A{secrets.randbelow(10**9):09d}"


def _add_series_and_equipment(ds: Dataset, now: datetime) -> None:
    ds.Modality = "CT"
    ds.SeriesInstanceUID = generate_uid(prefix=None)
    ds.SeriesNumber = 1
    ds.SeriesDate = now.strftime("%Y%m%d")
    ds.SeriesTime = now.strftime("%H%M%S")
    ds.SeriesDescription = "Chest 400 mm"
    ds.BodyPartExamined = "CHEST"
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID = generate_uid(prefix=None)
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer = "airflow-monai"
    ds.ManufacturerModelName = "Phantom"
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = "1"


def _add_acquisition(ds: Dataset, now: datetime, grid: Grid) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.AcquisitionNumber = 1
    ds.AcquisitionDate = ds.ContentDate = now.strftime("%Y%m%d")
    ds.AcquisitionTime = ds.ContentTime = now.strftime("%H%M%S")
    ds.KVP = 120
    ds.SliceThickness = round(grid.slice_mm, 6)
    ds.SpacingBetweenSlices = round(grid.slice_mm, 6)
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.RescaleIntercept = RESCALE_INTERCEPT
    ds.RescaleSlope = 1
    ds.RescaleType = "HU"
    ds.WindowCenter = [40, -600]
    ds.WindowWidth = [400, 1500]
    ds.WindowCenterWidthExplanation = ["MEDIASTINUM", "LUNG"]


def _add_pixel_description(ds: Dataset, grid: Grid) -> None:
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = grid.rows
    ds.PixelSpacing = [round(grid.pixel_mm, 6)] * 2
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 1


def _write_image(path: Path, header: Dataset, grid: Grid, index: int, stored: np.ndarray) -> str:
    """Write one image and return its SOPInstanceUID."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    sop_uid = generate_uid(prefix=None)
    meta.MediaStorageSOPInstanceUID = sop_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    ds = FileDataset(str(path), dict(header.items()), preamble=b"\0" * 128, file_meta=meta)
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = sop_uid
    ds.InstanceNumber = index + 1
    corner = round(float(grid.in_plane_mm[0]), 6)
    ds.ImagePositionPatient = [corner, corner, round(grid.z_mm(index), 6)]
    ds.SliceLocation = round(grid.z_mm(index), 6)
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)
    return str(sop_uid)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the module: writes a phantom and prints what was written as one JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_monai.local.phantom", description="Write a chest CT phantom."
    )
    parser.add_argument("out", type=Path, help="folder for the images, made if absent")
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--rows", type=int, default=512, help="rows and columns of an image")
    parser.add_argument("--seed", type=int, help="of the noise")
    parser.add_argument("--patient-id")
    args = parser.parse_args(argv)
    info = generate(args.out, slices=args.slices, rows=args.rows, seed=args.seed, patient_id=args.patient_id)
    told = {
        "folder": str(info.folder),
        "files": len(info.files),
        "study_uid": info.study_uid,
        "series_uid": info.series_uid,
        "left_ml": round(info.left_ml, 1),
        "right_ml": round(info.right_ml, 1),
    }
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
