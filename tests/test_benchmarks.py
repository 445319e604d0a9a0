"""`make bench` runs what it lists. The figures themselves are never asserted: machines differ."""

from __future__ import annotations

import importlib

import pytest

from benchmarks import __main__ as bench
from benchmarks.table import Row, Unavailable


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_every_benchmark_that_is_listed_can_be_run(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_one_that_breaks_costs_nothing_of_the_others(tmp_path, monkeypatch, capsys) -> None:
    def missing() -> list[Row]:
        raise Unavailable("no engine")

    def broken() -> list[Row]:
        raise ValueError("out of order")

    monkeypatch.setattr("benchmarks.map_overhead.run", missing)
    monkeypatch.setattr("benchmarks.send.run", broken)
    monkeypatch.setattr("benchmarks.chain.run", lambda: [Row(benchmark="chain", case="c", ours="1 s", ratio=0.5)])
    assert bench.main(["map_overhead", "send", "chain", "--json", str(tmp_path / "r.json")]) == 1
    report = (tmp_path / "r.json").read_text()
    assert "no engine" in report and "out of order" in report and '"ratio": 0.5' in report
    assert "| chain" in capsys.readouterr().out
