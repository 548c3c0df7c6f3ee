"""Cells: the pixels under outlines, and how much of each; vectorised over many shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.window import Window

    Places = npt.NDArray[np.float64]
    Numbers = npt.NDArray[np.int64]

# What sums of float64 leave of a share that is 0, or lack of one that is 1.
NOISE = 1e-12


class Cells(NamedTuple):
    """Pixels under shapes, each with the share of it that is covered."""

    shape: Numbers
    """(n,), which of the shapes; rising."""
    row: Numbers
    """(n,), rows of the grid; of a shape rising."""
    col: Numbers
    """(n,), columns of the grid; of a row rising."""
    share: Places
    """(n,), above 0, at most 1."""


class Pieces(NamedTuple):
    """Outlines cut at the edges of pixels."""

    start: Places
    """(n, 2), x and y."""
    stop: Places
    """(n, 2), x and y."""
    owner: Numbers
    """(n,), of which outline they are."""

    @property
    def middle(self) -> Places:
        """(n, 2), x and y: in the pixel that a piece lies in; where it runs along an edge, on it."""
        return (self.start + self.stop) / 2


def cells_under(polygons: npt.NDArray[Any], window: Window) -> Cells:
    """Return which pixels of a window polygons cover, and what share of each.

    Shares are exact for straight edges, but for the rounding of float64: a piece
    of an outline adds to its own pixel the part that lies to the east of it, and
    to all pixels farther east its height. Of a polygon that is not quite valid,
    parts that lie upon one another count twice, up to a whole pixel. This is
    what exactextract computes, which ends the process at some multipolygons
    that touch its raster's edge, and at holes without extent.

    Args:
        polygons: Polygons and multipolygons of shapely, (N,), in pixels of the
            grid: x from its left, y, negative, from its top.
        window: Pixels that are asked for.
    """
    parts, shape = shapely.get_parts(shapely.orient_polygons(polygons), return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    outline = pieces(_in_rows(*edges(rings, shape[part]), window))
    middle, heights = outline.middle, outline.start[:, 1] - outline.stop[:, 1]
    rows = np.floor(-middle[:, 1]).astype(np.int64)
    # What lies on either side of the window counts as if on its edge; the column to its right is left out at the end.
    cols = np.floor(middle[:, 0]).astype(np.int64).clip(window.cols.start, window.cols.stop)
    here = np.flatnonzero((heights != 0) & (rows >= window.rows.start) & (rows < window.rows.stop))
    rows, cols, heights, owner = rows[here], cols[here], heights[here], outline.owner[here]
    east = cols + 1 - np.maximum(middle[here, 0], cols)
    across = window.width + 1
    pixel = (owner * window.height + rows - window.row_off) * across + cols - window.col_off
    each, where = np.unique(pixel, return_inverse=True)
    own = np.bincount(where, heights * east, minlength=len(each))
    # A ring goes down as often as up: at the end of each row the sum is back at 0.
    through = np.cumsum(np.bincount(where, heights, minlength=len(each)))
    return _filled(each, own, through, window)


def _filled(pixel: Numbers, own: Places, through: Places, window: Window) -> Cells:
    """Return the pixels that outlines touch and those between them.

    Args:
        pixel: Those that are touched, (n,), rising; numbered shape by shape, row by row, each row one longer.
        own: The share of each that lies to the east of pieces in it, (n,).
        through: The share that all between it and the next have, (n,).
        window: Where they lie.
    """
    gap = np.diff(pixel, append=pixel[-1:] + 1)
    # No gap goes on into another row: there the sum is 0.
    between = np.where(through > NOISE, gap - 1, 0)
    share = np.repeat(through, between + 1)
    touched = np.cumsum(between + 1) - between - 1
    share[touched] = own + np.concatenate((np.zeros(min(1, len(own))), through[:-1]))
    number = np.repeat(pixel - touched, between + 1) + np.arange(len(share))
    share = np.where(share > 1 - NOISE, 1.0, share)
    line, cols = np.divmod(number, window.width + 1)
    kept = (share > NOISE) & (cols < window.width)
    shape, rows = np.divmod(line[kept], window.height)
    return Cells(shape, rows + window.row_off, cols[kept] + window.col_off, share[kept])


def edges(lines: npt.NDArray[Any], owner: Numbers) -> Pieces:
    """Return the straight edges of lines or rings (n,), with the numbers (n,) of those that they belong to."""
    xy, line = shapely.get_coordinates(lines, return_index=True)
    joined = np.flatnonzero(line[1:] == line[:-1])
    return Pieces(xy[joined], xy[joined + 1], owner[line[joined]])


def _in_rows(start: Places, stop: Places, owner: Numbers, window: Window) -> Pieces:
    """Return edges that pass rows of a window; those on either side of it as if on its edge, so that cuts are few."""
    top, bottom = -window.rows.start, -window.rows.stop
    low, high = np.minimum(start[:, 1], stop[:, 1]), np.maximum(start[:, 1], stop[:, 1])
    passing = (low < top) & (high > bottom) & (low < high)
    start, stop = start[passing], stop[passing]
    for side, outermost in ((window.cols.start, np.maximum), (window.cols.stop, np.minimum)):
        aside = outermost(outermost(start[:, 0], stop[:, 0]), side) == side
        start[aside, 0] = stop[aside, 0] = side
    return Pieces(start, stop, owner[passing])


def pieces(whole: Pieces) -> Pieces:
    """Return straight edges cut at the edges of pixels, where x or y are whole numbers."""
    step = whole.stop - whole.start
    cuts, places, numbers = [], [], []
    for axis in (0, 1):
        low, high = (extreme(whole.start[:, axis], whole.stop[:, axis]) for extreme in (np.minimum, np.maximum))
        first, last = np.floor(low).astype(np.int64) + 1, np.ceil(high).astype(np.int64) - 1
        counts = np.maximum(last - first + 1, 0)
        number = np.repeat(np.arange(len(step)), counts)
        line = first[number] + np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts)
        cut = (line - whole.start[number, axis]) / step[number, axis]
        place = whole.start[number] + cut[:, None] * step[number]
        # Not a digit beside the line: pieces then add up to whole pixels.
        place[:, axis] = line
        cuts.append(cut)
        places.append(place)
        numbers.append(number)
    number, cut = np.concatenate(numbers), np.concatenate(cuts)
    order = np.lexsort((cut, number))
    between, number = np.concatenate(places)[order], number[order]
    # Each cut ends a piece and starts the next.
    at = np.arange(len(number)) + number
    first, last = np.ones(len(number) + len(step), dtype=bool), np.ones(len(number) + len(step), dtype=bool)
    first[at + 1], last[at] = False, False
    start, stop = (np.empty((len(first), 2)) for _ in range(2))
    start[first], stop[last] = whole.start, whole.stop
    start[at + 1], stop[at] = between, between
    return Pieces(start, stop, whole.owner[np.cumsum(first) - 1])
