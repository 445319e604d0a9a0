"""The folder inbox: what is taken, when, by whom, and what is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.gateway import inbox as module
from airflow_monai.gateway.claims import abandoned, claim
from airflow_monai.gateway.configured import _inbox
from airflow_monai.gateway.inbox import InboxOptions
from airflow_monai.gateway.service import Gateway, GatewayOptions
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_engine import AirflowEngine
from airflow_monai.store.history import newest
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.gateway.stormy import TAKES_ITS_TIME
from tests.gateway.studies import image, study

STILL = 0.3


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.2)


@pytest.fixture
def place(site: Site) -> Path:
    """The folder of an AE title whose studies would be quiet for a minute."""
    write_workflow(site.workflows, quiet=60)
    folder = site.folder / "inbox" / "CTLUNG"
    folder.mkdir(parents=True)
    return folder


def gateway(site: Site, still: float = STILL, reserve: str = "0") -> Gateway:
    options = GatewayOptions(
        str(site.workflows), "127.0.0.1", 0, 60, site.events_file, disk_used_percent=100.0, disk_reserve=reserve
    )
    ways = [_inbox(InboxOptions(site.folder / "inbox", still))]
    started = Gateway(site.store, options, AirflowEngine(AirflowApi("monai_airflow")), ways)
    started.start()
    site._gateways.append(started)
    return started


def zipped(files: list[Path], archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in files:
            out.write(file, f"DICOM/{file.name}")
    return archive


def visible(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name not in (".done", ".refused"))


def reports(place: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((place / ".done").glob("*.json"))]


def as_folder(site: Site, files: list[Path], place: Path) -> None:
    shutil.copytree(files[0].parent, place / "Doe^Jane")


def as_renamed_folder(site: Site, files: list[Path], place: Path) -> None:
    files[0].parent.rename(place / "Doe^Jane")


def as_zip(site: Site, files: list[Path], place: Path) -> None:
    zipped(files, place / "Doe^Jane.zip")


@pytest.mark.parametrize("put", [as_folder, as_renamed_folder, as_zip])
def test_a_study_is_one_payload_whose_run_starts_without_waiting_for_quiet(
    site: Site, place: Path, put: Callable[[Site, list[Path], Path], None]
) -> None:
    put(site, study(site.folder / "out", 5, series=2), place)
    gateway(site)
    (run,) = site.wait_for_event("run-created")
    (done,) = wait_for(lambda: reports(place))
    assert done["images"] == 10 and done["refused"] == [] and done["payload_ids"] == [run["payload_id"]]
    assert wait_for(lambda: visible(place) == [])
    assert len(site.files()) == 10
    assert site.unfinished() == []
    (taken,) = site.wait_for_event("files-taken")
    assert (taken["way"], taken["called_aet"], taken["calling_aet"]) == ("inbox", "CTLUNG", "INBOX")
    assert "Doe^Jane" not in site.events_file.read_text()


def test_files_one_by_one_wait_for_the_study_to_be_quiet(site: Site, place: Path) -> None:
    write_workflow(site.workflows, quiet=2.5)
    gateway(site)
    for file in study(site.folder / "out", 4):
        shutil.copy(file, place / ".copying")
        (place / ".copying").rename(place / file.name)
        time.sleep(0.3)
    site.wait_for_event("run-created")
    assert [summary.images for summary in newest(site.store, 5)] == [4]
    assert wait_for(lambda: visible(place) == [])


def test_what_is_still_being_written_is_left_alone(site: Site, place: Path) -> None:
    files = study(site.folder / "out", 3)
    (place / "study").mkdir()
    (place / ".hidden").write_bytes(files[0].read_bytes())
    (place / "upload.zip.part").write_bytes(b"PK\x03\x04")
    gateway(site, still=2.0)
    with open(place / "study" / "slow.dcm", "wb") as slow:  # a writer that takes its time
        data = files[0].read_bytes()
        for start in range(0, len(data), len(data) // 8):
            slow.write(data[start : start + len(data) // 8])
            slow.flush()
            time.sleep(0.3)
    assert site.files() == []
    wait_for(site.files)
    wait_for(lambda: reports(place))
    assert wait_for(lambda: visible(place) == [".hidden", "upload.zip.part"])
    assert reports(place)[0]["refused"] == []


def test_refused_files_are_kept_with_their_reasons(site: Site, place: Path) -> None:
    files = study(site.folder / "out" / "DICOM", 2)
    folder = site.folder / "out"
    (folder / "README").write_text("hello")
    (folder / "DICOM" / "half.dcm").write_bytes(files[0].read_bytes()[:-500])
    folder.rename(place / "cd")
    (place / "letter.pdf").write_bytes(b"%PDF")
    gateway(site)
    wait_for(lambda: len(reports(place)) == 2)
    refused = {path.relative_to(place / ".refused").as_posix().partition("/")[2]: path for path in _refused(place)}
    assert set(refused) == {"cd/DICOM/half.dcm", "letter.pdf"}
    said = "".join(path.read_text() for path in (place / ".refused").glob("*.reason.txt"))
    assert "cd/DICOM/half.dcm: it breaks off" in said
    assert "letter.pdf: it is no DICOM image" in said
    cd = next(report for report in reports(place) if report["items"] == ["cd"])
    assert (cd["images"], cd["passed_over"]) == (2, ["cd/README"])
    assert wait_for(lambda: visible(place) == [])


def _refused(place: Path) -> list[Path]:
    return [path for path in (place / ".refused").rglob("*") if path.is_file() and not path.name.endswith("reason.txt")]


def test_an_archive_with_a_bad_file_is_kept_whole(site: Site, place: Path) -> None:
    files = study(site.folder / "out", 2)
    files[1].write_bytes(files[1].read_bytes()[:-10])
    zipped(files, place / "a.zip")
    gateway(site)
    (report,) = wait_for(lambda: reports(place))
    assert report["images"] == 1
    assert [path.name for path in _refused(place)] == ["a.zip"]


def test_a_folder_of_no_workflow_waits_and_says_why(site: Site, place: Path) -> None:
    other = site.folder / "inbox" / "NOBODY"
    study(other / "study", 1)
    gateway(site)
    (waiting,) = site.wait_for_event("files-waiting")
    assert waiting["called_aet"] == "-", "a folder may be named after a patient"
    assert "no AE title that a workflow listens" in waiting["reason"] and "NOBODY" not in waiting["reason"]
    assert (other / "study").is_dir()
    write_workflow(site.workflows, name="late", ae="NOBODY")
    site.wait_for_event("run-created")
    assert wait_for(lambda: visible(other) == [])


def test_nothing_is_taken_while_the_disk_guard_refuses(site: Site, place: Path) -> None:
    study(place / "study", 1)
    gateway(site, reserve="900 TB")
    (waiting,) = site.wait_for_event("files-waiting")
    assert "disk_reserve" in waiting["reason"]
    assert (place / "study").is_dir()


def test_the_folder_may_name_the_calling_ae_title(site: Site, place: Path) -> None:
    write_workflow(site.workflows, quiet=60, more="  data_origins: [CT01]")
    study(site.folder / "inbox" / "CTLUNG@CT01" / "study", 1)
    gateway(site)
    site.wait_for_event("run-created")
    (taken,) = site.wait_for_event("files-taken")
    assert (taken["called_aet"], taken["calling_aet"]) == ("CTLUNG", "CT01")


def test_two_gateways_take_each_item_once(site: Site, place: Path) -> None:
    count = 12
    for number in range(count):
        study(site.folder / "out" / str(number), 2)
    gateway(site)
    gateway(site)
    for number in range(count):
        (site.folder / "out" / str(number)).rename(place / str(number))
    wait_for(lambda: len(reports(place)) == count, 60)
    assert sum(report["images"] for report in reports(place)) == 2 * count
    assert sum(report["duplicates"] for report in reports(place)) == 0
    site.wait_for_event("run-created", count)
    assert len(site.airflow.runs) == count


def test_a_store_that_is_away_only_delays(site: Site, place: Path) -> None:
    study(site.folder / "out", 3)
    started = gateway(site)
    payloads = site.store.root / "payloads"
    if payloads.exists():
        shutil.rmtree(payloads)
    payloads.write_text("in the way")
    (site.folder / "out").rename(place / "study")
    waiting = site.wait_for_event("files-waiting")[0]
    assert waiting["called_aet"] == "CTLUNG"
    payloads.unlink()
    site.wait_for_event("run-created")
    assert wait_for(lambda: visible(place) == [])
    (report,) = wait_for(lambda: reports(place))
    assert report["images"] == 3 and report["refused"] == []
    started.stop()


CODE = """
import sys, threading
from airflow_monai.gateway import configured, inbox, service
from airflow_monai.gateway import command
inbox.POLL_SECONDS = 0.05
sys.exit(command.main(["--host", "127.0.0.1", "--port", "0", "--events", {events!r}]))
"""


def test_kill_9_at_any_moment_loses_and_doubles_nothing(site: Site, place: Path) -> None:
    count = 40
    files = study(site.folder / "out", count, size=65536)
    archive = zipped(study(site.folder / "zipped", count, size=65536), site.folder / "a.zip")
    environment = {"AIRFLOW__MONAI__INBOX_FOLDER": str(place.parent), "AIRFLOW__MONAI__INBOX_STILL_SECONDS": "0.1"}
    code = CODE.format(events=str(site.events_file))
    process = site.process(0, code=TAKES_ITS_TIME + code, **environment)
    archive.rename(place / "a.zip")
    files[0].parent.rename(place / "study")
    for kill in range(2):
        wait_for(lambda least=kill * 30: len(site.files()) > least, pause=0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(site.files()) < 2 * count
        process = site.process(0, code=code if kill else TAKES_ITS_TIME + code, **environment)
    site.wait_for_event("run-created", 2)
    assert wait_for(lambda: visible(place) == [])
    assert [(item.images, item.state) for item in newest(site.store, 5)] == [(count, "closed")] * 2
    assert len(site.airflow.runs) == 2
    assert site.unfinished() == []
    assert any(report["resumed"] for report in reports(place)) and not _refused(place)


def test_a_claim_whose_owner_lives_is_nobody_elses(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    mine = claim(tmp_path, [tmp_path / "a"])
    assert mine is not None and [item.name for item in mine.items()] == ["a"]
    assert claim(tmp_path, [tmp_path / "a"]) is None
    assert list(abandoned(tmp_path)) == []
    mine.release()
    (found,) = abandoned(tmp_path)
    assert found.resumed and found.claim_id == mine.claim_id
    found.remove()
    assert os.listdir(tmp_path) == []


def test_a_claim_that_is_just_being_removed_is_nobody_elses_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks between any two of its steps must not take it for one that was left, nor keep it from going."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("x")
    mine = claim(tmp_path, [tmp_path / "a"])
    assert mine is not None
    looks: list[int] = []

    def looked(real: Callable[..., None]) -> Callable[..., None]:
        def remove(*args: Any, **more: Any) -> None:
            if not looking:
                looking.append(True)
                looks.append(len(list(abandoned(tmp_path))))
                looking.clear()
            real(*args, **more)

        return remove

    looking: list[bool] = []
    for name in ("unlink", "rmdir"):
        monkeypatch.setattr(os, name, looked(getattr(os, name)))
    mine.remove()
    assert looks and set(looks) == {0} and os.listdir(tmp_path) == []


@pytest.mark.parametrize("left", ["lock", "content"])
def test_a_claim_of_which_a_killed_process_had_removed_a_half_goes(tmp_path: Path, left: str) -> None:
    (tmp_path / "a").write_text("x")
    mine = claim(tmp_path, [tmp_path / "a"])
    assert mine is not None
    if left == "lock":
        shutil.rmtree(mine.content)
    else:
        (mine.content / "a").unlink()
        (mine.folder / "lock").unlink()
    mine.release()
    assert list(abandoned(tmp_path)) == [] and os.listdir(tmp_path) == []


def test_a_claim_of_a_killed_process_is_found(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    code = (
        "import os, sys; from pathlib import Path; from airflow_monai.gateway.claims import claim\n"
        "place = Path(sys.argv[1]); mine = claim(place, [place / 'a']); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (found,) = abandoned(tmp_path)
    assert [item.name for item in found.items()] == ["a"]
    found.release()


def test_reports_are_removed_after_a_month(site: Site, place: Path) -> None:
    (place / ".done").mkdir()
    old = place / ".done" / "old.json"
    old.write_text("{}")
    os.utime(old, (time.time() - 31 * 86_400,) * 2)
    (place / "one").mkdir()
    image("1.2.3", "1.2.3.4", 1).save_as(place / "one" / "x.dcm", enforce_file_format=True)
    gateway(site)
    wait_for(lambda: [name for name in os.listdir(place / ".done") if name != "old.json"])
    assert wait_for(lambda: not old.exists())


def test_a_folder_that_cannot_be_read_for_a_moment_is_taken_whole(
    site: Site, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its other half would be removed as if there were none."""
    for name in ("a", "b"):
        study(tmp_path / "study" / name, 2)
    real, errors = os.scandir, [OSError(116, "Stale file handle") for _ in range(2)]

    def scandir(path: Any = ".") -> Any:
        if str(path).endswith("content/study/b") and errors:
            raise errors.pop()
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (tmp_path / "study").rename(place / "study")
    gateway(site)
    wait_for(lambda: reports(place))
    assert not errors and len(site.files()) == 4
    assert any("Stale" in event["reason"] for event in site.events("files-waiting"))


