"""The local store's additions for the gateway."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
