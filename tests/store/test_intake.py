"""The intake protocol: exactly once, whoever closes when."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_monai.errors import StoreError
from airflow_monai.store import Store
from airflow_monai.store import intake as module
from airflow_monai.store.intake import Instance, Intake
from airflow_monai.store.local import LocalStore
from airflow_monai.store.part10 import Identity
from airflow_monai.store.payloads import load_payload, payload_id_of
from tests.gateway.studies import CT, image
from tests.s3_server import S3Server

STUDY, SERIES, AET = "1.2.3", "1.2.3.4", "CTLUNG"


def spooled(store: Store, number: int) -> Path:
    file = store.spool() / uuid.uuid4().hex
    image(STUDY, SERIES, number, size=64).save_as(file, enforce_file_format=True)
    return file


def instance(number: int, calling: str = "CT01", study: str = STUDY) -> Instance:
    return Instance(Identity(study, SERIES, f"{SERIES}.{number}", CT), AET, calling)


def put(intake: Intake, number: int, **more: str) -> str:
    """Add an image; its payload's id, with a star where it is a duplicate."""
    file = spooled(intake.store, number)
    placed = intake.add(instance(number, **more), file)
    file.unlink()
    return placed.payload_id + ("*" if placed.duplicate else "")


def test_images_join_until_closing_and_make_a_new_payload_then(store: Store) -> None:
    intake = Intake(store)
    first, second = (payload_id_of(STUDY, AET, sequence) for sequence in (0, 1))
    assert [put(intake, 1), put(intake, 2), put(intake, 1)] == [first, first, first + "*"]
    manifest = intake.close(first)
    assert [file.sop_instance_uid for file in manifest.files] == [f"{SERIES}.1", f"{SERIES}.2"]
    assert [put(intake, 2), put(intake, 3)] == [first + "*", second]
    assert intake.close(second).sequence == 1
    assert intake.close(first) == manifest


