"""Datasets in the store: made once, whoever dies or races, and gone when they are deleted."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_monai.datasets.catalogue import STALE_SECONDS, Datasets
from airflow_monai.datasets.model import DatasetNotFound, NewFile, State
from airflow_monai.errors import StoreError
from airflow_monai.store.base import Store
from airflow_monai.store.deletion import delete_payload, deletion_of, request_deletion
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import load_payload
from airflow_monai.store.spooling import FileSource, Spooled, Spooler
from tests.api.app_server.conftest import study_files
from tests.s3_server import S3Server, s3  # noqa: F401 - a fixture


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return LocalStore(tmp_path / "store")
    server: S3Server = request.getfixturevalue("s3")
    return server.store(tmp_path / "spool")


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files(store: Store, count: int = 3, study: str | None = None) -> list[NewFile]:
    """Files of one study in the spool."""
    found = []
    for name, data in study_files(count, study).items():
        spooled = Spooler(store.spool()).read(FileSource(io.BytesIO(data)), name)
        assert isinstance(spooled, Spooled)
        who, kept = spooled.found.identity, spooled.path.read_bytes()
        path = f"dcm/{who.study}/{who.series}/{who.sop}.dcm"
        found.append(NewFile(spooled.path, path, len(kept), hashlib.sha256(kept).hexdigest()))
    return found


def make(store: Store, new: list[NewFile], name: str = "") -> tuple[str, bool]:
    made, created = Datasets(store).make(new, name=name, by="anna", source="upload")
    return made.id, created


class Dies(Exception):
    """The process is gone."""


def dying(store: Store, method: str, when: Callable[[str], bool]) -> Datasets:
    """Datasets of a process that dies when it would write a key of this kind."""

    class Mortal(type(store)):  # type: ignore[misc]
        pass

    def act(self: Store, key: str, *args: object, **more: object) -> object:
        if when(key):
            raise Dies
        return getattr(super(Mortal, self), method)(key, *args, **more)

    setattr(Mortal, method, act)
    mortal = object.__new__(Mortal)
    mortal.__dict__.update(store.__dict__)
    return Datasets(mortal)


def test_a_dataset_is_a_payload_in_a_folder_and_in_a_bucket(store: Store) -> None:
    new = files(store)
    dataset_id, created = make(store, new, "phantom")
    datasets = Datasets(store)
    found = datasets.find(dataset_id.upper())
    assert created and found.state is State.READY
    assert (found.name, found.files, found.size) == ("phantom", 3, sum(file.size for file in new))
    payload = load_payload(store, dataset_id)
    assert [store.read(f"payloads/{dataset_id}/{file.path}") for file in payload.files] == [
        file.file.read_bytes() for file in sorted(new, key=lambda file: file.path)
    ]
    assert make(store, new, "again") == (dataset_id, False)
    assert [item.id for item in datasets.page(0, 10).datasets] == [dataset_id]
    datasets.delete(dataset_id, "anna")
    with pytest.raises(DatasetNotFound):
        datasets.find(dataset_id)
    assert datasets.page(0, 10).total == 0
    assert not [key for key in store.list(f"payloads/{dataset_id}") if "/dcm/" in key]
    assert make(store, new)[0] != dataset_id
    assert list(store.children("datasets/unfinished")) == []


@pytest.mark.parametrize(
    "part", ["records/", ".dcm", "tags.json", "routing.json", "payload.json", "by-name/", "by-time/"]
)
def test_who_dies_at_any_moment_leaves_what_another_upload_completes(local: LocalStore, part: str) -> None:
    new = files(local)
    method = "create_all" if part == ".dcm" else "write" if part == "tags.json" else "create"
    first = dying(local, method, lambda key: part == ".dcm" or part in key)
    with pytest.raises(Dies):
        first.make(new, name="peach", by="anna", source="upload")
    assert Datasets(local).page(0, 10).total == 0

    dataset_id, _ = make(local, new)

    assert [item.id for item in Datasets(local).page(0, 10).datasets] == [dataset_id]
    assert len(load_payload(local, dataset_id).files) == 3
    assert list(local.children("datasets/unfinished")) == []


@pytest.mark.parametrize("part", ["records/", ".dcm", "payload.json", "by-time/"])
def test_what_nobody_goes_on_with_is_swept_in_the_end(local: LocalStore, part: str) -> None:
    new, datasets = files(local), Datasets(local)
    method = "create_all" if part == ".dcm" else "create"
    with pytest.raises(Dies):
        dying(local, method, lambda key: part == ".dcm" or part in key).make(new, name="", by="anna", source="upload")
    assert datasets.sweep() == 0  # it may live
    assert datasets.sweep(time.monotonic() + STALE_SECONDS + 1) == 1
    ready = part == "by-time/"  # all was there but its place in the list
    assert datasets.page(0, 10).total == ready
    assert len([key for key in local.list("payloads") if key.endswith(".dcm")]) == 3 * ready
    assert list(local.children("datasets/unfinished")) == []
    dataset_id, created = make(local, new)
    assert datasets.find(dataset_id).state is State.READY and created is not ready


@pytest.mark.parametrize("part", ["by-time/", "by-name/", "payload.json", "records/"])
def test_a_deletion_that_was_cut_is_gone_at_once_and_ended_later(local: LocalStore, part: str) -> None:
    new, datasets = files(local), Datasets(local)
    dataset_id, _ = make(local, new, "peach")
    with pytest.raises(Dies):
        dying(local, "delete", lambda key: part in key).delete(dataset_id, "anna")
    with pytest.raises(DatasetNotFound):
        datasets.find(dataset_id)
    assert make(local, new)[0] != dataset_id
    datasets.sweep()
    datasets.sweep(time.monotonic() + STALE_SECONDS + 1)
    assert not [key for key in local.list(f"payloads/{dataset_id}") if key.endswith(".dcm")]
    assert datasets.page(0, 10).total == 1


def test_one_is_found_by_its_name_and_no_other_is_read_for_it(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets, read = Datasets(local), []
    first, second, _ = (make(local, files(local, 1), name)[0] for name in ("peach", "peach", "plum"))
    read_bytes = LocalStore.read

    def reading(self: LocalStore, key: str) -> bytes:
        read.append(key)
        return read_bytes(self, key)

    monkeypatch.setattr(LocalStore, "read", reading)
    found = datasets.named("peach")
    assert found is not None and found.payload_id == second
    assert read and all(second in key for key in read)
    read.clear()
    assert (datasets.named("nobody"), read) == (None, [])

    datasets.delete(second, "anna")
    found = datasets.named("peach")
    assert found is not None and found.payload_id == first
    request_deletion(local, first, "anna")  # as a payload, of which the list is not told
    delete_payload(local, first)
    assert datasets.named("peach") is None


def test_one_is_found_by_every_name_that_it_was_uploaded_under(store: Store) -> None:
    new, datasets = files(store, 1), Datasets(store)
    dataset_id, _ = make(store, new, "phantom")
    assert [make(store, new, name) for name in ("peach", "peach", "phantom", "")] == [(dataset_id, False)] * 4
    assert datasets.find(dataset_id).name == "phantom" and datasets.page(0, 10).total == 1
    for name in ("phantom", "peach"):
        found = datasets.named(name)
        assert found is not None and found.payload_id == dataset_id
    assert sorted(map(datasets.name_of_mark, datasets.name_marks())) == ["peach", "phantom"]
    datasets.delete(dataset_id, "anna")
    assert datasets.name_marks() == frozenset() and list(store.list("datasets/also-named")) == []


def test_one_is_of_all_who_have_uploaded_it(store: Store) -> None:
    new, datasets = files(store, 1), Datasets(store)
    dataset_id, _ = make(store, new)
    assert [datasets.is_of(dataset_id, person) for person in ("anna", "ben")] == [True, False]
    datasets.make(new, name="", by="ben", source="upload")
    assert [datasets.is_of(dataset_id, person) for person in ("anna", "ben", "eve")] == [True, True, False]
    datasets.delete(dataset_id, "anna")
    assert list(store.list("datasets/also-by")) == []


def test_a_wrong_clock_ends_nothing_that_goes_on(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway whose clock is a day ahead must not take somebody who is making a dataset for dead."""
    new, sweeper = files(local), Datasets(local)
    with pytest.raises(Dies):
        dying(local, "create", lambda key: "payload.json" in key).make(new, name="", by="anna", source="upload")
    (dataset_id,) = (name.removesuffix(".json") for name in local.children("datasets/unfinished"))
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: 4e9)
        assert sweeper.sweep() == 0
    later = time.monotonic() + STALE_SECONDS + 1
    Datasets(local)._sign(dataset_id)  # it lives
    assert sweeper.sweep(later) == 0
    assert sweeper.sweep(later + STALE_SECONDS + 1) == 1


