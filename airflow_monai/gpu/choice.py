"""Which cards a request gets, and who has to wait for whom: plain data in, plain data out.

The order is age within priority. It needs no clock: every request draws a number, and its priority moves its place in
the queue by a fixed count of numbers. So an urgent request goes before those that wait now, and one of a batch lets
later ones pass, but only so many: it never starves.

The first in the order that does not fit has cards reserved, those that are emptiest already. Nothing later is put on
these, so their free part only grows until the request fits; later requests may have any other card. Of the cards on
which a request fits it gets the fullest (best fit): ``python -m benchmarks packing`` compares that with other ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

HEAD_START = 5
"""By how many numbers each point of a task's priority weight puts it forward. The priorities of workflows are ten
apart: an urgent request passes 50 routine and 100 batch ones that came before it, no more."""

HIGHEST_WEIGHT = 30


@dataclass(frozen=True, slots=True)
class Card:
    """A card, or a MIG slice, of this host.

    :param id: as the driver knows it: ``GPU-...``, ``MIG-...``, or an index.
    :param slots: whole GiB of its memory.
    """

    id: str
    card_class: str
    slots: int


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody who wants ``count`` cards of a class, of each ``share`` slots. All slots of a card: the card alone.

    :param weight: its priority, as Airflow's scheduler knows it (:mod:`airflow_monai.priorities`).
    :param number: drawn when it was first made.
    """

    name: str
    card_class: str
    count: int
    share: int
    weight: int
    number: int

    @property
    def rank(self) -> tuple[int, int]:
        """Its place in the queue; the smallest goes first."""
        return self.number - HEAD_START * max(0, min(self.weight, HIGHEST_WEIGHT)), self.number

    def can_fit(self, cards: Iterable[Card]) -> bool:
        """Whether it would be met if all these cards were free."""
        return len([c for c in cards if c.card_class == self.card_class and c.slots >= self.share]) >= self.count


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request now.

    :param cards: ids of what it gets, none while it waits.
    :param position: its place among those who want cards of its class now, from 1; 0 when it gets its cards.
    :param reserved: the cards that are kept for it, or for another one before it.
    """

    cards: tuple[str, ...] = ()
    position: int = 0
    reserved: tuple[str, ...] = ()


Pick = Callable[[Mapping[str, int], Request], tuple[str, ...]]
"""From the free slots of cards, the ids of those that a request gets; none where it does not fit."""


def best_fit(free: Mapping[str, int], request: Request) -> tuple[str, ...]:
    """The fullest cards that have room, so that the emptier ones stay good for large requests."""
    fitting = sorted((slots, id_) for id_, slots in free.items() if slots >= request.share)
    return tuple(id_ for _, id_ in fitting[: request.count]) if len(fitting) >= request.count else ()


def free_slots(cards: Sequence[Card], taken: Iterable[tuple[Iterable[str], int]], card_class: str) -> dict[str, int]:
    """Free slots of each card of a class.

    :param taken: cards and the slots that a lease has on each.
    """
    free = {card.id: card.slots for card in cards if card.card_class == card_class}
    for ids, share in taken:
        for id_ in ids:
            if id_ in free:
                free[id_] = max(0, free[id_] - share)
    return free


def choose(free: Mapping[str, int], queue: Iterable[Request], name: str, pick: Pick = best_fit) -> Verdict:
    """What the request of this name gets now.

    :param free: slots of the cards of its class.
    :param queue: all that want cards of this class now, in any order; it is one of them.
    """
    return next(verdict for request, verdict in in_turn(free, queue, pick) if request.name == name)


def in_turn(
    free: Mapping[str, int], queue: Iterable[Request], pick: Pick = best_fit
) -> Iterator[tuple[Request, Verdict]]:
    """What each gets, the first in the order first, when all before it have taken what they get."""
    left = dict(free)
    reserved: tuple[str, ...] = ()
    for position, request in enumerate(sorted(queue, key=lambda waiting: waiting.rank), 1):
        chosen = pick({id_: slots for id_, slots in left.items() if id_ not in reserved}, request)
        if not chosen and not reserved:
            reserved = emptiest(left, request)
        yield request, Verdict(chosen, 0 if chosen else position, reserved)
        for id_ in chosen:
            left[id_] -= request.share


def emptiest(free: Mapping[str, int], request: Request) -> tuple[str, ...]:
    """The cards that need the least emptying for a request."""
    order = sorted((-min(slots, request.share), slots, id_) for id_, slots in free.items())
    return tuple(id_ for *_, id_ in order[: request.count])
