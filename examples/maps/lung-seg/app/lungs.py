"""Classical lung segmentation: a threshold, what is inside the body, the two large pieces, vessels closed.

The pieces are found on a grid of about 2 mm, which is fast and small; the contour is then drawn slice by slice at the
full resolution. Known limits: the large airways count as lung where they join it, and consolidated lung (pneumonia,
effusion) is as dense as muscle and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from ct_series import CtSeries
from problems import NoLungs
from scipy import ndimage

THRESHOLD_HU = -400
COARSE_MM = 2.0
CLOSING_MM = 6.0
SMALLEST_ML = 50.0
SMALLEST_SHARE = 0.2  # of the larger lung: less than that is not the other lung
WIDEST_JUNCTION_MM = 20
IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)


class Side(IntEnum):
    """The values of the label map, which are the segment numbers."""

    LEFT = 1
    RIGHT = 2


@dataclass(frozen=True)
class Lungs:
    """:param labels: uint8 in the shape of the CT, values of :class:`Side`; :param volumes_ml: by side."""

    labels: np.ndarray
    volumes_ml: dict[Side, float]


@dataclass(frozen=True)
class _Coarse:
    """A grid that keeps every ``steps``-th slice and averages blocks of pixels."""

    hu: np.ndarray
    steps: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.voxel_mm)) / 1000


def segment(ct: CtSeries) -> Lungs:
    """Find both lungs.

    :raises NoLungs: when nothing in the body is filled with that much air.
    """
    coarse = _coarse(ct)
    outside = _outside_air(coarse.hu)
    inside = (coarse.hu < THRESHOLD_HU) & ~outside
    pieces = _two_pieces(inside, coarse)
    labels = _contour(ct, coarse, _by_side(pieces, ~outside, ct.axes, coarse))
    areas = {side: np.count_nonzero(labels == side, axis=(1, 2)) for side in Side}
    pixel_ml = ct.pixel_mm[0] * ct.pixel_mm[1] / 1000
    return Lungs(labels, {side: float(np.dot(areas[side], ct.thickness_mm)) * pixel_ml for side in Side})


def _coarse(ct: CtSeries) -> _Coarse:
    fine_mm = (float(np.median(ct.thickness_mm)), *ct.pixel_mm)
    steps = tuple(max(1, round(COARSE_MM / mm)) for mm in fine_mm)
    hu = np.stack([_block_mean(plane, steps[1], steps[2]) for plane in ct.hu[:: steps[0]]])
    return _Coarse(hu, steps, tuple(mm * step for mm, step in zip(fine_mm, steps, strict=True)))


def _block_mean(plane: np.ndarray, high: int, wide: int) -> np.ndarray:
    """Average blocks of pixels; the last row and column of blocks are filled up with the nearest pixel."""
    padded = np.pad(plane, ((0, -plane.shape[0] % high), (0, -plane.shape[1] % wide)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // high, high, padded.shape[1] // wide, wide)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def _outside_air(hu: np.ndarray) -> np.ndarray:
    """Air that reaches the border of its own slice: the first and the last slice may well cut through the lungs."""
    regions, _ = ndimage.label(hu < THRESHOLD_HU, structure=IN_PLANE)
    rim = np.concatenate([regions[:, (0, -1), :].ravel(), regions[:, :, (0, -1)].ravel()])
    touching = np.zeros(regions.max() + 1, dtype=bool)
    touching[rim] = True
    touching[0] = False
    return touching[regions]


def _two_pieces(inside: np.ndarray, coarse: _Coarse) -> np.ndarray:
    """1 and 2 for the lungs in order of size; only 1 where there is but one lung."""
    pieces = _largest_two(inside)
    if np.count_nonzero(pieces) * coarse.voxel_ml < SMALLEST_ML:
        raise NoLungs("the CT shows no lung: there is no large air-filled space inside the body")
    return pieces if pieces.max() == 2 else _separate(pieces == 1, coarse)


def _largest_two(mask: np.ndarray) -> np.ndarray:
    regions, count = ndimage.label(mask)
    if count == 0:
        return np.zeros(mask.shape, dtype=np.uint8)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    order = np.argsort(sizes)[::-1][:2]
    new_value = np.zeros(len(sizes), dtype=np.uint8)
    for value, region in enumerate(order, start=1):
        if sizes[region] > 0 and sizes[region] >= SMALLEST_SHARE * sizes[order[0]]:
            new_value[region] = value
    return new_value[regions]


def _separate(lungs: np.ndarray, coarse: _Coarse) -> np.ndarray:
    """Part lungs that touch (in front of the heart, or through the bronchi) where the bridge is thinnest."""
    depth = ndimage.distance_transform_edt(lungs, sampling=coarse.voxel_mm)
    for radius in np.arange(min(coarse.voxel_mm), WIDEST_JUNCTION_MM, min(coarse.voxel_mm)):
        cores = _largest_two(depth > radius)
        if cores.max() == 2:
            nearest = ndimage.distance_transform_edt(
                cores == 0, sampling=coarse.voxel_mm, return_distances=False, return_indices=True
            )
            return np.where(lungs, cores[tuple(nearest)], 0).astype(np.uint8)
    return lungs.astype(np.uint8)


def _by_side(pieces: np.ndarray, body: np.ndarray, axes: np.ndarray, coarse: _Coarse) -> np.ndarray:
    """Name the pieces: x of the patient coordinate system grows to the patient's left (PS3.3 section C.7.6.2.1.1)."""
    to_left = np.array(coarse.voxel_mm) * axes[:, 0]
    middle = float(np.dot(ndimage.center_of_mass(body), to_left))
    leftness = [float(np.dot(ndimage.center_of_mass(pieces == value), to_left)) for value in range(1, pieces.max() + 1)]
    first = Side.LEFT if leftness[0] > (leftness[1] if len(leftness) == 2 else middle) else Side.RIGHT
    second = Side.RIGHT if first is Side.LEFT else Side.LEFT
    return np.array([0, first, second], dtype=np.uint8)[pieces]


def _contour(ct: CtSeries, coarse: _Coarse, found: np.ndarray) -> np.ndarray:
    """Draw the lungs at full resolution: the threshold again near what was found, then vessels and holes closed."""
    near = np.where(found == 0, ndimage.maximum_filter(found, size=3), found)
    labels = np.zeros(ct.hu.shape, dtype=np.uint8)
    for index, hu in enumerate(ct.hu):
        plane = near[min(index // coarse.steps[0], len(near) - 1)]
        full = plane.repeat(coarse.steps[1], axis=0).repeat(coarse.steps[2], axis=1)[: hu.shape[0], : hu.shape[1]]
        air = np.where(hu < THRESHOLD_HU, full, 0)
        for side in Side:
            _close_into(labels[index], air, side, CLOSING_MM / min(ct.pixel_mm))
    return labels


def _close_into(plane: np.ndarray, air: np.ndarray, side: Side, radius: float) -> None:
    """Set ``side`` in ``plane`` on its air, closed by a disc and filled; never on the other side's air."""
    mask = air == side
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    closed = ndimage.binary_fill_holes(_close(mask[window], radius))
    plane[window][closed & np.isin(air[window], (0, side)) & (plane[window] == 0)] = side


def _close(mask: np.ndarray, radius: float) -> np.ndarray:
    """Closing with a disc by two distance maps, whose cost does not grow with the disc."""
    margin = int(np.ceil(radius)) + 1
    padded = np.pad(mask, margin)
    grown = ndimage.distance_transform_edt(~padded) <= radius
    closed = ndimage.distance_transform_edt(grown) > radius
    return (closed | padded)[margin:-margin, margin:-margin]
