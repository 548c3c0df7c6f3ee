"""Pyramid: halving one level after the other, all at once, is the truth."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fields import ArrayField

from embedfield.formats.crew import Crew
from embedfield.formats.journal import Journal, Work
from embedfield.formats.packing import Packing
from embedfield.formats.pyramid import Cell, Pyramid
from embedfield.window import Window

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

SIDE = 8


@pytest.fixture
def crew(tmp_path: Path) -> Crew:
    """Return threads that pack codes which are the values."""
    field = ArrayField(np.zeros((3, 1, 1)))
    return Crew(Work(field, Packing("uint8", np.ones(3), np.zeros(3)), Journal(tmp_path), lambda _: None))


def codes_of(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return codes, nodata among them."""
    return np.random.default_rng(1).integers(0, 5, (3, height, width)).astype(np.uint8)


def made(crew: Crew, codes: npt.NDArray[Any], **options: Any) -> dict[Cell, npt.NDArray[Any]]:
    """Return what a pyramid stores of a raster whose squares are added in no order."""
    stored: dict[Cell, npt.NDArray[Any]] = {}
    lock = threading.Lock()

    def store(cell: Cell, square: npt.NDArray[Any]) -> None:
        with lock:
            assert cell not in stored
            stored[cell] = square.copy()

    with crew:
        pyramid = Pyramid(crew, codes.shape[1:], SIDE, store, **options)
        cells = pyramid.cells(0)
        for cell in np.random.default_rng(2).permutation(len(cells)):
            window = pyramid.window(cells[cell])
            pyramid.add(cells[cell], codes[:, window.rows, window.cols])
        crew.finish()
    return stored


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (9, 8), (31, 33), (64, 5), (40, 70), (1, 65)])
def test_every_square_of_every_level_is_stored_once(crew: Crew, shape: tuple[int, int]) -> None:
    truth = codes_of(*shape)
    stored = made(crew, truth)
    pyramid = Pyramid(crew, shape, SIDE, lambda *_: None)
    for level, size in enumerate(pyramid.shapes):
        found = np.zeros((3, *size), dtype=np.uint8)
        for cell in pyramid.cells(level):
            window = pyramid.window(cell)
            found[:, window.rows, window.cols] = stored.pop(cell)
        np.testing.assert_array_equal(found, truth)
        truth = crew.work.packing.halved(truth)
    assert stored == {}
    assert max(size) <= SIDE


def test_what_is_not_wanted_is_not_made(crew: Crew) -> None:
    stored = made(crew, codes_of(32, 32), is_wanted=lambda cell: cell != Cell(1, 0, 1))
    assert {cell for cell in stored if cell.level} == {Cell(1, 0, 0), Cell(1, 1, 0), Cell(1, 1, 1)}


def test_squares_lie_in_their_level(crew: Crew) -> None:
    pyramid = Pyramid(crew, (20, 33), SIDE, lambda *_: None)
    assert pyramid.shapes == [(20, 33), (10, 17), (5, 9), (3, 5)]
    assert [pyramid.counts(level) for level in range(4)] == [(3, 5), (2, 3), (1, 2), (1, 1)]
    assert pyramid.window(Cell(0, 2, 4)) == Window(32, 16, 1, 4)
    assert Cell(0, 2, 3).above == Cell(1, 1, 1)
