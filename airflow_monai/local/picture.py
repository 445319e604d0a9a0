"""A picture of what a segmentation found: one CT slice with the segments over it, small enough for a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

from airflow_monai.errors import MonaiError

WINDOW_HU = (-1150, 350)  # shows the vessels in the lung, and still soft tissue from bone
COLOURS = np.array([[64, 160, 255], [255, 150, 40]], dtype=np.float32)
OPACITY = 0.45
LONGEST_SIDE = 512
SAME_PLACE_MM = 0.1


class PictureError(MonaiError):
    """The picture cannot be drawn from these files."""


@dataclass(frozen=True)
class _Frame:
    """One frame of the segmentation: which segment, over which image, where."""

    index: int
    segment: int
    source_uid: str | None
    position: tuple[float, ...] | None


def overlay(ct_folder: Path | str, seg_path: Path | str, png_path: Path | str) -> Path:
    """Draw the slice with most of the segmentation, and return ``png_path``.

    A frame belongs to the image that it names as its source or, where it names none, to the one at its position.

    :param ct_folder: searched recursively; may hold other files too.
    :param seg_path: a DICOM SEG (BINARY) of images in ``ct_folder``, with their matrix and orientation.
    :param png_path: its folder is made if absent.
    :raises PictureError: when the two do not belong together.
    """
    seg = pydicom.dcmread(seg_path)
    if seg.SOPClassUID != SegmentationStorage:
        raise PictureError(f"{Path(seg_path).name} is a {seg.SOPClassUID.name}, not a segmentation")
    frames = _frames(seg)
    masks = _masks(seg)
    slices = _slices(Path(ct_folder), frames)
    if not slices:
        raise PictureError(f"no frame of {Path(seg_path).name} belongs to an image in {ct_folder}")
    path, shown = max(slices.items(), key=lambda item: sum(int(masks[frame.index].sum()) for frame in item[1]))
    picture = _paint(_grey(pydicom.dcmread(path)), shown, masks)
    png_path = Path(png_path)
    png_path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(png_path, optimize=True)
    return png_path


def _frames(seg: Dataset) -> list[_Frame]:
    """The functional groups of each frame (PS3.3 sections C.7.6.16 and C.8.20)."""
    return [_frame(index, item) for index, item in enumerate(seg.PerFrameFunctionalGroupsSequence)]


def _frame(index: int, item: Dataset) -> _Frame:
    position = _first(item, "PlanePositionSequence").get("ImagePositionPatient")
    source = _first(_first(item, "DerivationImageSequence"), "SourceImageSequence").get("ReferencedSOPInstanceUID")
    return _Frame(
        index=index,
        segment=int(_first(item, "SegmentIdentificationSequence").get("ReferencedSegmentNumber", 1)),
        source_uid=str(source) if source else None,
        position=tuple(float(value) for value in position) if position else None,
    )


def _first(item: Dataset, keyword: str) -> Dataset:
    return (item.get(keyword) or [Dataset()])[0]


def _masks(seg: Dataset) -> np.ndarray:
    """Boolean, (frames, rows, columns), also for a segmentation of a single frame."""
    pixels = np.asarray(seg.pixel_array)
    return (pixels if pixels.ndim == 3 else pixels[np.newaxis]) > 0


def _slices(folder: Path, frames: Sequence[_Frame]) -> dict[Path, list[_Frame]]:
    """The images under ``folder`` that some frame belongs to, with those frames."""
    found: dict[Path, list[_Frame]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        belonging = [frame for frame in frames if _belongs(frame, header)]
        if belonging and header.get("Modality") == "CT":
            found[path] = belonging
    return found


def _belongs(frame: _Frame, header: Dataset) -> bool:
    if frame.source_uid:
        return bool(frame.source_uid == header.get("SOPInstanceUID"))
    place = header.get("ImagePositionPatient")
    return bool(frame.position and place and np.allclose(frame.position, list(map(float, place)), atol=SAME_PLACE_MM))


def _grey(image: Dataset) -> np.ndarray:
    """0 to 255, float, in WINDOW_HU."""
    hu = image.pixel_array * float(image.get("RescaleSlope", 1)) + float(image.get("RescaleIntercept", 0))
    low, high = WINDOW_HU
    return np.clip((hu - low) / (high - low), 0, 1).astype(np.float32) * 255


def _paint(grey: np.ndarray, frames: Sequence[_Frame], masks: np.ndarray) -> Image.Image:
    """The slice in grey with a translucent colour and a plain outline for each segment."""
    picture = np.repeat(grey[..., np.newaxis], 3, axis=2)
    for frame in frames:
        mask = masks[frame.index]
        if mask.shape != grey.shape:
            raise PictureError(f"the segmentation is {mask.shape}, the image {grey.shape}: it is on another grid")
        colour = COLOURS[(frame.segment - 1) % len(COLOURS)]
        picture[mask] = picture[mask] * (1 - OPACITY) + colour * OPACITY
        picture[mask & ~_eroded(mask)] = colour
    image = Image.fromarray(picture.astype(np.uint8))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return image


def _eroded(mask: np.ndarray) -> np.ndarray:
    """Without the pixels that touch the background above, below or beside them."""
    padded = np.pad(mask, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & mask
