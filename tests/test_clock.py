"""Clock: a hand that the tests move tells the time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from embedfield.clock import PARTS, Clock


class Hand:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    """Return what all clocks read."""
    hand = Hand()
    monkeypatch.setattr("embedfield.clock.time.perf_counter", hand)
    return hand


def test_parts_of_one_name_add_up(hand: Hand) -> None:
    clock = Clock()
    for seconds in (2, 3):
        with clock.part("packing"):
            hand.now += seconds
        hand.now += 10
    assert clock.seconds == {"computing": 0, "packing": 5, "writing": 0}


def test_what_several_threads_do_at_once_counts_once(hand: Hand) -> None:
    clock = Clock()
    first, second = clock.part("writing"), clock.part("writing")
    first.__enter__()
    hand.now = 2
    second.__enter__()
    hand.now = 5
    first.__exit__(None, None, None)
    hand.now = 6
    second.__exit__(None, None, None)
    hand.now = 9
    assert clock.seconds["writing"] == 6


def test_parts_that_overlap_count_each_for_itself(hand: Hand) -> None:
    clock = Clock()
    with clock.part("computing"):
        hand.now = 1
        with clock.part("packing"):
            hand.now = 4
    assert clock.seconds == {"computing": 4, "packing": 3, "writing": 0}


def test_a_part_that_fails_counts_until_then(hand: Hand) -> None:
    clock = Clock()

    def fail() -> None:
        with clock.part("writing"):
            hand.now = 3
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert clock.seconds["writing"] == 3
    with clock.part("writing"):
        hand.now = 4
    assert clock.seconds["writing"] == 4


def test_many_threads_lose_no_part() -> None:
    clock, gate = Clock(), threading.Barrier(8)

    def work() -> None:
        gate.wait()
        for _ in range(200):
            with clock.part("packing"), clock.part("own"):
                clock.line()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(8)]:
            done.result()
    assert list(clock.seconds) == [*PARTS, "own"]
    assert clock.seconds["packing"] > 0


def test_the_line_tells_each_part_and_which_was_longest(hand: Hand) -> None:
    clock = Clock()
    for name, seconds in (("computing", 5.21), ("packing", 0.6), ("writing", 0.94)):
        with clock.part(name):
            hand.now += seconds
    assert clock.line() == "computing 5.2 s, packing 0.6 s, writing 0.9 s; limited by computing"


def test_the_line_of_a_build_that_had_nothing_to_do_blames_no_part() -> None:
    assert Clock().line() == "computing 0.0 s, packing 0.0 s, writing 0.0 s"