def test_what_is_remembered_is_bounded_and_what_is_forgotten_is_still_known(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED_INSTANCES", 10)
    intake = Intake(local)
    ids = {
        study: [put(intake, number, study=study) for number in range(1, 5)] for study in map("1.9.{}".format, range(9))
    }
    assert sum(len(known.places) for known in intake._groups.values()) <= 14
    for study, (payload_id, *_) in ids.items():
        intake.close(payload_id)
        assert put(intake, 1, study=study) == payload_id + "*"
        assert put(intake, 9, study=study) == payload_id_of(study, AET, 1)


def test_another_process_knows_the_same(store: Store) -> None:
    one = Intake(store)
    first = put(one, 1)
    assert put(Intake(store), 1) == first + "*"
    Intake(store).close(first)
    assert put(one, 1) == first + "*"
    assert put(one, 2) == put(Intake(store), 3) == payload_id_of(STUDY, AET, 1)


@pytest.mark.parametrize("state", ["closing.json", "listing.json", "tags.json", "payload.json"])
def test_closing_goes_on_wherever_it_stopped(store: Store, state: str) -> None:
    intake = Intake(store)
    payload_id = put(intake, 1)
    put(intake, 2)
    whole = intake.close(payload_id)
    names = ["closing.json", "listing.json", "tags.json", "payload.json"]
    for name in names[names.index(state) + 1 :]:
        store.delete(f"payloads/{payload_id}/{name}")
    other = Intake(store)
    assert put(other, 3) == payload_id_of(STUDY, AET, 1)  # a late image finds out for itself what belongs to it
    again = other.close(payload_id)
    assert again.files == whole.files and again.patient == whole.patient
    assert store.exists(f"payloads/{payload_id}/tags.json")


def test_a_file_linked_too_late_by_a_dead_receiver_is_swept(store: Store) -> None:
    intake = Intake(store)
    payload_id = put(intake, 1)
    intake.close(payload_id)
    stray = f"payloads/{payload_id}/{instance(9).path}"
    store.write(stray, b"late")
    assert intake.sweep(payload_id) == 1
    assert not store.exists(stray) and store.exists(f"payloads/{payload_id}/{instance(1).path}")


def test_who_sent_is_remembered(store: Store) -> None:
    intake = Intake(store)
    payload_id = put(intake, 1, calling="B OR/2")
    put(intake, 2, calling="A")
    assert intake.close(payload_id).calling_aets == ("A", "B OR/2")


def test_pending_names_what_is_not_finished(store: Store) -> None:
    intake = Intake(store)
    payload_id = put(intake, 1)
    assert list(intake.pending()) == [payload_id]
    state = intake.look(payload_id)
    assert state and (state.images, state.closing, state.called_aet) == (1, False, AET)
    assert state.last_received and abs(state.last_received - time.time()) < 60
    intake.close(payload_id)
    intake.done(payload_id)
    assert not list(intake.pending())


def test_a_header_that_breaks_off_does_not_stop_the_closing(store: Store) -> None:
    intake = Intake(store)
    file = spooled(store, 1)
    file.write_bytes(file.read_bytes()[:700])
    payload_id = intake.add(instance(1), file).payload_id
    (entry,) = intake.close(payload_id).files
    assert (entry.size, entry.sop_class_uid) == (700, CT)


def test_a_store_that_fails_keeps_nothing(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    intake = Intake(local)

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("airflow_monai.store.local.os.link", full)
    with pytest.raises(StoreError, match="No space left"):
        put(intake, 1)
    monkeypatch.undo()
    assert not [key for key in local.list("payloads") if key.endswith(".dcm")]
    assert put(intake, 1) == payload_id_of(STUDY, AET, 0)


@given(
    numbers=st.lists(st.integers(0, 11), min_size=8, max_size=40),
    closers=st.integers(1, 3),
    pause=st.sampled_from([0, 0.0005, 0.003]),
)
@settings(max_examples=25, deadline=None)
def test_closing_while_receiving_neither_loses_nor_doubles(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], closers: int, pause: float
) -> None:
    receive_while_closing(LocalStore(tmp_path_factory.mktemp("race")), numbers, closers, pause)


@given(
    numbers=st.lists(st.integers(0, 11), min_size=16, max_size=24),
    closers=st.integers(1, 3),
    pause=st.sampled_from([0.003, 0.03]),
)
@settings(max_examples=3, deadline=None)
def test_closing_while_receiving_neither_loses_nor_doubles_in_a_bucket(
    s3: S3Server, tmp_path_factory: pytest.TempPathFactory, numbers: list[int], closers: int, pause: float
) -> None:
    receive_while_closing(s3.store(tmp_path_factory.mktemp("race")), numbers, closers, pause)


def receive_while_closing(store: Store, numbers: list[int], closers: int, pause: float) -> None:
    """Three intakes as of three gateways: whatever is sent how often, each image is in exactly one manifest."""
    intakes = [Intake(store) for _ in range(3)]
    files = [(number, spooled(store, number)) for number in numbers]
    stop = threading.Event()

    def close(intake: Intake) -> None:
        while not stop.is_set():
            for payload_id in intake.pending():
                if (state := intake.look(payload_id)) and state.images:
                    intake.close(payload_id)
            time.sleep(pause)

    threads = [threading.Thread(target=close, args=(intakes[index],)) for index in range(closers)]
    for thread in threads:
        thread.start()
    with ThreadPoolExecutor(4) as pool:
        placed = list(
            pool.map(lambda item: intakes[item[0] % 3].add(instance(item[1][0]), item[1][1]), enumerate(files))
        )
    stop.set()
    for thread in threads:
        thread.join()
    ids = sorted({item.payload_id for item in placed})
    for payload_id in ids:
        intakes[0].close(payload_id)
    manifests = [load_payload(store, payload_id) for payload_id in ids]
    listed = [file.sop_instance_uid for manifest in manifests for file in manifest.files]
    assert sorted(listed) == sorted({f"{SERIES}.{number}" for number in numbers})
    assert sum(not item.duplicate for item in placed) == len(listed)
    assert {manifest.sequence for manifest in manifests} == set(range(len(ids)))
    for manifest in manifests:
        assert all(store.exists(f"payloads/{manifest.payload_id}/{file.path}") for file in manifest.files)


def put_in_series(intake: Intake, series: str, number: int = 1) -> str:
    file = spooled(intake.store, number)
    placed = intake.add(Instance(Identity(STUDY, series, f"{SERIES}.{number}", CT), AET, "CT01"), file)
    file.unlink()
    return placed.payload_id + ("*" if placed.duplicate else "")


@pytest.mark.parametrize("gateways", ["one", "two", "restarted"])
def test_an_instance_in_two_series_is_in_the_payload_once(store: Store, gateways: str) -> None:
    first, second = Intake(store), Intake(store)
    if gateways == "one":
        second = first
    payload_id = put_in_series(first, "1.2.3.9")
    time.sleep(0.02 if isinstance(store, LocalStore) else 1.1)  # a step of the clock of the objects
    later = put_in_series(second, "1.2.3.1")
    assert later == payload_id + ("*" if gateways == "one" else "")
    assert put_in_series(first, "1.2.3.9") == payload_id + "*"
    put_in_series(first, "1.2.3.1", 2)
    closer = Intake(store) if gateways == "restarted" else second
    files = {file.sop_instance_uid: file.series_instance_uid for file in closer.close(payload_id).files}
    assert files == {f"{SERIES}.1": "1.2.3.9", f"{SERIES}.2": "1.2.3.1"}
    closer.sweep(payload_id)
    assert len([key for key in store.list("payloads") if key.endswith(".dcm")]) == 2
    assert put_in_series(Intake(store), "1.2.3.7") == payload_id + "*"


def test_a_duplicate_in_another_series_is_compared_with_the_first(store: Store) -> None:
    intake = Intake(store)
    file = spooled(store, 1)
    for series, identical in (("1.2.3.4", None), ("1.2.3.5", True)):
        placed = intake.add(Instance(Identity(STUDY, series, f"{SERIES}.1", CT), AET, "CT01"), file)
        assert placed.identical is identical
    assert intake.close(placed.payload_id).files
    again = Instance(Identity(STUDY, "1.2.3.6", f"{SERIES}.1", CT), AET, "CT01")
    assert intake.add(again, file).identical is True


def age(store: Store, payload_id: str) -> None:
    """Let it have been pending for two days."""
    old = (datetime.now(timezone.utc) - timedelta(days=2)).isoformat()
    store.write_json(f"pending/{payload_id}", {"since": old})


def test_a_payload_that_got_no_image_is_dropped_and_can_come_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = Intake(store)
    with monkeypatch.context() as broken:
        broken.setattr(type(store), "create_from", lambda *_: (_ for _ in ()).throw(StoreError("full")))
        with pytest.raises(StoreError, match="full"):
            put(intake, 1)
    (payload_id,) = intake.pending()
    assert not intake.drop_empty(payload_id, 86_400), "it is too young"
    age(store, payload_id)
    assert intake.drop_empty(payload_id, 86_400) and not list(intake.pending())
    assert intake.look(payload_id) is None
    assert put(intake, 1) == payload_id, "the same process takes it up anew"
    age(store, payload_id)
    assert not intake.drop_empty(payload_id, 86_400), "it has an image"
    assert len(intake.close(payload_id).files) == 1


@pytest.mark.parametrize("who", ["receiver", "dropper"])
def test_an_image_that_comes_while_its_payload_is_dropped_is_not_forgotten(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """Either who brings it notices, or who drops it."""
    intake, dropper = Intake(local), Intake(local)
    payload_id = payload_id_of(STUDY, AET, 0)
    local.create_json(f"pending/{payload_id}", {"since": "2020-01-01T00:00:00+00:00"})
    opened = {"study_instance_uid": STUDY, "called_aet": AET, "sequence": 0, "opened": "", "grouping": "study"}
    local.create_json(f"payloads/{payload_id}/open.json", {**opened, "group": STUDY})
    create_from, delete = LocalStore.create_from, LocalStore.delete
    dropped: list[bool] = []

    def drop_first(store: LocalStore, key: str, file: Path) -> bool:
        if not dropped:
            dropped.append(dropper.drop_empty(payload_id, 60))
        return create_from(store, key, file)

    def image_first(store: LocalStore, key: str) -> None:
        monkeypatch.setattr(LocalStore, "delete", delete)
        put(intake, 1)
        delete(store, key)

    if who == "receiver":
        monkeypatch.setattr(LocalStore, "create_from", drop_first)
        put(intake, 1)
        assert dropped == [True]
    else:
        monkeypatch.setattr(LocalStore, "delete", image_first)
        assert not dropper.drop_empty(payload_id, 60)
    assert list(intake.pending()) == [payload_id]
    state = intake.look(payload_id)
    assert state is not None and state.images == 1 and not state.closing
