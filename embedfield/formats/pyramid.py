"""Pyramid: a raster in squares, and its coarser levels, each made as soon as what it is made of is there."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from embedfield.formats.crew import Crew


class Cell(NamedTuple):
    """A square of a level."""

    level: int
    """0 for the raster itself; a pixel of the next one stands for 2 x 2 of this one's."""
    row: int
    """How many squares lie north of it."""
    col: int
    """How many lie west of it."""

    @property
    def above(self) -> Cell:
        """The square a level up that it is a quarter of."""
        return Cell(self.level + 1, self.row // 2, self.col // 2)


class Levels:
    """Where the squares of a raster and of its coarser levels lie."""

    def __init__(self, shape: tuple[int, int], side: int) -> None:
        """Divide a raster into squares.

        Args:
            shape: (height, width) of the raster.
            side: Of a square, in pixels, even. The last level is one square.
        """
        self.side, self.shapes = side, [shape]
        while max(self.shapes[-1]) > side:
            height, width = self.shapes[-1]
            self.shapes.append((-(-height // 2), -(-width // 2)))

    def window(self, cell: Cell) -> Window:
        """Return a square's pixels in its level."""
        height, width = self.shapes[cell.level]
        top, left = cell.row * self.side, cell.col * self.side
        return Window(left, top, min(self.side, width - left), min(self.side, height - top))

    def counts(self, level: int) -> tuple[int, int]:
        """Return how many squares a level has from north to south and from west to east."""
        height, width = self.shapes[level]
        return -(-height // self.side), -(-width // self.side)

    def cells(self, level: int) -> list[Cell]:
        """Return the squares of a level, row by row."""
        rows, cols = self.counts(level)
        return [Cell(level, row, col) for row in range(rows) for col in range(cols)]

    def below(self, cell: Cell) -> list[Cell]:
        """Return the squares a level down that a square is made of."""
        rows, cols = self.counts(cell.level - 1)
        return [
            Cell(cell.level - 1, row, col)
            for row in range(2 * cell.row, min(2 * cell.row + 2, rows))
            for col in range(2 * cell.col, min(2 * cell.col + 2, cols))
        ]


class Pyramid(Levels):
    """The squares of a raster and of its coarser levels.

    A square of a coarser level is made of the four below it while their codes
    are at hand: the whole needs the memory of a few squares. Each is stored
    once, by the crew, in no order.
    """

    def __init__(
        self,
        crew: Crew,
        shape: tuple[int, int],
        side: int,
        store: Callable[[Cell, npt.NDArray[Any]], None],
        is_wanted: Callable[[Cell], bool] = lambda _: True,
    ) -> None:
        """Divide a raster into squares.

        Args:
            crew: Who halves and stores.
            shape: (height, width) of the raster.
            side: Of a square, in pixels, even. The last level is one square.
            store: Given each square's codes, (dim, height, width), once.
            is_wanted: Whether a square of a coarser level is to be made.
        """
        super().__init__(shape, side)
        self.crew, self.store, self.is_wanted = crew, store, is_wanted
        self._lock = Lock()
        self._growing: dict[Cell, npt.NDArray[Any]] = {}
        self._missing: dict[Cell, int] = {}

    def add(self, cell: Cell, codes: npt.NDArray[Any]) -> None:
        """Have a square stored, and all that it completes above it."""
        self.crew.do(self.store, cell, codes)
        self.crew.do(self.lift, cell, codes)

    def lift(self, cell: Cell, codes: npt.NDArray[Any]) -> None:
        """Put a square's means into the one above it, which is added once nothing of it is missing."""
        above = cell.above
        if above.level == len(self.shapes) or not self.is_wanted(above):
            return
        whole = self._grown(above, codes)
        top, left = (self.side // 2 * (place % 2) for place in (cell.row, cell.col))
        height, width = (-(-size // 2) for size in codes.shape[1:])
        with self.crew.work.clock.part("packing"):
            self.crew.work.packing.halved(codes, whole[:, top : top + height, left : left + width])
        with self._lock:
            self._missing[above] -= 1
            ready = not self._missing[above]
            if ready:
                del self._growing[above], self._missing[above]
        if ready:
            self.add(above, whole)

    def _grown(self, cell: Cell, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the codes of a square that is not whole yet."""
        with self._lock:
            if cell not in self._growing:
                window = self.window(cell)
                self._growing[cell] = np.empty((len(like), window.height, window.width), dtype=like.dtype)
                half = self.side // 2
                self._missing[cell] = -(-window.height // half) * -(-window.width // half)
            return self._growing[cell]