def test_a_link_in_place_of_a_claim_or_of_the_reports_leads_nowhere(site: Site, place: Path, tmp_path: Path) -> None:
    """Whoever may write to the inbox must not have the gateway remove or write what lies elsewhere."""
    outside = tmp_path / "outside"
    (kept,) = study(outside, 1)
    claimed = place / ".claimed-evil"
    claimed.mkdir()
    (claimed / "lock").touch()
    (claimed / "content").symlink_to(outside)
    other = site.folder / "inbox" / "OTHER"
    other.mkdir()
    (other / ".done").symlink_to(outside)
    write_workflow(site.workflows, "other", "OTHER")
    gateway(site)
    for folder in (place, other):
        shutil.copytree(study(tmp_path / folder.name, 1)[0].parent, folder / "study")
    wait_for(lambda: reports(place))
    assert "is a link" in site.wait_for_event("files-waiting")[0]["reason"]
    assert list(outside.iterdir()) == [kept] and len(site.files()) == 1 and (other / "study").exists()


def test_what_nobody_can_handle_is_refused_in_the_end_and_keeps_no_other_waiting(
    site: Site, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MOST_FAILURES", 2)
    real, patient = module.Deposit.file, "Doe^Jane"

    def file(deposit: module.Deposit, path: Path, name: str) -> module.Outcome:
        if "poison" in name:
            raise LookupError(patient)
        return real(deposit, path, name)

    monkeypatch.setattr(module.Deposit, "file", file)
    for name in ("poison-1", "poison-2", "poison-3", "good"):
        shutil.copytree(study(tmp_path / name, 1)[0].parent, place / name)
    gateway(site)
    wait_for(lambda: len(reports(place)) == 4)
    assert len(site.files()) == 1
    assert len(list((place / ".refused").rglob("*.dcm"))) == 3
    assert patient not in caplog.text
    assert "internal error: LookupError" in next((place / ".refused").glob("*.reason.txt")).read_text()


def test_a_folder_that_cannot_be_looked_at_keeps_no_other_waiting(
    site: Site, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.folder / "inbox" / "AAA").mkdir()
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if str(path).endswith("inbox/AAA"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    shutil.copytree(study(tmp_path / "in", 1)[0].parent, place / "study")
    gateway(site)
    wait_for(site.files)
    assert "Permission denied" in site.wait_for_event("files-waiting")[0]["reason"]
