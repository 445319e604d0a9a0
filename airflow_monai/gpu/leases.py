"""Leases of the cards of this host: who gets which, who waits, and when a card is free again.

A lease belongs to a job, which is a generation of a task, and not to the process that asked for it. Asking again under
the same name, after a crash too, gives the same cards. It ends when it is released, which its task does after the job
is gone; or, when its process is dead, as soon as somebody who waits finds that the job is gone. No clock ends it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from airflow_monai.errors import CapacityError, CardsBusy, NoCard
from airflow_monai.gpu.choice import Card, Pick, Request, best_fit, choose, free_slots
from airflow_monai.gpu.lease_folder import Change, LeaseFolder, boot_id, since_boot
from airflow_monai.gpu.lease_state import Lease, State, Ticket, slots_of

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
LOOK_SECONDS = 2.0
"""How often one who waits asks after the jobs of dead processes."""
SAY_AGAIN_SECONDS = 60.0
BACK_SECONDS = 30.0
"""One who gave up waiting comes back after so long."""
KEPT_SECONDS = 90.0
"""Cards are kept for it so much longer, as a worker has to be found for it. Its age is not lost then."""
NAMES_TOLD = 3


@dataclass(frozen=True, slots=True)
class Want:
    """Cards that a job needs: ``count`` of a class, ``share`` slots of each. All slots of a card: it alone.

    :param weight: its priority, as Airflow's scheduler knows it.
    """

    card_class: str
    count: int
    share: int
    weight: int = 20


@dataclass(frozen=True, slots=True)
class Holder:
    """A job that a lease is for.

    :param engine: runner and engine that it runs on; only there can it be asked after.
    :param state: its state folder.
    """

    name: str
    engine: str
    state: str


@dataclass(frozen=True, slots=True)
class Leased:
    """Cards that a job has now.

    :param wait_seconds: how long it waited for them, in all.
    :param found_again: it had them before this process asked.
    :param keep_open: file descriptor by which another process can keep the lease alive.
    """

    cards: tuple[str, ...]
    share: int
    wait_seconds: float
    found_again: bool
    keep_open: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one who waits can say.

    :param position: counts from 1.
    :param waited: seconds since it first asked, also those in which it was away.
    """

    position: int
    text: str
    waited: float = 0.0


Holds = Callable[[Lease], bool]
"""Whether the job of a lease, whose process is dead, may still use its cards."""


