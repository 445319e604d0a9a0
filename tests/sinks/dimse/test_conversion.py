"""What a node does not take as it is: converted without loss where that can be, refused by name where not."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.sinks.base import DeliveryState
from airflow_monai.sinks.dimse.conversion import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    NotConvertible,
    alternatives,
    converted,
)
from airflow_monai.sinks.part10 import read_head
from tests.conftest import require
from tests.pacs import make_images, storescp
from tests.sinks.difficult import difficult
from tests.sinks.test_dicom import News, instance, sink

RLE = "1.2.840.10008.1.2.5"
JPEG_LS = "1.2.840.10008.1.2.4.80"
PRIVATE = "1.2.840.113619.5.2"


def sample(name: str) -> Path:
    """An image that comes with pydicom."""
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file(name, download=False)))


@pytest.mark.parametrize(
    ("name", "lossless"),
    [("MR_small_RLE.dcm", True), ("MR_small_jpeg_ls_lossless.dcm", True), ("SC_rgb_jpeg_dcmtk.dcm", False)],
)
@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_pixels_are_decoded_and_nothing_else_changes(name: str, lossless: bool, syntax: str) -> None:
    from pydicom import dcmread

    path = sample(name)
    original, received = dcmread(path), []

    def keep(_: Any, event: Any) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        received.append(ds)
        return 0

    with difficult(keep, contexts={original.SOPClassUID: [syntax]}) as receiver:
        news = News()
        sink(receiver.port).send([instance(path)], news)
    assert news.states() == {DeliveryState.ACCEPTED: 1}
    (ds,) = received
    assert ds.SOPInstanceUID == original.SOPInstanceUID
    assert ds.file_meta.TransferSyntaxUID == syntax
    if lossless:
        assert (ds.pixel_array == original.pixel_array).all()
    else:
        assert ds.pixel_array.shape == original.pixel_array.shape
    changed = {"PixelData", "PhotometricInterpretation", "PlanarConfiguration"}
    for element in original:
        if element.keyword not in changed and element.VR != "UN":
            assert ds[element.tag].value == element.value, element.keyword


@pytest.mark.parametrize(
    ("options", "syntax"), [(["+e1"], "1.2.840.10008.1.2.4.70"), (["+el"], "1.2.840.10008.1.2.4.57")]
)
def test_what_most_archives_keep_is_decoded(tmp_path: Path, options: list[str], syntax: str) -> None:
    """JPEG Lossless, as dcmtk makes it."""
    require("dcmtk")
    import subprocess

    from pydicom import dcmread

    (original,) = make_images(tmp_path / "in", 1)
    subprocess.run(["dcmcjpeg", *options, str(original), str(tmp_path / "jpeg.dcm")], check=True)
    compressed = instance(tmp_path / "jpeg.dcm")
    assert compressed.transfer_syntax_uid == syntax
    with storescp(tmp_path / "out", options=["+x="]) as receiver:  # explicit VR little endian at best
        news = News()
        sink(receiver.port, receiver.aet).send([compressed], news)
        assert news.states() == {DeliveryState.ACCEPTED: 1}
        (stored,) = receiver.files()
        assert dcmread(stored).PixelData == dcmread(original).PixelData
        assert dcmread(stored).SOPInstanceUID == dcmread(original).SOPInstanceUID


@pytest.mark.parametrize("colours", ["RGB", "YBR_FULL"])
def test_colours_that_were_kept_without_loss_lose_nothing(tmp_path: Path, colours: str) -> None:
    """Of an image with an extended offset table, which means nothing any more."""
    pixels = os.urandom(16 * 16 * 3)
    path = colour_image(tmp_path / "rle.dcm", colours, pixels)
    ds = read(converted(path, RLE, EXPLICIT_LITTLE))
    assert (bytes(ds.PixelData), ds.PhotometricInterpretation) == (pixels, colours)
    assert not {"ExtendedOffsetTable", "ExtendedOffsetTableLengths"} & set(ds.dir())


def test_an_image_with_a_compressed_icon_is_not_written_half_decoded(tmp_path: Path) -> None:
    from pydicom import Dataset, dcmread

    path = colour_image(tmp_path / "rle.dcm", "RGB", os.urandom(16 * 16 * 3))
    ds, icon = dcmread(path), Dataset()
    icon.add(ds["PixelData"])
    ds.IconImageSequence = [icon]
    ds.save_as(path)
    with pytest.raises(NotConvertible, match="its icon, is compressed"):
        converted(path, RLE, EXPLICIT_LITTLE)


def colour_image(path: Path, colours: str, pixels: bytes) -> Path:
    """An image of 16 x 16 pixels in RLE."""
    from pydicom import dcmread
    from pydicom.uid import RLELossless

    (plain,) = make_images(path.parent / "plain", 1, rows=16)
    ds = dcmread(plain)
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, colours
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = pixels
    ds.compress(RLELossless, generate_instance_uid=False, encapsulate_ext=True)
    ds.save_as(path)
    return path


def read(content: bytes) -> Any:
    """A data set in explicit VR little endian."""
    from pydicom.filereader import read_dataset

    return read_dataset(io.BytesIO(content), is_implicit_VR=False, is_little_endian=True)


def test_a_deflated_data_set_is_inflated(tmp_path: Path) -> None:
    require("dcmtk")
    from pydicom import dcmread

    path = sample("image_dfl.dcm")
    with difficult(lambda *_: 0, contexts={dcmread(path).SOPClassUID: [IMPLICIT_LITTLE]}) as receiver:
        news = News()
        sink(receiver.port).send([instance(path)], news)
    assert news.states() == {DeliveryState.ACCEPTED: 1}


def test_what_can_be_sent_as_it_is_stays_as_it_is(tmp_path: Path) -> None:
    require("dcmtk")
    path = sample("MR_small_jpeg_ls_lossless.dcm")
    with storescp(tmp_path / "out") as receiver:
        sink(receiver.port, receiver.aet).send([instance(path)], News())
        head = read_head(receiver.files()[0])
    assert head is not None and head.transfer_syntax_uid == JPEG_LS


def test_a_site_may_forbid_it() -> None:
    path = sample("MR_small_RLE.dcm")
    head = read_head(path)
    assert head is not None
    with difficult(lambda *_: 0, contexts={head.sop_class_uid: [EXPLICIT_LITTLE]}) as receiver:
        news = News()
        sink(receiver.port, convert=False).send([instance(path)], news)
        assert receiver.seen == []
    (verdict,) = news.verdicts.values()
    assert (verdict.state, verdict.retry) == (DeliveryState.REFUSED, False)
    assert "does not take MR Image Storage in RLE Lossless: allow" in verdict.message


def test_an_image_whose_pixels_are_damaged_is_refused_and_the_others_are_sent(tmp_path: Path) -> None:
    from pydicom import dcmread
    from pydicom.encaps import encapsulate
    from pydicom.uid import generate_uid

    damaged, good = dcmread(sample("MR_small_jpeg_ls_lossless.dcm")), sample("MR_small_jpeg_ls_lossless.dcm")
    damaged.SOPInstanceUID = damaged.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    damaged.PixelData = encapsulate([b"\xff\xd8 no picture at all"])
    damaged.save_as(tmp_path / "damaged.dcm")
    with difficult(lambda *_: 0, contexts={damaged.SOPClassUID: [EXPLICIT_LITTLE]}) as receiver:
        news = News()
        sink(receiver.port).send([instance(tmp_path / "damaged.dcm"), instance(good)], news)
        assert len(receiver.seen) == 1
    refused = news.verdicts[damaged.SOPInstanceUID]
    assert refused.state is DeliveryState.REFUSED
    assert "only in one that this image cannot be put into: its pixels cannot be decoded" in refused.message


def test_a_decoder_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """A file that says to be High-Throughput JPEG 2000, for which no decoder is installed here."""
    from pydicom import dcmread
    from pydicom.pixels import get_decoder

    htj2k = "1.2.840.10008.1.2.4.201"
    if get_decoder(htj2k).is_available:
        pytest.skip("a decoder for HTJ2K is installed")
    ds = dcmread(sample("MR_small_jpeg_ls_lossless.dcm"))
    ds.file_meta.TransferSyntaxUID = htj2k
    ds.save_as(tmp_path / "ht.dcm")
    with pytest.raises(NotConvertible, match=r"no decoder .* is installed on the worker \(.*pylibjpeg"):
        converted(tmp_path / "ht.dcm", htj2k, EXPLICIT_LITTLE)


def test_big_endian_and_private_syntaxes_are_left_alone(tmp_path: Path) -> None:
    assert alternatives("1.2.840.10008.1.2.2") == alternatives(PRIVATE) == alternatives("1.2.3") == ()
    path = tmp_path / "big.dcm"
    shutil.copy(sample("MR_small_bigendian.dcm"), path)
    head = read_head(path)
    assert head is not None
    with difficult(lambda *_: 0, contexts={head.sop_class_uid: [EXPLICIT_LITTLE]}) as receiver:
        news = News()
        sink(receiver.port).send([instance(path)], news)
        assert receiver.seen == []
    assert news.states() == {DeliveryState.REFUSED: 1}


def test_no_compressed_syntax_is_ever_made() -> None:
    for syntax in (EXPLICIT_LITTLE, IMPLICIT_LITTLE, JPEG_LS, "1.2.840.10008.1.2.4.50"):
        assert set(alternatives(syntax)) <= {EXPLICIT_LITTLE, IMPLICIT_LITTLE}
