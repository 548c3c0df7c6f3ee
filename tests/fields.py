"""Fields over arrays in memory, for tests of what stores and reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedfield.card import Card
from embedfield.field import Field
from embedfield.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.window import Window


class ArrayField(Field):
    """An array (dim, height, width) as a field of pixels a tenth of a degree wide."""

    def __init__(
        self,
        values: npt.ArrayLike,
        grid: Grid | None = None,
        card: Card | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Take float32 values."""
        self.values = np.asarray(values, dtype=np.float32)
        dim, height, width = self.values.shape
        self.card = card or Card(
            name="array", title="An array", dim=dim, code="none:None", homepage="https://example.org"
        )
        self.grid = grid or Grid(west=-10.0, north=50.0, res=0.1, width=width, height=height)
        self.provenance = provenance or {}

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return a part of the array."""
        window = window or self.grid.window
        return self.values[:, window.rows, window.cols]


class Breaking(ArrayField):
    """A field that can be sampled and read whole, but not by windows below its first rows."""

    def __init__(self, values: npt.ArrayLike, error: type[BaseException], rows: int) -> None:
        """Break with an error at windows that start below the first rows."""
        super().__init__(values)
        self.error, self.rows = error, rows
        self.broke = False

    def at(self, lonlat: npt.ArrayLike, *_: object) -> npt.NDArray[np.float32]:
        """Return what the whole array holds at places."""
        return ArrayField(self.values).at(lonlat)

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return a part of the array, or break."""
        if window and window.row_off >= self.rows:
            self.broke = True
            raise self.error("in the middle")
        return super().read(window)


def bumpy(dim: int, height: int, width: int) -> npt.NDArray[np.float32]:
    """Return waves and noise, bands of unlike ranges, with a hole in the larger ones: (dim, height, width)."""
    row, col = np.mgrid[:height, :width] / 40
    waves = np.stack([np.sin((band + 1) * row) + np.cos(col + band) for band in range(dim)])
    noise = np.random.default_rng(height * width).normal(scale=0.1, size=waves.shape)
    ranges = 10.0 ** np.arange(dim)[:, None, None]
    values = ((waves + noise) * ranges - ranges / 3).astype(np.float32)
    values[:, 3:12, 5:18] = np.nan
    return values


def listing(folder: Path) -> list[str]:
    """Return all that is in a folder, at any depth."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
