"""Grid: where pixels are, without any pixels."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from affine import Affine

from embedfield.errors import GridError
from embedfield.places import GLOBE, places_within, turned
from embedfield.projection import DEGREES, EARTH, checked_crs, projection, unit_of
from embedfield.window import Window

Bounds = tuple[float, float, float, float]
# How far, in pixels, bounds may miss a whole number of pixels: the rounding of decimal degrees.
TOLERANCE = 1e-6
# Pixels along a side of any raster: what GDAL counts to.
MOST = 2**31 - 1
POLES = np.array([(0.0, 90.0), (0.0, -90.0)])


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Square pixels, row 0 at the top: over longitude and latitude, or in the plane of a projected reference system.

    Make one with `from_bounds` or `covering`.
    """

    west: float
    """Left edge, in units of the reference system; of EPSG:4326 degrees in [-180, 180)."""
    north: float
    """Upper edge, in units of the reference system."""
    res: float
    """Side of a pixel, in units of the reference system."""
    width: int
    """Number of columns."""
    height: int
    """Number of rows."""
    crs: str = DEGREES
    """Coordinate reference system, by authority and code: EPSG:4326, or a projected one."""

    def __post_init__(self) -> None:
        """Refuse a grid that is no part of the world."""
        object.__setattr__(self, "crs", checked_crs(self.crs))
        _, south, east, _ = self.bounds
        right = 0 < self.res < np.inf and min(self.width, self.height) >= 1 and np.isfinite([south, east]).all()
        globe = -180 <= self.west < 180 and south >= -90 - TOLERANCE * self.res and self.north <= 90
        if not right or (self.geographic and not globe):
            raise GridError(f"{self} is no grid on the globe. Make one with Grid.from_bounds.")

    @classmethod
    def from_bounds(cls, res: float, bounds: Bounds | None = None, crs: str = DEGREES) -> Self:
        """Return the grid whose pixels tile the bounds exactly.

        Args:
            res: Side of a pixel, in units of the reference system.
            bounds: west, south, east, north in units of the reference system.
                In EPSG:4326, west greater than east crosses the antimeridian;
                the grid then runs past 180. None for the globe; of a projected
                reference system for the area that it is made for, widened to
                whole pixels.
            crs: Coordinate reference system, by authority and code.

        Raises:
            GridError: If the bounds are no part of the world, res does not
                divide them into whole pixels, or no grid can have that
                reference system.
        """
        crs = checked_crs(crs)
        if bounds is None and crs != DEGREES:
            return cls.covering(res, projection(crs).area(), crs)
        said = GLOBE if bounds is None else bounds
        west, south, east, north = _checked_bounds(said) if crs == DEGREES else _checked_plane(said, crs)
        _check_res(res, crs)
        _check_count(res, east - west, north - south)
        if not _tiles(res, (east - west, north - south)):
            raise GridError(
                f"res={res:.12g} does not divide bounds={tuple(map(float, said))} into whole pixels. "
                f"Pixels must tile the bounds exactly. {_better(res, east - west, north - south)}"
            )
        width, height = round((east - west) / res), round((north - south) / res)
        return _shown(cls(west=west, north=north, res=res, width=width, height=height, crs=crs))

    @classmethod
    def covering(cls, res: float, bounds: Bounds, crs: str = DEGREES) -> Self:
        """Return the grid of all pixels that bounds touch, at the places where every such grid of one res has them.

        Pixels are counted from 180 west and 90 south, or in a projected
        reference system from its origin.

        Args:
            res: Side of a pixel, in units of the reference system.
            bounds: west, south, east, north in units of the reference system,
                as in `from_bounds`; may be as small as a place. Bounds that
                become wider than the globe become as wide as it.
            crs: Coordinate reference system, by authority and code.

        Raises:
            GridError: If the bounds are no part of the world, no grid can have
                that reference system, or they reach all around the world and
                res does not divide it into whole pixels.
        """
        crs = checked_crs(crs)
        _check_res(res, crs)
        if crs != DEGREES:
            west, south, east, north = _checked_plane(bounds, crs, places=True)
            _check_count(res, east - west, north - south)
            (left, right), (low, high) = _outwards(west, east, res), _outwards(south, north, res)
            width, height = right - left, high - low
            return _shown(
                cls(west=float(left * res), north=float(high * res), res=res, width=width, height=height, crs=crs)
            )
        west, south, east, north = _checked_bounds(bounds, places=True)
        _check_count(res, east - west, north - south)
        (left, right), (low, high) = _outwards(west + 180, east + 180, res), _outwards(south + 90, north + 90, res)
        low, high = max(low, 0), min(high, int(180 / res + TOLERANCE))
        low = min(low, high - 1)
        # Products of decimal degrees, such as 1931 × 0.1, end in binary dust.
        top, bottom = round(high * res - 90, 12), round(low * res - 90, 12)
        if (right - left) * res > 360 - TOLERANCE * res or res > 180:
            fits = res <= 180 and _tiles(res, (360.0,))
            return cls.from_bounds(res, (-180.0, bottom, 180.0, top) if fits else GLOBE)
        side = round(left * res - 180, 12)
        return cls(west=side - 360 * (side >= 180), north=top, res=res, width=right - left, height=high - low)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def geographic(self) -> bool:
        """Whether it is over longitude and latitude."""
        return self.crs == DEGREES

    @property
    def unit(self) -> str:
        """The unit of the reference system: ``degrees``, ``metres``, or what else it counts in, in the plural."""
        return "degrees" if self.geographic else unit_of(self.crs)

    @property
    def side(self) -> str:
        """Side of a pixel with its unit, in words: ``0.1 degrees``, ``1 degree``."""
        return f"{self.res:.10g} {self.unit.removesuffix('s') if self.res == 1 else self.unit}"

    @property
    def res_degrees(self) -> float:
        """Side of a pixel in degrees of latitude; about, if projected, for the scale differs from place to place."""
        return self.res if self.geographic else float(np.rad2deg(self.res * projection(self.crs).metres / EARTH))

    @property
    def bounds(self) -> Bounds:
        """west, south, east, north in units of the reference system; east may pass 180 degrees."""
        # Products of decimal degrees, such as 3600 × 0.05, end in binary dust.
        south, east = (
            round(edge, 9) for edge in (self.north - self.height * self.res, self.west + self.width * self.res)
        )
        return self.west, south, east, self.north

    @property
    def lonlat_bounds(self) -> Bounds:
        """west, south, east, north in degrees of the smallest box around it; east may pass 180.

        The box of a grid that holds a pole goes once around the world.
        """
        return self.bounds if self.geographic else _lonlat_box(self)

    @property
    def transform(self) -> Affine:
        """From (col, row), corners at whole numbers, to (x, y) in units of the reference system."""
        return Affine(self.res, 0.0, self.west, 0.0, -self.res, self.north)

    @property
    def closed(self) -> bool:
        """Whether the grid goes once around the world over longitude, so that its sides meet."""
        return self.geographic and abs(self.width * self.res - 360.0) < TOLERANCE * self.res

    @property
    def window(self) -> Window:
        """The whole grid."""
        return Window(0, 0, self.width, self.height)

    def xs(self, window: Window | None = None) -> npt.NDArray[np.float64]:
        """Return the centres of columns in units of the reference system, left to right; degrees may pass 180."""
        cols = self.checked(window).cols
        return self.west + (np.arange(cols.start, cols.stop) + 0.5) * self.res

    def ys(self, window: Window | None = None) -> npt.NDArray[np.float64]:
        """Return the centres of rows in units of the reference system, top to bottom."""
        rows = self.checked(window).rows
        return self.north - (np.arange(rows.start, rows.stop) + 0.5) * self.res

    def lons(self, window: Window | None = None) -> npt.NDArray[np.float64]:
        """Return longitudes of the centres of columns, degrees, west to east; may pass 180.

        Raises:
            GridError: If the grid is not over longitude and latitude.
        """
        self._check_geographic()
        return self.xs(window)

    def lats(self, window: Window | None = None) -> npt.NDArray[np.float64]:
        """Return latitudes of the centres of rows, degrees, north to south.

        Raises:
            GridError: If the grid is not over longitude and latitude.
        """
        self._check_geographic()
        return self.ys(window)

    def lonlat(self, window: Window | None = None) -> npt.NDArray[np.float64]:
        """Return pixel centres of a window.

        Args:
            window: Pixels of this grid; the whole grid if None.

        Returns:
            Degrees (lon, lat), (height * width, 2), float64, row by row from
            the top, each from the left; NaN where a centre is not on the
            globe, as in the corners of an oval map of the world.

        Raises:
            GridError: If the window passes the edge of the grid.
        """
        window = self.checked(window)
        rows, cols = np.mgrid[window.rows, window.cols]
        return self.places_at(rows.ravel() + 0.5, cols.ravel() + 0.5)

    def centres(self, rows: npt.ArrayLike, cols: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the centres of single pixels.

        Args:
            rows: Rows, (N,), whole numbers.
            cols: Columns, (N,), whole numbers.

        Returns:
            Degrees (lon, lat), (N, 2), float64; NaN where a centre is not on the globe.

        Raises:
            GridError: If a pixel is not on the grid.
        """
        rows, cols = self.checked_pixels(rows, cols)
        return self.places_at(rows + 0.5, cols + 0.5)

    def places_at(self, rows: npt.NDArray[np.floating], cols: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the places of fractional positions, the way back from `positions`.

        Args:
            rows: Rows, (N,); 0.5 is the centre of the first.
            cols: Columns, (N,).

        Returns:
            Degrees (lon, lat), (N, 2), float64; NaN where a position is not on the globe.
        """
        x = np.asarray(self.west + cols * self.res, dtype=np.float64)
        y = np.asarray(self.north - rows * self.res, dtype=np.float64)
        if self.geographic:
            return np.column_stack((turned(x), y))
        return projection(self.crs).inverse(np.column_stack((x, y)))

    def places(self, count: int, latitudes: tuple[float, float] = (-90.0, 90.0)) -> npt.NDArray[np.float64]:
        """Return places spread evenly by area on the sphere over the grid; the same at every call.

        Args:
            count: How many are wanted; of a projected grid about so many come.
            latitudes: The range, in degrees, outside of which none is wanted.

        Returns:
            Degrees (lon, lat), (n, 2), float64; none where the grid lies beyond the latitudes.
        """
        west, south, east, north = self.lonlat_bounds
        return places_within(count, (west, max(south, latitudes[0]), east, min(north, latitudes[1])), self.contains)

    def positions(self, lonlat: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return fractional (rows, cols) of places, (N,) each, float64.

        Corners of pixels are at whole numbers: 0.5 is the centre of the first.
        Places outside get numbers below 0 or above the shape, and NaN where the
        reference system cannot show them.

        Args:
            lonlat: Degrees (lon, lat), (N, 2).
        """
        xy = lonlat if self.geographic else projection(self.crs).forward(lonlat)
        rows, cols = (self.north - xy[:, 1]) / self.res, (xy[:, 0] - self.west) / self.res
        if self.geographic:
            around = 360.0 / self.res
            # A place is looked for around the whole world; one on the eastern edge stays there.
            cols = np.where(cols < -TOLERANCE, cols + around, cols)
            cols = cols if self.closed else np.where(cols > around - TOLERANCE, cols - around, cols)
        return snapped(rows), snapped(cols)

    def contains(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which places (N, 2) lie on the grid, its outer edges included: (N,)."""
        rows, cols = self.positions(lonlat)
        return (rows >= 0) & (rows <= self.height) & (cols >= 0) & (cols <= self.width)

    def to_dict(self) -> dict[str, Any]:
        """Return the grid as plain data for JSON."""
        return {"bounds": list(self.bounds), "res": self.res, "shape": list(self.shape), "crs": self.crs}

    def checked_pixels(
        self, rows: npt.ArrayLike, cols: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return rows and columns (N,) as whole numbers, once they are known to be on the grid.

        Raises:
            GridError: If one is not.
        """
        rows, cols = (np.asarray(part, dtype=np.int64) for part in (rows, cols))
        outside = (rows < 0) | (rows >= self.height) | (cols < 0) | (cols >= self.width)
        if outside.any():
            first = int(outside.argmax())
            raise GridError(
                f"Row {rows[first]}, column {cols[first]} is no pixel of a grid of {self.width} x {self.height} pixels."
            )
        return rows, cols

    def checked(self, window: Window | None) -> Window:
        """Return a window, the whole grid if None, once it is known to be on the grid.

        Raises:
            GridError: If it passes the edge.
        """
        window = window or self.window
        if window.cols.stop > self.width or window.rows.stop > self.height:
            raise GridError(f"{window} passes the edge of a grid of {self.width} x {self.height} pixels.")
        return window

    def _check_geographic(self) -> None:
        if not self.geographic:
            raise GridError(
                f"A grid in {self.crs} has no longitude a column and no latitude a row. "
                "Take xs() and ys() in its units, or lonlat()."
            )


def snapped(positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return positions in pixels freed of binary dust beside the edges and centres of pixels."""
    near = np.rint(2 * positions) / 2
    return np.where(abs(positions - near) < TOLERANCE, near, positions)


def _shown[G: Grid](grid: G) -> G:
    """Return a grid, once it is known to show a part of the globe.

    Raises:
        GridError: If it does not.
    """
    if not grid.geographic:
        _lonlat_box(grid)
    return grid


@functools.lru_cache(maxsize=64)
def _lonlat_box(grid: Grid) -> Bounds:
    """Return the smallest box of longitude and latitude around a projected grid.

    Raises:
        GridError: If no part of the grid is on the globe.
    """
    found = _scattered(grid)
    lats = np.concatenate((found[:, 1], POLES[grid.contains(POLES), 1]))
    south, north = float(lats.min()), float(lats.max())
    if grid.contains(POLES).any():
        return -180.0, south, 180.0, north
    # Between the places that were looked at there may be others: a second look, a quarter of a degree apart.
    probes = np.stack(np.meshgrid(np.arange(-720, 721) / 4, np.linspace(south, north, 65)), axis=-1).reshape(-1, 2)
    lons = np.unique(np.concatenate((found[:, 0], probes[grid.contains(probes), 0])))
    gaps = np.diff(lons, append=lons[0] + 360.0)
    widest = int(gaps.argmax())
    if gaps[widest] < 0.5:
        return -180.0, south, 180.0, north
    west = lons[(widest + 1) % len(lons)]
    return float(west), south, float(west + 360.0 - gaps[widest]), north


def _scattered(grid: Grid) -> npt.NDArray[np.float64]:
    """Return places of a projected grid, (N, 2): many along its edges, some within.

    Raises:
        GridError: If none is on the globe.
    """
    steps = [np.linspace(0, size, 2049) for size in grid.shape]
    rows, cols = (part.ravel() for part in np.meshgrid(steps[0][::16], steps[1][::16], indexing="ij"))
    for edge in (0, grid.height):
        rows, cols = np.append(rows, np.full(2049, edge)), np.append(cols, steps[1])
    for edge in (0, grid.width):
        rows, cols = np.append(rows, steps[0]), np.append(cols, np.full(2049, edge))
    found = grid.places_at(rows, cols)
    found = found[~np.isnan(found).any(axis=1)]
    if not len(found):  # the globe may be a speck in it
        world = places_within(4096, GLOBE, grid.contains)
        found = world[grid.contains(world)]
    if not len(found):
        raise GridError(
            f"bounds={grid.bounds} show no part of the globe in {grid.crs}, whose own area is about "
            f"{_rounded(projection(grid.crs).area())}. Choose bounds, in {grid.unit}, that do."
        )
    return found


def _rounded(bounds: Bounds) -> tuple[int, ...]:
    return tuple(round(edge) for edge in bounds)


def _outwards(start: float, stop: float, res: float) -> tuple[int, int]:
    """Return the whole multiples of res that hold a range between them, at least one apart."""
    first, last = int(np.floor(start / res + TOLERANCE)), int(np.ceil(stop / res - TOLERANCE))
    return first, max(last, first + 1)


def _check_res(res: float, crs: str) -> None:
    if not (np.isfinite(res) and res > 0):
        wish = "degrees, such as 0.25" if crs == DEGREES else f"{unit_of(crs)}, such as 1000"
        raise GridError(f"res={res:g} is no size of a pixel. Give {wish}.")


def _check_count(res: float, *extents: float) -> None:
    if max(extents) > MOST * res:
        raise GridError(
            f"res={res:g} makes more than {MOST:,} pixels along a side, as no raster has. Choose a coarser res."
        )


def _checked_plane(bounds: Bounds, crs: str, *, places: bool = False) -> Bounds:
    """Return bounds in a projected reference system with west < east, or where they may be places west = east.

    Raises:
        GridError: If they are not, or look like degrees.
    """
    said = _four(bounds)
    west, south, east, north = said
    if west > east or south > north or (not places and (west == east or south == north)):
        raise GridError(
            f"bounds={said} are no box in {crs}. Numbers rise from west to east and from south to north. "
            "The order is west, south, east, north."
        )
    small = abs(west) <= 360 and abs(east) <= 360 and abs(south) <= 90 and abs(north) <= 90
    if small and projection(crs).metres < 1000:
        raise GridError(
            f"bounds={said} look like degrees, and {crs} counts in {unit_of(crs)}: its own area is about "
            f"{_rounded(projection(crs).area())}. Give bounds in {unit_of(crs)}."
        )
    return said


def _four(bounds: Bounds) -> Bounds:
    """Return bounds as plain numbers.

    Raises:
        GridError: If they are not four, or one is not finite.
    """
    said = tuple(map(float, bounds))
    if len(said) != 4 or not np.isfinite(said).all():
        raise GridError(f"bounds={said} are not four finite numbers: west, south, east, north.")
    west, south, east, north = said
    return west, south, east, north


def _checked_bounds(bounds: Bounds, *, places: bool = False) -> Bounds:
    """Return bounds with west < east, west in [-180, 180); where they may be places, west <= east.

    Raises:
        GridError: If they are no part of the globe.
    """
    said = _four(bounds)
    west, south, east, north = said
    if not -90 <= south <= north <= 90 or (south == north and not places):
        raise GridError(
            f"bounds={said} have south={south:g} and north={north:g}. "
            "Latitudes rise from south to north within [-90, 90]. The order is west, south, east, north."
        )
    if not (-180 <= west <= 360 and -180 <= east <= (540 if places else 360)) or (
        west - east in (0, 360) and not places
    ):
        raise GridError(
            f"bounds={said} have west={west:g} and east={east:g}. "
            "Longitudes lie within [-180, 360] and differ. The order is west, south, east, north."
        )
    if east < west:
        east += 360
    if east - west > 360:
        raise GridError(f"bounds={said} are {east - west:g} degrees wide. The world is 360.")
    turn = 360 if west >= 180 else 0
    return west - turn, south, east - turn, north


def _tiles(res: float, extents: tuple[float, ...]) -> bool:
    """Return whether pixels of a size fit extents a whole number of times, at least once."""
    counts = [extent / res for extent in extents]
    return all(round(count) >= 1 and abs(count - round(count)) < TOLERANCE for count in counts)


def _better(res: float, *extents: float) -> str:
    """Return advice on resolutions near to one that does not divide the extents: the roundest first."""
    for digits in range(2, 7):
        step = 10.0 ** (np.floor(np.log10(res)) + 1 - digits)
        near = np.arange(np.ceil(0.75 * res / step), np.floor(1.35 * res / step) + 1) * step
        good = sorted(
            (float(choice) for choice in near if _tiles(choice, extents)), key=lambda choice: abs(choice - res)
        )
        if good:
            return f"Choose a res such as {' or '.join(f'{choice:.12g}' for choice in good[:3])}."
    exact = min(extents) / max(1, round(min(extents) / res))
    return (
        f"Choose a res such as {exact:.12g}."
        if _tiles(exact, extents)
        else "Choose bounds that are whole multiples of res."
    )