def test_what_is_told_of_a_deleted_one_outlives_who_died_at_its_last_step(local: LocalStore) -> None:
    datasets = Datasets(local)
    dataset_id, _ = make(local, files(local))
    task = f"payloads/{dataset_id}/workflows/map.lung/run/map/task.json"
    local.write_json(task, {"status": "succeeded"})
    with pytest.raises(Dies):
        dying(local, "delete", lambda key: "unfinished/" in key).delete(dataset_id, "anna")
    datasets.sweep()
    assert datasets.sweep(time.monotonic() + STALE_SECONDS + 1) == 1
    assert deletion_of(local, dataset_id).by == "anna" and local.exists(task)
    assert list(local.children("datasets/unfinished")) == []


def test_many_who_upload_the_same_make_one(local: LocalStore) -> None:
    new = files(local, 5)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make(LocalStore(local.root), new), range(16)))
    assert len({dataset_id for dataset_id, _ in made}) == 1
    assert sum(created for _, created in made) == 1
    assert Datasets(local).page(0, 10).total == 1


def test_a_payload_that_was_deleted_as_one_is_no_dataset_any_more(local: LocalStore) -> None:
    from airflow_monai.store.deletion import delete_payload, request_deletion

    new = files(local)
    dataset_id, _ = make(local, new)
    request_deletion(local, dataset_id, "ben")
    delete_payload(local, dataset_id)
    with pytest.raises(DatasetNotFound):
        Datasets(local).find(dataset_id)
    assert Datasets(local).page(0, 10).datasets == ()
    assert Datasets(local).page(0, 10).total == 0
    assert make(local, new)[0] != dataset_id


def test_a_store_that_fails_is_told_and_the_next_try_goes_on(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = files(local)

    def full(*args: object) -> None:
        raise StoreError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "create_all", full)
        with pytest.raises(StoreError):
            make(local, new)
    assert Datasets(local).page(0, 10).total == 0
    assert make(local, new)[1]
