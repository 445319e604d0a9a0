"""What is seen of an application while it runs, and what is told of its run when it has ended."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.errors import MonaiError
from airflow_monai.maps.progress import Progress
from airflow_monai.operators import progress
from airflow_monai.operators.map import MapOperator
from airflow_monai.operators.progress import Board
from tests.operators.conftest import Site
from tests.operators.map_tasks import context_of
from tests.operators.test_cards import SHARE, folder, state, take  # noqa: F401
from tests.operators.test_map_durability import wait_until

BAR = """
import sys, time
print("Executing operator SegOperator", flush=True)
for number in range(0, 101, 2):
    sys.stdout.write(f"{END}{number:3d}%|####      | {number}/100")
    sys.stdout.flush()
    time.sleep(0.04)
print()
print('MONAI_PROGRESS {"percent": 100, "stage": "Doe Jane"}')
"""


class StateStore:
    """Stands in for Airflow's task state store."""

    def __init__(self) -> None:
        self.written: list[Any] = []

    def set(self, key: str, value: Any) -> None:
        assert key == "progress"
        self.written.append(value)


def test_progress_is_shown_while_the_application_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.3)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.5)
    # the engine's log is made of whole lines: a bar that overwrites itself comes when it is full
    end = "\r" if site.runner == "process" else "\n"
    operator = MapOperator(**site.arguments(map=site.maker.make("bar", f"END = {end!r}\n{BAR}")))
    shown = StateStore()
    begun = time.monotonic()
    operator.execute({**context_of(operator, site.payload_id), "task_state_store": shown})
    took = time.monotonic() - begun

    percents = [value["percent"] for value in shown.written]
    assert percents == sorted(percents) and 2 <= len(percents) <= 2 + took / 0.5 and percents[-1] == 100
    assert {value["stage"] for value in shown.written} == {"SegOperator"}, (
        "a stage that may be the patient is not shown"
    )
    note = site.folder.store.read_json(site.folder.note_key("segment", -1, 1, "progress"))
    assert note == shown.written[-1]
    assert site.log().count(end) >= 50, "the store has the bar whole"


@pytest.mark.parametrize("site", ["process"], indirect=True)
def test_what_a_task_waits_for_is_shown_too(
    site: Site,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.2)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.2)
    monkeypatch.setenv("AIRFLOW__MONAI__GPU_WAIT_MINUTES", "1")
    others = [take(folder, name, 40) for name in ("one", "two")]

    def free() -> None:
        wait_until(lambda: bool(state(folder).tickets))
        time.sleep(1.5)
        others[0].release("one")

    freed = threading.Thread(target=free)
    freed.start()
    operator = MapOperator(**site.arguments("ok", 1, **SHARE))
    shown = StateStore()
    value = operator.execute({**context_of(operator, site.payload_id), "task_state_store": shown})
    freed.join()
    others[1].release("two")
    stages = [facts["stage"] for facts in shown.written]
    assert "position 1" in stages[0] and stages[-1].startswith("Got GPU-")
    assert value["wait_seconds"] > 1 and len(value["cards"]) == 1


def test_what_the_run_used_is_told(site: Site) -> None:
    source = "import time\nkept = bytearray(60 * 2**20)\nwhile time.process_time() < 0.7: pass\n"
    operator = MapOperator(**site.arguments(map=site.maker.make("user", source)))
    value = operator.execute(context_of(operator, site.payload_id))
    record = site.record()
    for facts in (value, record.stats):
        assert 60 * 2**20 < facts["peak_memory_bytes"] < 120 * 2**20
        assert 0.5 < facts["cpu_seconds"] < 10
        assert facts["exit_code"] == 0 and facts["seconds"] > 0.5 and facts["runner"] == site.runner
        assert "gpu_memory_bytes" not in facts, "nobody measured it"
    again = MapOperator(**site.arguments(map=site.maker.make("user", source)))
    assert again.execute(context_of(again, site.payload_id, try_number=2)) == value, (
        "results that stand, with their facts"
    )


def test_a_failure_after_the_results_leaves_no_trace_in_the_next_try_s_record(site: Site) -> None:
    operator = MapOperator(**site.arguments())
    context = context_of(operator, site.payload_id)

    def refuse(key: str, value: Any) -> None:
        raise RuntimeError("Airflow is away")

    context["ti"].xcom_push = refuse
    with pytest.raises((AirflowFailException, RuntimeError, MonaiError)):
        operator.execute(context)
    assert site.record().stats["error_kind"] == "internal"
    again = MapOperator(**site.arguments("exit7"))  # would fail if it ran
    value = again.execute(context_of(again, site.payload_id, try_number=2))
    assert "error_kind" not in site.record().stats and "error_kind" not in value
    assert site.record().status == "Succeeded" and value["exit_code"] == 0


def test_a_failure_s_record_tells_them_too(site: Site) -> None:
    with pytest.raises(AirflowFailException):
        site.run(**site.arguments("memory", resources={"memory": "48Mi"}))
    stats = site.record().stats
    assert stats["error_kind"] == "out_of_memory" and stats["exit_code"] == 137
    assert 40 * 2**20 < stats["peak_memory_bytes"] < 200 * 2**20


def test_the_board_writes_seldom_and_the_last_word_at_the_end() -> None:
    written: list[float] = []
    board = Board(lambda facts: written.append(facts["percent"]), first=0.1, every=0.2)
    begun = time.monotonic()
    for number in range(100):
        board.show(Progress(float(number)))
        time.sleep(0.01)
    board.close()
    took = time.monotonic() - begun
    assert 3 <= len(written) <= 3 + took / 0.2
    assert written[-1] == 99


def test_what_is_over_at_once_writes_nothing() -> None:
    written: list[Any] = []
    board = Board(written.append, first=5)
    board.show(Progress(50.0))
    board.close()
    Board(written.append).close()
    assert written == []


def test_an_airflow_that_is_away_holds_nobody_up() -> None:
    """Neither one that refuses nor one that does not answer."""
    answered = threading.Event()
    calls: list[int] = []

    def publish(_: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("refused")
        answered.wait(60)

    board = Board(publish, first=0.05, every=0.05)
    end = time.monotonic() + 30
    number = 0
    while len(calls) < 2 and time.monotonic() < end:
        board.show(Progress(float(number := number + 1)))
        time.sleep(0.02)
    for more in range(10):
        board.show(Progress(float(number + more)))
        time.sleep(0.02)
    begun = time.monotonic()
    board.close()
    assert len(calls) == 2
    assert time.monotonic() - begun < 20
    answered.set()
