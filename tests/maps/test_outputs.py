from __future__ import annotations

import json
import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from airflow_monai.errors import MapError, MissingOutput
from airflow_monai.maps.modality import read_modality
from airflow_monai.maps.outputs import collect
from airflow_monai.store.part10 import file_meta


def dicom(path: Path, modality: str | None = "SEG", syntax: str = ExplicitVRLittleEndian) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    if modality is not None:
        dataset.Modality = modality
    dataset.PatientName = "Doe^Jane"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def artifacts(folder: Path, *outputs: dict[str, object]) -> dict[str, tuple[str, ...]]:
    return dict(collect(folder, outputs, what="the MAP").artifacts)


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.name,
)
def test_modality_in_every_encoding(tmp_path: Path, syntax: str) -> None:
    assert read_modality(dicom(tmp_path / "x", "RTSTRUCT", syntax)) == "RTSTRUCT"


def test_modality_of_what_has_none(tmp_path: Path) -> None:
    assert read_modality(dicom(tmp_path / "x", None)) == ""
    (tmp_path / "text").write_text("hello")
    assert read_modality(tmp_path / "text") is None
    (tmp_path / "cut").write_bytes(b"\0" * 128 + b"DICM" + b"\x08\x00")
    assert not read_modality(tmp_path / "cut")


DEFLATED = "1.2.840.10008.1.2.1.99"


def deflated_bomb() -> bytes:
    """A data set that begins plainly and inflates to 200 MB before its modality comes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = packer.compress(struct.pack("<HH2sH", 8, 0x18, b"UI", 4) + b"1.2\0")
    data += packer.compress(struct.pack("<HH2sHL", 8, 0x20, b"OB", 0, 200 * 2**20))
    return data + b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()


NESTED = (
    struct.pack("<HH2sHL", 8, 0x51, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
) * 4000


@pytest.mark.parametrize(
    ("syntax", "data"),
    [(DEFLATED, b"\xff" * 100), (DEFLATED, deflated_bomb()), (ExplicitVRLittleEndian, NESTED), (DEFLATED, b"")],
    ids=["corrupt", "bomb", "nested", "empty"],
)
def test_hostile_files_have_no_modality_and_cost_little(tmp_path: Path, syntax: str, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", syntax) + data)
    tracemalloc.start()
    try:
        assert read_modality(path) == ""
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_artifact_by_value_name_type_and_rest(tmp_path: Path) -> None:
    dicom(tmp_path / "deep" / "one.dcm")
    dicom(tmp_path / "two", "SR")
    (tmp_path / "report.pdf").write_text("x")
    (tmp_path / "metadata.json").write_text("{}")
    (tmp_path / "msg").write_bytes(b"MSH|^~\\&|")
    found = artifacts(
        tmp_path,
        {"name": "a", "value": "deep"},
        {"name": "b", "value": "{{ context.executions.x.output_dir }}/deep/one.dcm"},
        {"name": "report"},
        {"name": "seg", "type": "SEG"},
        {"name": "sr", "type": "sr"},
        {"name": "hl7", "type": "HL7"},
        {"name": "all", "type": "Folder"},
        {"name": "none", "type": "PT", "mandatory": False},
    )
    assert found["a"] == found["b"] == found["seg"] == ("deep/one.dcm",)
    assert found["report"] == ("report.pdf",)
    assert found["sr"] == ("two",)
    assert found["hl7"] == ("msg",)
    assert found["all"] == ("deep/one.dcm", "msg", "report.pdf", "two")
    assert found["none"] == ()


def test_missing_output_tells_what_was_there_without_names(tmp_path: Path) -> None:
    dicom(tmp_path / "Doe_Jane.dcm", "SR")
    (tmp_path / "Doe_Jane.txt").write_text("x")
    with pytest.raises(MissingOutput) as raised:
        artifacts(tmp_path, {"name": "seg", "type": "SEG"})
    message = str(raised.value)
    assert "the MAP ended with exit code 0 but without its mandatory artifact 'seg'" in message
    assert "1 x DICOM SR, 1 x other" in message
    assert "Doe" not in message


def test_result_is_the_metadata_nearest_the_top(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "metadata.json").write_text('{"volume": 1, "ratio": NaN}')
    assert collect(tmp_path, (), what="the MAP").result == {"volume": 1, "ratio": None}
    (tmp_path / "metadata.json").write_text('{"volume": 2}')
    assert collect(tmp_path, (), what="the MAP").result == {"volume": 2}


def test_result_holds_nothing_that_a_database_refuses(tmp_path: Path) -> None:
    text = r'{"big": 1e999, "small": [-1e999, 1.5], "nul": "a\u0000b", "half\ud800": {"x": "\ud83d\ude00\udc00"}}'
    (tmp_path / "metadata.json").write_text(text)
    result = collect(tmp_path, (), what="the MAP").result
    assert result == {"big": None, "small": [None, 1.5], "nul": "a\ufffdb", "half\ufffd": {"x": "\U0001f600\ufffd"}}
    json.dumps(result, allow_nan=False, ensure_ascii=False).encode()


def test_hostile_artifact_value_costs_no_time(tmp_path: Path) -> None:
    begun = time.thread_time()
    assert artifacts(tmp_path, {"name": "a", "value": "{{" * 100_000, "mandatory": False}) == {"a": ()}
    assert time.thread_time() - begun < 1


@pytest.mark.parametrize("content", ["[1]", "{", '"text"', "[" * 100_000, " " * 2_000_000])
def test_unusable_metadata_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "metadata.json").write_text(content)
    with pytest.raises(MapError, match=r"the MAP wrote a metadata\.json"):
        collect(tmp_path, (), what="the MAP")


def test_nothing_outside_the_folder_is_published(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "real").write_text("mine")
    (folder / "inner").symlink_to("real")
    (folder / "outer").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    (folder / "metadata.json").symlink_to(secret)
    (folder / "broken").symlink_to("nothing")
    (folder / "circle").symlink_to("round")
    (folder / "round").symlink_to("circle")
    (folder / "through").symlink_to("real/below")
    os.mkfifo(folder / "pipe")
    collected = collect(folder, [{"name": "all", "type": "Folder"}], what="the MAP")
    assert collected.artifacts["all"] == ("inner", "real")
    assert (folder / "inner").read_text() == "mine"
    assert not (folder / "inner").is_symlink()
    assert collected.result == {}
    assert secret.read_text() == "secret"


def test_closed_files_and_odd_names_become_usable(tmp_path: Path) -> None:
    inner = tmp_path / "größe"
    inner.mkdir()
    (inner / "a b?.txt").write_text("x")
    (inner / "a b?.txt").chmod(0)
    inner.chmod(0o700)
    (path,) = artifacts(tmp_path, {"name": "all", "type": "Folder"})["all"]
    assert (tmp_path / path).read_text() == "x"
    assert path.isascii() and "?" not in path
