"""Many processes lease, run and release, and are killed at any point, while one outside watches.

``LEASE_SECONDS=60 python -m pytest tests/gpu/test_leases_killed.py`` is the long form.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections import defaultdict
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import CardsBusy
from airflow_monai.gpu import leases
from airflow_monai.gpu.choice import Card
from airflow_monai.gpu.lease_folder import LeaseFolder
from airflow_monai.gpu.leases import Holder, Leases, Want

FORK = multiprocessing.get_context("fork")
SECONDS = float(os.environ.get("LEASE_SECONDS", "6"))
WORKERS = 6
CARDS = (Card("GPU-a", "a100", 40), Card("GPU-b", "a100", 40), Card("GPU-c", "t4", 15))
SIZES = [*(("a100", 1, gib) for gib in (8, 16, 24, 40)), ("a100", 2, 10), ("t4", 1, 7), ("t4", 1, 15)]


class Site:
    """A host with cards and an engine, whose containers are files. Every process makes its own from the folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.containers = folder / "containers"
        self.journal = folder / "journal"
        self.leases = Leases(LeaseFolder(folder / "leases"), CARDS, "gpu01")

    def note(self, what: str, name: str, **facts: Any) -> None:
        """One line of the journal, whole also when the process is killed."""
        line = json.dumps({"at": time.monotonic(), "what": what, "name": name, **facts}) + "\n"
        fd = os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, line.encode())
        os.close(fd)

    def start(self, name: str, cards: tuple[str, ...], share: int) -> None:
        """Container first, note after it: one that is killed in between has its start noted by the engine."""
        made = self.containers / f".{name}"
        made.write_text(json.dumps({"cards": cards, "share": share}))
        os.replace(made, self.containers / name)
        self.note("start", name, cards=cards, share=share)

    def end(self, name: str) -> None:
        self.note("end", name)
        (self.containers / name).unlink(missing_ok=True)

    def holds(self, lease: Any) -> bool:
        return (self.containers / lease.name).exists()


def work(folder: Path, worker: int) -> None:
    """Jobs of one worker, one after the other; a job that an earlier process of it began is taken up again."""
    site = Site(folder)
    counter = folder / f"counter-{worker}"
    dice = random.Random()
    while not (folder / "stop").exists():
        number = int(counter.read_text()) if counter.exists() and counter.read_text() else 0
        name = f"job-{worker}-{number}"
        wanted = SIZES[random.Random(name).randrange(len(SIZES))]
        try:
            got = site.leases.acquire(
                Want(*wanted, random.Random(name).choice([10, 20, 30])),
                Holder(name, "engine", "/state"),
                wait_seconds=dice.choice([0.05, 5]),
                holds=site.holds,
            )
        except CardsBusy:
            continue  # rescheduled: it asks again
        if not site.holds(Holder(name, "", "")):
            site.start(name, got.cards, got.share)
        time.sleep(dice.uniform(0, 0.03))
        site.end(name)
        site.leases.release(name)
        fresh = counter.with_suffix(".new")
        fresh.write_text(str(number + 1))
        os.replace(fresh, counter)


def watch(folder: Path, seen: Any) -> None:
    """Look at the leases all the time: no card is ever given beyond what it has."""
    path = folder / "leases" / "leases.json"
    slots = {card.id: card.slots for card in CARDS}
    while not (folder / "watched").exists():
        try:
            state = json.loads(path.read_bytes())
        except FileNotFoundError:
            continue
        taken: dict[str, int] = defaultdict(int)
        for lease in state["leases"]:
            for card in lease["cards"]:
                taken[card] += lease["share"]
        over = {card for card, used in taken.items() if used > slots[card]}
        seen[0] += 1
        seen[1] += bool(over)
        seen[2] = max(seen[2], sum(taken.values()))


def test_no_card_is_ever_given_twice(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {"LONGEST_PAUSE": 0.02, "LOOK_SECONDS": 0.05, "BACK_SECONDS": 0.1, "KEPT_SECONDS": 0.5}
    for name, seconds in quick.items():
        monkeypatch.setattr(leases, name, seconds)
    (tmp_path / "containers").mkdir()
    seen = FORK.Array("l", 3)
    observer = FORK.Process(target=watch, args=(tmp_path, seen))
    observer.start()
    workers: dict[int, BaseProcess] = {}
    dice, kills = random.Random(1), 0
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline or (_begun(tmp_path) <= 30 and time.monotonic() < deadline + 120):
            for number in range(WORKERS):
                if number not in workers or not workers[number].is_alive():
                    workers[number] = FORK.Process(target=work, args=(tmp_path, number))
                    workers[number].start()
            time.sleep(dice.uniform(0, 0.06))
            victim = workers[dice.randrange(WORKERS)]
            assert victim.exitcode in (None, -signal.SIGKILL), "a worker failed by itself"
            victim.kill()
            kills += 1
            if dice.random() < 0.3:  # some jobs go on when their worker is dead, and end by themselves
                _end_one(tmp_path, workers, dice)
        (tmp_path / "stop").touch()
        for process in workers.values():
            process.join(120)
            assert process.exitcode in (0, -signal.SIGKILL)
        site = Site(tmp_path)
        for left in list(site.containers.iterdir()):
            site.end(left.name) if not left.name.startswith(".") else left.unlink()
        everything = (Want("a100", 2, 40), Want("t4", 1, 15))
        for number, want in enumerate(everything):
            job = Holder(f"last-{number}", "engine", "/state")
            site.leases.acquire(want, job, wait_seconds=60, holds=site.holds)
            site.leases.release(job.name)
        assert site.leases.folder.read().leases == (), "all that the dead held is free again"
    finally:
        (tmp_path / "stop").touch()
        (tmp_path / "watched").touch()
        for process in (*workers.values(), observer):
            process.join(5)
            process.kill()
    jobs, most = _judged(tmp_path / "journal")
    with capsys.disabled():
        print(f"\n{jobs} jobs, {kills} kills, {seen[0]} looks, at most {seen[2]} GiB leased and {most} GiB used of 95")
    assert seen[0] > 100 and seen[1] == 0
    assert jobs > 30


def _begun(folder: Path) -> int:
    journal = folder / "journal"
    return journal.read_text().count('"what": "start"') if journal.exists() else 0


def _end_one(folder: Path, workers: dict[int, BaseProcess], dice: random.Random) -> None:
    """End the container of a worker that is dead."""
    site = Site(folder)
    for left in site.containers.iterdir():
        worker = workers.get(int(left.name.split("-")[1])) if left.name.startswith("job-") else None
        if worker is not None and not worker.is_alive() and dice.random() < 0.5:
            site.end(left.name)
            return


def _judged(journal: Path) -> tuple[int, int]:
    """How many jobs ran; what they used of the cards together at most. Never more than a card has, at any time."""
    using: dict[str, tuple[list[str], int]] = {}
    slots = {card.id: card.slots for card in CARDS}
    jobs = most = 0
    for event in sorted(map(json.loads, journal.read_text().splitlines()), key=lambda entry: entry["at"]):
        if event["what"] == "end":
            using.pop(event["name"], None)
            continue
        assert event["name"] not in using, "it was started beside itself"
        using[event["name"]] = (event["cards"], event["share"])
        jobs += 1
        used = {card: sum(share for cards, share in using.values() if card in cards) for card in slots}
        assert all(used[card] <= slots[card] for card in slots), (used, using)
        most = max(most, sum(used.values()))
    return jobs, most
