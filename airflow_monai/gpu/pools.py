"""Which Airflow pool, and how many of its slots, a task's resources ask for.

There is one pool for each class of cards. A slot is one GiB of card memory; a share is rounded up and a card down to
whole GiB, so that what the pool lets in together also fits together on cards whose memory it divides.

Airflow's scheduler passes over a task whose slots are not free and lets smaller ones in, for hours if these keep
coming. So an urgent task takes a single slot: it waits for its cards where there is an order, in the queue of leases,
which also sees to it that no card is given beyond its memory (``python -m benchmarks.packing`` shows what that
changes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import CapacityError
from airflow_monai.gpu.inventory import GIB, CardClass, Inventory
from airflow_monai.specs.units import memory_bytes

if TYPE_CHECKING:
    from airflow_monai.specs.plan import Resources

DEFAULT_POOL = "default_pool"
POOL_PREFIX = "gpu_"
URGENT_SLOTS = 1
POOL_DESCRIPTION = "airflow_monai: one slot is 1 GiB of"
"""Descriptions of our pools begin so: by it a pool that is no longer in the inventory is known as ours."""


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """The pool a task runs in and the slots it takes there."""

    pool: str
    slots: int


@dataclass(frozen=True, slots=True)
class Pool:
    """An Airflow pool as it should be."""

    name: str
    slots: int
    description: str


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """What a task asks for: ``count`` cards, of each ``memory`` bytes, or the whole card when that is None."""

    count: int
    memory: int | None

    def __str__(self) -> str:
        cards = "1 card" if self.count == 1 else f"{self.count} cards"
        return f"{cards} (whole)" if self.memory is None else f"{cards} with {self.memory / GIB:g} GiB each"

    def fits(self, card: CardClass) -> bool:
        return self.count <= card.most_on_a_host and (self.memory or 0) <= card.memory_bytes

    def share(self, card: CardClass) -> int:
        """Slots of each card: all of one that is never shared, as a MIG slice is."""
        share = card.card_slots if self.memory is None or card.exclusive else math.ceil(self.memory / GIB)
        # more than the card's whole GiB but not more than the card: all of it
        return max(1, min(share, card.card_slots))

    def slots(self, card: CardClass) -> int:
        return self.count * self.share(card)


def pool_name(card_class: str) -> str:
    """Name of the pool of a class of cards."""
    return f"{POOL_PREFIX}{card_class}"


def pools_of(inventory: Inventory) -> tuple[Pool, ...]:
    """The pools that an inventory needs, by name."""
    pools = [
        Pool(pool_name(c.name), c.slots, f"{POOL_DESCRIPTION} {c.count} x {c.model}{f' ({c.mig})' if c.mig else ''}")
        for c in inventory.classes()
    ]
    return tuple(sorted(pools, key=lambda pool: pool.name))


def request_of(
    resources: Mapping[str, Any] | Resources | None, inventory: Inventory | None, *, urgent: bool = False
) -> PoolRequest:
    """Pool and slots for a task's resources.

    ``gpu_memory`` takes a share of the smallest card that has so much, ``gpu`` without it whole cards of one host, and
    ``gpu: 0`` or neither of them the default pool. A MIG slice is given for whole cards only where there are no others.

    :param resources: of the spec; a mapping may spell its keys ``gpuMemory`` or ``gpu_memory``.
    :param inventory: of the store; None when none was made yet.
    :param urgent: it is to wait for its cards, not for slots, where its cards are leased.
    :raises CapacityError: when it can never be met, or there is no inventory to meet it from.
    """
    request = gpu_request(resources)
    if request is None:
        return PoolRequest(DEFAULT_POOL, 1)
    if inventory is None:
        raise CapacityError(
            f"This task asks for {request}, but no GPU inventory is known: run `airflow monai pools sync --inventory "
            "FILE`, or say `gpu: 0` in its resources when it can do without."
        )
    card = smallest_class(request, inventory)
    slots = URGENT_SLOTS if urgent and not card.exclusive else request.slots(card)
    return PoolRequest(pool_name(card.name), slots)


def smallest_class(request: GpuRequest, inventory: Inventory) -> CardClass:
    """The class of the smallest cards that a request fits on; :class:`CapacityError` when there is none."""
    classes = inventory.classes()
    fitting = [card for card in _eligible(request, classes) if request.fits(card)]
    if not fitting:
        raise CapacityError(_never(request, classes))
    return fitting[0]


def gpu_request(resources: Mapping[str, Any] | Resources | None) -> GpuRequest | None:
    """What resources ask for, None when it is no card."""
    gpu, memory = _field(resources, "gpu"), _field(resources, "gpu_memory", "gpuMemory")
    if gpu in (0, "0") or (gpu is None and memory is None):
        return None
    return GpuRequest(_count(gpu), None if memory is None else _memory(memory))


def _field(resources: Mapping[str, Any] | Resources | None, *names: str) -> Any:
    if isinstance(resources, Mapping):
        return next((resources[name] for name in names if resources.get(name) is not None), None)
    return getattr(resources, names[0], None)


def _count(gpu: Any) -> int:
    if gpu is None:
        return 1
    try:
        number = float(gpu)
    except (TypeError, ValueError):
        number = -1.0
    if number < 1 or number != int(number):
        raise CapacityError(f"gpu: {gpu!r} is not a whole number of cards; for a part of one say gpuMemory, as in 8Gi.")
    return int(number)


def _memory(text: Any) -> int:
    try:
        size = memory_bytes(str(text))
    except ValueError as error:
        raise CapacityError(f"gpu_memory: {error}.") from None
    if size <= 0:
        raise CapacityError("gpu_memory: 0 asks for nothing; say gpu: 0 for a task without a GPU.")
    return size


def _eligible(request: GpuRequest, classes: Sequence[CardClass]) -> Sequence[CardClass]:
    """The classes that may serve, the smallest card first."""
    if request.count == 1 and request.memory is not None:
        return classes
    whole = [card for card in classes if card.mig is None]
    if whole or request.count > 1:
        return whole  # an application sees one MIG slice only, so several never serve it
    return classes


def _never(request: GpuRequest, classes: Sequence[CardClass]) -> str:
    largest = max(classes, key=lambda card: (card.memory_bytes, card.most_on_a_host))
    offer = ", ".join(f"{c.most_on_a_host} x {c.name} with {c.memory_bytes / GIB:g} GiB" for c in reversed(classes))
    return (
        f"This task asks for {request} on one host, which can never be met: the largest card here is {largest.name} "
        f"with {largest.memory_bytes / GIB:g} GiB, and the hosts have at most {offer}. Ask for less in its resources "
        "(gpu, gpu_memory), or add the card to the inventory and run `airflow monai pools sync`."
    )
