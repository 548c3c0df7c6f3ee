"""Shown: what a map's pixels show of a field, its colours or one of its bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedfield.pictures.colours import CLIP

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.pictures.chart import Chart
    from embedfield.pictures.colours import Colours
    from embedfield.pictures.look import Look

# The colour of places without a value.
NOTHING = (240, 240, 240, 255)


@dataclass(frozen=True, eq=False)
class Shown:
    """A look at a field, in colours."""

    look: Look
    rgba: npt.NDArray[np.uint8]
    """(height, width, 4) of the look's pixels; without a value transparent."""
    limits: tuple[float, float] | None = None
    """What has the colours at the ends of the scale, where one band is shown."""

    @classmethod
    def in_colours(cls, look: Look, colours: Colours) -> Shown:
        """See vectors in their model's colours."""
        reduction, rgba = look.field.reduction, np.empty((*look.shape, 4), dtype=np.uint8)
        for window, values in look.tiles():
            rgba[window.rows, window.cols] = colours.of(values, reduction)
        return cls(look, rgba)

    @classmethod
    def by_band(cls, look: Look, band: int, limits: tuple[float, float] | None = None) -> Shown:
        """See one band, from dark to bright.

        Args:
            look: At the field.
            band: Counted from 0.
            limits: Values at the ends of the scale; None for percentiles 2 and 98 by area.
        """
        numbers = np.empty(look.shape, dtype=np.float32)
        for window, values in look.tiles():
            numbers[window.rows, window.cols] = values[band]
        limits = limits or _range(look, numbers)
        return cls(look, _viridis(numbers, limits), limits)

    def on(self, chart: Chart, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Return what the pixels of a chart show.

        Args:
            chart: Of the field's grid.
            height: Pixels from top to bottom of its box.
            width: Pixels from left to right.

        Returns:
            RGBA, (height, width, 4); grey without a value, transparent beside the globe.
        """
        points, seen = chart.points(height, width), np.zeros((height * width, 4), dtype=np.uint8)
        rows, cols = chart.positions(points)
        grid = self.look.field.grid
        inside = np.flatnonzero((rows >= 0) & (rows <= grid.height) & (cols >= 0) & (cols <= grid.width))
        seen[inside] = self.rgba[self.look.cells(rows[inside], cols[inside])]
        empty = np.flatnonzero(seen[:, 3] == 0)
        on_globe = np.isfinite(chart.plane.inverse(points[empty])).all(axis=1)
        seen[empty[on_globe]] = NOTHING
        return seen.reshape(height, width, 4)


def _range(look: Look, numbers: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return percentiles of what is shown, by area; about a value that stands alone a little more."""
    sample = look.by_area(numbers[None])[0].astype(np.float64)
    low, high = np.percentile(sample, CLIP) if len(sample) else (0.0, 0.0)
    aside = 0.0 if high > low else 0.5 * (abs(low) or 1.0)
    return float(low - aside), float(high + aside)


def _viridis(numbers: npt.NDArray[np.float32], limits: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Return the colours (height, width, 4) of numbers (height, width)."""
    import matplotlib as mpl

    low, high = limits
    there = np.isfinite(numbers)
    share = np.where(there, (numbers.astype(np.float64) - low) / (high - low), 0.0).clip(0, 1)
    rgba: npt.NDArray[np.uint8] = mpl.colormaps["viridis"](share, bytes=True)
    rgba[~there] = 0
    return rgba
