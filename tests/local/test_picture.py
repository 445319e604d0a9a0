"""The picture shows the segments where the segmentation has them, on the right slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from airflow_monai.local.phantom import Lung, generate, truth
from airflow_monai.local.picture import PictureError, overlay
from tests.fixtures_maps import Segmented


def _overlap(picture: Path, lung: Lung, slice_index: int) -> float:
    """Dice of the pixels tinted like this lung with its truth on the slice with most lung."""
    pixels = np.asarray(Image.open(picture)).astype(int)
    blueness = pixels[..., 2] - pixels[..., 0]
    tinted = blueness > 25 if lung is Lung.LEFT else blueness < -25
    true = truth(slices=30, rows=128)[slice_index] == lung
    return 2 * np.count_nonzero(tinted & true) / (np.count_nonzero(tinted) + np.count_nonzero(true))


@pytest.fixture
def fullest() -> int:
    return int(np.argmax(np.count_nonzero(truth(slices=30, rows=128), axis=(1, 2))))


@pytest.mark.parametrize("lung", list(Lung))
def test_each_lung_has_its_colour_in_its_place(segmented: Segmented, tmp_path: Path, fullest: int, lung: Lung) -> None:
    picture = overlay(segmented.study.folder, segmented.output / "seg.dcm", tmp_path / "new" / "lungs.png")
    assert picture == tmp_path / "new" / "lungs.png"
    assert _overlap(picture, lung, fullest) > 0.95


def test_frames_without_source_are_placed_by_their_position(segmented: Segmented, tmp_path: Path, fullest: int) -> None:
    seg = pydicom.dcmread(segmented.output / "seg.dcm")
    for item in seg.PerFrameFunctionalGroupsSequence:
        del item.DerivationImageSequence
    seg.save_as(tmp_path / "seg.dcm")
    picture = overlay(segmented.study.folder, tmp_path / "seg.dcm", tmp_path / "lungs.png")
    assert _overlap(picture, Lung.LEFT, fullest) > 0.95


def test_it_is_small(segmented: Segmented, tmp_path: Path) -> None:
    study = generate(tmp_path / "ct", slices=3, rows=64)
    (tmp_path / "ct" / "note.txt").write_text("not DICOM")
    assert overlay(segmented.study.folder, segmented.output / "seg.dcm", tmp_path / "a.png").stat().st_size < 100_000
    with pytest.raises(PictureError, match=r"no frame of seg\.dcm belongs"):
        overlay(study.folder, segmented.output / "seg.dcm", tmp_path / "b.png")


def test_what_is_no_segmentation_is_refused(segmented: Segmented, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="not a segmentation"):
        overlay(segmented.study.folder, segmented.study.files[0], tmp_path / "c.png")
