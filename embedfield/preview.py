"""Preview: a field as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from embedfield.grid import Window
from embedfield.reduce import Reduction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.field import Field

# The picture's longer side has at least so many pixels, and less than twice as many, where the field has as many.
SIZE = 540
# The same of the coarser picture at which the colours are fitted.
FITTED = 128
# Places by which both pictures are weighed by area.
SAMPLE = 4096
# With fewer values among them, as where a region is small in its bounds, the pixels that are shown are the sample.
FEW = 512
# Shares of the sample that may fall outside the colours, in percent.
CLIP = (2, 98)
# Numbers that are held at a time as they are read.
HELD = 2**24
# Of the PNG: a stronger one takes several times as long, and bytes hardly shrink.
COMPRESSION = 4


def write_preview(field: Field, path: Path) -> None:
    """Write a PNG of the three strongest principal components as red, green, blue.

    Components are those of the vectors' directions, weighed by area and stretched between percentiles 2 and 98;
    a place without a value is transparent. A large field is shown by a coarser level of it, or by pixels
    picked at even steps where it has none; a small one with its pixels enlarged.

    Args:
        field: What to show.
        path: ``….png``.
    """
    shown, places = _Look(field, SIZE), field.places(SAMPLE)
    axes = _axes(_Look(field, FITTED).at(places), shown)
    components = np.empty((len(axes), *shown.shape), dtype=np.float32)
    for window, values in shown.tiles():
        components[:, window.rows, window.cols] = _along(axes, values)
    rows, cols = shown.pixels(places)
    picture = _coloured(components, components[:, rows, cols])
    enlarge = max(1, 2 * SIZE // max(shown.shape))
    large = picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    Image.fromarray(large).save(path, format="PNG", compress_level=COMPRESSION)


class _Look:
    """A field seen from afar: the pixels of a coarser level, or those that even steps pick."""

    def __init__(self, field: Field, size: int) -> None:
        """Look at a field so that its longer side has `size` pixels to twice as many, or all that there are."""
        self.field = field
        # A power of two, as levels have: a picture has the same size with them and without.
        self.factor = 2 ** max(0, (max(field.grid.shape) // size).bit_length() - 1)
        self.level = max((level for level in field.overviews if self.factor % level == 0), default=1)
        self.step = self.factor // self.level
        height, width = field.overviews.get(self.level, field.grid.shape)
        self.rows, self.cols = _picked(height, self.step), _picked(width, self.step)
        self.shape = len(self.rows), len(self.cols)

    def tiles(self) -> Iterator[tuple[Window, npt.NDArray[np.float32]]]:
        """Yield all pixels part by part: where in the picture they are, and their vectors (dim, height, width)."""
        block = self.field.blocksize
        side = block * max(1, int((HELD / self.field.dim) ** 0.5) // block)
        side = max(1, side // self.step)
        for window in Window(0, 0, self.shape[1], self.shape[0]).tiles(side, side):
            yield window, self._read(self.rows[window.rows], self.cols[window.cols])

    def _read(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the vectors (dim, height, width) at rows and columns of the level."""
        top, left = int(rows[0]), int(cols[0])
        window = Window(left, top, int(cols[-1]) + 1 - left, int(rows[-1]) + 1 - top)
        if self.level > 1:
            return self.field.read_overview(self.level, window)[:, :: self.step, :: self.step]
        if self.step == 1:
            return self.field.read(window)
        values = self.field.pixels(np.repeat(rows, len(cols)), np.tile(cols, len(rows)))
        return values.T.reshape(-1, len(rows), len(cols))

    def pixels(self, places: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return rows and columns (N,) of the pixels of the picture that places (N, 2) on the grid lie in."""
        rows, cols = (
            (position / self.factor).astype(np.int64).clip(0, size - 1)
            for position, size in zip(self.field.grid.positions(places), self.shape, strict=True)
        )
        return rows, cols

    def at(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Return the vectors (n, dim) of the pixels that places (N, 2) lie in; of those that have a value."""
        rows, cols = self.pixels(places)
        found = []
        for window, values in self.tiles():
            row, col = rows - window.row_off, cols - window.col_off
            here = (row >= 0) & (row < window.height) & (col >= 0) & (col < window.width)
            found.append(values[:, row[here], col[here]].T)
        return _with_value(np.concatenate(found))

    def every(self) -> npt.NDArray[np.float32]:
        """Return the vectors (n, dim) of all pixels that have a value."""
        return np.concatenate([_with_value(values.reshape(len(values), -1).T) for _, values in self.tiles()])


def _picked(count: int, step: int) -> npt.NDArray[np.int64]:
    """Return every `step`-th of `count` pixels, from the middle of the first step."""
    return np.arange(min(step // 2, count - 1), count, step)


def _with_value(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values[~np.isnan(values).any(axis=1)]


def _axes(sample: npt.NDArray[np.float32], shown: _Look) -> npt.NDArray[np.float32]:
    """Return the axes (1 to 3, dim) along which the directions of a sample (n, dim) differ most."""
    if len(sample) < FEW:
        every = shown.every()
        sample = np.concatenate((sample, every[:: max(1, len(every) // SAMPLE)]))
    if not len(sample):  # nothing to see: any axes will do
        sample = np.zeros((1, shown.field.dim), dtype=np.float32)
    reduction = Reduction.fit(sample / _lengths(sample.T)[:, None], min(3, shown.field.dim))
    # Along an axis on which nothing differs rounding would be all that one sees.
    return np.where(reduction.deviation[:, None] > 0, reduction.components, 0).astype(np.float32)


def _along(axes: npt.NDArray[np.float32], values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what the directions of vectors (dim, height, width) are along axes (k, dim): (k, height, width)."""
    flat = values.reshape(len(values), -1)
    # The threads of a matrix product would cost more than they help: it has few rows.
    found: npt.NDArray[np.float32] = np.einsum("kd,dn->kn", axes, flat) / _lengths(flat)
    return found.reshape(-1, *values.shape[1:])


def _lengths(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the lengths (n,) of vectors (dim, n); 1 where three colours show them whole."""
    # What an encoder means is a direction: most were trained by cosine, and length is noise.
    if len(values) <= 3:
        return np.ones(values.shape[1], dtype=np.float32)
    lengths: npt.NDArray[np.float32] = np.sqrt(np.einsum("dn,dn->n", values, values))
    return np.maximum(lengths, np.finfo(np.float32).tiny)


def _coloured(components: npt.NDArray[np.float32], sample: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return a picture (height, width, 4), RGBA, of components (k, height, width), stretched by a sample (k, n)."""
    there = ~np.isnan(components).any(axis=0)
    sample = sample[:, ~np.isnan(sample).any(axis=0)]
    if sample.shape[1] < FEW:
        sample = np.concatenate((sample, components[:, there]), axis=1)
    if not sample.shape[1]:
        sample = np.zeros((len(components), 1), dtype=np.float32)
    low, high = np.percentile(sample, CLIP, axis=1).astype(np.float32)[..., None, None]
    stretched = np.nan_to_num((components - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    picture = np.empty((*there.shape, 4), dtype=np.uint8)
    # Fewer than three components repeat the last: one becomes a grey picture.
    for colour in range(3):
        picture[..., colour] = np.rint(255 * stretched[min(colour, len(stretched) - 1)])
    picture[..., 3] = 255 * there
    return picture
