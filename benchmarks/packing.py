"""A simulated day on a host's cards: how busy they are, against the best that is possible, and who waits how long.

The requests are of the applications of a hospital: sizes from 2 GiB to whole cards and two cards, minutes of work, a
cohort of a batch from the first minute on, arrivals with peaks in the morning and in the afternoon, some urgent; in all
most of what the cards can do in a day, or a little more than that. Which card a request gets, and whom it lets pass,
decides the function that leases use (:func:`airflow_monai.gpu.choice.in_turn`). Airflow's pool is before it: it lets in
what fits by the sum of GiB, the highest weight first, and passes over what does not fit; urgent requests take one slot.

Busy time is the GiB hours that the cards worked within the day. The best possible is a bound of it: by the end, no more
can be done than what came until any moment and what all cards can do from then on.

python -m benchmarks.packing prints all ways to choose a card beside each other, and how long whom they keep waiting;
also how long the day took until all was done, beside the least that it could take.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from airflow_monai.gpu.choice import Card, Pick, Request, Verdict, best_fit, in_turn
from airflow_monai.gpu.pools import URGENT_SLOTS
from airflow_monai.priorities import WEIGHTS
from benchmarks.table import Row

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SEEDS = 2
LOADS = (0.85, 1.05)
"""Of what the cards can do in a day: a busy day, and one that is too much for them."""

WAIT_MINUTES, BACK_SECONDS = 10.0, 30.0
SIZES = (2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32)
AS_IT_IS = {WEIGHTS["urgent"]: URGENT_SLOTS}
NAMES = {weight: name for name, weight in WEIGHTS.items()}


@dataclass(frozen=True, slots=True)
class Job:
    """A task that wants cards."""

    number: int
    arrives: float
    seconds: float
    count: int
    share: int
    weight: int

    @property
    def kind(self) -> tuple[int, int]:
        """Jobs of a kind are runs of one task."""
        return self.count, self.share


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    cards: int
    gib: int
    exclusive: bool = False


HOSTS = (
    Host("1 x 24 GiB", 1, 24),
    Host("2 x 40 GiB", 2, 40),
    Host("4 x 40 GiB", 4, 40),
    Host("8 x 80 GiB", 8, 80),
    Host("7 MIG slices", 7, 4, exclusive=True),
)
Order = Callable[[Mapping[str, int], Iterable[Request], Pick], Iterator[tuple[Request, Verdict]]]


@dataclass(slots=True)
class Day:
    """What became of a day."""

    makespan: float = 0.0
    busy: float = 0.0
    waits: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    waits_whole: list[float] = field(default_factory=list)
    sent_back: int = 0
    choices: int = 0
    choosing: float = 0.0


def jobs_of(host: Host, load: float, seed: int) -> list[Job]:
    """A day's work for the cards of a host.

    :param load: of what they can do.
    """
    dice = random.Random(f"{host.name} {load} {seed}")
    wanted, jobs, area = load * host.cards * host.gib * DAY, [], 0.0
    while area < wanted:
        count, share, minutes = _size(host, dice)
        weight = dice.choices(list(WEIGHTS.values()), [10, 60, 30])[0]
        seconds = min(30 * MINUTE, dice.lognormvariate(math.log(minutes * MINUTE), 0.5))
        arrives = 0.0 if weight == WEIGHTS["batch"] else _arrival(dice)
        jobs.append(Job(len(jobs), arrives, seconds, count, share, weight))
        area += count * share * seconds
    return sorted(jobs, key=lambda job: (job.arrives, job.number))


def _size(host: Host, dice: random.Random) -> tuple[int, int, float]:
    """Cards, GiB of each, and minutes."""
    if host.exclusive:
        return 1, host.gib, dice.choice([1, 2, 4])
    kind = dice.random()
    if kind < 0.01 and host.cards > 1:
        return 2, host.gib, 8
    if kind < 0.06:
        return 1, host.gib, 6
    sizes = [gib for gib in SIZES if gib < host.gib]
    share = dice.choices(sizes, [1 / gib for gib in sizes])[0]
    return 1, share, 1.5 + share / host.gib * 5


def _arrival(dice: random.Random) -> float:
    """Most come in the morning and in the afternoon, some at night."""
    while True:
        hour = dice.choice([dice.gauss(9.5, 1.5), dice.gauss(14.5, 1.5), dice.uniform(0, 24)])
        if 0 <= hour < 24:
            return hour * HOUR


def most_busy(host: Host, jobs: list[Job]) -> float:
    """GiB seconds that cannot be surpassed within the day."""
    capacity, came = host.cards * host.gib, 0.0
    bounds = [capacity * DAY]
    for job, after in zip(jobs, [*jobs[1:], None], strict=True):
        came += job.count * job.share * job.seconds
        bounds.append(came + capacity * max(0.0, DAY - (after.arrives if after else DAY)))
    return min(bounds)


def least_time(host: Host, jobs: list[Job]) -> float:
    """No order and no choice of cards ends all jobs before.

    At every moment, what arrives from then on needs at least the sum of its GiB seconds, where what is more than half a
    card counts as much as it keeps others out.
    """
    bounds = [job.arrives + job.seconds for job in jobs]
    for small in range(host.gib // 2 + 1):
        area = 0.0
        for job in sorted(jobs, key=lambda job: -job.arrives):
            area += job.count * _space(job.share, small, host.gib) * job.seconds
            bounds.append(job.arrives + area / (host.cards * host.gib))
    return max(bounds)


def _space(share: int, small: int, gib: int) -> int:
    """A share beside which nothing but small ones fits counts as a whole card, and the small ones as nothing."""
    return gib if share > gib - small else 0 if share < small else share


def simulate(
    host: Host, jobs: list[Job], pick: Pick = best_fit, order: Order = in_turn, *, most: Mapping[int, int] = AS_IT_IS
) -> Day:
    """Run a day's jobs on the cards of a host.

    :param most: slots of the pool that a job takes at most, by its weight.
    """
    return _Simulation(host, jobs, pick, order, most).run()


class _Simulation:
    def __init__(self, host: Host, jobs: list[Job], pick: Pick, order: Order, most: Mapping[int, int]):
        self.pick, self.order, self.most = pick, order, most
        self.cards = [Card(f"card {index}", "x", host.gib) for index in range(host.cards)]
        self.free = {card.id: card.slots for card in self.cards}
        self.slots = host.cards * host.gib
        self.jobs = {job.number: job for job in jobs}
        self.outside: dict[tuple[int, tuple[int, int]], list[tuple[float, int]]] = {}
        self.queue: dict[str, Request] = {}
        self.let_in: dict[str, float] = {}
        self.numbers: dict[int, int] = {}
        self.events: list[tuple[float, int, str, int, tuple[str, ...]]] = []
        self.day = Day()
        self.count = 0
        for job in jobs:
            self._at(job.arrives, "arrives", job.number)

    def run(self) -> Day:
        while self.events:
            now = self.events[0][0]
            while self.events and self.events[0][0] == now:
                self._happens(now, *heapq.heappop(self.events)[2:])
            self._gate(now)
            self._lease(now)
        assert not self.queue and not self.outside and set(self.free.values()) == {self.cards[0].slots}
        return self.day

    def _at(self, when: float, what: str, number: int, cards: tuple[str, ...] = ()) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what, number, cards))

    def _happens(self, now: float, what: str, number: int, cards: tuple[str, ...]) -> None:
        job = self.jobs[number]
        if what in ("arrives", "is back"):
            heapq.heappush(self.outside.setdefault((-job.weight, job.kind), []), (job.arrives, number))
        elif what == "ends":
            for card in cards:
                self.free[card] += job.share
            self.slots += self._slots(job)
            self.day.makespan = now
        elif str(number) in self.queue and self.let_in[str(number)] + WAIT_MINUTES * MINUTE <= now:
            del self.queue[str(number)]
            self.slots += self._slots(job)
            self.day.sent_back += 1
            self._at(now + BACK_SECONDS, "is back", number)

    def _slots(self, job: Job) -> int:
        return min(job.count * job.share, self.most.get(job.weight, job.count * job.share))

    def _gate(self, now: float) -> None:
        """As Airflow's scheduler does it: by weight, then by age; a kind of which one does not fit is passed over."""
        too_large: set[tuple[int, int]] = set()
        while self.slots > 0:
            first = min(
                (
                    (weight, *waiting[0], kind)
                    for (weight, kind), waiting in self.outside.items()
                    if kind not in too_large
                ),
                default=None,
            )
            if first is None:
                return
            weight, _, number, kind = first
            job = self.jobs[number]
            if self._slots(job) > self.slots:
                too_large.add(kind)
                continue
            waiting = self.outside[weight, kind]
            heapq.heappop(waiting)
            if not waiting:
                del self.outside[weight, kind]
            self.slots -= self._slots(job)
            drawn = self.numbers.setdefault(number, len(self.numbers) + 1)
            self.queue[str(number)] = Request(str(number), "x", job.count, job.share, job.weight, drawn)
            self.let_in[str(number)] = now
            self._at(now + WAIT_MINUTES * MINUTE, "gives up", number)

    def _lease(self, now: float) -> None:
        begun = time.perf_counter()
        granted = [(request, verdict) for request, verdict in self.order(self.free, self.queue.values(), self.pick)]
        self.day.choosing += time.perf_counter() - begun
        self.day.choices += len(granted)
        for request, verdict in granted:
            if not verdict.cards:
                continue
            assert len(set(verdict.cards)) == request.count
            for card in verdict.cards:
                self.free[card] -= request.share
                assert self.free[card] >= 0, "over capacity"
            job = self.jobs[int(request.name)]
            del self.queue[request.name]
            self._at(now + job.seconds, "ends", job.number, verdict.cards)
            self.day.busy += job.count * job.share * max(0.0, min(now + job.seconds, DAY) - now)
            self.day.waits[job.weight].append(now - job.arrives)
            if job.share == self.cards[0].slots:
                self.day.waits_whole.append(now - job.arrives)


