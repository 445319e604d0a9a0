"""Messages that are being worked on stay on the bench until they are answered."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_monai.broker.base import Message
from airflow_monai.gateway import held as module
from airflow_monai.gateway.held import Bench, Held
from tests.gateway.conftest import wait_for


class _Delivered:
    message = Message("t", b"{}")


def test_a_step_that_fails_costs_neither_the_message_nor_a_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "AFTER_AN_ERROR", 0.01)
    patient, done, failures = "Doe^Jane", [], [1, 2, 3]

    def step(held: Any) -> None:
        if failures:
            failures.pop()
            raise LookupError(patient)
        done.append(held)

    bench = Bench("test", 1, step)
    bench.start()
    try:
        bench.add(Held(_Delivered()))  # type: ignore[arg-type]
        bench.add(Held(_Delivered()))  # type: ignore[arg-type]
        wait_for(lambda: len(done) == 2)
    finally:
        bench.stop(10.0)
    assert "LookupError" in caplog.text and patient not in caplog.text