@dataclass(slots=True)
class Leases:
    """The cards of this host.

    :param cards: of all classes.
    :param host: its name in the inventory, for messages.
    :param aliases: what a card was called before -> its id.
    """

    folder: LeaseFolder
    cards: Sequence[Card]
    host: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    pick: Pick = best_fit

    def acquire(
        self,
        want: Want,
        holder: Holder,
        *,
        wait_seconds: float,
        total_seconds: float = 0.0,
        holds: Holds,
        check: Callable[[], None] = lambda: None,
        on_wait: Callable[[Waiting], None] = lambda _: None,
    ) -> Leased:
        """The job's cards, waited for if need be.

        :param wait_seconds: after so long :class:`CardsBusy` is raised; the place in the queue is kept.
        :param total_seconds: after so long since it first asked :class:`NoCard` is raised, and the place given up; 0
            for no end.
        :param check: called before each look; what it raises ends the waiting and gives up the place.
        :param on_wait: told when the waiting begins, when its reason changes, and once a minute.
        :raises CapacityError: when this host can never give it.
        :raises LeaseError: when the folder cannot be used.
        """
        self._check_possible(want)
        begun = time.monotonic()
        news = _News(on_wait)
        pause, next_look = FIRST_PAUSE, begun
        try:
            while True:
                check()
                with self.folder.change() as change:
                    waiting = self._ask(change, want, holder, time.monotonic() - begun)
                if isinstance(waiting, Leased):
                    return waiting
                news.tell(waiting)
                now = time.monotonic()
                if now >= next_look:
                    next_look = now + LOOK_SECONDS
                    if self._reclaim(want.card_class, holds):
                        continue
                if 0 < total_seconds <= waiting.waited:
                    raise NoCard(
                        f"{holder.name} has been {waiting.text} for {waiting.waited / 60:.0f} minutes in all, as long "
                        "as [monai] gpu_wait_total_minutes allows. See `airflow monai pools show` on this host for who "
                        "has its cards, then clear the task; or raise the setting."
                    )
                if now - begun >= wait_seconds:
                    self._step_back(holder.name, now - begun)
                    in_all = f" of {total_seconds / 60:.0f}" if total_seconds > 0 else ""
                    raise CardsBusy(
                        f"{holder.name} has been {waiting.text} for {(now - begun) / 60:.1f} minutes, as long as "
                        "[monai] gpu_wait_minutes allows. It gives its slots back and keeps its place; it has waited "
                        f"{waiting.waited / 60:.1f}{in_all} minutes in all.",
                        back_in_seconds=BACK_SECONDS,
                    )
                time.sleep(min(pause * random.uniform(0.8, 1.2), max(0.0, begun + wait_seconds - now) + 0.01))
                pause = min(LONGEST_PAUSE, pause * 1.3)
        except CardsBusy:
            raise
        except BaseException:
            self._leave_queue(holder.name)
            raise

    def release(self, name: str) -> None:
        """As the function of this name."""
        release(self.folder, name)

    def _check_possible(self, want: Want) -> None:
        request = Request("", want.card_class, want.count, want.share, want.weight, 0)
        if not request.can_fit(self.cards):
            raise CapacityError(
                f"{_asked(want)} of class {want.card_class} can never be had on this host ({self.host}), which has "
                f"{self._offer()}. Let such tasks run on a host that has the cards (a queue of their own), ask for "
                "less, or correct the inventory: `airflow monai pools sync`."
            )

    def _offer(self) -> str:
        classes = sorted({(card.card_class, card.slots) for card in self.cards})
        kinds = (f"{_number(self.cards, name)} x {name} with {slots} GiB" for name, slots in classes)
        return ", ".join(kinds) or "no cards in the inventory"

    def _ask(self, change: Change, want: Want, holder: Holder, waited: float) -> Leased | Waiting:
        """Within a change: take the cards if it is the job's turn, else take or keep its place."""
        state = self._current(change.state)
        held = state.lease(holder.name)
        if held is not None:
            mark = held.owner if self._is_mine(held.owner) else change.begin()
            change.state = state.with_lease(replace(held, owner=mark, pid=_pid(mark), engine=holder.engine))
            return Leased(held.cards, held.share, held.waited, True, self.folder.descriptor(mark))
        ticket = state.ticket(holder.name)
        if ticket is None:
            number, state = state.drawn()
            ticket = Ticket(holder.name, want.card_class, want.count, want.share, number, want.weight, owner="", pid=0)
        mark = ticket.owner if self._is_mine(ticket.owner) else change.begin()
        before = round(ticket.waited + _away(ticket), 3)
        ticket = replace(ticket, weight=want.weight, owner=mark, pid=_pid(mark), back_at=None, waited=before)
        queue = [t.request for t in state.tickets if t.name != ticket.name and self._is_waiting(t)]
        queue = [*(r for r in queue if r.card_class == want.card_class), ticket.request]
        verdict = choose(free_slots(self.cards, state.taken(), want.card_class), queue, ticket.name, self.pick)
        if not verdict.cards:
            change.state = state.with_ticket(ticket) if ticket not in state.tickets else state
            return Waiting(verdict.position, self._reason(state, want, verdict.position), ticket.waited + waited)
        lease = Lease(
            name=ticket.name,
            cards=verdict.cards,
            share=want.share,
            number=ticket.number,
            weight=want.weight,
            owner=mark,
            pid=_pid(mark),
            engine=holder.engine,
            state=holder.state,
            waited=round(ticket.waited + waited, 3),
        )
        change.state = state.with_lease(lease)
        return Leased(lease.cards, lease.share, lease.waited, False, self.folder.descriptor(mark))

    def _current(self, state: State) -> State:
        """The state with the cards as they are now; places that were kept by the clock of another boot are not."""
        if state.boot != boot_id():
            tickets = tuple(replace(ticket, back_at=None) for ticket in state.tickets)
            state = replace(state, boot=boot_id(), tickets=tickets)
        return replace(state.renamed(self.aliases), slots=self._slots(state))

    def _slots(self, state: State) -> dict[str, int]:
        """Of the cards as they are now, and of those that had more when they were leased."""
        now = slots_of(self.cards)
        for id_ in now:
            used = sum(lease.share for lease in state.leases if id_ in lease.cards)
            now[id_] = max(now[id_], used)
        return now

    def _is_waiting(self, ticket: Ticket) -> bool:
        """Whether its place counts: somebody waits there, or is to come back."""
        if ticket.owner:
            return self.folder.lives(ticket.owner)
        return ticket.back_at is not None and since_boot() < ticket.back_at

    def _is_mine(self, mark: str) -> bool:
        return self.folder.descriptor(mark) is not None

    def _reclaim(self, card_class: str, holds: Holds) -> bool:
        """Free what dead processes held for jobs that are gone; whether there was anything.

        Jobs are asked after without the lock, which takes its time. Who asks for such a job again meanwhile is the
        owner then, and its lease stays.
        """
        ids = {card.id for card in self.cards if card.card_class == card_class}
        state = self.folder.read().renamed(self.aliases)
        dead = [le for le in state.leases if ids & set(le.cards) and not self.folder.lives(le.owner)]
        gone = [lease for lease in dead if not holds(lease)]
        if not gone:
            return False
        with self.folder.change() as change:
            for lease in gone:
                now = change.state.lease(lease.name)
                if now is not None and now.owner == lease.owner and not self.folder.lives(now.owner):
                    change.state = change.state.without(lease.name)
        return True

    def _step_back(self, name: str, waited: float) -> None:
        """Keep the place in the queue, for one who comes back."""
        with self.folder.change() as change:
            ticket = change.state.ticket(name)
            if ticket is not None and self._is_mine(ticket.owner):
                back_at = since_boot() + BACK_SECONDS + KEPT_SECONDS
                away = replace(ticket, owner="", pid=0, back_at=back_at, waited=round(ticket.waited + waited, 3))
                change.state = change.state.with_ticket(away)

    def _leave_queue(self, name: str) -> None:
        if self.folder.is_changing:
            return
        with self.folder.change() as change:
            ticket = change.state.ticket(name)
            if ticket is not None and self._is_mine(ticket.owner):
                change.state = change.state.without(name)

    def _reason(self, state: State, want: Want, position: int) -> str:
        ids = {card.id for card in self.cards if card.card_class == want.card_class}
        holders = sorted(lease.name for lease in state.leases if ids & set(lease.cards))
        names = ", ".join(holders[:NAMES_TOLD]) + (f" and {len(holders) - NAMES_TOLD} more" if holders[3:] else "")
        held = f"held by {names}" if holders else "kept for those who came before"
        return f"waiting for {_asked(want)} of {len(ids)} x {want.card_class}: position {position}; {held}"


