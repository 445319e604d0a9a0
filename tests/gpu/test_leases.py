"""Who gets which card, who waits, and what becomes of the cards of processes that die."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_monai.errors import CapacityError, CardsBusy, LeaseError, NoCard
from airflow_monai.gpu import lease_folder, leases
from airflow_monai.gpu.choice import Card
from airflow_monai.gpu.lease_folder import LeaseFolder
from airflow_monai.gpu.leases import Holder, Leased, Leases, Waiting, Want
from airflow_monai.priorities import WEIGHTS

A100 = (Card("GPU-a", "a100", 40), Card("GPU-b", "a100", 40))
SPAWN = multiprocessing.get_context("fork")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "leases"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(leases, "LOOK_SECONDS", 0.1)


def cards_of(folder: Path, cards: tuple[Card, ...] = A100, **more: object) -> Leases:
    return Leases(LeaseFolder(folder), cards, "gpu01", **more)  # type: ignore[arg-type]


def take(
    held: Leases, name: str, share: int, *, count: int = 1, wait: float = 0.0, weight: int = 20, **more: object
) -> Leased:
    arguments = {"holds": lambda lease: True, **more}
    want = Want("a100", count, share, weight)
    return held.acquire(want, Holder(name, "docker", "/state"), wait_seconds=wait, **arguments)  # type: ignore[arg-type]


def test_shares_go_to_the_fullest_card_that_has_room(folder):
    held = cards_of(folder)
    first = take(held, "one", 24)
    assert take(held, "two", 10).cards == first.cards
    assert take(held, "three", 10).cards != first.cards, "24 + 10 + 10 is more than the card has"
    assert take(held, "four", 6).cards == first.cards


def test_a_whole_card_is_nobody_else_s(folder):
    held = cards_of(folder)
    whole = take(held, "whole", 40)
    small = take(held, "small", 1)
    assert whole.cards != small.cards
    with pytest.raises(CardsBusy):
        take(held, "another", 40)


def test_the_same_name_gets_the_same_cards_and_takes_nothing_more(folder):
    first = take(cards_of(folder), "job", 24)
    again = take(cards_of(folder), "job", 24)
    assert (first.found_again, again.found_again, again.cards) == (False, True, first.cards)
    assert len(LeaseFolder(folder).read().leases) == 1


def test_several_cards_are_different_cards(folder):
    assert set(take(cards_of(folder), "job", 10, count=2).cards) == {"GPU-a", "GPU-b"}


def test_a_released_card_goes_to_the_one_that_waits(folder):
    held = cards_of(folder)
    take(held, "one", 40)
    take(held, "two", 40)
    said: list[Waiting] = []

    def on_wait(waiting: Waiting) -> None:
        said.append(waiting)
        held.release("one")

    got = take(cards_of(folder), "three", 40, wait=5, on_wait=on_wait)
    assert got.cards == ("GPU-a",)
    assert 0 < got.wait_seconds < 2
    assert said[0].text == "waiting for 40 GiB on one of 2 x a100: position 1; held by one, two"


def test_waiting_ends_and_keeps_the_age(folder):
    held = cards_of(folder)
    take(held, "one", 40)
    take(held, "two", 40)
    with pytest.raises(CardsBusy, match=r"gpu_wait_minutes") as caught:
        take(cards_of(folder), "patient", 40, wait=0.2)
    assert caught.value.back_in_seconds > 0
    held.release("one")
    with pytest.raises(CardsBusy):
        take(cards_of(folder), "later", 40)
    assert take(cards_of(folder), "patient", 40).wait_seconds >= 0.2, "all the time it waited counts"


def test_waiting_ends_for_good_when_it_has_lasted_too_long_in_all(folder, monkeypatch):
    held = cards_of(folder)
    take(held, "one", 40)
    take(held, "two", 40)
    with pytest.raises(CardsBusy, match=r"it has waited 0\.\d of 10 minutes in all"):
        take(cards_of(folder), "patient", 40, total_seconds=600)
    away = 0.0
    monkeypatch.setattr(leases, "since_boot", lambda: lease_folder.since_boot() + away)
    for moment in (100.0, 400.0):  # the time between two tries counts, each once
        away = moment
        with pytest.raises(CardsBusy):
            take(cards_of(folder), "patient", 40, total_seconds=600)
    assert LeaseFolder(folder).read().ticket("patient").waited == pytest.approx(400, abs=1)
    with pytest.raises(CardsBusy):
        take(cards_of(folder), "later", 40)
    away = 610.0
    with pytest.raises(NoCard, match=r"position 1; held by one, two for 10 minutes in all.*gpu_wait_total_minutes"):
        take(cards_of(folder), "patient", 40, wait=60, total_seconds=600)
    assert LeaseFolder(folder).read().ticket("patient") is None, "it keeps no place any more"


def test_a_card_that_is_free_at_last_is_given_however_long_it_took(folder, monkeypatch):
    held = cards_of(folder)
    take(held, "one", 40)
    take(held, "two", 40)
    with pytest.raises(CardsBusy):
        take(cards_of(folder), "patient", 40, total_seconds=1)
    held.release("one")
    monkeypatch.setattr(leases, "since_boot", lambda: lease_folder.since_boot() + 10_000)
    assert take(cards_of(folder), "patient", 40, total_seconds=1).wait_seconds > 9_000


def test_without_a_total_nobody_is_ever_sent_away_for_good(folder, monkeypatch):
    held = cards_of(folder)
    take(held, "one", 40)
    take(held, "two", 40)
    for away in (0.0, 1e7):
        monkeypatch.setattr(leases, "since_boot", lambda away=away: lease_folder.since_boot() + away)
        with pytest.raises(CardsBusy):
            take(cards_of(folder), "patient", 40, total_seconds=0)


def test_one_that_never_comes_back_keeps_nobody_waiting_for_ever(folder, monkeypatch):
    held = cards_of(folder)
    take(held, "one", 40)
    take(held, "two", 40)
    with pytest.raises(CardsBusy):
        take(cards_of(folder), "gone", 40)
    held.release("one")
    monkeypatch.setattr(leases, "since_boot", lambda: lease_folder.since_boot() + 10_000)
    assert take(cards_of(folder), "later", 40).cards == ("GPU-a",)


def test_a_small_one_may_pass_only_where_it_does_not_delay_the_oldest(folder):
    held = cards_of(folder)
    take(held, "a", 30)
    take(held, "b", 20)
    assert {le.name: le.cards for le in LeaseFolder(folder).read().leases} == {"a": ("GPU-a",), "b": ("GPU-b",)}
    with pytest.raises(CardsBusy):
        take(cards_of(folder), "large", 24)
    assert take(held, "small", 8).cards == ("GPU-a",), "GPU-b is the one that is nearly free for the large one"
    with pytest.raises(CardsBusy, match="position 2"):
        take(held, "small too", 8)
    held.release("b")
    assert take(cards_of(folder), "large", 24).cards == ("GPU-b",)


def test_urgent_goes_before_routine_before_batch(folder):
    held = cards_of(folder)
    take(held, "one", 40)
    take(held, "two", 40)
    for name in ("batch", "routine", "urgent"):
        with pytest.raises(CardsBusy):
            take(held, name, 40, weight=WEIGHTS[name])
    served = []
    for freed in ("one", "urgent", "routine"):
        held.release(freed)
        for name in ("batch", "routine", "urgent"):
            if name not in served:
                try:
                    take(held, name, 40, weight=WEIGHTS[name])
                    served.append(name)
                except CardsBusy:
                    pass
    assert served == ["urgent", "routine", "batch"]


def test_what_never_fits_here_is_an_error_at_once(folder):
    for share, count in ((41, 1), (1, 3)):
        with pytest.raises(CapacityError, match=r"can never be had on this host \(gpu01\), which has 2 x a100 with 40"):
            take(cards_of(folder), "job", share, count=count, wait=60)
    assert not folder.exists()


def _die_holding(folder: Path, name: str, share: int, number: int = signal.SIGKILL) -> None:
    """A process takes a lease and is killed."""

    def run() -> None:
        take(cards_of(folder), name, share)
        os.kill(os.getpid(), number)

    process = SPAWN.Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == -number


def test_the_lease_of_a_killed_process_stays_while_its_job_is_there(folder):
    _die_holding(folder, "job", 40)
    _die_holding(folder, "other", 40)
    with pytest.raises(CardsBusy, match="held by job, other"):
        take(cards_of(folder), "next", 40, wait=0.3, holds=lambda lease: True)
    assert take(cards_of(folder), "job", 40).found_again, "and its next try finds it"


def test_it_is_free_when_the_job_is_gone(folder):
    _die_holding(folder, "job", 40)
    _die_holding(folder, "other", 40)
    got = take(cards_of(folder), "next", 40, holds=lambda lease: lease.name != "other")
    assert got.cards == ("GPU-b",)
    assert {lease.name for lease in LeaseFolder(folder).read().leases} == {"job", "next"}


def test_a_living_process_is_not_asked_after(folder):
    take(cards_of(folder), "job", 40)
    take(cards_of(folder), "other", 40)
    with pytest.raises(CardsBusy):
        take(cards_of(folder), "next", 40, wait=0.3, holds=lambda lease: pytest.fail("it lives"))


def test_who_takes_a_dead_job_up_again_while_it_is_asked_after_keeps_its_cards(folder):
    _die_holding(folder, "job", 40)
    _die_holding(folder, "other", 40)
    retry = cards_of(folder)

    def holds(lease: object) -> bool:
        take(retry, "job", 40)  # its next try, before the container is made
        return False

    assert take(cards_of(folder), "next", 40, holds=holds).cards == ("GPU-b",)
    assert {lease.name for lease in LeaseFolder(folder).read().leases} == {"job", "next"}


def test_a_release_by_an_orphan_leaves_the_newer_try_its_cards(folder):
    orphan, retry = cards_of(folder), cards_of(folder)
    take(orphan, "job", 40)
    take(retry, "job", 40)
    orphan.release("job")
    assert LeaseFolder(folder).read().lease("job") is not None
    retry.release("job")
    assert LeaseFolder(folder).read().lease("job") is None


def test_a_process_that_keeps_the_descriptor_open_is_an_owner_too(folder):
    """The application may be about to start when its worker dies."""
    go, gone = os.pipe()
    held = cards_of(folder)
    got = take(held, "job", 40)
    take(held, "other", 40)
    child = os.fork()
    if not child:
        os.close(gone)
        os.read(go, 1)
        os._exit(0)
    os.close(go)
    assert got.keep_open is not None
    os.close(got.keep_open)  # as if the worker were dead
    held.folder._marks.clear()
    with pytest.raises(CardsBusy):
        take(cards_of(folder), "next", 40, holds=lambda lease: False)
    os.close(gone)
    os.waitpid(child, 0)
    assert take(cards_of(folder), "next", 40, holds=lambda lease: False).cards == ("GPU-a",)


def test_one_killed_while_it_waits_keeps_its_age_but_nobody_waiting(folder):
    held = cards_of(folder)
    take(held, "one", 40)
    take(held, "two", 40)
    process = SPAWN.Process(target=lambda: take(cards_of(folder), "old", 40, wait=60))
    process.start()
    _until(lambda: LeaseFolder(folder).read().ticket("old") is not None)
    process.kill()
    process.join()
    held.release("one")
    assert take(held, "new", 40).cards == ("GPU-a",), "nobody waits before it"
    with pytest.raises(CardsBusy):
        take(held, "third", 40)
    held.release("two")
    assert take(cards_of(folder), "old", 40).cards == ("GPU-b",)


def test_what_ends_the_waiting_gives_up_the_place(folder):
    held = cards_of(folder)
    take(held, "one", 40)
    take(held, "two", 40)
    looks = iter([None, None, KeyboardInterrupt])

    def check() -> None:
        error = next(looks)
        if error:
            raise error

    with pytest.raises(KeyboardInterrupt):
        take(held, "ended", 40, wait=60, check=check)
    assert LeaseFolder(folder).read().tickets == ()


def test_a_signal_in_the_middle_of_a_change_does_not_begin_another(folder):
    held = cards_of(folder)
    take(held, "one", 40)
    with held.folder.change():
        held.release("one")
    assert held.folder.read().lease("one") is not None
    held.release("one")
    assert held.folder.read().lease("one") is None


def test_a_clock_that_jumps_changes_nothing(folder, monkeypatch):
    held = cards_of(folder)
    take(held, "one", 40)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    take(held, "two", 40)
    with pytest.raises(CardsBusy):
        take(held, "three", 40)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(CardsBusy):
        take(held, "four", 40)
    assert "time.time" not in Path(leases.__file__).read_text() + Path(lease_folder.__file__).read_text()


def test_after_the_host_has_started_anew_what_is_gone_is_free(folder, monkeypatch):
    _die_holding(folder, "job", 40)
    _die_holding(folder, "other", 40)
    with pytest.raises(CardsBusy):
        take(cards_of(folder), "away", 40)
    for module in (lease_folder, leases):
        monkeypatch.setattr(module, "boot_id", lambda: "another boot")
    got = take(cards_of(folder), "next", 40, holds=lambda lease: False)
    assert got.cards == ("GPU-a",), "a place that was kept by the last boot's clock is kept no more"


def test_a_card_known_by_its_index_is_the_same_when_its_id_gets_known(folder):
    take(cards_of(folder, (Card("0", "a100", 40), Card("1", "a100", 40))), "old", 30)
    named = cards_of(folder, aliases={"0": "GPU-a", "1": "GPU-b"})
    assert take(named, "new", 30).cards == ("GPU-b",)
    assert take(named, "old", 30).cards == ("GPU-a",)


def test_cards_that_became_smaller_are_not_given_beyond_what_they_have(folder):
    take(cards_of(folder), "old", 40)
    smaller = cards_of(folder, (Card("GPU-a", "a100", 20), Card("GPU-b", "a100", 20)))
    assert take(smaller, "one", 20).cards == ("GPU-b",)
    with pytest.raises(CardsBusy):
        take(smaller, "two", 1)


def test_a_class_that_got_another_name_is_still_the_same_card(folder):
    take(cards_of(folder), "old", 40)
    renamed = cards_of(folder, tuple(Card(card.id, "big", card.slots) for card in A100))
    want, job = Want("big", 2, 40), Holder("new", "docker", "/state")
    with pytest.raises(CardsBusy, match="held by old"):
        renamed.acquire(want, job, wait_seconds=0, holds=lambda lease: True)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 7}',
        b'{"format": 1, "boot": "x", "leases": [{"name": "job"}], "tickets": []}',
        b'{"format": 1, "boot": "x", "leases": [], "tickets": [], "unknown": 1}',
    ],
)
def test_a_damaged_file_is_an_error_and_nothing_is_given(folder, text):
    held = cards_of(folder)
    take(held, "one", 40)
    (folder / "leases.json").write_bytes(text)
    for act in (lambda: take(cards_of(folder), "two", 1), lambda: held.release("one")):
        with pytest.raises(LeaseError, match=r"leases\.json.*is damaged.*docker ps"):
            act()
    assert (folder / "leases.json").read_bytes() == text


@pytest.mark.parametrize("left", [b"", b'{"format": 1, "boot"', b"\0" * 500])
def test_half_a_file_that_a_power_cut_left_is_no_trouble_after_it(folder, left, monkeypatch):
    """The jobs of the leases in it have ended with the host; within one start of it such a file is an error."""
    _die_holding(folder, "one", 40)
    (folder / "leases.json").write_bytes(left)
    with pytest.raises(LeaseError, match="is damaged"):
        take(cards_of(folder), "two", 40, count=2)
    for module in (lease_folder, leases):
        monkeypatch.setattr(module, "boot_id", lambda: "the next start")
    assert take(cards_of(folder), "two", 40, count=2).cards == ("GPU-a", "GPU-b")
    (folder / "leases.json").write_bytes(left)
    with pytest.raises(LeaseError, match="is damaged"):
        take(cards_of(folder), "three", 1)


@pytest.mark.parametrize("known", [True, False], ids=["as it is", "a host that does not tell its start"])
def test_only_the_first_change_after_a_start_waits_for_the_disk(folder, known, monkeypatch):
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    if not known:
        for module in (lease_folder, leases):
            monkeypatch.setattr(module, "boot_id", lambda: "")
    held = cards_of(folder)
    for number in range(3):
        take(held, f"job {number}", 8)
    assert len(flushed) == (2 if known else 3)
    for module in (lease_folder, leases):
        monkeypatch.setattr(module, "boot_id", lambda: "the next start")
    take(held, "job 3", 8)
    assert len(flushed) == (4 if known else 5), "before one that is not flushed the start is noted"
    assert (folder / "boot").read_text() == "the next start"


def test_people_can_read_who_has_what(folder):
    held = cards_of(folder)
    take(held, "one", 40)
    take(held, "two", 40)
    with pytest.raises(CardsBusy):
        take(held, "three", 40)
    lines = (folder / "leases.json").read_text().splitlines()
    assert [sum(f'"{name}"' in line for line in lines) for name in ("one", "two", "three")] == [1, 1, 1]
    assert json.loads("\n".join(lines))["tickets"][0]["name"] == "three"


def test_a_file_that_gives_a_card_twice_is_refused(folder):
    held = cards_of(folder)
    take(held, "one", 40)
    state = json.loads((folder / "leases.json").read_bytes())
    state["leases"].append({**state["leases"][0], "name": "two"})
    (folder / "leases.json").write_text(json.dumps(state))
    with pytest.raises(LeaseError, match="card GPU-a is given away beyond its 40 slots"):
        take(held, "three", 1)


def test_a_full_disk_gives_nothing_and_loses_nothing(folder, monkeypatch):
    held = cards_of(folder)
    take(held, "one", 40)
    before = (folder / "leases.json").read_bytes()

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(LeaseError, match=r"No space left on device. Free some space"):
        take(held, "two", 40)
    monkeypatch.undo()
    assert (folder / "leases.json").read_bytes() == before
    assert not list(folder.glob("*.tmp")) and len(list((folder / "owners").iterdir())) == 1
    assert take(held, "two", 40).cards == ("GPU-b",)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LeaseError, match=r"file/leases cannot be made: Not a directory.*gpu_lease_folder"):
        take(cards_of(tmp_path / "file" / "leases"), "one", 1)


def test_a_network_file_system_is_refused(folder, monkeypatch):
    monkeypatch.setattr(lease_folder, "unfit", lambda path: "on a network file system (nfs4): a disk of this host")
    with pytest.raises(LeaseError, match=r"network file system \(nfs4\).*a disk of this host"):
        take(cards_of(folder), "one", 1)


def test_a_lock_that_a_stopped_process_holds_is_an_error_in_the_end(folder, monkeypatch):
    monkeypatch.setattr(lease_folder, "LOCK_SECONDS", 0.2)
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        with LeaseFolder(folder).change():
            begun.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(60)
    with pytest.raises(LeaseError, match=r"leases\.lock has been held"):
        take(cards_of(folder), "one", 1)
    done.set()
    thread.join()


def test_marks_of_the_dead_do_not_pile_up(folder, monkeypatch):
    monkeypatch.setattr(lease_folder, "STRAY_MARKS", 2)
    held = cards_of(folder)
    for _ in range(5):
        (folder / "owners").mkdir(parents=True, exist_ok=True)
        (folder / "owners" / f"1-{os.urandom(4).hex()}").touch()
    take(held, "one", 1)
    assert len(list((folder / "owners").iterdir())) == 1
    held.release("one")
    assert list((folder / "owners").iterdir()) == []


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    before = set(SPAWN.active_children())
    yield
    assert set(SPAWN.active_children()) <= before
