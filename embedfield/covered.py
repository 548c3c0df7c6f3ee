"""Covered: which part of a grid costs something to build."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from embedfield.grid import Grid

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.evaluate import EncodedField
    from embedfield.region import Region

# Pixels, a side, of the picture by which it is told how much of a grid a region covers.
COARSE = 1024


class Covered(NamedTuple):
    """Which part of a grid's pixels costs something."""

    computed: float
    """Of all pixels, those that are computed."""
    valued: float
    """Of all pixels, those that get a value."""

    @classmethod
    def of(cls, field: EncodedField, strip: tuple[int, int]) -> Self:
        """Return how much of a field is computed: in each strip of a writer the box around what a region touches.

        Args:
            field: What would be built.
            strip: Height and width of what a writer asks for at a time, pixels.
        """
        if field.region is not None:
            return cls._by_region(field.region, field.grid, strip)
        south, north = field.card.latitudes
        grid = field.grid
        rows = float(np.mean((grid.lats() >= south) & (grid.lats() <= north))) if grid.geographic else 1.0
        return cls(rows, rows)

    @classmethod
    def _by_region(cls, region: Region, grid: Grid, strip: tuple[int, int]) -> Self:
        step = -(-max(grid.shape) // COARSE)
        coarse = Grid(
            west=grid.west, north=grid.north, res=grid.res * step, width=max(1, grid.width // step),
            height=max(1, grid.height // step), crs=grid.crs,
        )  # fmt: skip
        mask = region.mask(coarse)
        valued = float(mask.mean())
        if not grid.geographic:  # places are encoded one by one
            return cls(valued, valued)
        strips = coarse.window.tiles(*(max(1, size // step) for size in strip))
        return cls(sum(_box(mask[part.rows, part.cols]) for part in strips) / mask.size, valued)


def _box(mask: npt.NDArray[np.bool_]) -> int:
    """Return the pixels of the smallest box around those that are true."""
    rows, cols = np.nonzero(mask)
    return int((np.ptp(rows) + 1) * (np.ptp(cols) + 1)) if len(rows) else 0
