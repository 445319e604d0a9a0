"""What the headers of a payload's files say of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from airflow_monai.store.describe import describe
from airflow_monai.store.local import LocalStore
from airflow_monai.types import PatientDetails
from tests.gateway.studies import image

BLANK = {"PatientID": "", "PatientName": "", "PatientBirthDate": "", "PatientSex": ""}


def patient_of(folder: Path, *files: dict[str, str]) -> PatientDetails:
    store, sizes = LocalStore(folder), {}
    for number, attributes in enumerate(files, 1):
        path = f"dcm/1.2.3/1.2.3.4/1.2.3.4.{number}.dcm"
        file = folder / "p" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        image("1.2.3", "1.2.3.4", number, size=64, **{**BLANK, **attributes}).save_as(file, enforce_file_format=True)
        sizes[path] = file.stat().st_size
    return describe(store, "p", sizes).patient


def test_a_patient_s_details_come_from_all_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {"PatientName": "Alpha^Anna"}, {"PatientID": "A-1"}, {"PatientID": "A-1", "PatientBirthDate": "19700102"}
    assert patient_of(tmp_path, *files) == PatientDetails(id="A-1", name="Alpha^Anna", dob="19700102")
    assert not caplog.records


def test_details_of_two_patients_are_never_mixed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    anna = {"PatientID": "A-1", "PatientName": "Alpha^Anna"}
    bert = {"PatientID": "B-2", "PatientName": "Beta^Bert", "PatientSex": "M", "PatientBirthDate": "19501231"}
    with caplog.at_level(logging.WARNING):
        found = patient_of(tmp_path, {"PatientSex": "O"}, anna, bert)
    assert found == PatientDetails(id="A-1", name="Alpha^Anna")
    assert "of 2 patients" in caplog.text
    assert not any(text in caplog.text for text in ("A-1", "Anna", "B-2", "Bert"))