def first_fit(free: Mapping[str, int], request: Request) -> tuple[str, ...]:
    fitting = [id_ for id_, slots in free.items() if slots >= request.share]
    return tuple(fitting[: request.count]) if len(fitting) >= request.count else ()


def worst_fit(free: Mapping[str, int], request: Request) -> tuple[str, ...]:
    fitting = sorted((-slots, id_) for id_, slots in free.items() if slots >= request.share)
    return tuple(id_ for _, id_ in fitting[: request.count]) if len(fitting) >= request.count else ()


class RandomFit:
    def __init__(self) -> None:
        self.dice = random.Random(0)

    def __call__(self, free: Mapping[str, int], request: Request) -> tuple[str, ...]:
        fitting = [id_ for id_, slots in free.items() if slots >= request.share]
        return tuple(self.dice.sample(fitting, request.count)) if len(fitting) >= request.count else ()


def without_reservation(
    free: Mapping[str, int], queue: Iterable[Request], pick: Pick
) -> Iterator[tuple[Request, Verdict]]:
    """Whoever fits goes, as a scheduler does that passes over what does not fit."""
    left = dict(free)
    for request in sorted(queue, key=lambda waiting: waiting.rank):
        chosen = pick(left, request)
        yield request, Verdict(chosen)
        for id_ in chosen:
            left[id_] -= request.share


