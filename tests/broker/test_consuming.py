"""A consumer's thread outlives whatever ends its work, and says what did."""

from __future__ import annotations

import pytest

from airflow_monai.broker import consuming
from airflow_monai.broker.base import BrokerAddress, Wanted
from airflow_monai.broker.consuming import Consumer
from airflow_monai.broker.texts import message_from
from tests.gateway.conftest import wait_for


class Stumbles(Consumer):
    times = 0

    def _consume(self) -> None:
        self.times += 1
        if self.times == 1:
            raise ZeroDivisionError("of Doe^Jane")
        self.tell(None)
        self.closing.wait()


def test_an_error_that_nobody_foresaw_is_told_and_the_work_begins_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consuming, "_PAUSE_SECONDS", 0.01)
    told: list[str | None] = []
    consumer = Stumbles(BrokerAddress("events", "kafka", "localhost"), Wanted(("t",), lambda _: None, told.append))
    consumer.start()
    wait_for(lambda: None in told)
    consumer.close()
    assert "ZeroDivisionError" in str(told[0]) and "ZeroDivisionError in _consume" in caplog.text
    assert "Doe" not in caplog.text + str(told)
    assert not consumer._thread.is_alive()


@pytest.mark.parametrize(("given", "understood"), [("1700000000", 1_700_000_000), ("9" * 5000, None), ("soon", None)])
def test_a_time_that_is_none_holds_nothing_up(given: str, understood: int | None) -> None:
    assert message_from("t", b"{}", {"timestamp": given}).timestamp == understood
