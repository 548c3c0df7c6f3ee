"""Window: a rectangle of pixels of a grid, or of a coarser level of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedfield.errors import GridError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels, in the words of rasterio."""

    col_off: int
    """First column, counted from 0 in the west."""
    row_off: int
    """First row, counted from 0 in the north."""
    width: int
    """Number of columns, at least 1."""
    height: int
    """Number of rows, at least 1."""

    def __post_init__(self) -> None:
        """Refuse a window that holds no pixel."""
        if min(self.col_off, self.row_off) < 0 or min(self.width, self.height) < 1:
            raise GridError(f"{self} holds no pixel. Offsets start at 0, sizes at 1.")

    @property
    def rows(self) -> slice:
        """Its rows, half open."""
        return slice(self.row_off, self.row_off + self.height)

    @property
    def cols(self) -> slice:
        """Its columns, half open."""
        return slice(self.col_off, self.col_off + self.width)

    def tiles(self, height: int, width: int) -> Iterator[Window]:
        """Yield windows of at most (height, width) that tile this one, row by row."""
        for row in range(self.rows.start, self.rows.stop, height):
            for col in range(self.cols.start, self.cols.stop, width):
                yield Window(col, row, min(width, self.cols.stop - col), min(height, self.rows.stop - row))

    def aligned(self, height: int, width: int, shape: tuple[int, int]) -> Window:
        """Return the window of all blocks of (height, width) that this one touches, on a grid of a shape."""
        top, left = self.row_off // height * height, self.col_off // width * width
        bottom = min(-(-self.rows.stop // height) * height, shape[0])
        right = min(-(-self.cols.stop // width) * width, shape[1])
        return Window(left, top, right - left, bottom - top)

    def common(self, other: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return rows and columns that this window shares with one that it meets, counted in each from its start."""
        top, bottom = max(self.rows.start, other.rows.start), min(self.rows.stop, other.rows.stop)
        left, right = max(self.cols.start, other.cols.start), min(self.cols.stop, other.cols.stop)
        own, others = (
            (slice(top - each.row_off, bottom - each.row_off), slice(left - each.col_off, right - each.col_off))
            for each in (self, other)
        )
        return own, others
