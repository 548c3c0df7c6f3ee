"""Waves: a field of any size and number of bands that is computed at next to no cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedfield.card import Card
from embedfield.field import Field
from embedfield.grid import Grid

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.window import Window


class Waves(Field):
    """Smooth waves, computed as they are read."""

    def __init__(self, side: int, dim: int = 256) -> None:
        """Spread so many bands over a square of pixels."""
        self.card = Card(name="waves", title="Waves", dim=dim, code="none:None", homepage="https://example.org")
        self.grid = Grid(west=-90.0, north=84.0, res=0.04, width=side, height=side)

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return products of a wave in each direction, (dim, height, width), float32."""
        window, band = window or self.grid.window, np.arange(self.dim)[:, None]
        row, col = (np.arange(part.start, part.stop) / 300 for part in (window.rows, window.cols))
        down, across = np.sin((band % 7 + 1) * row + band), np.cos((band % 5 + 1) * col - band)
        return down.astype(np.float32)[:, :, None] * across.astype(np.float32)[:, None, :]
