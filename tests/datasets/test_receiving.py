"""What an upload does with files, beside what its routes show."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from airflow_monai.datasets.receiving import NewFiles, Upload, UploadLimits
from airflow_monai.errors import StoreError
from airflow_monai.store.spooling import FileSource
from tests.api.app_server.conftest import dicom

LIMITS = UploadLimits(1 << 30, 100, 250)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
@pytest.mark.parametrize("size", [1000, 40 << 20])
def test_a_disk_that_fails_is_told_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, size: int
) -> None:
    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = open_files()
    data = dicom(PixelData=bytes(size))
    monkeypatch.setattr(os, call, fails)
    new = NewFiles()
    try:
        with Upload(tmp_path, LIMITS, new.keep) as upload:
            upload.take(FileSource(io.BytesIO(data)), "a.dcm")
            upload.finish()
        failed = False
    except StoreError as error:
        failed = "Input/output error" in str(error)
    assert failed is (call == "fsync" or size > 1 << 20)
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before
