"""The export operator: everything delivered once, with a verdict on each instance, whatever happens on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.errors import ExportIncomplete, ExportInterrupted, ExportRefused, Fenced
from airflow_monai.operators.export import ExportOperator, Hl7ExportOperator
from airflow_monai.sinks.base import DeliveryState
from airflow_monai.sinks.ledger.again import resendable
from airflow_monai.sinks.ledger.pages import Entry, Ledger
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import manifest_key, payload_id_of, run_id_of
from airflow_monai.store.runs import Fence, RunFolder
from airflow_monai.types import PatientDetails, Payload, PayloadFile, TaskRecord, TaskStatus
from tests.conftest import require
from tests.pacs import CT, EXPLICIT_LITTLE, make_images, storescp
from tests.sinks.difficult import difficult

STUDY = "1.2.826.0.1.3680043.8.498.1"
RESULTS = "{{ context.executions.segment.artifacts.seg }}"
RECEIVED = "{{ context.input.dicom }}"


@dataclass
class Site:
    """A store with one payload whose task ``segment`` has made ``seg``, and connections to destinations."""

    folder: Path
    payload: Payload
    monkeypatch: pytest.MonkeyPatch
    operator: ExportOperator | None = None

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "store")

    @property
    def run(self) -> RunFolder:
        payload_id = self.payload.payload_id
        return RunFolder(self.store, payload_id, "ct-lung", run_id_of(payload_id))

    @property
    def output(self) -> Path:
        """The artifact's folder."""
        return self.generation(1)

    def generation(self, number: int) -> Path:
        """The artifact's folder of one generation of ``segment``."""
        path = self.store.local_path(f"{self.run.output_key('segment', -1, number)}/seg")
        assert path is not None
        return path

    def made(self, *paths: Path) -> None:
        """Record that ``segment`` made these files."""
        keys = tuple(sorted(path.relative_to(self.store.root).as_posix() for path in paths))
        self.run.write_record(
            TaskRecord(
                task_id="segment",
                task_type="map",
                status=TaskStatus.SUCCEEDED,
                execution_id="x",
                output_dir=keys[0].rpartition("/seg/")[0] if keys else self.run.output_key("segment", -1, 1),
                artifacts={"seg": keys},
            )
        )

    def dicom(self, name: str, port: int, **extra: Any) -> None:
        extra = {"called_aet": "PACS", "connect_timeout": 20, "response_timeout": 20, **extra}
        connection = {"conn_type": "dicom", "host": "127.0.0.1", "port": port, "extra": extra}
        self.monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))

    def archive(self, name: str = "ARCHIVE") -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        self.monkeypatch.setenv(
            f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "monai_folder", "extra": {"path": str(path)}})
        )
        return path

    def ledger(self, sink: str = "PACS") -> dict[str, Entry]:
        return dict(Ledger(self.store, self.payload.payload_id, sink).entries())

    def export(
        self,
        *destinations: str,
        value: str = RESULTS,
        try_number: int = 1,
        clears: int = 0,
        operator_class: type[ExportOperator] = ExportOperator,
        failure_policy: dict[str, str] | None = None,
        deadline_minutes: float | None = None,
        inputs: list[dict[str, Any]] | None = None,
        map_index: int = -1,
        **artifact: Any,
    ) -> dict[str, Any]:
        """Run the operator as a worker does, in this process; the context stands in for Airflow's."""
        self.operator = operator = operator_class(
            task_id="to-pacs",
            destinations=destinations,
            inputs=inputs or [{"name": "seg", "value": value, **artifact}],
            retries=2,
            failure_policy=failure_policy,
            deadline_minutes=deadline_minutes,
            for_each="series" if map_index >= 0 else None,
        )
        ti = SimpleNamespace(
            task_id="to-pacs",
            dag_id="ct-lung",
            run_id=self.run.run_id,
            map_index=map_index,
            try_number=try_number,
            max_tries=2,
            xcom_push=lambda **_: None,
        )
        dag = SimpleNamespace(dag_id="ct-lung", dag_display_name="ct-lung", description="")
        dag_run = SimpleNamespace(partition_key=self.payload.payload_id, conf={}, clear_number=clears)
        context: Any = {"ti": ti, "dag": dag, "dag_run": dag_run, "task": operator}
        value_returned: dict[str, Any] = operator.execute(context)
        return value_returned


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    monkeypatch.setenv("AIRFLOW__CORE__UNIT_TEST_MODE", "True")
    monkeypatch.setattr("airflow_monai.sinks.dimse.lines.PAUSES", (0.0, 0.0, 0.0))
    payload_id = payload_id_of(STUDY, "CTLUNG", 0)
    store = LocalStore(tmp_path / "store")
    folder = store.root / "payloads" / payload_id
    images = make_images(folder / "dcm" / STUDY / "1.2.3", 3, study=STUDY)
    files = tuple(
        PayloadFile(path.relative_to(folder).as_posix(), path.stat().st_size, path.stem, CT, "1.2.3", EXPLICIT_LITTLE)
        for path in images
    )
    now = "2026-11-22T10:00:00+00:00"
    patient = PatientDetails(id="P1", name="Doe^Jane")
    payload = Payload(payload_id, STUDY, "CTLUNG", ("CT01",), 0, files, now, now, now, patient)
    store.write_json(manifest_key(payload_id), payload.to_dict())
    return Site(tmp_path, payload, monkeypatch)


