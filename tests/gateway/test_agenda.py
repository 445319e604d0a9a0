"""Keys that are worked on when their time has come, or sooner."""

from __future__ import annotations

import threading
import time

from airflow_monai.gateway.agenda import Agenda
from tests.gateway.conftest import wait_for


def test_a_key_that_is_hurried_is_worked_on_at_once_and_only_once() -> None:
    done: list[str] = []
    agenda = Agenda("test", 2, lambda key: done.append(key))
    agenda.start()
    try:
        assert agenda.add("a", 60) and not agenda.add("a")
        agenda.hurry("a")
        agenda.hurry("a")
        agenda.hurry("unknown")
        wait_for(lambda: "a" not in agenda)
        time.sleep(0.1)
    finally:
        agenda.stop()
    assert done == ["a"]


def test_a_key_that_is_hurried_while_it_is_worked_on_is_worked_on_once_more() -> None:
    began, go_on, done = threading.Event(), threading.Event(), []

    def step(key: str) -> float | None:
        began.set()
        go_on.wait(60)
        done.append(key)
        return 60.0 if len(done) == 1 else None

    agenda = Agenda("test", 2, step)
    agenda.start()
    try:
        agenda.add("a")
        began.wait(60)
        agenda.hurry("a")
        go_on.set()
        wait_for(lambda: "a" not in agenda)
    finally:
        agenda.stop()
    assert done == ["a", "a"]
