"""Spool folders: locked as long as their process lives, and gone without a trace where they cannot be made."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.store.local import LocalStore
from airflow_monai.store.spool import SpoolFolder


def open_below(folder: Path) -> list[str]:
    """What this process has open there, also of what is removed."""
    names = []
    for name in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue  # that of the listing itself
    return [name for name in names if name.startswith(f"{folder}/")]


def test_a_folder_whose_process_lives_is_not_abandoned(local: LocalStore) -> None:
    one, other = SpoolFolder(local), SpoolFolder(local)
    other.remove_abandoned()
    assert one.path.is_dir()
    one._lock.close()  # as the kernel does for one that was killed
    other.remove_abandoned()
    assert not one.path.exists() and other.path.is_dir()
    other.remove()
    assert not other.path.exists()


@pytest.mark.parametrize("step", ["lock", "rename"])
def test_one_that_cannot_be_made_leaves_nothing_open(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    spool = local.spool()

    def full(*_: object) -> None:
        assert open_below(spool)
        raise OSError(28, "No space left on device")

    if step == "lock":
        monkeypatch.setattr(fcntl, "flock", full)
    else:
        monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(StoreError, match="spool cannot be written") as raised:
        SpoolFolder(local)
    assert open_below(spool) == [], raised  # while somebody still looks at the error
    assert list(spool.iterdir()) == []
