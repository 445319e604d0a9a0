"""Of two tries of a task the newer one counts, whatever holds up the older one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_monai.errors import Fenced
from airflow_monai.store import Store
from airflow_monai.store.runs import Fence, RunFolder
from airflow_monai.types import TaskRecord, TaskStatus

TRY = "2026-01-01T00:00:00+00:00"


def fence(store: Store, try_number: int, run_started: str = TRY, clears: int | None = None) -> Fence:
    folder = RunFolder(store, "6b1f0ae4-2f5b-4d8f-9d9c-7cbb8f0a8d11", "ct-lung", "monai__one")
    return Fence(folder, "segment", -1, try_number, run_started, clears)


class HeldUp:
    """A store whose first write of a claim is held up while something else happens."""

    def __init__(self, store: Store, meanwhile: Callable[[], Any]):
        self._store = store
        self._meanwhile: Callable[[], Any] | None = meanwhile

    def __getattr__(self, name: str) -> Any:
        if name in ("create_json", "write_json") and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        return getattr(self._store, name)


def test_a_try_that_is_held_up_while_it_claims_takes_nothing_from_a_newer_one(store: Store) -> None:
    held_up = HeldUp(store, lambda: fence(store, 2).claim(1))
    with pytest.raises(Fenced, match=r"Try 2 of task segment has taken over from try 1"):
        fence(held_up, 1).claim(1)  # type: ignore[arg-type]
    fence(store, 2).check()
    assert fence(store, 0).last().try_number == 2


def test_a_newer_try_that_is_overtaken_by_the_older_one_has_the_task(store: Store) -> None:
    held_up = HeldUp(store, lambda: fence(store, 1).claim_after(lambda _: False))
    assert fence(held_up, 2).claim_after(lambda generation: generation == 1) == 1  # type: ignore[arg-type]
    assert fence(store, 1).is_taken_over()


def test_claims_of_one_try_do_not_pile_up(store: Store) -> None:
    for _ in range(3):
        assert fence(store, 1).claim(1) == 1
    assert fence(store, 2).claim(1) == 1
    assert len(list(store.list(fence(store, 1)._place))) == 2


def test_more_claims_than_ten(store: Store) -> None:
    for number in range(1, 13):
        fence(store, number).claim(number)
    assert fence(store, 0).last().generation == 12
    with pytest.raises(Fenced):
        fence(store, 11).claim(11)


def test_a_run_that_was_made_anew_comes_after_the_one_before(store: Store) -> None:
    assert fence(store, 3).claim(2) == 2
    assert fence(store, 1, "2026-01-02T00:00:00+00:00").claim(1) == 3
    with pytest.raises(Fenced, match="in a newer run of the same id"):
        fence(store, 3).check()


def ended(store: Store, try_number: int, generation: int) -> None:
    """Have the try's record there."""
    record = TaskRecord("segment", "map", TaskStatus.FAILED, "", generation, try_number, -1)
    fence(store, try_number).folder.write_record(record)


def test_a_killed_try_is_not_gone_on_with_when_somebody_has_cleared_something_meanwhile(store: Store) -> None:
    assert fence(store, 1, clears=0).claim(1) == 1
    assert fence(store, 2, clears=1).claim(1) == 2
    assert fence(store, 2, clears=2).claim(1) == 2, "the same try again, as after waiting for a card"
    assert fence(store, 3, clears=2).claim(1) == 2, "a retry"
    assert fence(store, 4, clears=3).claim(4) == 5, "cleared when it did not run, which Airflow tells"
    ended(store, 4, 5)
    assert fence(store, 5, clears=3).claim(4) == 5


def test_a_try_that_ended_by_itself_is_gone_on_with_whatever_was_cleared_meanwhile(store: Store) -> None:
    fence(store, 1, clears=0).claim(1)
    ended(store, 1, 1)
    assert fence(store, 2, clears=1).claim(1) == 1
    assert fence(store, 3, clears=2).claim(1) == 2, "the record is of the try before the killed one"


def test_where_nobody_told_how_often_something_was_cleared_a_retry_is_one(store: Store) -> None:
    fence(store, 1).claim(1)
    assert fence(store, 2, clears=3).claim(1) == 1
    assert fence(store, 3).claim(1) == 1


def test_the_fence_of_an_earlier_release_holds(store: Store) -> None:
    first = fence(store, 1)
    store.write_json(f"{first._place}/fence.json", {"run_started": TRY, "try_number": 2, "generation": 4})
    with pytest.raises(Fenced):
        first.claim(1)
    assert fence(store, 3).claim_after(lambda _: True) == 4
