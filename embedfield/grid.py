"""A Grid and its Windows: where pixels are, without any pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from affine import Affine

from embedfield.errors import GridError
from embedfield.places import GLOBE, turned

if TYPE_CHECKING:
    from collections.abc import Iterator

Bounds = tuple[float, float, float, float]
# How far, in pixels, bounds may miss a whole number of pixels: the rounding of decimal degrees.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels, in the words of rasterio."""

    col_off: int
    """First column, counted from 0 in the west."""
    row_off: int
    """First row, counted from 0 in the north."""
    width: int
    """Number of columns, at least 1."""
    height: int
    """Number of rows, at least 1."""

    def __post_init__(self) -> None:
        """Refuse a window that holds no pixel."""
        if min(self.col_off, self.row_off) < 0 or min(self.width, self.height) < 1:
            raise GridError(f"{self} holds no pixel. Offsets start at 0, sizes at 1.")

    @property
    def rows(self) -> slice:
        """Its rows, half open."""
        return slice(self.row_off, self.row_off + self.height)

    @property
    def cols(self) -> slice:
        """Its columns, half open."""
        return slice(self.col_off, self.col_off + self.width)

    def tiles(self, height: int, width: int) -> Iterator[Window]:
        """Yield windows of at most (height, width) that tile this one, row by row."""
        for row in range(self.rows.start, self.rows.stop, height):
            for col in range(self.cols.start, self.cols.stop, width):
                yield Window(col, row, min(width, self.cols.stop - col), min(height, self.rows.stop - row))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Square pixels over longitude and latitude, north up, row 0 in the north.

    Make one with `from_bounds`.
    """

    west: float
    """Longitude of the western edge, degrees, in [-180, 180)."""
    north: float
    """Latitude of the northern edge, degrees."""
    res: float
    """Side of a pixel, degrees."""
    width: int
    """Number of columns."""
    height: int
    """Number of rows."""
    crs: str = "EPSG:4326"
    """Coordinate reference system."""

    def __post_init__(self) -> None:
        """Refuse a grid that is no part of the world."""
        _, south, _, _ = self.bounds
        right = self.res > 0 and min(self.width, self.height) >= 1 and -180 <= self.west < 180
        if not right or south < -90 - TOLERANCE * self.res or not self.north <= 90:
            raise GridError(f"{self} is no grid on the globe. Make one with Grid.from_bounds.")

    @classmethod
    def from_bounds(cls, res: float, bounds: Bounds = GLOBE) -> Self:
        """Return the grid whose pixels tile the bounds exactly.

        Args:
            res: Side of a pixel, degrees.
            bounds: west, south, east, north in degrees. West greater than east
                crosses the antimeridian; the grid then runs past 180.

        Raises:
            GridError: If the bounds are no part of the world, or res does not
                divide them into whole pixels.
        """
        west, south, east, north = _checked_bounds(bounds)
        if not (np.isfinite(res) and res > 0):
            raise GridError(f"res={res:g} is no size of a pixel. Give degrees, such as 0.25.")
        if not _tiles(res, (east - west, north - south)):
            raise GridError(
                f"res={res:.12g} does not divide bounds={tuple(map(float, bounds))} into whole pixels. "
                f"Pixels must tile the bounds exactly. {_better(res, east - west, north - south)}"
            )
        return cls(
            west=west, north=north, res=res, width=round((east - west) / res), height=round((north - south) / res)
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def bounds(self) -> Bounds:
        """west, south, east, north in degrees; east may pass 180."""
        # Products of decimal degrees, such as 3600 × 0.05, end in binary dust.
        south, east = (
            round(edge, 9) for edge in (self.north - self.height * self.res, self.west + self.width * self.res)
        )
        return self.west, south, east, self.north

    @property
    def transform(self) -> Affine:
        """From (col, row), corners at whole numbers, to (lon, lat)."""
        return Affine(self.res, 0.0, self.west, 0.0, -self.res, self.north)

    @property
    def closed(self) -> bool:
        """Whether the grid goes once around the world, so that its sides meet."""
        return abs(self.width * self.res - 360.0) < TOLERANCE * self.res

    @property
    def window(self) -> Window:
        """The whole grid."""
        return Window(0, 0, self.width, self.height)

    def lons(self, window: Window | None = None) -> npt.NDArray[np.float64]:
        """Return longitudes of the centres of columns, degrees, west to east; may pass 180."""
        cols = self._checked(window).cols
        return self.west + (np.arange(cols.start, cols.stop) + 0.5) * self.res

    def lats(self, window: Window | None = None) -> npt.NDArray[np.float64]:
        """Return latitudes of the centres of rows, degrees, north to south."""
        rows = self._checked(window).rows
        return self.north - (np.arange(rows.start, rows.stop) + 0.5) * self.res

    def lonlat(self, window: Window | None = None) -> npt.NDArray[np.float64]:
        """Return pixel centres of a window.

        Args:
            window: Pixels of this grid; the whole grid if None.

        Returns:
            Degrees (lon, lat), (height * width, 2), float64, row by row from
            the north, each from the west.

        Raises:
            GridError: If the window passes the edge of the grid.
        """
        lon, lat = np.meshgrid(turned(self.lons(window)), self.lats(window))
        return np.column_stack((lon.ravel(), lat.ravel()))

    def positions(self, lonlat: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return fractional (rows, cols) of places, (N,) each, float64.

        Corners of pixels are at whole numbers: 0.5 is the centre of the first.
        Places outside get numbers below 0 or above the shape.

        Args:
            lonlat: Degrees (lon, lat), (N, 2).
        """
        rows, cols = (self.north - lonlat[:, 1]) / self.res, (lonlat[:, 0] - self.west) / self.res
        around = 360.0 / self.res
        # A place is looked for around the whole world; one on the eastern edge stays there.
        cols = np.where(cols < -TOLERANCE, cols + around, cols)
        cols = cols if self.closed else np.where(cols > around - TOLERANCE, cols - around, cols)
        return _snapped(rows), _snapped(cols)

    def contains(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which places (N, 2) lie on the grid, its outer edges included: (N,)."""
        rows, cols = self.positions(lonlat)
        return (rows >= 0) & (rows <= self.height) & (cols >= 0) & (cols <= self.width)

    def to_dict(self) -> dict[str, Any]:
        """Return the grid as plain data for JSON."""
        return {"bounds": list(self.bounds), "res": self.res, "shape": list(self.shape), "crs": self.crs}

    def _checked(self, window: Window | None) -> Window:
        window = window or self.window
        if window.cols.stop > self.width or window.rows.stop > self.height:
            raise GridError(f"{window} passes the edge of a grid of {self.width} x {self.height} pixels.")
        return window


def _snapped(positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return positions freed of binary dust beside the edges and centres of pixels."""
    near = np.rint(2 * positions) / 2
    return np.where(abs(positions - near) < TOLERANCE, near, positions)


def _checked_bounds(bounds: Bounds) -> Bounds:
    """Return bounds with west < east, west in [-180, 180)."""
    said = tuple(map(float, bounds))
    if len(said) != 4 or not np.isfinite(said).all():
        raise GridError(f"bounds={said} are not four finite numbers: west, south, east, north.")
    west, south, east, north = said
    if not -90 <= south < north <= 90:
        raise GridError(
            f"bounds={said} have south={south:g} and north={north:g}. "
            "Latitudes rise from south to north within [-90, 90]. The order is west, south, east, north."
        )
    if not (-180 <= west <= 360 and -180 <= east <= 360) or west - east in (0, 360):
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
