"""Series and patients as payloads, and late images: real senders, a real gateway, kill -9 in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest

from airflow_monai.gateway import shepherd
from airflow_monai.intake import announcer
from airflow_monai.intake.announcer import Announcer
from airflow_monai.store.history import history_of
from airflow_monai.store.intake import Intake
from airflow_monai.store.payloads import load_payload, run_id_of
from airflow_monai.types import Payload
from tests.conftest import require
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.gateway.studies import storescu, study


def say(site: Site, name: str = "ct-lung", quiet: float = 1.0, **fields: str) -> None:
    """Write a workflow with more fields in its informatics_gateway."""
    more = "".join(f"  {field}: {value}\n" for field, value in fields.items())
    write_workflow(site.workflows, name, quiet=quiet, more=more)


def send(port: int, files: Sequence[Path]) -> None:
    require("dcmtk")
    sent = storescu(port, files)
    assert sent.returncode == 0, sent.stderr


def payloads(site: Site) -> list[Payload]:
    """All that are closed, in the order of their closing."""
    found = [load_payload(site.store, name) for name in site.store.children("payloads")]
    return sorted(found, key=lambda payload: (payload.closed, payload.sequence, bool(payload.includes)))


def finished(site: Site, count: int) -> list[Payload]:
    """So many payloads, when nothing is left to do."""

    def done() -> bool:
        return len(list(site.store.children("payloads"))) >= count and not list(site.store.children("pending"))

    wait_for(done, 90)
    found = payloads(site)
    assert len(found) == count, [payload.payload_id for payload in found]
    return found


def routing(site: Site, payload: Payload) -> dict[str, dict[str, Any]]:
    return {item["workflow"]: item for item in site.store.read_json(f"payloads/{payload.payload_id}/routing.json")}


def runs(site: Site) -> set[tuple[str, str]]:
    return {(dag, run["partition_key"]) for (dag, _), run in site.airflow.runs.items()}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer, "FIRST_RETRY", 0.1)
    monkeypatch.setattr(shepherd, "RESCAN_SECONDS", 1.0)
    monkeypatch.setattr(shepherd, "ADOPTION_GRACE", 0.5)


def test_two_series_are_two_payloads_and_two_runs(site: Site, tmp_path: Path) -> None:
    say(site, grouping="series")
    gateway = site.gateway()
    files = study(tmp_path / "in", 3, series=2)
    send(gateway.port, files)
    one, two = finished(site, 2)
    assert [len(payload.files) for payload in (one, two)] == [3, 3]
    assert one.study_instance_uid == two.study_instance_uid and one.grouping == two.grouping == "series"
    assert runs(site) == {("ct-lung", one.payload_id), ("ct-lung", two.payload_id)}
    send(gateway.port, files)
    wait_for(lambda: sum(event["count"] for event in site.events("duplicate-received")) == 6)
    assert len(site.airflow.runs) == 2


def test_a_series_is_closed_while_another_of_its_study_is_still_coming(site: Site, tmp_path: Path) -> None:
    say(site, grouping="series")
    gateway = site.gateway()
    files = study(tmp_path / "in", 40, series=2, size=64_000)
    send(gateway.port, files[:40])
    while len(site.events("study-complete")) < 1:
        send(gateway.port, files[40:])  # again and again: an image of the other series is always on its way
    (complete, *_) = site.events("study-complete")
    assert complete["images"] == 40


def test_studies_of_a_patient_are_one_payload(site: Site, tmp_path: Path) -> None:
    say(site, grouping="patient", quiet=3.0)
    gateway = site.gateway()
    one, two, other, nobody = (study(tmp_path / name, 2) for name in ("one", "two", "other", "nobody"))
    for patient, files in (("OTHER", other), ("", nobody)):
        for file in files:
            ds = pydicom.dcmread(file)
            ds.PatientID = patient
            ds.save_as(file)
    for files in (one, two, other, nobody):
        send(gateway.port, files)
    found = finished(site, 3)
    assert sorted((payload.grouping, len(payload.files)) for payload in found) == [
        ("patient", 2),
        ("patient", 4),
        ("study", 2),
    ]
    (event,) = site.events("patient-unknown")
    assert event["payload_id"] == next(payload.payload_id for payload in found if payload.grouping == "study")
    assert len(site.airflow.runs) == 3
    assert "SECRET" not in site.events_file.read_text()


def test_a_grouping_edited_while_a_payload_is_open(site: Site, tmp_path: Path) -> None:
    say(site, quiet=4.0)
    gateway = site.gateway()
    files = study(tmp_path / "in", 2, series=2)
    send(gateway.port, files[:2])
    say(site, quiet=4.0, grouping="series")
    wait_for(lambda: gateway.workflows.grouping("CTLUNG") == "series")
    send(gateway.port, files)
    (payload,) = finished(site, 1)
    assert (payload.grouping, len(payload.files)) == ("study", 4)
    later = study(tmp_path / "later", 1, series=2)
    send(gateway.port, later)
    assert {payload.grouping for payload in finished(site, 3)} == {"study", "series"}


def test_groupings_that_contradict_each_other_are_told(site: Site, tmp_path: Path) -> None:
    say(site, "a", grouping="series")
    gateway = site.gateway()
    gateway.workflows.known()
    told = site.events("workflows-changed")[-1]
    assert told["ae_titles"] == ["CTLUNG"]
    (problem,) = told["problems"]
    assert "ct-lung.yaml" in problem and "by series, this one by study" in problem
    send(gateway.port, study(tmp_path / "in", 1, series=2))
    assert {dag for dag, _ in runs(site)} <= {"a"} and len(finished(site, 2)) == 2


def test_each_workflow_gets_late_images_as_it_says(site: Site, tmp_path: Path) -> None:
    for choice in ("new_payload", "ignore", "rerun"):
        say(site, choice.replace("_", "-"), late_images=choice)
    gateway = site.gateway()
    files = study(tmp_path / "in", 4)
    send(gateway.port, files[:3])
    (first,) = finished(site, 1)
    send(gateway.port, files)  # the first three once more
    first, late, whole = finished(site, 3)
    assert [len(payload.files) for payload in (first, late, whole)] == [3, 1, 4]
    everyone = {"ct-lung", "new-payload", "ignore", "rerun"}  # ct-lung says nothing, which means new_payload
    assert runs(site) == {
        *((dag, first.payload_id) for dag in everyone),
        ("ct-lung", late.payload_id),
        ("new-payload", late.payload_id),
        ("rerun", whole.payload_id),
    }
    reasons = routing(site, late)
    assert "late_images: ignore" in reasons["ignore"]["reason"] and "rerun" in reasons["rerun"]["reason"]
    assert late.payload_id in routing(site, whole)["ignore"]["reason"]
    (event,) = site.events("late-images")
    assert {name: event[name] for name in ("follows", "new_payload", "ignore", "rerun", "images")} == {
        "follows": first.payload_id,
        "new_payload": ["ct-lung", "new-payload"],
        "ignore": ["ignore"],
        "rerun": ["rerun"],
        "images": 1,
    }
    assert not site.events("unrouted")
    sent = {pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID for file in files}
    assert {file.sop_instance_uid for file in whole.files} == sent
    wait_for(lambda: sum(event["count"] for event in site.events("duplicate-received")) == 3)  # told once a second


def test_late_images_that_all_ignore_are_kept_and_start_nothing(site: Site, tmp_path: Path) -> None:
    say(site, late_images="ignore")
    gateway = site.gateway()
    files = study(tmp_path / "in", 2)
    send(gateway.port, files[:1])
    finished(site, 1)
    send(gateway.port, files)
    first, late = finished(site, 2)
    assert runs(site) == {("ct-lung", first.payload_id)}
    assert site.events("late-images")[0]["ignore"] == ["ct-lung"] and not site.events("unrouted")
    assert history_of(site.store, first.payload_id).kin.followed_by == late.payload_id


def test_with_a_rerun_alone_a_late_image_makes_one_run_more(site: Site, tmp_path: Path) -> None:
    say(site, late_images="rerun")
    gateway = site.gateway()
    files = study(tmp_path / "in", 3)
    for count, images in enumerate((files[:1], files[:2], files)):
        send(gateway.port, images)
        finished(site, 1 + 2 * count)
    wholes = [payload for payload in payloads(site) if payload.includes]
    assert [len(payload.files) for payload in wholes] == [2, 3]
    first = next(payload for payload in payloads(site) if not payload.sequence)
    assert runs(site) == {("ct-lung", payload.payload_id) for payload in (first, *wholes)}
    assert set(site.airflow.posts.values()) == {1}


@pytest.mark.usefixtures("impatient")
def test_two_gateways_make_one_rerun_of_late_images(site: Site, tmp_path: Path) -> None:
    say(site, late_images="rerun")
    one, two = site.gateway(), site.gateway()
    files = study(tmp_path / "in", 12)
    send(one.port, files[:4])
    finished(site, 1)
    send(one.port, files[4:8])
    send(two.port, files[8:])
    first, late, whole = finished(site, 3)
    assert [len(payload.files) for payload in (first, late, whole)] == [4, 8, 12]
    assert runs(site) == {("ct-lung", first.payload_id), ("ct-lung", whole.payload_id)}
    assert len(site.events("late-images")) == 1


CUTS = {
    "the late image is routed": (Announcer, "route", 1),
    "the whole is begun": (Intake, "gather", 1),
    "its files are there": (Intake, "_bring", 1),
    "it is described": (Intake, "_describe", 2),  # the first is that of the late image's payload
    "it is routed": (Announcer, "route", 2),
}
_KILLED = """
import functools, os, sys
from airflow_monai.{module} import {owner}
original, calls = {owner}.{method}, []
@functools.wraps(original)
def cut(*args, **more):
    result = original(*args, **more)
    calls.append(result)
    if len(calls) == {call}:
        os.kill(os.getpid(), 9)
    return result
{owner}.{method} = cut
from airflow_monai.gateway.command import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("cut", CUTS)
def test_kill_9_when_a_rerun_is_being_made_loses_and_doubles_nothing(
    site: Site, tmp_path: Path, free_port: int, cut: str
) -> None:
    """A gateway closes the study; one that kills itself after the step takes the late image; a third one goes on."""
    say(site, quiet=0.8, late_images="rerun")
    say(site, "keen", quiet=0.8)
    first_gateway = site.gateway()
    files = study(tmp_path / "in", 3)
    send(first_gateway.port, files[:2])
    finished(site, 1)
    first_gateway.stop(grace=0.5)
    owner, method, call = CUTS[cut]
    module = owner.__module__.removeprefix("airflow_monai.")
    code = _KILLED.format(module=module, owner=owner.__name__, method=method, call=call)
    doomed = site.process(free_port, code=code)
    send(free_port, files)
    wait_for(lambda: doomed.poll() is not None, 120)
    assert doomed.returncode == -signal.SIGKILL
    site.gateway()
    first, late, whole = finished(site, 3)
    assert [len(payload.files) for payload in (first, late, whole)] == [2, 1, 3]
    assert runs(site) == {
        ("ct-lung", first.payload_id),
        ("keen", first.payload_id),
        ("keen", late.payload_id),
        ("ct-lung", whole.payload_id),
    }
    assert {run for _, run in site.airflow.runs} == {run_id_of(payload.payload_id) for payload in (first, late, whole)}
    assert not site.unfinished()
    assert os.stat(site.store.root / site.files()[0]).st_nlink == 2