def test_results_reach_the_pacs_and_the_folder(site: Site) -> None:
    require("dcmtk")
    results = make_images(site.output, 3, study=STUDY)
    site.made(*results)
    archive = site.archive()
    with storescp(site.folder / "pacs") as receiver:
        site.dicom("PACS", receiver.port)
        value = site.export("PACS", "ARCHIVE")
        assert len(receiver.files()) == 3
    place = archive / site.payload.payload_id / "ct-lung" / "to-pacs" / "seg"
    assert sorted(path.name for path in place.iterdir()) == sorted(path.name for path in results)
    rows = {(row["sink"], row["SOPInstanceUID"], row["state"], row["status"]) for row in value["exported"]}
    assert rows == {("PACS", path.stem, "accepted", "0000") for path in results} | {
        ("ARCHIVE", path.stem, "accepted", "") for path in results
    }
    assert {entry.state for entry in site.ledger().values()} == {DeliveryState.ACCEPTED}
    record = site.run.record("to-pacs")
    assert record is not None
    assert record.status is TaskStatus.SUCCEEDED
    assert record.result == {"accepted": {"PACS": 3, "ARCHIVE": 3}}


def test_a_cleared_task_sends_nothing_twice(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    site.made(*make_images(site.output, 3, study=STUDY))
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        first = site.export("PACS")
        assert "payloads resend" not in caplog.text
        again = site.export("PACS", try_number=2)
        assert len(receiver.seen) == 3
        assert "PACS had accepted 3 of these before" in caplog.text
        assert "payloads resend" in caplog.text and "--sink PACS" in caplog.text
        resendable(Ledger(site.store, site.payload.payload_id, "PACS")).mark("wanted again by a test")
        last = site.export("PACS", try_number=3)
        assert Counter(receiver.seen) == {row["SOPInstanceUID"]: 2 for row in first["exported"]}
    assert last["exported"] == again["exported"] == first["exported"]


def test_a_retry_sends_only_what_is_missing(site: Site) -> None:
    results = make_images(site.output, 4, study=STUDY)
    site.made(*results)
    bad = {results[1].stem}
    with difficult(lambda _, event: 0xA700 if event.request.AffectedSOPInstanceUID in bad else 0) as receiver:
        site.dicom("PACS", receiver.port)
        with pytest.raises(
            ExportRefused, match=r"PACS: 3 accepted, 1 refused; 1 x status A700: Out of resources"
        ) as caught:
            site.export("PACS")
        assert not isinstance(caught.value, AirflowFailException)  # Airflow retries it
        assert list(caught.value.refused) == [results[1].stem]
        before = len(receiver.seen)
        bad.clear()
        site.export("PACS", try_number=2)
        assert receiver.seen[before:] == [results[1].stem]
    assert site.ledger()[results[1].stem].attempts == 4


def test_a_refusal_for_good_is_not_retried(site: Site) -> None:
    site.made(*make_images(site.output, 2, study=STUDY))
    with difficult(lambda *_: 0x0122) as receiver:
        site.dicom("PACS", receiver.port)
        with pytest.raises(
            AirflowFailException, match=r"a retry would not help.*2 x status 0122: SOP class not supported"
        ):
            site.export("PACS")
    record = site.run.record("to-pacs")
    assert record is not None
    assert record.status is TaskStatus.FAILED
    assert "0122" in str(record.error_msg)


def test_one_destination_down_does_not_stop_the_other(site: Site, free_port: int) -> None:
    site.made(*make_images(site.output, 2, study=STUDY))
    archive = site.archive()
    site.dicom("PACS", free_port)
    with pytest.raises(
        ExportRefused, match=r"PACS: 2 pending; PACS at 127.0.0.1:\d+ cannot be reached.*ARCHIVE: 2 accepted"
    ):
        site.export("PACS", "ARCHIVE")
    assert len(list(archive.rglob("*.dcm"))) == 2
    assert site.ledger() == {}


def test_what_a_cleared_task_makes_anew_goes_beside_what_it_made_before(site: Site) -> None:
    archive = site.archive()
    for generation in (1, 2):
        result = site.generation(generation) / "seg.json"
        result.parent.mkdir(parents=True)
        result.write_text(f"generation {generation}")
        site.made(result)
        site.export("ARCHIVE", try_number=generation)
    place = archive / site.payload.payload_id / "ct-lung" / "to-pacs"
    assert (place / "seg" / "seg.json").read_text() == "generation 1"
    assert (place / "g2" / "seg" / "seg.json").read_text() == "generation 2"
    site.export("ARCHIVE", try_number=3)  # only the export is cleared: all of it is there
    assert len([path for path in archive.rglob("*") if path.is_file()]) == 2


def test_an_unknown_destination_fails_for_good_and_says_what_to_add(site: Site) -> None:
    site.made(*make_images(site.output, 1, study=STUDY))
    with pytest.raises(AirflowFailException, match=r"there is no Airflow connection .NOWHERE.\. Add one of type dicom"):
        site.export("NOWHERE")


def test_received_images_can_be_sent_on(site: Site) -> None:
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        site.export("PACS", value=RECEIVED)
        assert sorted(receiver.seen) == sorted(file.sop_instance_uid for file in site.payload.files)


def test_only_dicom_goes_to_a_pacs_and_everything_to_a_folder(site: Site) -> None:
    results = make_images(site.output, 1, study=STUDY)
    (site.output / "report.json").write_text("{}")
    site.made(*results, site.output / "report.json")
    archive = site.archive()
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        value = site.export("PACS", "ARCHIVE")
        assert receiver.seen == [results[0].stem]
    assert len([path for path in archive.rglob("*") if path.is_file()]) == 2
    assert len(value["exported"]) == 2


def test_no_dicom_at_all_names_the_input_and_what_was_there(site: Site) -> None:
    site.output.mkdir(parents=True)
    (site.output / "mask.nii").write_bytes(b"x" * 500)
    site.made(site.output / "mask.nii")
    site.dicom("PACS", 1)
    with pytest.raises(AirflowFailException, match=r"Input 'seg' holds no DICOM file, only 1 other \(\*\.nii\)"):
        site.export("PACS")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"study": "1.2.3.4"}, "its StudyInstanceUID is not the one of the payload"),
        ({"study": STUDY, "patient_id": "P2"}, "its PatientID is not the one of the payload"),
    ],
)
def test_a_result_of_another_study_or_patient_is_not_sent(site: Site, other: dict[str, str], message: str) -> None:
    good, mixed_up = make_images(site.output, 1, study=STUDY), make_images(site.output, 1, **other)  # type: ignore[arg-type]
    site.made(*good, *mixed_up)
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        with pytest.raises(AirflowFailException, match=f"1 of 2 DICOM files must not be sent, so none was.*{message}"):
            site.export("PACS")
        assert receiver.seen == []
        site.dicom("PACS", receiver.port, allow_other_study=True)
        site.export("PACS", try_number=2)
        assert len(receiver.seen) == 2


