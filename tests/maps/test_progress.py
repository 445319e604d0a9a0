"""Which lines of an application are its progress, and what of them is shown."""

from __future__ import annotations

import time

import pytest

from airflow_monai.maps.logs import LogFilter
from airflow_monai.maps.progress import MAX_BYTES, Progress, ProgressReader, read_progress
from airflow_monai.types import PatientDetails, Payload

DOE = LogFilter(Payload("p", "1", "AE", (), 0, (), "", "", "", PatientDetails(id="AB-12345", name="DOE^JOHN")))

TOLD = {
    b"[progress] 42%": (42.0, ""),
    b"Progress: 42.55 % done": (42.5, ""),
    b"2026-01-01 12:00:00 INFO progress=7 %": (7.0, ""),
    b"progress 21/50": (42.0, ""),
    b"[PROGRESS] 3 of 4": (75.0, ""),
    b" 42%|####      | 21/50 [00:10<00:14,  2.0it/s]": (42.0, ""),
    "Inference: 100%|██████████| 50/50 [00:10<00:00]".encode(): (100.0, "Inference"),
    b"  0%|          | 0/50 [00:00<?, ?it/s]": (0.0, ""),
    b'MONAI_PROGRESS {"percent": 12.34, "stage": "load model"}': (12.3, "load model"),
    b'INFO MONAI_PROGRESS: {"stage": "post-processing"}': (None, "post-processing"),
    b"\x1b[32mGoing to initiate execution of operator DICOMDataLoaderOperator\x1b[39m": (
        None,
        "DICOMDataLoaderOperator",
    ),
    b"Executing operator SegOperator (Process ID: 1, Operator ID: 97060f19)": (None, "SegOperator"),
    b"[2023-07-14 18:00:12,977] [INFO] (monai.deploy.operators.x.DICOMSeriesSelectorOperator) - Finding series": (
        None,
        "DICOMSeriesSelectorOperator",
    ),
}


@pytest.mark.parametrize("line", TOLD)
def test_forms_that_applications_print(line: bytes) -> None:
    assert read_progress(line) == Progress(*TOLD[line])


@pytest.mark.parametrize(
    "line",
    [
        b"lung volume is 42% of the thorax",
        b"epoch 3/10 loss 0.1",
        b"progress: 420%",
        b"progress 3/0",
        b"in-progress 42 things",
        b'MONAI_PROGRESS {"percent": "much"}',
        b'MONAI_PROGRESS {"percent": NaN}',
        b'MONAI_PROGRESS {"percent": true}',
        b'MONAI_PROGRESS {"percent": 1' + b"0" * 390 + b"}",
        b"MONAI_PROGRESS not json",
        b"Executing operator of the machine",
        b"",
    ],
)
def test_other_lines_say_nothing(line: bytes) -> None:
    assert read_progress(line) is None


@pytest.mark.parametrize(
    "stage", ["Doe John", "study AB-12345", "19700131", "x" * 41, "a;b", "<b>", "line\\nbreak", "\\u00e9tude"]
)
def test_a_stage_is_a_plain_word_and_not_the_patient(stage: str) -> None:
    reader = ProgressReader(DOE)
    assert reader.line(f'MONAI_PROGRESS {{"percent": 5, "stage": "{stage}"}}'.encode())
    assert reader.latest == Progress(5.0, "")


def test_what_is_known_stays_until_something_else_is_told() -> None:
    reader = ProgressReader(DOE)
    assert not reader.line(b"loading")
    assert reader.latest is None
    assert reader.line(b"Executing operator SegOperator")
    assert reader.line(b" 42%|####      | 21/50")
    assert not reader.line(b" 42%|####      | 21/50")
    assert reader.latest == Progress(42.0, "SegOperator")
    assert str(reader.latest) == "42 %, SegOperator"
    assert reader.latest.to_dict() == {"percent": 42.0, "stage": "SegOperator"}


HOSTILE = [
    b"progress" * 8000,
    b"1%|" * 20_000,
    b"(a." * 20_000 + b"perator",
    b"MONAI_PROGRESS {" * 4000,
    b"% |" * 20_000,
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_lines_cost_no_time(hostile: bytes) -> None:
    reader = ProgressReader(DOE)
    begun = time.process_time()
    for start in range(200):
        reader.line(hostile[start : start + MAX_BYTES * 3])
    assert time.process_time() - begun < 2
