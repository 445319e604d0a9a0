"""The bandwidth limit: what all threads of a delivery send together stays below it."""

from __future__ import annotations

import threading
import time

import pytest

from airflow_monai.sinks.throttle import Throttle


def test_threads_together_keep_to_the_limit_and_use_it() -> None:
    throttle = Throttle(1_000_000)

    def send() -> None:
        for _ in range(10):
            throttle.take(10_000)

    taken = []
    for _ in range(5):  # a host that is busy takes longer now and then
        threads = [threading.Thread(target=send) for _ in range(4)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken.append(time.monotonic() - start)
        if taken[-1] < 1.0:
            break
    assert 0.3 < min(taken) < 1.0  # 400 kB at 1 MB/s, less the last piece and a burst


def test_a_quiet_time_is_not_made_up_for() -> None:
    throttle = Throttle(1_000_000)
    throttle.take(1)
    time.sleep(0.4)
    start = time.monotonic()
    for _ in range(4):
        throttle.take(100_000)
    assert time.monotonic() - start > 0.2


def test_a_limit_of_nothing_is_none() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Throttle(0)
