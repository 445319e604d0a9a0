"""``airflow monai pools show``, ``detect`` and ``release``: what a person on the host of the cards sees and can do."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_monai import settings
from airflow_monai.cli.here.cards import run_detect, run_release, run_show
from airflow_monai.errors import CardsBusy, InventoryError, LeaseError
from airflow_monai.gpu.choice import Card
from airflow_monai.gpu.inventory import parse_inventory, read_inventory, save_inventory
from airflow_monai.gpu.lease_folder import LeaseFolder
from airflow_monai.gpu.leases import Holder, Leases, Want
from airflow_monai.store.local import LocalStore

MACHINES = Path(__file__).parents[2] / "gpu" / "machines"
SITE = {
    "hosts": {
        "gpu01": [{"model": "A100", "memory": 40, "ids": ["GPU-a", "GPU-b"]}],
        "gpu02": [{"model": "T4", "memory": 15}],
    }
}


@pytest.fixture
def site(tmp_path):
    return replace(settings.load(), gpu_lease_folder=str(tmp_path / "leases"), gpu_host="gpu01")


@pytest.fixture
def store(tmp_path) -> LocalStore:
    found = LocalStore(tmp_path / "store")
    save_inventory(found, parse_inventory(SITE))
    return found


def take(site, name: str, share: int) -> Leases:
    held = Leases(LeaseFolder(Path(site.gpu_lease_folder)), (Card("GPU-a", "a100", 40), Card("GPU-b", "a100", 40)), "")
    held.acquire(Want("a100", 1, share), Holder(name, "docker", "/x"), wait_seconds=0, holds=lambda lease: True)
    return held


def take_and_die(site, name: str, share: int) -> None:
    process = multiprocessing.get_context("fork").Process(target=take, args=(site, name, share))
    process.start()
    process.join()


def show(store, site, as_json=False) -> str:
    out = io.StringIO()
    assert run_show(store, site, as_json, out) == 0
    return out.getvalue()


def test_cards_leases_and_those_who_wait(store, site):
    held = [take(site, "monai-one", 24)]
    take_and_die(site, "monai-two", 40)
    with pytest.raises(CardsBusy):
        take(site, "monai-three", 40)
    assert show(store, site).splitlines() == [
        "gpu01 (this host)",
        "  GPU-a  a100, 40 GiB, 16 GiB free",
        "    24 GiB  monai-one",
        "  GPU-b  a100, 40 GiB, 0 GiB free",
        "    40 GiB  monai-two; its worker is dead: free when the job is gone",
        "gpu02",
        "  0  t4, 15 GiB",
        "waiting 1: monai-three for 40 GiB on 1 x a100 (weight 20, comes back)",
    ]
    shown = json.loads(show(store, site, as_json=True))
    assert shown["hosts"][0]["cards"][0]["leases"][0]["job"] == "monai-one"
    assert shown["waiting"][0]["state"] == "comes back"
    del held


def test_on_a_host_without_cards_it_says_where_to_look(store, site):
    assert "This host is none of them" in show(store, replace(site, gpu_host="elsewhere"))


def test_without_an_inventory_it_says_what_to_do(tmp_path, site):
    with pytest.raises(InventoryError, match="pools sync --detect"):
        show(LocalStore(tmp_path / "empty"), site)


def test_a_dead_worker_s_lease_can_be_taken_away_and_a_living_one_s_not(store, site):
    take_and_die(site, "monai-two", 40)
    held = take(site, "monai-one", 24)
    out = io.StringIO()
    with pytest.raises(LeaseError, match=r"monai-two may still run and use its card.*docker rm -f monai-two"):
        run_release(site, "monai-two", out, is_used=lambda lease: lease.name == "monai-two")
    assert run_release(site, "monai-two", out, is_used=lambda lease: False) == 0
    assert out.getvalue() == "Released monai-two.\n"
    with pytest.raises(LeaseError, match=rf"belongs to process {os.getpid()}, which lives"):
        run_release(site, "monai-one", out, is_used=lambda lease: True)
    with pytest.raises(LeaseError, match="has no card of this host"):
        run_release(site, "monai-two", out, is_used=lambda lease: True)
    held.release("monai-one")


def test_a_card_can_be_given_away_without_asking(site):
    take_and_die(site, "monai-two", 40)
    assert run_release(site, "monai-two", io.StringIO(), force=True, is_used=lambda lease: True) == 0


def test_what_is_detected_is_an_inventory_file(site, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    answers = MACHINES / "a100-sliced"
    program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && exec cat {answers}.list.txt; exec cat {answers}.query.csv\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    out = io.StringIO()
    assert run_detect(site, out, pytest.fail) == 0
    (tmp_path / "gpu01.yaml").write_text(out.getvalue())
    (host,) = read_inventory(tmp_path / "gpu01.yaml").hosts
    assert host.name == "gpu01"
    assert [(cards.card_class, cards.count, len(cards.ids)) for cards in host.cards] == [
        ("nvidia-a100-sxm4-40gb-1g.5gb", 2, 2),
        ("nvidia-a100-sxm4-40gb-2g.10gb", 1, 1),
        ("nvidia-a100-sxm4-40gb-3g.20gb", 1, 1),
        ("nvidia-a100-sxm4-40gb", 1, 1),
    ]
