"""What changes when an inventory becomes Airflow's pools."""

from __future__ import annotations

from airflow_monai.gpu.pools import POOL_DESCRIPTION, Pool
from airflow_monai.gpu.sync import Action, ExistingPool, changes

A100 = Pool("gpu_a100", 80, f"{POOL_DESCRIPTION} 2 x A100")


def test_a_new_pool_is_made_and_one_that_is_right_is_kept():
    same = ExistingPool(80, A100.description, 10)
    (made,) = changes([A100], {"default_pool": ExistingPool(128, "Default pool")})
    (kept,) = changes([A100], {"gpu_a100": same})
    assert (made.action, kept.action) == (Action.CREATE, Action.KEEP)
    assert not made.warning and not kept.warning


def test_shrinking_below_what_tasks_hold_warns_and_is_done():
    (change,) = changes([A100], {"gpu_a100": ExistingPool(160, A100.description, 120)})
    assert change.action is Action.UPDATE
    assert "160 -> 80 slots" in str(change)
    assert "tasks hold 120" in change.warning


def test_a_pool_of_ours_that_vanished_is_reported_and_another_s_is_not():
    existing = {
        "gpu_old": ExistingPool(40, f"{POOL_DESCRIPTION} 1 x V100", 8),
        "gpu_theirs": ExistingPool(4, "made by hand"),
    }
    _, gone = changes([A100], existing)
    assert (gone.action, gone.pool.name) == (Action.GONE, "gpu_old")
    assert "airflow pools delete gpu_old" in gone.warning and "8 of its slots" in gone.warning
