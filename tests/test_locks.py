"""Whether another process lives is seen by its lock, with no more than the right to read."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from airflow_monai.locks import is_locked


def test_a_lock_is_seen_and_ends_with_its_holder(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert not is_locked(file, unknown=True), "there is none"
    with open(file, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert is_locked(file, unknown=False)
    assert not is_locked(file, unknown=True)


def test_the_lock_of_a_worker_of_another_user_is_seen_too(tmp_path: Path) -> None:
    """Its file can be read, and not be written."""
    file = tmp_path / "lock"
    file.touch()
    file.chmod(0o444)
    opened: list[int] = []
    real = os.open

    def noting(path: object, flags: int, *more: int, **options: int) -> int:
        opened.append(flags)
        return real(path, flags, *more, **options)  # type: ignore[call-overload,no-any-return]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", noting)
        assert not is_locked(file, unknown=True)
    assert [flags & os.O_ACCMODE for flags in opened] == [os.O_RDONLY]


def test_a_file_that_cannot_be_opened_is_answered_for_by_who_asks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    there = tmp_path / "file" / "lock"  # ENOTDIR
    assert is_locked(there, unknown=True) and not is_locked(there, unknown=False)
    with pytest.raises(NotADirectoryError):
        is_locked(there)
