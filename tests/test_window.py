"""Windows: blocks that they touch, what two of them share; and arrays that are kept for them."""

from __future__ import annotations

import numpy as np
import pytest

from embedfield.kept import Kept
from embedfield.window import Window

WINDOWS = [Window(0, 0, 1, 1), Window(5, 3, 7, 4), Window(9, 9, 3, 5), Window(0, 0, 12, 14), Window(11, 13, 1, 1)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("block", [(1, 1), (4, 5), (20, 3)])
def test_an_aligned_window_has_all_blocks_that_are_touched_and_no_other(window: Window, block: tuple[int, int]) -> None:
    shape = (14, 12)
    touched = np.zeros(shape, dtype=bool)
    for tile in Window(0, 0, 12, 14).tiles(*block):
        inside = np.zeros(shape, dtype=bool)
        inside[window.rows, window.cols] = True
        touched[tile.rows, tile.cols] = inside[tile.rows, tile.cols].any()
    found = np.zeros(shape, dtype=bool)
    aligned = window.aligned(*block, shape)
    found[aligned.rows, aligned.cols] = True
    np.testing.assert_array_equal(found, touched)


def test_what_two_windows_share_is_the_same_pixels_in_both() -> None:
    pixels = np.arange(14 * 12).reshape(14, 12)
    one, other = Window(5, 3, 7, 4), Window(2, 5, 6, 9)
    here, there = one.common(other)
    shared = pixels[one.rows, one.cols][here]
    np.testing.assert_array_equal(shared, pixels[other.rows, other.cols][there])
    np.testing.assert_array_equal(shared, pixels[5:7, 5:8])


def test_the_array_that_was_asked_for_longest_ago_makes_room_for_the_next() -> None:
    made: list[Window] = []

    def make(window: Window) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        made.append(window)
        return np.zeros((window.height, window.width), dtype=np.uint8)

    kept = Kept["np.ndarray[tuple[int, int], np.dtype[np.uint8]]"](20)
    first, second, third = (Window(col, 0, 1, 10) for col in range(3))
    for window in (first, second, first, third, first, second):
        assert kept.get(window, 10, make).shape == (10, 1)
    assert made == [first, second, third, second]
    large = Window(0, 0, 9, 9)
    kept.get(large, 81, make)
    assert len(kept) == 1
    kept.clear()
    assert not kept
