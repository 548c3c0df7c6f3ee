"""Overlay: shapes laid over a grid, and what they cover of it, window by window."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely

from embedfield.cells import Pieces, cells_under, edges, pieces
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from embedfield.grid import Grid

# Pixels by which a corner may lie beside the edge of one: the binary dust of decimal degrees.
DUST = 1e-9


class Cover(NamedTuple):
    """Which pixels shapes cover, and how much of them."""

    shape: npt.NDArray[np.int64]
    """(n,), which of the shapes."""
    row: npt.NDArray[np.int64]
    """(n,), rows of the grid."""
    col: npt.NDArray[np.int64]
    """(n,), columns of the grid."""
    share: npt.NDArray[np.float64]
    """(n,): of a pixel under a polygon the share that is covered; 1 under a line, and for each point."""
    weight: npt.NDArray[np.float64]
    """(n,): area under a polygon, length of a line, number of points. On a grid over longitude and latitude
    areas are those of the unit sphere, steradians, and lengths radians; else they are in pixels."""

    def chosen(self, which: npt.NDArray[np.bool_]) -> Cover:
        """Return some of it, (n,)."""
        return Cover(self.shape[which], self.row[which], self.col[which], self.share[which], self.weight[which])


class Overlay:
    """Shapes laid over a grid."""

    def __init__(self, geometries: npt.NDArray[Any], grid: Grid) -> None:
        """Lay shapes over a grid.

        Args:
            geometries: Of shapely, (N,), in the grid's reference system, as `shapes_on` gives them: valid, of one
                dimension each, longitudes within [-180, 180]. None is nowhere.
            grid: Where the pixels are.
        """
        self.grid = grid
        self.geometries = geometries
        there = np.flatnonzero(~shapely.is_missing(geometries))
        turns = self._turns()
        laid = [shapely.transform(geometries[there], functools.partial(self._in_pixels, turn)) for turn in turns]
        self._laid = np.concatenate(laid)
        self._shape = np.tile(there, len(turns))
        reaching = self._reaching()
        self._laid, self._shape = self._laid[reaching], self._shape[reaching]
        self._dimension = shapely.get_dimensions(self._laid)

    @property
    def near(self) -> npt.NDArray[np.int64]:
        """Which shapes may touch the grid, rising."""
        return np.unique(self._shape)

    def windows(self, side: int) -> Iterator[tuple[Window, npt.NDArray[np.int64]]]:
        """Yield windows, squares of so many pixels, that shapes may touch, and which of them; row by row.

        Args:
            side: Of the squares that the grid is divided into; at its edges they are smaller.
        """
        if not len(self._laid):
            return
        west, bottom, east, top = shapely.bounds(self._laid).T
        (up, down), (left, right) = (
            (np.floor(low / side).astype(np.int64), np.floor(high / side).astype(np.int64))
            for low, high in (
                (np.clip(-top, 0, self.grid.height - 1), np.clip(-bottom, 0, self.grid.height - 1)),
                (np.clip(west, 0, self.grid.width - 1), np.clip(east, 0, self.grid.width - 1)),
            )
        )
        across = right - left + 1
        counts = (down - up + 1) * across
        member = np.repeat(np.arange(len(counts)), counts)
        step = np.arange(len(member)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows, cols = up[member] + step // across[member], left[member] + step % across[member]
        squares = rows * (self.grid.width // side + 1) + cols
        order = np.argsort(squares, kind="stable")
        _, starts = np.unique(squares[order], return_index=True)
        for members in np.split(order, starts[1:]):
            row, col = int(rows[members[0]]) * side, int(cols[members[0]]) * side
            height, width = min(side, self.grid.height - row), min(side, self.grid.width - col)
            yield Window(col, row, width, height), member[members]

    def portions(self, window: Window, members: npt.NDArray[np.int64], most: int) -> list[npt.NDArray[np.int64]]:
        """Return shapes of a window in portions that may cover so many of its pixels, those under several counted anew.

        Args:
            window: One that `windows` yields.
            members: Which shapes, as it yields them.
            most: Pixels; a portion of one shape may have more.
        """
        west, bottom, east, top = shapely.bounds(self._laid[members]).T
        high = np.clip(-bottom, window.rows.start, window.rows.stop) - np.clip(
            -top, window.rows.start, window.rows.stop
        )
        wide = np.clip(east, window.cols.start, window.cols.stop) - np.clip(west, window.cols.start, window.cols.stop)
        # Half a pixel at least on either side, for what it only touches.
        pixels = np.cumsum((high + 1) * (wide + 1))
        _, starts = np.unique(pixels // most, return_index=True)
        return np.split(members, starts[1:])

    def cover(self, window: Window, members: npt.NDArray[np.int64]) -> Cover:
        """Return what shapes cover of a window.

        Args:
            window: One that `windows` yields.
            members: Which shapes, as it yields them.
        """
        kinds = self._dimension[members]
        found = [
            part(self, members[kinds == dimension], window)
            for dimension, part in enumerate((Overlay._points, Overlay._lines, Overlay._polygons))
            if (kinds == dimension).any()
        ]
        return Cover(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    @functools.cached_property
    def beyond(self) -> npt.NDArray[np.float64]:
        """How much of each shape lies off the grid, (N,), measured as `Cover.weight`."""
        whole, inside = np.zeros(len(self.geometries)), np.zeros(len(self.geometries))
        there = np.flatnonzero(~shapely.is_missing(self.geometries))
        laid = shapely.transform(self.geometries[there], functools.partial(self._in_pixels, 0.0))
        partly = np.flatnonzero(~self._within(laid))
        whole[there[partly]] = self._measure(laid[partly])
        sticking = np.flatnonzero(np.isin(self._shape, there[partly]))
        dimension = self._dimension[sticking]
        for part, kind in ((self._points, 0), (self._lines, 1)):
            found = part(sticking[dimension == kind], self.grid.window)
            np.add.at(inside, found.shape, found.weight)
        sticking = sticking[dimension == 2]
        frame = shapely.box(0, -self.grid.height, self.grid.width, 0)
        areas = _polygons_of(shapely.intersection(_sound(self._laid[sticking]), frame))
        np.add.at(inside, self._shape[sticking], self._polygon_areas(areas))
        return np.maximum(whole - inside, 0.0)

    def _turns(self) -> tuple[float, ...]:
        """Return by how many degrees shapes are turned: where grids meet or pass 180, the same place has two names."""
        if not self.grid.geographic or (self.grid.closed and self.grid.bounds[2] <= 180):
            return (0.0,)
        return (0.0, *((360.0,) if self.grid.bounds[2] >= 180 else (-360.0,) if self.grid.west == -180 else ()))

    @property
    def _meets(self) -> bool:
        """Whether the grid meets itself, other than at 180 degrees: then its right edge is its left one."""
        return self.grid.closed and self.grid.bounds[2] > 180

    def _in_pixels(self, turn: float, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return places (x, y) of the grid's plane in pixels from its left and, upwards, from its top."""
        pixels = (xy - (self.grid.west - turn, self.grid.north)) / self.grid.res
        whole = np.rint(pixels)
        return np.where(abs(pixels - whole) < DUST, whole, pixels)

    def _reaching(self) -> npt.NDArray[np.bool_]:
        """Return which laid shapes may touch the grid."""
        west, bottom, east, top = shapely.bounds(self._laid).T
        reaching: npt.NDArray[np.bool_] = (
            (east >= 0) & (west <= self.grid.width) & (top >= -self.grid.height) & (bottom <= 0)
        )
        return reaching

    def _within(self, laid: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        west, bottom, east, top = shapely.bounds(laid).T
        within: npt.NDArray[np.bool_] = (
            (west >= 0) & (east <= self.grid.width) & (bottom >= -self.grid.height) & (top <= 0)
        )
        return within

    def _polygons(self, members: npt.NDArray[np.int64], window: Window) -> Cover:
        found = cells_under(self._laid[members], window)
        weight = found.share * self._areas(found.row)
        return self._once(Cover(self._shape[members[found.shape]], found.row, found.col, found.share, weight))

    def _lines(self, members: npt.NDArray[np.int64], window: Window) -> Cover:
        found = _pieces(self._laid[members])
        middle = found.middle
        cols = np.floor(middle[:, 0]).astype(np.int64)
        rows = np.floor(-middle[:, 1]).astype(np.int64)
        # As for points, the outer edges belong to the last pixels.
        cols -= (middle[:, 0] == self.grid.width) & (not self._meets)
        rows -= -middle[:, 1] == self.grid.height
        # Through a corner a line passes from pixel to pixel; the dust between two cuts lies in a third.
        here = np.flatnonzero(_inside(rows, cols, window) & (np.hypot(*(found.stop - found.start).T) > DUST))
        pixel = (found.owner[here] * self.grid.height + rows[here]) * self.grid.width + cols[here]
        _, first, each = np.unique(pixel, return_index=True, return_inverse=True)
        weight = np.bincount(each, self._lengths(found)[here], minlength=len(first))
        first = here[first]
        shape = self._shape[members[found.owner[first]]]
        return self._once(Cover(shape, rows[first], cols[first], np.ones(len(first)), weight))

    def _once(self, cover: Cover) -> Cover:
        """Return a cover in which no pixel of a shape stands twice: one on the antimeridian is laid from both sides."""
        if len(self._turns()) == 1:
            return cover
        pixel = (cover.shape * self.grid.height + cover.row) * self.grid.width + cover.col
        _, first, each = np.unique(pixel, return_index=True, return_inverse=True)
        if len(first) == len(pixel):
            return cover
        share, weight = (np.bincount(each, part, minlength=len(first)) for part in (cover.share, cover.weight))
        return Cover(cover.shape[first], cover.row[first], cover.col[first], np.minimum(share, 1.0), weight)

    def _points(self, members: npt.NDArray[np.int64], window: Window) -> Cover:
        xy, point = shapely.get_coordinates(self._laid[members], return_index=True)
        cols, rows = np.floor(xy[:, 0]).astype(np.int64), np.floor(-xy[:, 1]).astype(np.int64)
        cols -= (xy[:, 0] == self.grid.width) & (not self._meets)
        rows -= -xy[:, 1] == self.grid.height
        here = _inside(rows, cols, window)
        one = np.ones(int(here.sum()))
        return Cover(self._shape[members[point[here]]], rows[here], cols[here], one, one)

    def _areas(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the areas of pixels by their rows."""
        if not self.grid.geographic:
            return np.ones(len(rows))
        north = np.sin(np.deg2rad(self.grid.north - rows * self.grid.res))
        south = np.sin(np.deg2rad(self.grid.north - (rows + 1) * self.grid.res))
        areas: npt.NDArray[np.float64] = np.deg2rad(self.grid.res) * (north - south)
        return areas

    def _lengths(self, found: Pieces) -> npt.NDArray[np.float64]:
        """Return the lengths of short straight pieces, (n,)."""
        across, down = (found.stop - found.start).T
        if self.grid.geographic:
            lat = np.deg2rad(self.grid.north + found.middle[:, 1] * self.grid.res)
            across, down = np.deg2rad(across * self.grid.res) * np.cos(lat), np.deg2rad(down * self.grid.res)
        lengths: npt.NDArray[np.float64] = np.hypot(across, down)
        return lengths

    def _measure(self, laid: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return areas, lengths or numbers of points of laid shapes; (N,)."""
        dimension = shapely.get_dimensions(laid)
        measured = np.where(dimension == 0, shapely.get_num_coordinates(laid), 0.0)
        lines, polygons = np.flatnonzero(dimension == 1), np.flatnonzero(dimension == 2)
        found = _pieces(laid[lines])
        measured[lines] = np.bincount(found.owner, self._lengths(found), minlength=len(lines))
        measured[polygons] = self._polygon_areas(laid[polygons])
        return measured

    def _polygon_areas(self, polygons: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return areas of polygons in pixels, on the sphere where the grid is over longitude and latitude."""
        if not self.grid.geographic:
            areas: npt.NDArray[np.float64] = shapely.area(polygons)
            return areas
        parts, owner = shapely.get_parts(shapely.orient_polygons(polygons), return_index=True)
        rings, part = shapely.get_rings(parts, return_index=True)
        outline = edges(rings, owner[part])
        # By Green's theorem: the integral of the sine of latitude, whose mean along an edge is known, over longitude.
        across, rise = np.deg2rad((outline.stop - outline.start).T * self.grid.res)
        sine = np.sin(np.deg2rad(self.grid.north + outline.middle[:, 1] * self.grid.res)) * np.sinc(rise / 2 / np.pi)
        return np.bincount(outline.owner, -across * sine, minlength=len(polygons))


def _inside(rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64], window: Window) -> npt.NDArray[np.bool_]:
    (top, bottom), (left, right) = ((part.start, part.stop) for part in (window.rows, window.cols))
    inside: npt.NDArray[np.bool_] = (rows >= top) & (rows < bottom) & (cols >= left) & (cols < right)
    return inside


def _pieces(lines: npt.NDArray[Any]) -> Pieces:
    """Return the lines and parts of lines in each pixel, owned by their numbers in an array of shapely, (N,)."""
    parts, owner = shapely.get_parts(lines, return_index=True)
    return pieces(edges(parts, owner))


def _sound(laid: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return laid shapes, mended where corners that were freed of dust have come to lie in one place."""
    broken = ~shapely.is_valid(laid)
    laid[broken] = shapely.make_valid(laid[broken])
    return laid


def _polygons_of(mixed: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return shapes without their lines and points, such as are left where polygons only touch; maybe empty ones."""
    parts, owner = shapely.get_parts(mixed, return_index=True)
    parts, inner = shapely.get_parts(parts, return_index=True)
    areas = shapely.get_dimensions(parts) == 2
    found = np.full(len(mixed), shapely.MultiPolygon(), dtype=object)
    shapely.multipolygons(parts[areas], indices=owner[inner[areas]], out=found)
    return found
