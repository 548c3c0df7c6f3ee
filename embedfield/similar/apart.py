"""Apart: the best pixels of a field of one band, no two of them near each other."""

from __future__ import annotations

import functools
import heapq
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import shapely

from embedfield.errors import PlacesError
from embedfield.places import on_sphere
from embedfield.projection import DEGREES, EARTH
from embedfield.similar.growing import Growing
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.located import Located

# Pixels whose values are read at a time, and whose order is held.
PIXELS = 2**22
# The best pixels of a block whose distances are measured first; then twice as many, and so on.
SOME = 64
KM = EARTH / 1000
# A quarter of the way around the Earth.
QUARTER = KM * np.pi / 2
# What stands in for a pixel that nothing was chosen after.
STALE = -1
# A block's best pixel: its value with the other sign, row, column, how many were chosen when it was found, its block.
type Best = tuple[float, int, int, int, Window]


class Anchors:
    """What distances are measured from: points, or shapes with all that lies in them."""

    def __init__(self, located: Located, step_km: float) -> None:
        """Take places.

        Args:
            located: Places, each of them on the globe.
            step_km: How far apart, in km, the points are that stand for a line or an outline: distances from
                one are too long by half of that at most, and by less the farther away.
        """
        from scipy.spatial import KDTree

        self._areas = shapely.STRtree([])
        lonlat = located.lonlat()[0] if located.points else self._outlines(located, step_km)
        self._tree = KDTree(on_sphere(lonlat))

    def _outlines(self, located: Located, step_km: float) -> npt.NDArray[np.float64]:
        """Set the areas; return points along all outlines and lines, and single ones: degrees (lon, lat), (n, 2)."""
        shapes = located.shapes(DEGREES, None, 1000 * step_km).geometries
        areas = shapes[shapely.get_dimensions(shapes) == 2]
        shapely.prepare(areas)
        self._areas = shapely.STRtree(areas)
        # A degree of longitude is at most as long as one of latitude.
        points: npt.NDArray[np.float64] = shapely.get_coordinates(shapely.segmentize(shapes, np.rad2deg(step_km / KM)))
        return points

    def distance_km(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return great-circle distances to the nearest of them, km, (N,); 0 within a shape.

        Args:
            lonlat: Degrees (lon, lat), (N, 2), finite.
        """
        distances = along(self._tree.query(on_sphere(lonlat))[0])
        if len(self._areas.geometries):
            distances[self._areas.query(shapely.points(lonlat), predicate="intersects")[0]] = 0.0
        return distances


class Picks(NamedTuple):
    """Chosen pixels, the best first."""

    lonlat: npt.NDArray[np.float64]
    """Their centres, degrees (lon, lat), (n, 2)."""
    heights: npt.NDArray[np.float32]
    """What the field has there, (n,)."""


def apart(
    field: Field,
    anchors: Anchors,
    count: int,
    min_km: float,
    progress: Callable[[int, int], None] | None = None,
) -> Picks:
    """Return the pixels with the highest values, none of them near another or near the anchors.

    The highest of all is chosen; then the highest of those that are far enough
    from it and from the anchors, and so on. Of equal ones the northernmost, then
    the westernmost pixel comes first. Memory is bounded by a few blocks.

    Args:
        field: Of one band. Its blocks are read once, and those near what is chosen again.
        anchors: What to keep away from.
        count: How many are wanted; fewer come where there is no room for more.
        min_km: How near, in km between centres along a great circle, none may be; 0 for as near as pixels are.
        progress: Told (pixels looked at, pixels in all).

    Raises:
        PlacesError: If count or min_km is no such number.
    """
    check_spacing(count, min_km)
    return _Choice(field, anchors, min_km).best(count, progress)


def check_spacing(count: int, min_km: float) -> None:
    """Refuse what is no number of places, or no distance.

    Raises:
        PlacesError: If it is so.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise PlacesError(f"count={count!r} is no number of places. Give a whole number from 1.")
    if not 0 <= min_km < np.inf:
        raise PlacesError(f"min_km={min_km:g} is no distance. Give kilometres, 0 or more.")


class _Choice:
    """A choice under way."""

    def __init__(self, field: Field, anchors: Anchors, min_km: float) -> None:
        self.field, self.anchors, self.min_km = field, anchors, min_km
        self._pixels: list[tuple[float, int, int]] = []
        self._near = Growing()
        # Of each block how many of its best pixels are chosen or near: what is near once is near for good.
        self._passed: dict[Window, int] = defaultdict(int)
        self._sorted = functools.lru_cache(max(1, PIXELS // field.blocksize**2))(self._sort)
        self._circle = functools.cache(self._circle_around)

    def best(self, count: int, progress: Callable[[int, int], None] | None) -> Picks:
        """Return up to so many pixels."""
        # A block's best pixel is never better later on: only the block that comes first need be looked at again.
        heap = list(self._first(progress))
        heapq.heapify(heap)
        while heap and len(self._pixels) < count:
            lowest, row, col, chosen, block = heapq.heappop(heap)
            if chosen == len(self._pixels):
                self._take(-lowest, row, col, block)
                heapq.heappush(heap, (lowest, row, col, STALE, block))
            elif not self._swallowed(block) and (following := self._following(block)):
                heapq.heappush(heap, following)
        heights = np.array([height for height, _, _ in self._pixels], dtype=np.float32)
        rows, cols = np.array([pixel for _, *pixel in self._pixels], dtype=np.int64).reshape(-1, 2).T
        return Picks(self.field.grid.centres(rows, cols), heights)

    def _take(self, value: float, row: int, col: int, block: Window) -> None:
        self._pixels.append((value, row, col))
        self._passed[block] += 1
        if self.min_km > 0:
            self._near.add(on_sphere(self.field.grid.centres(np.array([row]), np.array([col])))[0])

    def _first(self, progress: Callable[[int, int], None] | None) -> Iterator[Best]:
        """Yield the best pixel of each block, near or not."""
        grid, side = self.field.grid, self.field.blocksize
        done = 0
        for part in grid.window.tiles(side, side * max(1, PIXELS // side**2)):
            values = _ordered(self.field.read(part)[0])
            for block in part.tiles(side, side):
                left = block.col_off - part.col_off
                own = values[:, left : left + block.width]
                row, col = divmod(int(own.argmax()), block.width)
                if own[row, col] > -np.inf:
                    yield -float(own[row, col]), row + block.row_off, col + block.col_off, STALE, block
            done += part.width * part.height
            if progress:
                progress(done, grid.width * grid.height)

    def _sort(self, block: Window) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return which pixels of a block have a value, row by row, the best first, and their values."""
        values = _ordered(self.field.read(block)[0]).ravel()
        # Among equals the first stays the first.
        order = np.argsort(-values, kind="stable")[: np.count_nonzero(values > -np.inf)]
        return order.astype(np.int32), values[order]

    def _following(self, block: Window) -> Best | None:
        """Return a block's best pixel that is near nothing, if there is one."""
        order, values = self._sorted(block)
        size = SOME
        while (start := self._passed[block]) < len(order):
            rows, cols = np.divmod(order[start : start + size].astype(np.int64), block.width)
            far = self._far(self.field.grid.centres(rows + block.row_off, cols + block.col_off))
            if far.any():
                at = int(far.argmax())
                self._passed[block] += at
                row, col = int(rows[at]) + block.row_off, int(cols[at]) + block.col_off
                return -float(values[start + at]), row, col, len(self._pixels), block
            self._passed[block] += len(far)
            size *= 2
        return None

    def _swallowed(self, block: Window) -> bool:
        """Return whether all of a block is near, by its outline: it need not be read then."""
        if not self.min_km:
            return False
        centre, radius = self._circle(block)
        return radius < QUARTER and radius + float(self._distances(centre)[0]) < self.min_km

    def _circle_around(self, block: Window) -> tuple[npt.NDArray[np.float64], float]:
        """Return the middle of a block, degrees (1, 2), and how far from it, in km, all of the block lies."""
        top, left, bottom, right = block.row_off, block.col_off, block.rows.stop - 1, block.cols.stop - 1
        down, across = np.arange(top, bottom + 1), np.arange(left, right + 1)
        middle = (top + bottom) // 2, (left + right) // 2
        rows = np.concatenate((middle[:1], down, down, np.full_like(across, top), np.full_like(across, bottom)))
        cols = np.concatenate((middle[1:], np.full_like(down, left), np.full_like(down, right), across, across))
        lonlat = self.field.grid.centres(rows, cols)
        if not np.isfinite(lonlat).all():
            return lonlat[:1], np.inf
        ways = along(np.linalg.norm(on_sphere(lonlat) - on_sphere(lonlat[:1]), axis=1))
        # Within a hemisphere the farthest point of an area lies on its outline, give or take the pixels' own size.
        return lonlat[:1], float(ways.max() + 2 * np.deg2rad(self.field.grid.res_degrees) * KM)

    def _far(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which places (n, 2) are near nothing, (n,)."""
        far = np.isfinite(lonlat).all(axis=1)
        if self.min_km > 0:
            far[far] = self._distances(lonlat[far]) >= self.min_km
        return far

    def _distances(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return distances of places (n, 2) to the nearest that is chosen, or the anchors, km, (n,)."""
        return np.minimum(self.anchors.distance_km(lonlat), along(self._near.chords(on_sphere(lonlat))))


def _ordered(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return values with the least there is in place of none."""
    return np.where(np.isnan(values), np.float32(-np.inf), values)


def along(chords: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return lengths of great circles, km, of chords of the sphere of radius 1."""
    return 2 * KM * np.arcsin(np.minimum(chords / 2, 1.0))
