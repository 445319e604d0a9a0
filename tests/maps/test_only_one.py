"""A lock that one process holds at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.errors import RunnerUnavailable
from airflow_monai.maps.runners import only_one as module
from airflow_monai.maps.runners.only_one import only_one


def test_trouble_of_the_block_is_not_told_as_trouble_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), only_one(tmp_path / "lock", lambda: None):
        raise ConnectionResetError("the cluster hung up")
    with only_one(tmp_path / "lock", lambda: None):
        pass  # and it is free again


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunnerUnavailable, match=r"file/lock cannot be taken: "),
        only_one(tmp_path / "file" / "lock", lambda: None),
    ):
        pass


def test_one_that_is_held_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    looks = []
    busy = pytest.raises(RunnerUnavailable, match="Another process has held")
    with only_one(tmp_path / "lock", lambda: None), busy, only_one(tmp_path / "lock", lambda: looks.append(1), 0.05):
        pass
    assert looks
