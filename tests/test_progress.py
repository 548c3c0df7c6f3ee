"""Progress says how far a command is, and says nothing of what is short."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from embedfield import progress as progressing
from embedfield.progress import Progress, shown

if TYPE_CHECKING:
    from collections.abc import Callable


class Hand:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand() -> Hand:
    """The time."""
    return Hand()


@pytest.fixture
def build(hand: Hand) -> Progress:
    """A build that begins."""
    return Progress("building geoclip", "pixels", hand)


def test_a_step_is_told_by_its_name(build: Progress) -> None:
    assert str(build) == ""
    build.step("measuring the range of each band")
    assert str(build) == "measuring the range of each band"


def test_pixels_are_told_with_speed_and_time_left(build: Progress, hand: Hand) -> None:
    build.count(0, 648_000)
    assert str(build) == "0 % of 648,000 pixels"
    hand.now += 20
    build.count(200_880, 648_000)
    assert str(build) == "31 % of 648,000 pixels, 10,000 pixels/s, 45 s left"


def test_time_left_runs_down_between_two_counts(build: Progress, hand: Hand) -> None:
    build.count(0, 1000)
    hand.now += 10
    build.count(500, 1000)
    assert build.left == pytest.approx(10)
    hand.now += 4
    assert build.left == pytest.approx(6)
    hand.now += 40
    assert build.left == 0
    assert build.speed == 50


def test_what_was_done_before_does_not_count_towards_speed(build: Progress, hand: Hand) -> None:
    build.count(9000, 10_000)
    assert build.speed is None
    hand.now += 10
    build.count(9100, 10_000)
    assert build.speed == pytest.approx(10)
    assert str(build) == "91 % of 10,000 pixels, 10 pixels/s, 1.5 min left"


def test_a_step_after_the_pixels_is_told_in_their_place(build: Progress, hand: Hand) -> None:
    build.count(0, 10)
    hand.now += 1
    build.count(10, 10)
    assert str(build) == "100 % of 10 pixels"
    build.step("drawing the preview")
    assert str(build) == "drawing the preview"
    assert build.speed is None


def test_what_takes_seconds_each_is_told_without_a_speed(hand: Hand) -> None:
    grids = Progress("measuring", "grids", hand)
    grids.count(1, 10)
    hand.now += 30
    grids.count(2, 10)
    assert str(grids) == "20 % of 10 grids, 4.0 min left"


def plain() -> Console:
    """Return a console that is no terminal."""
    return Console(file=io.StringIO(), force_terminal=False, width=200)


def said(console: Console) -> str:
    """Return what was printed."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def wait_until(there: Callable[[], bool]) -> None:
    """Wait until something is so; a test that waits in vain fails."""
    for _ in range(1000):
        if there():
            return
        time.sleep(0.01)
    raise AssertionError("in vain")


def test_what_is_short_says_nothing_where_there_is_no_terminal(build: Progress) -> None:
    console = plain()
    with shown(build, console):
        build.step("drawing the preview")
        build.count(5, 10)
    assert said(console) == ""


def test_what_takes_long_says_a_line_of_each_thing_that_is_new(
    build: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progressing, "EVERY", 0.01)
    console = plain()
    with shown(build, console):
        build.step("measuring [red]")
        wait_until(lambda: "measuring" in said(console))
        time.sleep(0.05)
        build.count(31, 100)
        wait_until(lambda: "31 %" in said(console))
    assert said(console) == "building geoclip: measuring [red]\nbuilding geoclip: 31 % of 100 pixels\n"


def test_no_thread_is_left_running_after_a_failure(build: Progress) -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), shown(build, plain()):
        raise ZeroDivisionError
    assert threading.active_count() == before


def test_a_terminal_shows_a_bar_and_nothing_of_it_stays(build: Progress, hand: Hand) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None, legacy_windows=False)
    with shown(build, console):
        build.count(0, 1000)
        hand.now += 5
        build.count(250, 1000)
        wait_until(lambda: "building geoclip" in said(console) and "25 % of 1,000 pixels, 50 pixels/s" in said(console))
    assert said(console).endswith("\x1b[2K")
