"""Payloads of series, of studies and of patients, what a change of the grouping does, and payloads of late images."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from pydicom.filewriter import dcmwrite

from airflow_monai.specs.plan import Grouping
from airflow_monai.store import Store
from airflow_monai.store.groups import SALT_KEY, Groups, member_id, whole_id
from airflow_monai.store.history import history_of
from airflow_monai.store.intake import Instance, Intake, Placed
from airflow_monai.store.part10 import Identity, data_set_of, identify
from airflow_monai.store.payloads import load_payload, payload_id_of
from airflow_monai.types import Payload
from tests.gateway.studies import CT, image

STUDY, AET = "1.2.3", "CTLUNG"


def put(
    intake: Intake, sop: str, grouping: Grouping, *, study: str = STUDY, series: str = "1.2.3.4", patient: str = "P1"
) -> Placed:
    file = intake.store.spool() / uuid.uuid4().hex
    image(study, series, 1, PatientID=patient, SOPInstanceUID=sop, PixelData=bytes(64)).save_as(
        file, enforce_file_format=True
    )
    identity = Identity(study, series, sop, CT, patient, "")
    placed = intake.add(Instance(identity, AET, "CT01"), file, grouping)
    file.unlink()
    return placed


def sops(payload: Payload) -> set[str]:
    return {file.sop_instance_uid for file in payload.files}


def test_a_studys_payload_has_the_id_that_it_always_had(store: Store) -> None:
    assert put(Intake(store), "1.1", Grouping.STUDY).payload_id == payload_id_of(STUDY, AET, 0)
    assert payload_id_of("1.2.3", "CTLUNG", 0) == "8afb7367-1899-5296-9883-9e0323673ddc"


def test_each_series_is_a_payload_of_its_own(store: Store) -> None:
    intake = Intake(store)
    one = put(intake, "1.1", Grouping.SERIES, series="1.2.3.4").payload_id
    two = put(intake, "1.2", Grouping.SERIES, series="1.2.3.5").payload_id
    assert put(Intake(store), "1.3", Grouping.SERIES, series="1.2.3.4").payload_id == one != two
    manifest = intake.close(one)
    assert (manifest.grouping, sops(manifest), manifest.study_instance_uid) == ("series", {"1.1", "1.3"}, STUDY)
    assert put(intake, "1.3", Grouping.SERIES, series="1.2.3.4") == Placed(one, True, True)
    late = put(intake, "1.4", Grouping.SERIES, series="1.2.3.4").payload_id
    assert late not in (one, two) and intake.close(late).follows == one


def test_a_patients_studies_are_one_payload_and_its_id_tells_nothing(
    store: Store, make_store: Callable[[], Store]
) -> None:
    intake, other = Intake(store), Intake(store)
    one = put(intake, "1.1", Grouping.PATIENT, study="1.1")
    assert put(other, "1.2", Grouping.PATIENT, study="1.2").payload_id == one.payload_id
    assert put(intake, "1.3", Grouping.PATIENT, study="1.1", patient="P2").payload_id != one.payload_id
    manifest = intake.close(one.payload_id)
    assert sorted(file.path for file in manifest.files) == ["dcm/1.1/1.2.3.4/1.1.dcm", "dcm/1.2/1.2.3.4/1.2.dcm"]
    assert (manifest.grouping, manifest.study_instance_uid, manifest.patient.id) == ("patient", "1.1", "P1")
    elsewhere = Intake(make_store())
    assert put(elsewhere, "1.1", Grouping.PATIENT, study="1.1").payload_id != one.payload_id  # it cannot be guessed
    assert "P1" not in str(store.read_json(f"payloads/{one.payload_id}/open.json"))


def test_an_issuer_makes_another_patient(store: Store) -> None:
    groups = Groups(store)
    identity = Identity("1.1", "1.1.1", "1.1.1.1", CT, "P1", "")
    other = dataclasses.replace(identity, issuer="HOSPITAL")
    assert groups.of(identity, Grouping.PATIENT).key != groups.of(other, Grouping.PATIENT).key
    assert "P1" not in repr(identity)


def test_two_gateways_that_start_at_once_have_one_salt(store: Store) -> None:
    identity = Identity("1.1", "1.1.1", "1.1.1.1", CT, "P1", "")
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: Groups(store).of(identity, Grouping.PATIENT).key, range(8)))
    assert len(keys) == 1 and store.exists(SALT_KEY)


def test_images_that_name_no_patient_go_with_their_study_and_it_is_told_once(store: Store) -> None:
    intake = Intake(store)
    first = put(intake, "1.1", Grouping.PATIENT, patient="")
    assert (first.payload_id, first.fell_back) == (payload_id_of(STUDY, AET, 0), True)
    assert not put(intake, "1.2", Grouping.PATIENT, patient="").fell_back
    assert intake.close(first.payload_id).grouping == "study"


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192"])
def test_a_patient_is_the_same_in_any_character_set(charset: str) -> None:
    ds = image("1.1", "1.1.1", 1, PatientID="Mü-1", IssuerOfPatientID="Köln", SpecificCharacterSet=charset)
    file = BytesIO()
    dcmwrite(file, ds, enforce_file_format=True)
    data = memoryview(file.getvalue())
    syntax, start = data_set_of(data)
    found = identify(data, start, syntax)
    assert (found.patient_id, found.issuer) == ("Mü-1", "Köln")


@pytest.mark.parametrize(
    ("before", "now"),
    [(Grouping.STUDY, Grouping.SERIES), (Grouping.SERIES, Grouping.STUDY), (Grouping.PATIENT, Grouping.STUDY)],
)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_change_of_the_grouping_tears_no_open_payload_and_doubles_nothing(
    store: Store, before: Grouping, now: Grouping, restarted: bool
) -> None:
    intake = Intake(store)
    first = put(intake, "1.1", before).payload_id
    intake = Intake(store) if restarted else intake
    assert put(intake, "1.2", now).payload_id == first, "the open one goes on taking what it was opened for"
    manifest = intake.close(first)
    assert (manifest.grouping, sops(manifest)) == (before.value, {"1.1", "1.2"})
    intake = Intake(store) if restarted else intake
    assert put(intake, "1.1", now) == Placed(first, True, True), "known, whatever it was grouped by"
    third = put(intake, "1.3", now)
    assert not third.duplicate and intake.close(third.payload_id).grouping == now.value
    assert put(intake, "1.3", before) == Placed(third.payload_id, True, True), "and back again"


def closed_with_late_ones(store: Store) -> tuple[Intake, str, Payload]:
    intake = Intake(store)
    first = put(intake, "1.1", Grouping.STUDY).payload_id
    put(intake, "1.2", Grouping.STUDY)
    intake.close(first)
    late = put(intake, "1.3", Grouping.STUDY).payload_id
    return intake, first, intake.close(late)


def test_late_images_together_with_all_that_came_before(store: Store) -> None:
    intake, first, late = closed_with_late_ones(store)
    whole = intake.gather(late)
    assert whole == whole_id(STUDY, AET, 1) and whole in set(intake.pending())
    state = intake.look(whole)
    assert state and state.closing
    manifest = intake.close(whole)
    assert sops(manifest) == {"1.1", "1.2", "1.3"}
    assert manifest.includes == (first, late.payload_id) and not manifest.is_late and late.is_late
    for file in manifest.files:
        source = first if file.sop_instance_uid != "1.3" else late.payload_id
        keys = [f"payloads/{pid}/{file.path}" for pid in (source, manifest.payload_id)]
        original, linked = map(store.local_path, keys)
        if original and linked:
            assert original.samefile(linked), "no copy"
        else:
            assert store.read(keys[0]) == store.read(keys[1])
    assert put(intake, "1.3", Grouping.STUDY).payload_id == late.payload_id
    assert (kin := history_of(store, first).kin).followed_by == late.payload_id and kin.follows is None
    assert (kin := history_of(store, late.payload_id).kin).included_in == whole and kin.follows == first
    assert history_of(store, whole).kin.includes == (first, late.payload_id)


def test_the_next_late_ones_make_another_whole(store: Store) -> None:
    intake, first, late = closed_with_late_ones(store)
    intake.close(intake.gather(late))
    later = intake.close(put(intake, "1.4", Grouping.STUDY).payload_id)
    whole = intake.close(intake.gather(later))
    assert sops(whole) == {"1.1", "1.2", "1.3", "1.4"}
    assert whole.includes == (first, late.payload_id, later.payload_id)


@pytest.mark.parametrize("last", ["open.json", "closing.json", "listing.json", "one file", "tags.json", "payload.json"])
def test_making_a_whole_goes_on_wherever_it_stopped(store: Store, last: str) -> None:
    intake, _, late = closed_with_late_ones(store)
    whole = intake.gather(late)
    made = intake.close(whole)
    steps = ["open.json", "closing.json", "listing.json", "one file", "tags.json", "payload.json"]
    for step in steps[steps.index(last) + 1 :]:
        if step == "one file":
            store.delete_tree(f"payloads/{whole}/dcm")
        else:
            store.delete(f"payloads/{whole}/{step}")
    if last == "one file":
        store.delete(f"payloads/{whole}/{made.files[0].path}")
    other = Intake(store)
    assert other.gather(late) == whole
    again = other.close(whole)
    assert (again.files, again.patient, again.includes) == (made.files, made.patient, made.includes)
    assert all(store.exists(f"payloads/{whole}/{file.path}") for file in again.files)
    assert other.sweep(whole) == 0


def test_several_closers_make_one_whole(store: Store) -> None:
    _, _, late = closed_with_late_ones(store)

    def make(_: int) -> str:
        intake = Intake(store)
        return json.dumps(intake.close(intake.gather(late)).to_dict())

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(make, range(6)))) == 1


def test_stores_of_before_there_were_groupings_go_on(store: Store) -> None:
    intake = Intake(store)
    first = put(intake, "1.1", Grouping.STUDY).payload_id
    opened = store.read_json(f"payloads/{first}/open.json")
    store.write_json(
        f"payloads/{first}/open.json", {key: opened[key] for key in opened if key not in ("grouping", "group")}
    )
    manifest = intake.close(first).to_dict()
    old = {key: value for key, value in manifest.items() if key not in ("grouping", "follows", "includes")}
    store.write_json(f"payloads/{first}/payload.json", old)
    assert load_payload(store, first) == Payload.from_dict(manifest)
    late = Intake(store).close(put(Intake(store), "1.2", Grouping.STUDY).payload_id)
    assert late.follows == first == member_id(STUDY, AET, 0)
    assert sops(Intake(store).close(Intake(store).gather(late))) == {"1.1", "1.2"}