def test_a_result_of_any_study_of_a_patients_payload_is_sent(site: Site) -> None:
    other = replace(site.payload.files[0], path="dcm/1.2.3.4/1.2.3/1.2.3.9.dcm", sop_instance_uid="1.2.3.9")
    manifest = replace(site.payload, files=(*site.payload.files, other), grouping="patient").to_dict()
    LocalStore(site.folder / "store").write_json(manifest_key(site.payload.payload_id), manifest)
    site.made(*make_images(site.output, 1, study=STUDY), *make_images(site.output, 1, study="1.2.3.4"))
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        site.export("PACS")
        assert len(receiver.seen) == 2


def test_a_damaged_dicom_file_is_not_sent(site: Site) -> None:
    (result,) = make_images(site.output, 1, study=STUDY)
    result.write_bytes(result.read_bytes()[:140])
    site.made(result)
    site.dicom("PACS", 1)
    with pytest.raises(AirflowFailException, match="1 of 1 DICOM files must not be sent"):
        site.export("PACS")


def test_two_different_files_with_one_uid_are_not_sent(site: Site) -> None:
    (result,) = make_images(site.output, 1, study=STUDY)
    twin = result.with_name("twin.dcm")
    twin.write_bytes(result.read_bytes()[:-2] + b"\1\2")
    site.made(result, twin)
    site.dicom("PACS", 1)
    with pytest.raises(AirflowFailException, match="two different files with the same SOP Instance UID"):
        site.export("PACS")


