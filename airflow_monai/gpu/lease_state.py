"""What the file of leases holds: who has which cards of this host, and who waits for some."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_monai.gpu.choice import Card, Request

FORMAT = 1
FORGOTTEN_AFTER = 1000
"""A request that nobody has come back for loses its age when so many came after it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Cards that a job has.

    :param name: of the job: of a generation of a task, not of a try or a process.
    :param cards: ids of the cards.
    :param share: slots of each.
    :param owner: mark of the process that holds it now (:mod:`airflow_monai.gpu.lease_folder`).
    :param pid: of that process, for people.
    :param engine: what runs the job, as :class:`airflow_monai.gpu.leases.Holder` names it.
    :param state: the job's state folder, by which a runner finds it.
    :param waited: seconds that it waited for its cards.
    """

    name: str
    cards: tuple[str, ...]
    share: int
    number: int
    weight: int
    owner: str
    pid: int
    engine: str
    state: str
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """The place in the queue of a job that waits.

    :param owner: of the process that waits now; empty while none does.
    :param back_at: while nobody waits: seconds since the host's start until which its place is kept. Its age is kept
        longer.
    :param waited: seconds that it waited before, also between its processes.
    """

    name: str
    card_class: str
    count: int
    share: int
    number: int
    weight: int
    owner: str
    pid: int
    back_at: float | None = None
    waited: float = 0.0

    @property
    def request(self) -> Request:
        return Request(self.name, self.card_class, self.count, self.share, self.weight, self.number)


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the file says.

    :param boot: the start of the host at which it was written last.
    :param next_number: what the next request draws.
    :param slots: of the cards as the writer knew them, for those who look on.
    """

    boot: str
    next_number: int = 1
    leases: tuple[Lease, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    slots: Mapping[str, int] | None = None

    def lease(self, name: str) -> Lease | None:
        return next((lease for lease in self.leases if lease.name == name), None)

    def ticket(self, name: str) -> Ticket | None:
        return next((ticket for ticket in self.tickets if ticket.name == name), None)

    def with_lease(self, lease: Lease) -> State:
        """With the lease in place of one, or of a ticket, of the same name."""
        cleared = self.without(lease.name)
        return replace(cleared, leases=(*cleared.leases, lease))

    def with_ticket(self, ticket: Ticket) -> State:
        cleared = self.without(ticket.name)
        return replace(cleared, tickets=(*cleared.tickets, ticket))

    def without(self, name: str) -> State:
        leases = tuple(lease for lease in self.leases if lease.name != name)
        tickets = tuple(ticket for ticket in self.tickets if ticket.name != name)
        return replace(self, leases=leases, tickets=tickets)

    def taken(self) -> Iterable[tuple[tuple[str, ...], int]]:
        """For :func:`airflow_monai.gpu.choice.free_slots`."""
        return ((lease.cards, lease.share) for lease in self.leases)

    def owners(self) -> set[str]:
        return {lease.owner for lease in self.leases} | {t.owner for t in self.tickets if t.owner}

    def drawn(self) -> tuple[int, State]:
        """A number, and what is left; requests that nobody came back for are forgotten at last."""
        kept = tuple(t for t in self.tickets if self.next_number - t.number < FORGOTTEN_AFTER)
        return self.next_number, replace(self, next_number=self.next_number + 1, tickets=kept)

    def renamed(self, ids: Mapping[str, str]) -> State:
        """With cards by other names, where they have one: a card known by its index has got to be known by its id."""
        if not any(card in ids for lease in self.leases for card in lease.cards):
            return self
        renamed = (replace(le, cards=tuple(ids.get(card, card) for card in le.cards)) for le in self.leases)
        return replace(self, leases=tuple(renamed))

    def to_json(self) -> bytes:
        """A line for each lease and each place in the queue, for people who look into the file."""
        head = json.dumps({"format": FORMAT, "boot": self.boot, "next_number": self.next_number, "slots": self.slots})
        return f'{head[:-1]},\n"leases": {_lines(self.leases)},\n"tickets": {_lines(self.tickets)}}}\n'.encode()

    @classmethod
    def from_json(cls, text: bytes) -> State:
        """The state that ``to_json`` made this of.

        :raises ValueError: when it is anything else.
        """
        data = json.loads(text)
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            raise ValueError(f"it is not of format {FORMAT}")
        try:
            leases = tuple(_lease(entry) for entry in data.pop("leases"))
            tickets = tuple(Ticket(**entry) for entry in data.pop("tickets"))
            state = cls(**data, leases=leases, tickets=tickets)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        state.check()
        return state

    def check(self) -> None:
        """Raise ValueError when a card is given away beyond what it has, or a name twice."""
        names = [lease.name for lease in self.leases] + [ticket.name for ticket in self.tickets]
        if len(set(names)) != len(names):
            raise ValueError("a name is there twice")
        if not all(isinstance(lease.share, int) and lease.share > 0 for lease in self.leases):
            raise ValueError("a lease without a share")
        for id_, slots in (self.slots or {}).items():
            if sum(lease.share for lease in self.leases if id_ in lease.cards) > slots:
                raise ValueError(f"card {id_} is given away beyond its {slots} slots")


def slots_of(cards: Iterable[Card]) -> dict[str, int]:
    return {card.id: card.slots for card in cards}


def _lines(entries: Iterable[Lease | Ticket]) -> str:
    lines = (json.dumps({name: getattr(entry, name) for name in entry.__slots__}) for entry in entries)
    return f"[{','.join(chr(10) + line for line in lines)}]"


def _lease(entry: Mapping[str, Any]) -> Lease:
    return Lease(**{**entry, "cards": tuple(entry["cards"])})
