"""Which dataset of a name a person gets: the newest that they may read, as the auth manager says."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import HTTPException

from airflow_monai.api.mip import runs


@pytest.mark.parametrize("status", [403, 404])
def test_what_a_person_may_not_read_is_passed_over(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    assert _asked(monkeypatch, status) is False


def test_while_nobody_can_say_no_older_dataset_is_taken_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HTTPException) as caught:
        _asked(monkeypatch, 503)
    assert caught.value.status_code == 503


def _asked(monkeypatch: pytest.MonkeyPatch, status: int) -> bool:
    class Desk:
        caller = store = None

    def refused(*_: Any) -> None:
        raise HTTPException(status)

    monkeypatch.setattr(runs, "check_data", refused)
    return runs._may_use(Desk(), "p")  # type: ignore[arg-type]
