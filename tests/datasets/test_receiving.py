"""What an upload does with files, beside what its routes show."""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_monai.datasets.receiving import NewFiles, Upload, UploadLimits
from airflow_monai.errors import StoreError
from airflow_monai.store.spooling import FileSource
from tests.api.app_server.conftest import dicom

LIMITS = UploadLimits(1 << 30, 100, 250)


def open_files(folder: Path) -> list[str]:
    """What this process has open below a folder, also where that has been removed; other threads have other files."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if path.startswith(str(folder))]


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
@pytest.mark.parametrize("size", [1000, 40 << 20])
def test_a_disk_that_fails_is_told_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, size: int
) -> None:
    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

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
    assert open_files(tmp_path) == []
