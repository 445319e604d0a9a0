"""What an export does with its time: destinations side by side, a deadline over all tries, and then a final verdict."""

# ruff: noqa: F811 - a fixture that is imported

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.errors import ExportIncomplete, SettingsError
from airflow_monai.sinks.base import DeliveryState
from tests.operators.test_export import STUDY, Site, site  # noqa: F401
from tests.pacs import make_images
from tests.sinks.difficult import difficult


def began_before(site: Site, minutes: float, generation: int = 1) -> None:
    """As if the first try had begun so long ago."""
    started = datetime.now(timezone.utc) - timedelta(minutes=minutes)
    site.store.write_json(site.run.note_key("to-pacs", -1, generation, "delivery"), {"started": started.isoformat()})


def test_a_destination_that_hangs_does_not_hold_up_the_others(site: Site) -> None:
    site.made(*make_images(site.output, 3, study=STUDY))
    released, archive = threading.Event(), site.archive()

    def hang_until_the_archive_has_all(*_: Any) -> int:
        end = time.monotonic() + 60
        while time.monotonic() < end and len([path for path in archive.rglob("*.dcm") if path.is_file()]) < 3:
            time.sleep(0.02)
        released.set()
        return 0

    with difficult(hang_until_the_archive_has_all) as receiver:
        site.dicom("PACS", receiver.port, response_timeout=120)
        assert len(site.export("PACS", "ARCHIVE")["exported"]) == 6
        assert released.is_set()


def test_each_destination_keeps_a_state_of_its_own(site: Site) -> None:
    results = make_images(site.output, 3, study=STUDY)
    site.made(*results)
    with difficult(lambda *_: 0) as good, difficult(lambda *_: 0xA700) as full:
        site.dicom("GOOD", good.port)
        site.dicom("FULL", full.port)
        with pytest.raises(ExportIncomplete, match=r"GOOD: 3 accepted\. FULL: .*refused.*A700"):
            site.export("GOOD", "FULL")
        seen = len(full.seen)
    with difficult(lambda *_: 0) as emptied, difficult(lambda *_: 0) as good_again:
        site.dicom("FULL", emptied.port)
        site.dicom("GOOD", good_again.port)
        site.export("GOOD", "FULL", try_number=2)
        assert (len(emptied.seen), len(good_again.seen)) == (3, 0)
    assert seen >= 3
    assert {entry.state for entry in site.ledger("FULL").values()} == {DeliveryState.ACCEPTED}


@pytest.mark.parametrize("place", ["site", "connection"])
def test_the_deadline_counts_from_the_first_try_and_then_the_verdict_is_final(
    site: Site, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    results = make_images(site.output, 3, study=STUDY)
    site.made(*results)
    extra: dict[str, Any] = {"deadline_minutes": 30} if place == "connection" else {}
    if place == "site":
        monkeypatch.setenv("AIRFLOW__MONAI__EXPORT_DEADLINE_MINUTES", "30")
    refused = results[1].stem

    def one_is_refused(_: Any, event: Any) -> int:
        return 0xA700 if event.request.AffectedSOPInstanceUID == refused else 0

    with difficult(one_is_refused) as receiver:
        site.dicom("PACS", receiver.port, **extra)
        with pytest.raises(ExportIncomplete, match="A retry sends only what is missing"):
            site.export("PACS")
        sent = len(receiver.seen)
        began_before(site, 31)
        with pytest.raises(
            AirflowFailException,
            match=r"a retry would not help: PACS: 2 accepted, 1 refused; .*A700.*"
            r"the deadline of 30 minutes after the first try has passed",
        ):
            site.export("PACS", try_number=2)
        assert len(receiver.seen) == sent
    record = site.run.record("to-pacs")
    assert record is not None and record.stats["error_kind"] == "timeout"


def test_the_tasks_own_deadline_comes_first(site: Site) -> None:
    site.made(*make_images(site.output, 1, study=STUDY))
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port, deadline_minutes=0)
        began_before(site, 6)
        with pytest.raises(AirflowFailException, match="the deadline of 5 minutes after the first try has passed"):
            site.export("PACS", deadline_minutes=5)
        assert receiver.seen == []
        site.export("PACS", try_number=2)
        assert len(receiver.seen) == 1


def test_what_was_accepted_in_time_is_a_success_after_the_deadline(site: Site) -> None:
    site.made(*make_images(site.output, 2, study=STUDY))
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port, deadline_minutes=10)
        site.export("PACS")
        began_before(site, 11)
        assert {row["state"] for row in site.export("PACS", try_number=2)["exported"]} == {"accepted"}


def test_a_task_whose_worker_died_goes_on_whatever_was_cleared_in_its_run_meanwhile(site: Site) -> None:
    """An application would begin anew then; what was sent cannot be taken back."""
    results = make_images(site.output, 3, study=STUDY)
    site.made(*results)
    last = results[2].stem
    with difficult(lambda _, event: 0xA700 if event.request.AffectedSOPInstanceUID == last else 0) as receiver:
        site.dicom("PACS", receiver.port, deadline_minutes=1)
        with pytest.raises(ExportIncomplete):
            site.export("PACS")
    site.store.delete(f"{site.run.task_key('to-pacs')}/task.json")  # a worker that is killed leaves none
    with difficult(lambda *_: 0) as receiver:
        site.dicom("PACS", receiver.port, deadline_minutes=1)
        site.export("PACS", try_number=2, clears=1)
        assert receiver.seen == [last]
    record = site.run.record("to-pacs")
    assert record is not None and record.generation == 1


def test_one_destination_past_its_deadline_does_not_end_the_others_tries(site: Site) -> None:
    site.made(*make_images(site.output, 2, study=STUDY))
    with difficult(lambda *_: 0) as receiver, difficult(lambda *_: 0xA700) as full:
        site.dicom("PACS", receiver.port, deadline_minutes=1)
        site.dicom("FULL", full.port, deadline_minutes=60)
        began_before(site, 2)
        with pytest.raises(ExportIncomplete, match="PACS: 2 pending; the deadline of 1 minutes"):
            site.export("PACS", "FULL")


def test_a_setting_that_is_no_number_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.made(*make_images(site.output, 1, study=STUDY))
    site.dicom("PACS", 1)
    monkeypatch.setenv("AIRFLOW__MONAI__EXPORT_DEADLINE_MINUTES", "soon")
    with pytest.raises((SettingsError, AirflowFailException, ExportIncomplete), match="export_deadline_minutes"):
        site.export("PACS")
