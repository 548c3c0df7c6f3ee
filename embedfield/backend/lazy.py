"""LazyPixels: the pixels of a field, read or computed when xarray asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from embedfield.backend.virtual import VirtualField
    from embedfield.formats.stored import StoredField

# Bytes of values that are read at a time: all bands of a pixel are, though few of them may be wanted.
HELD = 64 * 2**20


class LazyPixels(BackendArray):
    """The pixels of a field, or of a coarser level of it, as xarray asks for them."""

    dtype = np.dtype(np.float32)

    def __init__(self, field: StoredField | VirtualField, factor: int, chunks: tuple[Any, Any]) -> None:
        """Take a field; nothing is read yet.

        Args:
            field: Whose pixels.
            factor: How many of them a side one of the coarser level stands for; 1 for the pixels themselves.
            chunks: Rows and columns of the pieces that are cheap to read: their size, or that of each.
        """
        self.field, self.factor = field, factor
        height, width = field.overviews[factor] if factor > 1 else field.grid.shape
        self.shape = field.dim, height, width
        rows, cols = (size if isinstance(size, int) else size[0] for size in chunks)
        self._block = rows, cols

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the numbers of a selection, float32, in the shape that it asks for."""
        if isinstance(key, indexing.VectorizedIndexer):
            return self._points(*key.tuple)
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._outer)

    def _outer(self, key: tuple[Any, ...]) -> npt.NDArray[np.float32]:
        """Return every pair of some rows and some columns, in some bands: each a number, a slice or an array (n,)."""
        picked = [np.arange(size)[part] for part, size in zip(key, self.shape, strict=True)]
        bands, rows, cols = (np.atleast_1d(part) for part in picked)
        result = np.empty((len(bands), len(rows), len(cols)), dtype=np.float32)
        if result.size:
            # All bands of a pixel are read, though few may be wanted: so not too many pixels at a time.
            most = max(1, HELD // (4 * self.shape[0] * self._block[0] * self._block[1]))
            for across, left, right in _runs(cols, self._block[1], most):
                high = max(1, most * self._block[1] // (right - left))
                for down, top, bottom in _runs(rows, self._block[0], high):
                    values = self._read(Window(left, top, right - left, bottom - top))
                    inner = np.ix_(bands, rows[down] - top, cols[across] - left)
                    result[np.ix_(np.arange(len(bands)), down, across)] = values[inner]
        return result.reshape([size for part in picked for size in part.shape])

    def _points(self, *key: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return single numbers, by arrays of bands, rows and columns that go together as numpy takes them."""
        bands, rows, cols = (np.where(part < 0, part + size, part) for part, size in zip(key, self.shape, strict=True))
        each, where = np.unique(rows * self.shape[2] + cols, return_inverse=True)
        values = self._single(*np.divmod(each, self.shape[2]))
        found: npt.NDArray[np.float32] = values[where.reshape(np.broadcast(rows, cols).shape), bands]
        return found

    def _single(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return single pixels, (n, dim); each block is read once."""
        if self.factor == 1:
            return self.field.pixels(rows, cols)
        result = np.empty((len(rows), self.shape[0]), dtype=np.float32)
        high, wide = self._block
        _, blocks = np.unique((rows // high) * self.shape[2] + cols // wide, return_inverse=True)
        for members in (np.flatnonzero(blocks == block) for block in np.unique(blocks)):
            top, left = rows[members].min(), cols[members].min()
            size = np.ptp(cols[members]) + 1, np.ptp(rows[members]) + 1
            values = self._read(Window(int(left), int(top), *map(int, size)))
            result[members] = values[:, rows[members] - top, cols[members] - left].T
        return result

    def _read(self, window: Window) -> npt.NDArray[np.float32]:
        return self.field.read(window) if self.factor == 1 else self.field.read_overview(self.factor, window)


def _runs(wanted: npt.NDArray[np.int64], size: int, most: int) -> Iterator[tuple[npt.NDArray[np.intp], int, int]]:
    """Yield neighbouring blocks that hold a row (or a column) that is wanted.

    Args:
        wanted: Rows, (n,), in any order.
        size: Rows of a block.
        most: How many blocks may be taken together.

    Yields:
        Which of those wanted lie there, and from where to where it reaches: first and last row, half open.
    """
    blocks, where = np.unique(wanted // size, return_inverse=True)
    apart = np.diff(blocks, prepend=-2) > 1
    begins = np.flatnonzero(apart)
    behind = np.arange(len(blocks)) - begins[np.cumsum(apart) - 1]
    run = (np.cumsum(behind % most == 0) - 1)[where]
    for number in range(run.max() + 1):
        members = np.flatnonzero(run == number)
        yield members, int(wanted[members].min()), int(wanted[members].max()) + 1
