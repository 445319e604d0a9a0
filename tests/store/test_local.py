"""The local store's additions for the gateway."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.store.local import LocalStore


def test_create_from_has_one_winner_and_no_half_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "s")
    files = []
    for number in range(16):
        files.append(store.spool() / f"f{number}")
        files[-1].write_bytes(bytes([number]) * 50_000)
    start = threading.Barrier(8)

    def create(file: Path) -> bool:
        start.wait()
        return store.create_from("a/b/c.dcm", file)

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, files))
    assert created.count(True) == 1
    assert store.read("a/b/c.dcm") == files[created.index(True)].read_bytes()


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "s")
    file = store.spool() / "f"
    file.write_bytes(b"x")
    assert store.create_from("a/b/1", file)
    store.delete_tree("a")
    assert store.create_from("a/b/1", file)
    assert not store.create_from("a/b/1", file)


def test_appended_lines_stay_whole(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "s")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.append("d/log", b"%05d" % n * 40 + b"\n"), range(200)))
    lines = store.read("d/log").splitlines()
    assert sorted(line[:5] for line in lines) == [b"%05d" % n for n in range(200)]
    assert {len(line) for line in lines} == {200}


@pytest.fixture
def sick(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes a call of ``os`` fail as a sick disk does, for paths that end so."""

    def sick(call: str, ending: str) -> None:
        real = getattr(os, call)

        def failing(path: object, *args: object, **more: object) -> object:
            if str(path).endswith(ending):
                raise OSError(errno.EIO, "Input/output error", str(path))
            return real(path, *args, **more)

        monkeypatch.setattr(os, call, failing)

    return sick


def test_a_disk_error_is_never_taken_for_a_missing_object(tmp_path: Path, sick: Callable[[str, str], None]) -> None:
    store = LocalStore(tmp_path / "s")
    store.write("a/b", b"x")
    assert store.exists("a/b") and not store.exists("a/c") and not store.exists("a/b/c")
    sick("stat", "a/b")
    for asked in (lambda: store.exists("a/b"), lambda: store.create("a/b", b"y"), lambda: store.delete_tree("a/b")):
        with pytest.raises(StoreError, match="Input/output error"):
            asked()


@pytest.mark.parametrize("folder", ["a", "a/b"])
def test_a_folder_that_cannot_be_read_is_not_empty(
    tmp_path: Path, sick: Callable[[str, str], None], folder: str
) -> None:
    store = LocalStore(tmp_path / "s")
    store.write("a/b/c", b"x")
    sick("scandir", folder)
    with pytest.raises(StoreError, match="Input/output error"):
        list(store.list("a"))
    sick("listdir", folder)
    with pytest.raises(StoreError, match="Input/output error"):
        list(store.children(folder))


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "s")
    store.write("a/b", b"x")
    assert [*store.list("no"), *store.list("a/b"), *store.children("no"), *store.children("a/b")] == []


def test_an_object_that_another_writer_made_is_durable_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "s" / "a" / "b"
    other.mkdir(parents=True)
    (other / "c").write_bytes(b"x")  # linked, its folders not flushed yet
    flushed: list[Path] = []
    monkeypatch.setattr("airflow_monai.store.local.fsync_folder", flushed.append)
    assert not LocalStore(tmp_path / "s").create("a/b/c", b"y")
    assert {tmp_path / "s", tmp_path / "s" / "a", other} <= set(flushed)
