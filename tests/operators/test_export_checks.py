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


@pytest.mark.parametrize("content", [b"", b"\0" * 100])
def test_a_result_that_was_cut_off_holds_up_the_others(site: Site, content: bytes) -> None:
    """A result is whole or not sent: nobody at the far side would see that a part is missing."""
    good, bad = make_images(site.output, 2, study=STUDY)
    bad.write_bytes(content)
    site.made(good, bad)
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        with pytest.raises(AirflowFailException, match=r"1 of 2 DICOM files must not be sent, .*its name says DICOM"):
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


@pytest.mark.parametrize(
    ("changes", "permits", "message"),
    [
        ({"PatientID": "other"}, {"allow_received_series"}, "its PatientID is not the one of the payload"),
        ({"PatientID": "other"}, {"allow_other_study"}, ""),
        ({"PatientID": "other", "SeriesInstanceUID": "1.2.3"}, {"allow_other_study"}, "that of a received series"),
        ({"PatientID": "other", "SeriesInstanceUID": "1.2.3"}, {"allow_received_series"}, "its PatientID is not"),
        ({"PatientID": "other", "SeriesInstanceUID": "1.2.3"}, {"allow_other_study", "allow_received_series"}, ""),
        ({"SOPInstanceUID": "received"}, {"allow_received_series"}, "its SOPInstanceUID is that of a received image"),
        (
            {"SOPInstanceUID": "received", "PatientID": "other", "SeriesInstanceUID": "1.2.3"},
            {"allow_other_study", "allow_received_series"},
            "its SOPInstanceUID is that of a received image",
        ),
    ],
)
def test_each_of_its_problems_has_to_be_permitted_and_another_original_never_is(
    site: Site, changes: dict[str, str], permits: set[str], message: str
) -> None:
    (result,) = make_images(site.output, 1, study=STUDY)
    received_uid = site.payload.files[0].sop_instance_uid
    changes = {name: received_uid if value == "received" else value for name, value in changes.items()}
    site.made(changed(result, **changes))
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port, **dict.fromkeys(permits, True))
        if message:
            with pytest.raises(AirflowFailException, match=message):
                site.export("PACS")
        else:
            site.export("PACS")
        assert len(receiver.seen) == (0 if message else 1)


def test_two_files_that_would_have_one_name_are_not_taken_for_one(site: Site) -> None:
    keys = []
    for task, content in (("segment", b"one"), ("measure", b"two")):
        folder = site.store.local_path(f"{site.run.output_key(task, -1, 1)}/report")
        assert folder is not None
        folder.mkdir(parents=True)
        (folder / "report.pdf").write_bytes(content)
        keys.append((folder / "report.pdf").relative_to(site.store.root).as_posix())
        site.run.write_record(
            TaskRecord(
                task_id=task,
                task_type="map",
                status=TaskStatus.SUCCEEDED,
                execution_id=task,
                output_dir=keys[-1].rpartition("/report/")[0],
                artifacts={"report": (keys[-1],)},
            )
        )
    archive = site.archive()
    one, two = (f"{{{{ context.executions.{task}.artifacts.report }}}}" for task in ("segment", "measure"))
    with pytest.raises(AirflowFailException, match="two different files would have one name there"):
        site.export("ARCHIVE", inputs=[{"name": "report", "value": one}, {"name": "report", "value": two}])
    assert not [path for path in archive.rglob("*") if path.is_file()]
    site.export("ARCHIVE", inputs=[{"name": "one", "value": one}, {"name": "two", "value": two}], try_number=2)
    assert sorted(path.read_bytes() for path in archive.rglob("*") if path.is_file()) == [b"one", b"two"]


def test_what_leads_to_a_dicom_node_takes_other_files_and_looks_at_dicom_all_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an export agent does that may take any file."""
    monkeypatch.setattr("airflow_monai.sinks.folder.FolderSink.leads_to_dicom", True)
    (result,) = make_images(site.output, 1, study=STUDY)
    (site.output / "report.pdf").write_bytes(b"report")
    site.made(result, site.output / "report.pdf")
    archive = site.archive()
    site.export("ARCHIVE")
    assert len([path for path in archive.rglob("*") if path.is_file()]) == 2
    changed(result, PatientID="other")
    with pytest.raises(AirflowFailException, match="its PatientID is not the one of the payload"):
        site.export("ARCHIVE", try_number=2)


def test_results_of_two_series_do_not_share_a_uid(site: Site) -> None:
    """Each of them is exported by a task of its own, and a PACS would keep one of the two."""
    manifest = site.payload.to_dict()
    for number, file in enumerate(manifest["files"]):
        file["series_instance_uid"] = f"1.2.{3 + number % 2}"
    site.store.write_json(f"payloads/{site.payload.payload_id}/payload.json", manifest)
    paths = []
    for index in range(2):
        folder = site.store.local_path(f"{site.run.output_key('segment', index, 1)}/seg")
        assert folder is not None
        paths += make_images(folder, 1, study=STUDY)
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        made_for_each_series(site, paths)
        site.export("PACS", map_index=0)
        changed(paths[1], SOPInstanceUID=uid_of(paths[0]))
        with pytest.raises(AirflowFailException, match="its SOPInstanceUID is also that of another series' result"):
            site.export("PACS", map_index=1)
        assert receiver.seen == [uid_of(paths[0])]
        made_for_each_series(site, paths, artifact=False)
        with pytest.raises(AirflowFailException, match="its SOPInstanceUID is also that of another series' result"):
            site.export("PACS", map_index=1, value="{{ context.executions.segment.output_dir }}", try_number=2)
        made_for_each_series(site, paths)
        shutil.copy(paths[0], paths[1])  # one result of both
        site.export("PACS", map_index=1, try_number=3)
        assert receiver.seen == [uid_of(paths[0])]


def made_for_each_series(site: Site, paths: list[Path], artifact: bool = True) -> None:
    for index, path in enumerate(paths):
        key = path.relative_to(site.store.root).as_posix()
        site.run.write_record(
            TaskRecord(
                task_id="segment",
                task_type="map",
                status=TaskStatus.SUCCEEDED,
                execution_id=f"x{index}",
                map_index=index,
                output_dir=key.rpartition("/seg/")[0],
                artifacts={"seg": (key,)} if artifact else {},
            )
        )


def uid_of(path: Path) -> str:
    from pydicom import dcmread

    return str(dcmread(path).SOPInstanceUID)
