"""Uploads to the app in this process, and what they leave in the store."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from airflow_monai.store.local import LocalStore
from tests.gateway.studies import image


def new_uid() -> str:
    """Short enough for series and images below it."""
    return str(generate_uid())[:48].rstrip(".")


def dicom(study: str | None = None, series: str | None = None, number: int = 1, **attributes: object) -> bytes:
    """A DICOM file."""
    study = study or new_uid()
    target = io.BytesIO()
    image(study, series or f"{study}.1", number, **attributes).save_as(target, enforce_file_format=True)  # type: ignore[arg-type]
    return target.getvalue()


def study_files(count: int = 3, study: str | None = None) -> dict[str, bytes]:
    """Some images of one study, by file name."""
    uid = study or new_uid()
    return {f"{n}.dcm": dicom(uid, f"{uid}.1", n) for n in range(1, count + 1)}


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def left_in(store: LocalStore) -> list[str]:
    """Objects of the store, and files in the spool but the locks of processes."""
    return [key for key in sorted(_files(store.root)) if not key.endswith("/lock")]


def _files(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def own_site(site_store: LocalStore) -> LocalStore:
    """Each test has a store of its own, which the app finds by the settings."""
    return site_store
