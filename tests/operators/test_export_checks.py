"""What must not leave as a result: what would pass for a received image, or mixes the results of two tasks."""

# ruff: noqa: F811 - a fixture that is imported

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.types import TaskRecord, TaskStatus
from tests.operators.test_export import STUDY, Site, site  # noqa: F401
from tests.pacs import make_images
from tests.sinks.difficult import difficult


def changed(path: Path, **elements: str) -> Path:
    """The file with other values."""
    from pydicom import dcmread

    ds = dcmread(path)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return path


def received(site: Site) -> Path:
    path = site.store.local_path(f"payloads/{site.payload.payload_id}/{site.payload.files[0].path}")
    assert path is not None
    return path


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"SeriesInstanceUID": "1.2.3"}, "its SeriesInstanceUID is that of a received series"),
        ({"SeriesInstanceUID": ""}, "it lacks a valid StudyInstanceUID or SeriesInstanceUID"),
        ({"SeriesInstanceUID": "not a uid"}, "it lacks a valid StudyInstanceUID or SeriesInstanceUID"),
        ({"SOPInstanceUID": "1.2.x"}, "it lacks a valid SOP Instance UID"),
    ],
)
def test_a_result_without_a_series_of_its_own_is_not_sent(site: Site, elements: dict[str, str], message: str) -> None:
    good, bad = make_images(site.output, 2, study=STUDY)
    site.made(good, changed(bad, **elements))
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        with pytest.raises(AirflowFailException, match=f"1 of 2 DICOM files must not be sent, .*'seg': {message}"):
            site.export("PACS")
        assert receiver.seen == []


def test_a_connection_may_permit_the_series_of_the_input(site: Site) -> None:
    (result,) = make_images(site.output, 1, study=STUDY)
    site.made(changed(result, SeriesInstanceUID="1.2.3"))
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port, allow_received_series=True)
        site.export("PACS")
        assert len(receiver.seen) == 1


def test_a_received_image_handed_on_unchanged_may_go_and_a_changed_one_may_not(site: Site) -> None:
    site.output.mkdir(parents=True)
    copy = Path(shutil.copy(received(site), site.output / "copy.dcm"))
    manifest = site.payload.to_dict()
    manifest["files"][0]["series_instance_uid"] = series_of(copy)
    site.store.write_json(f"payloads/{site.payload.payload_id}/payload.json", manifest)
    site.made(copy)
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        site.export("PACS")
        assert receiver.seen == [site.payload.files[0].sop_instance_uid]
        changed(copy, SeriesDescription="better than the original")
        with pytest.raises(AirflowFailException, match="its SOPInstanceUID is that of a received image"):
            site.export("PACS", try_number=2)
        assert len(receiver.seen) == 1


def series_of(path: Path) -> str:
    from pydicom import dcmread

    return str(dcmread(path).SeriesInstanceUID)


def test_results_of_two_tasks_do_not_share_a_series(site: Site) -> None:
    (first,) = make_images(site.output, 1, study=STUDY)
    other_folder = site.store.local_path(f"{site.run.output_key('measure', -1, 1)}/sr")
    assert other_folder is not None
    (second,) = make_images(other_folder, 1, study=STUDY)
    site.made(first)
    key = second.relative_to(site.store.root).as_posix()
    site.run.write_record(
        TaskRecord(
            task_id="measure",
            task_type="map",
            status=TaskStatus.SUCCEEDED,
            execution_id="y",
            output_dir=key.rpartition("/sr/")[0],
            artifacts={"sr": (key,)},
        )
    )
    both = [
        {"name": "seg", "value": "{{ context.executions.segment.artifacts.seg }}"},
        {"name": "sr", "value": "{{ context.executions.measure.artifacts.sr }}"},
    ]
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        site.export("PACS", inputs=both)
        assert len(receiver.seen) == 2
        changed(second, SeriesInstanceUID=series_of(first))
        with pytest.raises(AirflowFailException, match=r"also that of another task's result"):
            site.export("PACS", inputs=both, try_number=2)
