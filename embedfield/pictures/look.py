"""Look: a field seen from afar, by few of its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from embedfield.field import Field

# Numbers that are held at a time as they are read.
HELD = 2**24
# Places by which what is seen is weighed by area.
SAMPLE = 4096
# With fewer values among them, as where a region is small in its bounds, all pixels count too.
FEW = 512


class Look:
    """A field seen from afar: the pixels of a coarser level, or those that even steps pick."""

    def __init__(self, field: Field, size: int | None) -> None:
        """Look at a field so that its longer side has `size` pixels to twice as many, or all that there are.

        Args:
            field: What to look at.
            size: In pixels; None for all that there are.
        """
        self.field = field
        # A power of two, as levels have: a picture has the same size with them and without.
        self.factor = 1 if size is None else 2 ** max(0, (max(field.grid.shape) // size).bit_length() - 1)
        """Pixels of the field a side that a pixel of the picture stands for."""
        self.level = max((level for level in field.overviews if self.factor % level == 0), default=1)
        self.step = self.factor // self.level
        height, width = field.overviews.get(self.level, field.grid.shape)
        self.rows, self.cols = _picked(height, self.step), _picked(width, self.step)
        self.shape = len(self.rows), len(self.cols)
        """(height, width) of the picture."""

    def tiles(self, multiple: int = 1) -> Iterator[tuple[Window, npt.NDArray[np.float32]]]:
        """Yield all pixels part by part: where in the picture they are, and their vectors (dim, height, width).

        Args:
            multiple: Sides of the parts are multiples of so many pixels, or shorter at an edge.
        """
        block = self.field.blocksize
        side = block * max(1, int((HELD / self.field.dim) ** 0.5) // block)
        side = max(1, side // self.step // multiple) * multiple
        for window in Window(0, 0, self.shape[1], self.shape[0]).tiles(side, side):
            yield window, self.read(window)

    def read(self, window: Window) -> npt.NDArray[np.float32]:
        """Return the vectors (dim, height, width) of a part of the picture; NaN where there is no value."""
        rows, cols = self.rows[window.rows], self.cols[window.cols]
        top, left = int(rows[0]), int(cols[0])
        below = Window(left, top, int(cols[-1]) + 1 - left, int(rows[-1]) + 1 - top)
        if self.level > 1:
            values = self.field.read_overview(self.level, below)
            return values if self.step == 1 else values[:, rows - top][:, :, cols - left]
        if self.step == 1:
            return self.field.read(below)
        values = self.field.pixels(np.repeat(rows, len(cols)), np.tile(cols, len(rows)))
        return values.T.reshape(-1, len(rows), len(cols))

    def pixels(self, places: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return rows and columns (N,) of the pixels of the picture that places (N, 2) on the grid lie in."""
        return self.cells(*self.field.grid.positions(places))

    def cells(
        self, rows: npt.NDArray[np.float64], cols: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return rows and columns (N,) of the pixels of the picture that positions (N,) on the grid lie in."""
        row, col = (
            (position / self.factor).astype(np.int64).clip(0, size - 1)
            for position, size in zip((rows, cols), self.shape, strict=True)
        )
        return row, col

    def sample(self, also: Look | None = None) -> npt.NDArray[np.float32]:
        """Return vectors (n, dim) of the picture, spread evenly by area; those of a field that is small in its bounds.

        Args:
            also: What is asked for more of them, pixel by pixel, where places that are spread evenly meet few that
                have a value; None for this very look.
        """
        found = self.at(self.field.places(SAMPLE))
        return found if len(found) >= FEW else np.concatenate((found, (also or self).some(SAMPLE)))

    def by_area(self, numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return numbers (k, n) that pixels of the picture have, (k, height, width), spread evenly by area likewise."""
        rows, cols = self.pixels(self.field.places(SAMPLE))
        found = _finite(numbers[:, rows, cols])
        if found.shape[1] >= FEW:
            return found
        return np.concatenate((found, _finite(numbers.reshape(len(numbers), -1))), axis=1)

    def at(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Return the vectors (n, dim) of the pixels that places (N, 2) lie in; of those that have a value."""
        rows, cols = self.pixels(places)
        found = []
        for window, values in self.tiles():
            row, col = rows - window.row_off, cols - window.col_off
            here = (row >= 0) & (row < window.height) & (col >= 0) & (col < window.width)
            found.append(values[:, row[here], col[here]].T)
        return _with_value(np.concatenate(found))

    def some(self, count: int) -> npt.NDArray[np.float32]:
        """Return the vectors (n, dim) of about so many pixels that have a value, at even steps, or of all."""
        found = np.concatenate([_with_value(values.reshape(len(values), -1).T) for _, values in self.tiles()])
        return found[:: max(1, len(found) // count)]


def _finite(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return those of numbers (k, n) that all are."""
    return numbers[:, np.isfinite(numbers).all(axis=0)]


def _picked(count: int, step: int) -> npt.NDArray[np.int64]:
    """Return every `step`-th of `count` pixels, from the middle of the first step; of the last step what there is."""
    return np.minimum(np.arange(-(-count // step)) * step + step // 2, count - 1)


def _with_value(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # Rasters of others hold infinite numbers, which are no values.
    return values[np.isfinite(values).all(axis=1)]