def test_an_empty_mandatory_input_fails_and_an_optional_one_does_not(site: Site) -> None:
    site.made()
    site.dicom("PACS", 1)
    with pytest.raises(AirflowFailException, match=r"Input artifact 'seg' of task to-pacs .* has no files"):
        site.export("PACS")
    assert site.export("PACS", mandatory=False)["exported"] == []


def test_new_content_under_an_accepted_uid_is_refused_and_not_sent(site: Site) -> None:
    """A node may keep the old content and answer success, so that nobody would know which one it has."""
    (result,) = make_images(site.output, 1, study=STUDY)
    whole = result.read_bytes()
    site.made(result)
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        site.export("PACS")
        result.write_bytes(whole[:-2] + b"\1\2")
        with pytest.raises(AirflowFailException, match="other content was accepted there under this UID before: new"):
            site.export("PACS", try_number=2)
        result.write_bytes(whole)
        site.export("PACS", try_number=3)
        assert receiver.seen == [result.stem], "the first one is there, and known to be"


def test_new_content_under_an_accepted_uid_is_sent_where_the_destination_says_so(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    (result,) = make_images(site.output, 1, study=STUDY)
    site.made(result)
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port, resend_changed=True)
        site.export("PACS")
        assert "other content" not in caplog.text
        result.write_bytes(result.read_bytes()[:-2] + b"\1\2")
        site.export("PACS", try_number=2)
        assert receiver.seen == [result.stem] * 2
        assert "PACS has accepted other content under the names of 1 of these instances" in caplog.text


def test_an_older_try_sends_nothing_more(site: Site) -> None:
    results = make_images(site.output, 3, study=STUDY)
    site.made(*results)

    def newer_try_starts(receiver: Any, _: Any) -> int:
        if len(receiver.seen) == 2:
            Fence(site.run, "to-pacs", -1, try_number=2).claim()
        return 0

    with difficult(newer_try_starts) as receiver:
        site.dicom("PACS", receiver.port)
        with pytest.raises(Fenced):
            site.export("PACS")
        assert len(receiver.seen) == 2
        site.export("PACS", try_number=2)
        assert len(receiver.seen) == 3


def test_a_task_that_is_ended_from_outside_sends_nothing_more(site: Site) -> None:
    """Marked failed while images are under way to two nodes: their answers are kept, and neither node gets more."""
    results = make_images(site.output, 4, study=STUDY)
    site.made(*results)
    begun, ended = threading.Event(), threading.Event()

    def marked_failed(receiver: Any, _: Any) -> int:
        if len(receiver.seen) == 2 and site.operator:
            begun.wait(60)
            site.operator.on_kill()
            ended.set()
        return 0

    def slow(*_: Any) -> int:
        begun.set()
        ended.wait(60)
        return 0

    with difficult(marked_failed) as receiver, difficult(slow) as other:
        site.dicom("PACS", receiver.port, response_timeout=120)
        site.dicom("OTHER", other.port, response_timeout=120)
        with pytest.raises(ExportInterrupted, match="ended from outside"):
            site.export("PACS", "OTHER")
        assert (len(receiver.seen), len(other.seen)) == (2, 1)
        assert Counter(entry.state for entry in site.ledger().values())[DeliveryState.ACCEPTED] == 2
        site.export("PACS", "OTHER", try_number=2)
        assert (len(receiver.seen), len(other.seen)) == (4, 4)


