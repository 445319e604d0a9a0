"""Uploads to the app in this process, and what they leave in the store."""

from __future__ import annotations

import io
import os
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
    # os.walk passes over a folder that vanishes just then, as that of an upload does; Path.rglob does not
    return [Path(folder, name).relative_to(root).as_posix() for folder, _, names in os.walk(root) for name in names]


@pytest.fixture(autouse=True)
def own_site(site_store: LocalStore) -> LocalStore:
    """Each test has a store of its own, which the app finds by the settings."""
    return site_store


@dataclass
class Served:
    """The app on a socket of this process."""

    port: int
    token: str

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=90)

    def head(self, length: int | str, kind: str = "application/dicom") -> bytes:
        lines = (
            "POST /app-server/datasets HTTP/1.1", "Host: x", f"Authorization: Bearer {self.token}",
            f"Content-Type: {kind}", f"Content-Length: {length}", "", "",
        )  # fmt: skip
        return "\r\n".join(lines).encode()


@pytest.fixture
def served(
    airflow_tables: str, site_store: LocalStore, people: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    import uvicorn
    from fastapi import FastAPI

    from airflow_monai.api.app import create_app

    monkeypatch.setenv("AIRFLOW__MONAI__UPLOAD_AT_A_TIME", "2")
    monkeypatch.setenv("AIRFLOW__MONAI__UPLOAD_PER_CALLER", "2")
    site, app = FastAPI(), create_app()
    site.mount("/monai", app)
    site.mount("", app)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(site, log_level="error"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield Served(listening.getsockname()[1], people("user"))
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