def release(folder: LeaseFolder, name: str) -> None:
    """The job is gone: its cards are free. A lease that another living process holds by now stays.

    In a signal handler that came in the middle of a change nothing is done; its task releases once more at its end.
    """
    if folder.is_changing:
        return
    state = folder.read()
    if state.lease(name) is None and state.ticket(name) is None:
        return
    with folder.change() as change:
        entry = change.state.lease(name) or change.state.ticket(name)
        if entry is not None and (folder.descriptor(entry.owner) is not None or not folder.lives(entry.owner)):
            change.state = change.state.without(name)


@dataclass(slots=True)
class _News:
    """Tells what has changed, and now and then that nothing has."""

    on_wait: Callable[[Waiting], None]
    told: str = ""
    told_at: float = 0.0

    def tell(self, waiting: Waiting) -> None:
        now = time.monotonic()
        if waiting.text != self.told or now - self.told_at >= SAY_AGAIN_SECONDS:
            self.told, self.told_at = waiting.text, now
            self.on_wait(waiting)


def _asked(want: Want) -> str:
    return f"{want.share} GiB on {'one' if want.count == 1 else f'each of {want.count}'}"


def _number(cards: Sequence[Card], card_class: str) -> int:
    return sum(card.card_class == card_class for card in cards)


def _away(ticket: Ticket) -> float:
    """For how long nobody has waited at a place that was kept, in seconds; 0 where one does."""
    if ticket.back_at is None:
        return 0.0
    return max(0.0, since_boot() - (ticket.back_at - BACK_SECONDS - KEPT_SECONDS))


def _pid(mark: str) -> int:
    return int(mark.partition("-")[0])