def test_a_task_killed_between_request_and_verdict_is_completed_by_the_next(site: Site) -> None:
    """The worker dies while the PACS holds an image without having answered: that one is sent again, no other."""
    results = make_images(site.output, 5, study=STUDY)
    site.made(*results)
    stuck, killed = multiprocessing.Event(), threading.Event()

    def hold_the_third(receiver: Any, _: Any) -> int:
        if len(receiver.seen) == 3:
            stuck.set()
            killed.wait(60)
        return 0

    with difficult(hold_the_third) as receiver:
        site.dicom("PACS", receiver.port, response_timeout=120)
        child = _in_child(lambda: site.export("PACS"))
        assert stuck.wait(60)
        _until(lambda: sum(entry.state is DeliveryState.ACCEPTED for entry in site.ledger().values()) == 2)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed.set()
        third = site.ledger()[receiver.seen[2]]
        assert (third.state, third.attempts) == (DeliveryState.SENT, 1)
        value = site.export("PACS", try_number=2)
        assert sorted(receiver.seen[3:]) == sorted(path.stem for path in results if path.stem not in receiver.seen[:2])
    assert site.ledger()[receiver.seen[2]].attempts == 2
    assert {row["state"] for row in value["exported"]} == {"accepted"}


def test_no_patient_data_leave_the_store(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Planted in the far side's own words, the file's name and the header."""
    (result,) = make_images(site.output, 1, study=STUDY, patient_id="P1")
    result = result.rename(result.with_name("Doe_Jane.dcm"))
    site.made(result)

    def gossip(_: Any, event: Any) -> Any:
        from pydicom.dataset import Dataset

        status = Dataset()
        status.Status, status.ErrorComment = 0xB000, "Doe^Jane coerced"
        return status

    with caplog.at_level("DEBUG"), difficult(gossip) as receiver:
        site.dicom("PACS", receiver.port)
        value = site.export("PACS")
    ours = [
        message for record in caplog.records if "pynetdicom" not in record.name for message in [record.getMessage()]
    ]
    assert not [text for text in (json.dumps(value), *ours) if "Doe" in text or "Jane" in text]
    assert [entry.comment for entry in site.ledger().values()] == ["Doe^Jane coerced"]


def _in_child(work: Callable[[], Any]) -> int:
    """Fork, and do the work there; a forked child is what a task process of Airflow is."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    finally:
        os._exit(0)


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def test_any_file_goes_to_a_folder_and_none_but_dicom_to_a_dicom_node(site: Site) -> None:
    """An export of HL7 messages; a DICOM node among its destinations gets nothing, and the folder all."""
    site.output.mkdir(parents=True)
    (site.output / "report.hl7").write_text("MSH|^~\\&|")
    site.made(*make_images(site.output, 1, study=STUDY), site.output / "report.hl7")
    archive = site.archive()
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port)
        with pytest.raises(
            AirflowFailException, match=r"PACS takes DICOM objects only.* 1 of 2 files are none.*ARCHIVE: 2"
        ):
            site.export("PACS", "ARCHIVE", operator_class=Hl7ExportOperator)
        assert receiver.seen == []
    assert sorted(path.suffix for path in archive.rglob("*") if path.is_file()) == [".dcm", ".hl7"]


@pytest.mark.parametrize(("policy", "retried"), [({}, True), ({"connection": "fail"}, False)])
def test_a_policy_decides_whether_a_node_that_is_down_is_tried_again(
    site: Site, free_port: int, policy: dict[str, str], retried: bool
) -> None:
    site.made(*make_images(site.output, 1, study=STUDY))
    site.dicom("PACS", free_port)
    with pytest.raises(Exception, match="cannot be reached") as caught:
        site.export("PACS", failure_policy=policy)
    assert isinstance(caught.value, AirflowFailException) is not retried
    record = site.run.record("to-pacs")
    assert record is not None and record.stats["error_kind"] == "connection"


def test_a_policy_may_have_refused_images_sent_again(site: Site) -> None:
    site.made(*make_images(site.output, 1, study=STUDY))
    with difficult(lambda *_: 0x0122) as receiver:
        site.dicom("PACS", receiver.port)
        with pytest.raises(ExportIncomplete, match="A retry sends only what is missing"):
            site.export("PACS", failure_policy={"refused": "retry"})
