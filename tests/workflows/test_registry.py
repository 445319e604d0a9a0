"""Registered workflows in the store: one writer, several, and such as are killed."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_monai.errors import StoreError, WorkflowConflict, WorkflowNotFound
from airflow_monai.store import Store
from airflow_monai.store.local import LocalStore
from airflow_monai.workflows.record import Revision, folder_of, key_of
from airflow_monai.workflows.registry import NewText, WorkflowRegistry
from tests.s3_server import s3  # noqa: F401


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3").store(tmp_path)


@pytest.fixture
def registry(store: Store) -> WorkflowRegistry:
    return WorkflowRegistry(store)


def text(words: str) -> NewText:
    return NewText("ct", "1", words)


def test_the_life_of_a_workflow(registry: WorkflowRegistry, store: Store) -> None:
    first = registry.register(text("one\ntwo # é\n"), "ann")
    assert store.read("workflows/ct/1.yaml").decode().endswith("\none\ntwo # é\n")
    second = registry.update(
        first.workflow_id, lambda before: replace(text(before.text + "three\n"), version="2"), "bob"
    )
    assert (second.revision, second.version, second.changed_by) == (2, "2", "bob")
    other = WorkflowRegistry(store)
    assert other.of_id(first.workflow_id) == other.of_name("CT") == second and second.text == "one\ntwo # é\nthree\n"
    gone = registry.delete(first.workflow_id, "cy")
    assert gone.is_deleted and (gone.number, gone.revision, gone.text) == (3, 2, second.text)
    assert other.listing().registered() == () and other.listing().heads == (gone,)
    for call in (registry.delete, lambda wanted, by: registry.update(wanted, lambda before: text("x"), by)):
        with pytest.raises(WorkflowNotFound):
            call(first.workflow_id, "cy")
    again = registry.register(text("new"), "dan")
    assert (again.number, again.revision, again.former) == (4, 1, (first.workflow_id,))
    before, after = registry.history(first.workflow_id), registry.history(again.workflow_id)
    assert before.revisions(0, len(before)) == [first, second] and before.deleted_at == gone.changed_at
    assert after.revisions(0, 9) == [again] and len(after) == 1 and after.deleted_at is None
    assert before.revisions(1, 2) == [second] and before.revisions(-5, 1) == [first] and before.revisions(2, 9) == []
    assert len({first.id, second.id, again.id}) == 3


def test_one_name_is_one_workflow_in_any_case(registry: WorkflowRegistry) -> None:
    registry.register(text("x"), "ann")
    with pytest.raises(WorkflowConflict, match="registered already"):
        registry.register(replace(text("y"), name="CT"), "bob")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../etc", "Ä ö", "x" * 250, "con\\", "-", "CT lung (new)"])
def test_a_name_never_becomes_a_path(name: str, tmp_path: Path) -> None:
    registry = WorkflowRegistry(LocalStore(tmp_path / "store"))
    made = registry.register(replace(text("x"), name=name), "ann")
    assert registry.of_name(name) == made and registry.listing().heads == (made,)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.parent.parent for path in files] == [tmp_path / "store" / "workflows"]


def test_a_damaged_record_is_told_and_leaves_the_others(registry: WorkflowRegistry, store: Store) -> None:
    made = registry.register(text("x"), "ann")
    store.write("workflows/mr/1.yaml", b"name: mr\n")
    store.write("workflows/mr/notes.txt", b"")
    listing = registry.listing()
    assert listing.heads == (made,) and list(listing.damaged) == ["workflows/mr.registered"]
    with pytest.raises(StoreError, match="damaged"):
        registry.of_name("mr")


def test_what_holds_is_read_once(registry: WorkflowRegistry, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = registry.register(text("x"), "ann")
    registry.listing()
    monkeypatch.setattr(store, "read", lambda key: pytest.fail("read again"))
    assert registry.listing().heads == (first,)


def test_parallel_updates_are_on_top_of_each_other(store: Store) -> None:
    known = WorkflowRegistry(store).register(text(""), "ann").workflow_id

    def update(number: int) -> Revision:
        return WorkflowRegistry(store).update(known, lambda before: text(f"{before.text}{number} "), "bob")

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(update, range(16)))
    assert sorted(one.revision for one in made) == list(range(2, 18))
    assert sorted(WorkflowRegistry(store).of_id(known).text.split(), key=int) == [str(n) for n in range(16)]


def test_an_update_beside_a_deletion_is_before_it_or_not_at_all(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    for turn in range(10):
        known = WorkflowRegistry(store).register(text(str(turn)), "ann").workflow_id
        with ThreadPoolExecutor(2) as pool:
            update = pool.submit(WorkflowRegistry(store).update, known, lambda before: text("new"), "bob")
            gone = pool.submit(WorkflowRegistry(store).delete, known, "cy").result()
        assert gone.is_deleted and WorkflowRegistry(store).listing().registered() == ()
        if update.exception() is None:
            assert gone.revision == 2 and gone.text == "new"
        else:
            assert isinstance(update.exception(), WorkflowNotFound) and gone.revision == 1


def test_killed_writers_leave_nothing_half_done_and_lose_nothing_they_have_said(tmp_path: Path) -> None:
    """Two at once, killed in the middle of it twelve times."""
    store, chance = LocalStore(tmp_path / "store"), random.Random(1)
    (tmp_path / "folder").mkdir()
    said: list[list[str]] = []
    kinds = {"register", "update", "delete"}
    turns = 0
    while turns < 6 or (turns < 60 and (len(said) <= 50 or {words[0] for words in said} != kinds)):
        turns += 1
        writers = [begin(tmp_path, f"{turns}-{number}") for number in range(2)]
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == "begun\n"
        time.sleep(0.1 + chance.random() * 0.3)
        for writer in writers:
            writer.kill()
            whole = [line for line in writer.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
            said += [line.split() for line in whole]
    assert len(said) > 50 and {words[0] for words in said} == kinds
    registry = WorkflowRegistry(store)
    listing = registry.listing()
    assert listing.damaged == {}
    kept = {}
    for head in listing.heads:
        folder, before = folder_of(head.name), None
        for number in range(1, head.number + 1):  # no number is left out, and each goes on where the last one ended
            one = Revision.from_bytes(store.read(key_of(folder, number)), number)
            kept[one.name, number] = one
            if before is None or before.is_deleted:
                assert one.revision == 1 and not one.is_deleted
                assert before is None or (one.workflow_id != before.workflow_id and before.workflow_id in one.former)
            else:
                assert one.workflow_id == before.workflow_id
                assert one.revision == before.revision + (0 if one.is_deleted else 1)
            before = one
    for what, workflow_id, name, told in said:
        one = kept[name, int(told)]
        assert one.workflow_id == workflow_id and one.is_deleted == (what == "delete")
    assert len({(name, told) for _, _, name, told in said}) == len(said)
    assert len(kept) - len(said) <= 2 * turns  # made by a writer that was killed before it could say so


def begin(tmp_path: Path, seed: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.workflows.writer", str(tmp_path / "store"), str(tmp_path / "folder"), seed]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_numbers_have_no_end(tmp_path: Path) -> None:
    registry = WorkflowRegistry(LocalStore(tmp_path / "store"))
    known = registry.register(text("0"), "ann").workflow_id
    for number in itertools.islice(itertools.count(1), 12):
        registry.update(known, lambda before, number=number: text(str(number)), "ann")  # type: ignore[misc]
    assert registry.of_id(known).text == "12"  # not the last by name
