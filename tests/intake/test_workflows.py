"""What the gateway knows of the workflows, however often it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.intake import workflows as module
from airflow_monai.intake.events import EventLog
from airflow_monai.intake.workflows import Workflows
from tests.gateway.conftest import wait_for, write_workflow


def test_titles_that_are_none_do_not_make_it_read_the_folder_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_workflow(tmp_path / "specs")
    known = Workflows(tmp_path / "specs", 1.0, EventLog(None))
    scans = []
    monkeypatch.setattr(known, "_scan", lambda real=known._scan: (scans.append(1), real()))
    monkeypatch.setattr(module, "_ASKED_SECONDS", 60.0)
    assert known.knows("CTLUNG") and not any(known.knows(f"NOBODY{number}") for number in range(50))
    assert len(scans) <= 2


def test_a_title_that_is_new_is_known_at_once(tmp_path: Path) -> None:
    write_workflow(tmp_path / "specs")
    known = Workflows(tmp_path / "specs", 600.0, EventLog(None))
    assert not known.knows("NEW")
    write_workflow(tmp_path / "specs", "new", "NEW")
    wait_for(lambda: known.knows("NEW"))
