"""Times as people give them to commands."""

from __future__ import annotations

import pytest

from airflow_monai.cli.moments import moment
from airflow_monai.errors import InvalidArgument


def test_a_time_is_a_date_a_time_or_an_age() -> None:
    assert moment("2026-01-02") == "2026-01-02T00:00:00.000+00:00"
    assert moment("2026-01-02T03:04:05+02:00") == "2026-01-02T01:04:05.000+00:00"
    assert moment("3h") < moment("1h") < moment("5m")
    for text in ("yesterday", "3", "h", "", "99999999999w"):
        with pytest.raises(InvalidArgument, match="--until"):
            moment(text, "--until")
