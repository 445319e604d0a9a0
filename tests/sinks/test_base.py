"""What a connection's extras say to every sink, and the deadline that all keep."""

from __future__ import annotations

import time

import pytest

from airflow_monai.errors import DeadlinePassed, DestinationError
from airflow_monai.sinks.base import Destination
from airflow_monai.sinks.deadline import Deadline


def destination(**extra: object) -> Destination:
    return Destination("PACS", "dicom", "h", 104, extra)


def test_a_flag_may_be_a_word_or_a_value_of_json() -> None:
    assert destination(a=True).flag("a") and destination(a="yes").flag("a") and destination().flag("a", default=True)
    assert not (
        destination(a=False).flag("a", default=True) or destination(a="no").flag("a") or destination().flag("a")
    )


@pytest.mark.parametrize(("value", "problem"), [("many", "'many' is not a number"), (0, "'0' is not a number from 1")])
def test_a_number_out_of_its_limits_is_named(value: object, problem: str) -> None:
    with pytest.raises(DestinationError, match=problem):
        destination(associations=value).number("associations", 1, 1, 16)


def test_a_choice_is_one_of_a_few_words() -> None:
    assert destination().choice("verify", "none", ["none", "query"]) == "none"
    with pytest.raises(DestinationError, match="verify = 'often' is none of none, query"):
        destination(verify="often").choice("verify", "none", ["none", "query"])


def test_the_bandwidth_limit_is_in_megabytes() -> None:
    throttle = destination(max_mb_per_second="2.5").throttle()
    assert throttle is not None
    assert throttle.bytes_per_second == 2_500_000
    assert destination().throttle() is None
    with pytest.raises(DestinationError, match="max_mb_per_second"):
        destination(max_mb_per_second="fast").throttle()


def test_a_deadline_shortens_time_outs_and_ends_pauses() -> None:
    deadline = Deadline(60, "the deadline of 1 minute")
    assert deadline.left(90) <= 60
    assert deadline.left(0.01) == 0.01
    start = time.monotonic()
    with pytest.raises(DeadlinePassed, match="the deadline of 1 minute would pass"):
        deadline.pause(90)
    assert time.monotonic() - start < 30, "it does not wait for what comes too late"
    deadline.pause(0.01)
    deadline = Deadline(0.05)
    time.sleep(0.06)
    with pytest.raises(DeadlinePassed, match="has passed"):
        deadline.check()


def test_without_a_deadline_there_is_time() -> None:
    assert Deadline().left(30) == 30
