"""From a task's resources to a pool and slots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_monai.errors import CapacityError
from airflow_monai.gpu.inventory import GIB, Inventory, parse_inventory
from airflow_monai.gpu.pools import DEFAULT_POOL, PoolRequest, pools_of, request_of
from airflow_monai.specs.plan import Resources

SITE = parse_inventory(
    {
        "hosts": {
            "gpu01": [{"model": "A100", "memory": 40, "count": 2}, {"model": "T4", "memory": "14.75 GiB"}],
            "gpu02": [{"model": "A100", "memory": 40, "count": 4}],
            "gpu03": [{"model": "A100", "mig": "1g.5gb", "memory": "4.75 GiB", "count": 7}],
        }
    }
)
SLICES = parse_inventory({"hosts": {"a": [{"model": "A100", "mig": "1g.5gb", "memory": "4.75 GiB", "count": 7}]}})


def test_one_pool_for_each_class_with_the_memory_of_all_its_cards():
    assert [(pool.name, pool.slots) for pool in pools_of(SITE)] == [
        ("gpu_a100", 240),
        ("gpu_a100-1g.5gb", 28),
        ("gpu_t4", 14),
    ]


@pytest.mark.parametrize(
    "resources", [None, {}, {"gpu": 0}, {"gpu": 0, "gpuMemory": "8Gi"}, {"memory": "8Gi"}, Resources()]
)
def test_a_task_without_a_gpu_goes_to_the_default_pool(resources):
    assert request_of(resources, SITE) == PoolRequest(DEFAULT_POOL, 1)
    assert request_of(resources, None) == PoolRequest(DEFAULT_POOL, 1), "and needs no inventory"


@pytest.mark.parametrize(
    ("resources", "pool", "slots"),
    [
        ({"gpuMemory": "8Gi"}, "gpu_t4", 8),
        ({"gpu_memory": "7.2Gi"}, "gpu_t4", 8),
        ({"gpu": 1, "gpuMemory": "8Gi"}, "gpu_t4", 8),
        ({"gpuMemory": "14.5Gi"}, "gpu_t4", 14),
        ({"gpuMemory": "15Gi"}, "gpu_a100", 15),
        ({"gpuMemory": "2Gi"}, "gpu_a100-1g.5gb", 4),
        ({"gpuMemory": "100Mi"}, "gpu_a100-1g.5gb", 4),
        ({"gpu": 1}, "gpu_t4", 14),
        ({"gpu": 2}, "gpu_a100", 80),
        ({"gpu": 4}, "gpu_a100", 160),
        ({"gpu": 2, "gpu_memory": "10Gi"}, "gpu_a100", 20),
        (Resources(gpu=2.0), "gpu_a100", 80),
        (Resources(gpu_memory="16Gi"), "gpu_a100", 16),
    ],
)
def test_the_smallest_card_that_fits_is_taken(resources, pool, slots):
    assert request_of(resources, SITE) == PoolRequest(pool, slots)


def test_an_urgent_task_does_not_wait_for_slots_but_for_its_cards():
    assert request_of({"gpu": 2}, SITE, urgent=True) == PoolRequest("gpu_a100", 1)
    assert request_of({"gpu": 1}, SLICES, urgent=True) == PoolRequest("gpu_a100-1g.5gb", 4), "which are all alike"


def test_a_slice_stands_for_a_card_only_where_there_are_no_cards():
    assert request_of({"gpu": 1}, SLICES) == PoolRequest("gpu_a100-1g.5gb", 4)
    with pytest.raises(CapacityError, match="can never be met"):
        request_of({"gpu": 2}, SLICES)


@pytest.mark.parametrize("resources", [{"gpuMemory": "41Gi"}, {"gpu": 5}, {"gpu": 3, "gpuMemory": "80GB"}])
def test_what_never_fits_names_the_request_and_the_largest_card(resources):
    with pytest.raises(CapacityError) as caught:
        request_of(resources, SITE)
    message = str(caught.value)
    assert "largest card here is a100 with 40 GiB" in message
    assert "4 x a100" in message
    assert "pools sync" in message


def test_a_gpu_without_an_inventory_says_what_to_run():
    with pytest.raises(CapacityError, match=r"1 card with 8 GiB each.*airflow monai pools sync --inventory"):
        request_of({"gpuMemory": "8Gi"}, None)


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ({"gpu": 0.5}, "not a whole number"),
        ({"gpu": "many"}, "not a whole number"),
        ({"gpu": -1}, "not a whole number"),
        ({"gpuMemory": "much"}, "not an amount of memory"),
        ({"gpuMemory": "0Gi"}, "say gpu: 0"),
    ],
)
def test_a_request_that_means_nothing_is_refused(resources, reason):
    with pytest.raises(CapacityError, match=reason):
        request_of(resources, SITE)


def _one_card(memory: int) -> Inventory:
    return parse_inventory({"hosts": {"a": [{"model": "x", "memory": f"{memory}b"}]}})


@given(memory=st.integers(GIB, 96 * GIB), shares=st.lists(st.integers(1, 96 * GIB), min_size=1, max_size=6))
def test_shares_that_the_pool_of_one_card_lets_in_together_fit_on_the_card(memory, shares):
    inventory = _one_card(memory)
    (pool,) = pools_of(inventory)
    fitting = [share for share in shares if share <= memory]
    taken = [request_of({"gpu_memory": f"{share}b"}, inventory).slots for share in fitting]
    assert all(1 <= slots <= pool.slots for slots in taken), "none waits for ever"
    if sum(taken) <= pool.slots:
        assert sum(fitting) <= memory
