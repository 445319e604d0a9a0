"""What every store promises, in a folder and in a bucket."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.store import Store
from airflow_monai.store.s3_transfer import LARGE_BYTES


def spooled(store: Store, name: str, content: bytes) -> Path:
    file = store.spool() / name
    file.write_bytes(content)
    return file


def test_what_is_written_is_read_and_replaced(store: Store) -> None:
    store.write("a/b", b"one")
    store.write("a/b", b"two", durable=False)
    assert (store.read("a/b"), store.size("a/b"), store.exists("a/b")) == (b"two", 3, True)
    store.write_json("a/empty", {})
    assert store.read_json("a/empty") == {}
    store.write("a/nothing", b"")
    assert store.read("a/nothing") == b""


def test_what_is_not_there_is_told_and_empty(store: Store) -> None:
    store.write("a/b", b"x")
    assert not store.exists("a/c") and not store.exists("no/no")
    assert [*store.list("no"), *store.list("a/b"), *store.children("no"), *store.children("a/b")] == []
    assert list(store.entries("no")) == []
    for ask in (store.read, store.size):
        with pytest.raises(StoreError, match="'a/c'"):
            ask("a/c")
    store.delete("a/c")
    store.delete_tree("no")
    store.delete_tree("a/b")  # no folder
    assert store.exists("a/b")


@pytest.mark.parametrize("key", ["../x", "/x", "a//b", "a/../b", "", "a/\0"])
def test_a_key_cannot_leave_the_store(store: Store, key: str) -> None:
    for act in (store.read, store.exists, store.delete, lambda key: store.write(key, b"x"), store.delete_tree):
        with pytest.raises(StoreError, match="safe store key"):
            act(key)


def test_listings_know_names_sizes_and_times(store: Store) -> None:
    before = time.time()
    for key in ("p/b/2", "p/b/1", "p/a", "p/c/d/e", "q/x", "pp/y"):
        store.write(key, key.encode())
    assert list(store.list("p")) == ["p/a", "p/b/1", "p/b/2", "p/c/d/e"]
    assert list(store.children("p")) == ["a", "b", "c"]
    entries = {entry.key: entry for entry in store.entries("p")}
    assert {key: entry.size for key, entry in entries.items()} == {key: len(key) for key in store.list("p")}
    assert all(before - 0.1 <= entry.modified <= time.time() + 1.1 for entry in entries.values())
    store.delete_tree("p")
    assert list(store.list("p")) == [] and list(store.children("q")) == ["x"] and store.exists("pp/y")


def test_more_than_a_page_is_listed_and_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.store.s3.PAGE", 20)
    for number in range(50):
        store.write(f"many/{number % 7}/{number:04d}", b"x", durable=False)
    assert len(list(store.list("many"))) == 50 and len(list(store.children("many"))) == 7
    store.delete_tree("many")
    assert not list(store.list("many"))


def test_of_many_creators_one_wins(store: Store) -> None:
    start = threading.Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        return store.create("a/b", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert created.count(True) == 1
    assert store.read("a/b") == b"%d" % created.index(True)


@pytest.mark.parametrize("size", [50_000, LARGE_BYTES + 1_000_001], ids=["small", "in parts"])
def test_of_many_files_one_wins_whole(store: Store, size: int) -> None:
    files = [spooled(store, f"f{number}", bytes([number]) * size) for number in range(4)]
    start = threading.Barrier(4)

    def create(file: Path) -> bool:
        start.wait()
        return store.create_from("a/b/c.dcm", file)

    with ThreadPoolExecutor(4) as pool:
        created = list(pool.map(create, files))
    assert created.count(True) == 1
    won = files[created.index(True)]
    assert store.read("a/b/c.dcm") == won.read_bytes()
    assert store.same("a/b/c.dcm", won) and not store.same("a/b/c.dcm", files[created.index(False)])
    assert not store.same("a/b/other", won)


def test_shared_objects_have_the_content_of_others(store: Store) -> None:
    store.write("a/1", b"one")
    store.write("a/2", b"two")
    store.write("b/2", b"was there")
    store.share([("a/1", "b/1"), ("a/2", "b/2")])
    assert [store.read(f"b/{number}") for number in (1, 2)] == [b"one", b"was there"]
    store.delete_tree("a")
    assert store.read("b/1") == b"one"
    with pytest.raises(StoreError, match="'a/3'"):
        store.share([("a/3", "b/3")])


def test_appended_lines_stay_whole(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.append("d/log.jsonl", b"%05d" % n * 40 + b"\n"), range(40)))
    assert store.exists("d/log.jsonl") and not store.exists("d/other.jsonl")
    lines = store.read("d/log.jsonl").splitlines()
    assert sorted(line[:5] for line in lines) == [b"%05d" % n for n in range(40)]
    assert {len(line) for line in lines} == {200}


def test_beginnings_are_read_in_order(store: Store) -> None:
    for number in range(40):
        store.write(f"s/{number:03d}", b"%03d" % number + bytes(number))
    keys = [f"s/{number:03d}" for number in range(39, -1, -1)]
    assert list(store.starts(keys, 3)) == [b"%03d" % number for number in range(39, -1, -1)]
    store.write("s/empty", b"")
    assert list(store.starts(["s/empty"], 3)) == [b""]


def test_folders_go_up_and_come_down(store: Store, tmp_path: Path) -> None:
    content = {"a": b"1", "b/c": b"", "b/d/e.dcm": os.urandom(LARGE_BYTES + 12_345), "b/f": os.urandom(70_000)}
    source, target = tmp_path / "in", tmp_path / "out"
    for name, data in content.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "link").symlink_to("/etc/passwd")
    store.write("up/a", b"old")
    store.put_tree(source, "up")
    assert {key: store.read(key) for key in store.list("up")} == {f"up/{name}": data for name, data in content.items()}
    (target / "a").parent.mkdir()
    (target / "a").write_bytes(b"old")
    store.fetch_tree("up", target)
    found = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == content


def test_a_failure_ends_the_way_and_leaves_nothing_half(store: Store, tmp_path: Path) -> None:
    store.write("a/1", b"one")
    with pytest.raises(StoreError, match="'a/2'"):
        store.fetch_all([("a/1", tmp_path / "out" / "1"), ("a/2", tmp_path / "out" / "2")])
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"1"}

    def over() -> None:
        raise StoreError("no more")

    with pytest.raises(StoreError, match="no more"):
        store.put_all([(tmp_path / "out" / "1", "b/1")], over)
    assert not list(store.list("b"))