def one_after_the_other(
    free: Mapping[str, int], queue: Iterable[Request], pick: Pick
) -> Iterator[tuple[Request, Verdict]]:
    """Nobody passes anybody."""
    for request, verdict in without_reservation(free, queue, pick):
        if not verdict.cards:
            return
        yield request, verdict


WAYS: dict[str, tuple[Pick, Order]] = {
    "best fit (ours)": (best_fit, in_turn),
    "first fit": (first_fit, in_turn),
    "worst fit": (worst_fit, in_turn),
    "random": (RandomFit(), in_turn),
    "best fit, nothing reserved": (best_fit, without_reservation),
    "best fit, nobody passes": (best_fit, one_after_the_other),
}


def run() -> list[Row]:
    return [_row(host, load) for load in LOADS for host in HOSTS]


def _row(host: Host, load: float) -> Row:
    days = [jobs_of(host, load, seed) for seed in range(SEEDS)]
    done = [simulate(host, jobs) for jobs in days]
    ratio = _busy(host, days, done)
    ways = {name: WAYS[name] for name in ("first fit", "worst fit")}
    others = {name: _busy(host, days, [simulate(host, jobs, *way) for jobs in days]) for name, way in ways.items()}
    longest = max(wait for day in done for wait in day.waits[WEIGHTS["urgent"]]) / 60
    return Row(
        benchmark="packing",
        case=f"busy time of a day, {host.name}, requests for {load:.0%}",
        ours=f"{ratio:.3f} of the best possible; longest wait of an urgent one {longest:.0f} min",
        peer="other ways to choose a card",
        theirs=", ".join(f"{name} {other:.3f}" for name, other in others.items()),
        ratio=ratio,
        bar=">= 0.9",
        better="higher",
    )


def _busy(host: Host, days: list[list[Job]], done: list[Day]) -> float:
    return statistics.fmean(day.busy / most_busy(host, jobs) for jobs, day in zip(days, done, strict=True))


def _length(host: Host, days: list[list[Job]], done: list[Day]) -> float:
    return statistics.fmean(day.makespan / least_time(host, jobs) for jobs, day in zip(days, done, strict=True))


def main() -> int:
    for load in LOADS:
        print(f"\nRequests for {load:.0%} of what the cards can do. Waits in minutes: median / 95 of 100 / longest.")
        for host in HOSTS:
            days = [jobs_of(host, load, seed) for seed in range(SEEDS)]
            print(f"\n{host.name}: {len(days[0])} requests a day")
            for name, (pick, order) in WAYS.items():
                _print(name, host, days, [simulate(host, jobs, pick, order) for jobs in days])
            _print("urgent ones wait for slots", host, days, [simulate(host, jobs, most={}) for jobs in days])
    return 0


def _print(name: str, host: Host, days: list[list[Job]], done: list[Day]) -> None:
    ratios = f"busy {_busy(host, days, done):.3f}, all done after {_length(host, days, done):.2f}"
    print(f"  {name:<27} {ratios}  {_told(done)}", flush=True)


def _told(done: list[Day]) -> str:
    waits = {NAMES[weight]: [wait for day in done for wait in day.waits[weight]] for weight in NAMES}
    waits["whole cards"] = [wait for day in done for wait in day.waits_whole]
    cost = 1e6 * sum(day.choosing for day in done) / max(1, sum(day.choices for day in done))
    spread = "  ".join(f"{kind} {_spread(found)}" for kind, found in waits.items() if found)
    return f"{spread}  sent back {sum(day.sent_back for day in done)}, {cost:.0f} us a look"


def _spread(waits: list[float]) -> str:
    ordered = sorted(waits)
    return "/".join(f"{ordered[min(len(ordered) - 1, int(part * len(ordered)))] / 60:.0f}" for part in (0.5, 0.95, 1))


if __name__ == "__main__":
    sys.exit(main())
