"""When the disk guard refuses, and what it says then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_monai.errors import SettingsError
from airflow_monai.store import space
from airflow_monai.store.space import DiskGuard, Space
from tests.small_disk import mounted

GB = 10**9


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A disk of 1 TB that a test fills."""
    state = {"used": 0, "looks": 0}

    def look(folder: Path) -> Space:
        state["looks"] += 1
        return Space(state["used"], 1000 * GB - state["used"])

    monkeypatch.setattr(Space, "of", look)
    return state


@pytest.mark.parametrize(
    ("used", "percent", "reserve", "refused"),
    [
        (840, 85, 100, False),
        (850, 85, 100, False),
        (851, 85, 100, True),
        (890, 95, 100, False),
        (901, 95, 100, True),
        (999, 100, 0, False),
    ],
)
def test_either_limit_refuses(
    disk: dict[str, int], tmp_path: Path, used: int, percent: float, reserve: int, refused: bool
) -> None:
    disk["used"] = used * GB
    assert (DiskGuard(tmp_path, percent, reserve * GB).refusal() is not None) == refused


def test_a_refusal_names_both_settings_and_the_figures(disk: dict[str, int], tmp_path: Path) -> None:
    disk["used"] = 912 * GB
    text = DiskGuard(tmp_path).refusal()
    for part in ("91.2 %", "88 GB free", "disk_used_percent = 85", "disk_reserve = 100 GB", str(tmp_path)):
        assert part in (text or "")


def test_it_goes_on_by_itself_and_does_not_ask_for_every_image(
    disk: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "FRESH_SECONDS", 60.0)
    guard = DiskGuard(tmp_path)
    disk["used"] = 990 * GB
    assert all(guard.refusal() for _ in range(100))
    assert disk["looks"] == 1
    disk["used"] = 100 * GB
    monkeypatch.setattr(space, "FRESH_SECONDS", 0.0)
    assert guard.refusal() is None


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_the_one_above(tmp_path: Path) -> None:
    assert DiskGuard(tmp_path / "not" / "yet", 100, 0).refusal() is None
    assert DiskGuard(tmp_path / "not" / "yet", 100, 10**18).refusal() is not None


def test_a_disk_that_cannot_be_asked_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: Path) -> Space:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Space, "of", fails)
    assert "Input/output error" in (DiskGuard(tmp_path).refusal() or "")


@pytest.mark.parametrize(("percent", "reserve"), [(0, "1G"), (101, "1G"), (85, "much")])
def test_settings_that_are_none_are_refused(tmp_path: Path, percent: float, reserve: str) -> None:
    with pytest.raises(SettingsError, match=r"\[monai\] disk_"):
        DiskGuard.of_settings(tmp_path, percent, reserve)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "10m") as folder:
        yield folder


def test_a_real_disk(small_disk: Path) -> None:
    guard = DiskGuard(small_disk, 85, 0)
    assert guard.refusal() is None
    file = small_disk / "file"
    file.write_bytes(bytes(9_200_000))
    assert "% full" in (DiskGuard(small_disk, 85, 0).refusal() or "")
    file.unlink()
    assert DiskGuard(small_disk, 85, 0).refusal() is None
