"""Which cards a request gets, and whom it lets pass."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_monai.gpu.choice import HEAD_START, Request, best_fit, choose

FREE = {"a": 40, "b": 24, "c": 10}


def request(name: str, share: int, *, number: int = 1, count: int = 1, weight: int = 20) -> Request:
    return Request(name, "a100", count, share, weight, number)


@pytest.mark.parametrize(
    ("share", "count", "cards"),
    [(8, 1, "c"), (10, 1, "c"), (11, 1, "b"), (25, 1, "a"), (41, 1, ""), (10, 2, "cb"), (20, 2, "ba"), (30, 2, "")],
)
def test_the_fullest_card_with_room(share, count, cards):
    assert best_fit(FREE, request("x", share, count=count)) == tuple(cards)


def test_what_is_free_is_not_given_to_one_that_comes_after_those_who_take_it_all():
    queue = [request("first", 40, number=1), request("second", 24, number=2), request("third", 24, number=3)]
    assert choose(FREE, queue, "second").cards == ("b",), "though the first has not come for its card yet"
    third = choose(FREE, queue, "third")
    assert (third.cards, third.position) == ((), 3)


def test_only_so_many_pass_one_of_a_batch():
    passing = [request(f"urgent {n}", 40, number=n, weight=30) for n in range(2, 300)]
    order = sorted([request("batch", 40, number=1, weight=10), *passing], key=lambda waiting: waiting.rank)
    assert [waiting.name for waiting in order].index("batch") == 20 * HEAD_START - 1


def test_a_weight_beyond_urgent_is_no_more_than_urgent():
    assert request("x", 1, weight=10_000).rank == request("x", 1, weight=30).rank
    assert request("x", 1, weight=-5).rank == request("x", 1, weight=0).rank


requests = st.builds(
    lambda share, count, weight: (share, count, weight),
    st.integers(1, 40),
    st.integers(1, 3),
    st.sampled_from([5, 10, 20, 30]),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(4, 40), min_size=1, max_size=5), st.lists(requests, max_size=40), st.integers(0, 10**6))
def test_every_request_gets_its_cards_whatever_else_comes_and_no_card_is_overfull(sizes, wanted, seed):
    """Random arrivals and ends; who waits polls in random order, as processes do."""
    slots = {f"card {n}": size for n, size in enumerate(sizes)}
    dice = random.Random(seed)
    free, queue, running = dict(slots), {}, {}
    wanted = [one for one in wanted if sum(size >= one[0] for size in sizes) >= one[1]]
    for number, (share, count, weight) in enumerate([*wanted, *[(None, 0, 0)] * (4 * len(wanted))]):
        if share is not None:
            queue[number] = request(str(number), share, number=number, count=count, weight=weight)
        _served(free, queue, running, dice)
        if running and dice.random() < 0.7:
            _end(free, running, dice.choice(list(running)))
    while running:
        _end(free, running, next(iter(running)))
        _served(free, queue, running, dice)
    assert not queue and free == slots


def _served(free, queue, running, dice):
    for name in dice.sample(sorted(queue), len(queue)):
        first = min(queue.values(), key=lambda waiting: waiting.rank)
        verdict = choose(free, queue.values(), str(name))
        if best_fit(free, first) and first.name == str(name):
            assert verdict.cards, "the first in the order is never kept from what is free"
        if verdict.cards:
            mine = queue.pop(name)
            assert len(set(verdict.cards)) == mine.count
            for card in verdict.cards:
                free[card] -= mine.share
                assert free[card] >= 0
            running[name] = (verdict.cards, mine.share)


def _end(free, running, name):
    cards, share = running.pop(name)
    for card in cards:
        free[card] += share


@pytest.mark.parametrize("weight", [10, 20])
def test_a_large_one_is_not_starved_by_a_stream_of_small_ones(weight):
    """Small ones come as fast as they go, on two cards that are never empty by themselves."""
    slots = {"a": 40, "b": 40}
    dice, free, running, queue = random.Random(2), dict(slots), {}, {}
    queue[0] = request("0", 40, number=0, weight=weight)
    for card in slots:
        for piece in range(4):
            running[f"old {card}{piece}"] = ((card,), 10)
        free[card] = 0
    for number in range(1, 400):
        queue[number] = request(str(number), 10, number=number)
        _served(free, queue, running, dice)
        if 0 not in queue:
            break
        _end(free, running, dice.choice(list(running)))
    assert number <= (100 if weight == 10 else 30), "one of a batch lets 50 routine ones pass, another none for long"
