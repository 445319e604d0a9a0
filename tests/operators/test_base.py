"""What every operator of ours does around its work."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.operators.map import MapOperator
from tests.operators.map_tasks import context_of


@pytest.mark.parametrize(
    ("payload_id", "words"),
    [("", "names no payload"), (str(uuid.uuid4()), "There is no payload"), ("../../etc", "There is no payload")],
)
def test_a_run_without_a_payload_fails_at_once_and_says_what_to_do(
    payload_id: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path))
    operator = MapOperator(task_id="segment", map="noop:1.0.0")
    with pytest.raises(AirflowFailException, match=words):
        operator.execute(context_of(operator, payload_id))
    assert list(tmp_path.iterdir()) == [], "nothing may be left in the store"
