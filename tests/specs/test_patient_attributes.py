"""What must not get into an e-mail, compared with the dictionary of DICOM."""

from __future__ import annotations

import pytest
from pydicom.datadict import DicomDictionary

from airflow_monai.specs.patient_attributes import IDENTIFYING, may_name_patient, names_patient

BY_KEYWORD = {keyword: (f"{tag:08X}", vr) for tag, (vr, _, _, _, keyword) in DicomDictionary.items() if keyword}


def test_every_persons_name_and_all_of_the_patient_is_refused() -> None:
    refused = {keyword for keyword, (tag, _) in BY_KEYWORD.items() if may_name_patient(tag)}
    assert refused >= {keyword for keyword, (_, vr) in BY_KEYWORD.items() if vr == "PN"}
    assert refused >= {keyword for keyword, (tag, _) in BY_KEYWORD.items() if tag.startswith("0010")}
    assert refused >= {"AdmissionID", "PatientState", "ClinicalTrialSubjectID", "ImageComments", "VisitComments"}


def test_what_describes_the_study_is_not() -> None:
    allowed = ("Modality", "StudyDescription", "SeriesDescription", "AccessionNumber", "StudyInstanceUID", "StudyDate")
    assert [name for name in allowed if may_name_patient(BY_KEYWORD[name][0])] == []


def test_the_list_holds_tags_of_the_dictionary() -> None:
    assert {tag for tag, _ in BY_KEYWORD.values()} >= IDENTIFYING
    assert may_name_patient("00091001"), "private attributes may hold anything"


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("context.input.patient_details.id", True),
        ("context.dicom.series.any('0010','0010')", True),
        ("context.dicom.series.all('PatientName')", True),
        ("context.dicom.tags['PatientBirthDate']", True),
        ("context.dicom.series.any('0008','0060')", False),
        ("context.executions.segment.result.volume_ml", False),
    ],
)
def test_paths(path: str, refused: bool) -> None:
    assert names_patient(path) is refused
