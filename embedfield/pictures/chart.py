"""Chart: a part of the globe drawn flat, which place each of its pixels shows, and lines on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from embedfield.errors import GridError
from embedfield.projection import projection

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.grid import Bounds, Grid

Kind = Literal["equal-earth", "plate-carree", "grid"]
# In PROJ's words; each is centred on what it shows.
WORLDS = {
    "equal-earth": "+proj=eqearth +lon_0={lon:.12g} +datum=WGS84 +type=crs",
    "plate-carree": "+proj=eqc +lon_0={lon:.12g} +datum=WGS84 +type=crs",
}
COASTLINES = Path(__file__).parent / "coastlines" / "ne_50m_coastline.npz"
# Vertices of the coastlines in a degree.
UNITS = 180
# Metres: a longer piece of a line has crossed the map's seam.
TORN = 2_000_000
# Points along a side of the frame.
SIDE = 721
# Degrees by which a frame around the world keeps away from the seam, where rounding decides on which side a place is.
HAIR = 1e-6
# Sizes of the meshes of a graticule, in degrees.
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60)
# At most so many meshes along a side.
MESHES = 8


class Chart:
    """A grid's part of the globe in a plane; x to the right, y up."""

    def __init__(self, grid: Grid, mapping: Kind | None = None) -> None:
        """Choose a plane for a grid.

        Args:
            grid: What is to be shown.
            mapping: ``equal-earth``; ``plate-carree``; ``grid``, the grid's own reference system, which for a grid
                over longitude and latitude is plate carrée; None for Equal Earth where the grid reaches half around
                the world, else ``grid``.

        Raises:
            GridError: If there is no such mapping.
        """
        west, _, east, _ = grid.lonlat_bounds
        mapping = mapping or ("equal-earth" if grid.geographic and east - west > 180 else "grid")
        if mapping not in get_args(Kind):
            raise GridError(f"projection={mapping!r} is not known. Choose from: {', '.join(get_args(Kind))}.")
        self.grid = grid
        self.own = mapping == "grid" and not grid.geographic
        """Whether it is in the grid's own plane, and so a rectangle there; else it is one of longitude and latitude."""
        world = WORLDS["plate-carree" if mapping == "grid" else mapping].format(lon=(west + east) / 2)
        self.plane = projection(grid.crs if self.own else world)
        self.sides = [self._side(name) for name in ("left", "top", "right", "bottom")]
        """Places (lon, lat), (N, 2), and (x, y), (N, 2), along the sides of the frame, clockwise from the lower left.

        Places off the globe are NaN.
        """

    @property
    def frame(self) -> npt.NDArray[np.float64]:
        """Its outline, closed: (x, y), (N, 2)."""
        points = np.concatenate([xy for _, xy in self.sides])
        return points[np.isfinite(points).all(axis=1)]

    @property
    def box(self) -> Bounds:
        """West, south, east, north of the frame in the plane."""
        if self.own:
            return self.grid.bounds
        (west, south), (east, north) = self.frame.min(axis=0), self.frame.max(axis=0)
        return float(west), float(south), float(east), float(north)

    def _side(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return places and points along a side."""
        west, south, east, north = self.grid.bounds if self.own else self._lonlat_box()
        along = np.linspace(0, 1, SIDE)
        across, up = west + (east - west) * along, south + (north - south) * along
        if name in {"left", "right"}:
            line = np.column_stack((np.full(SIDE, west if name == "left" else east), up))
            line = line if name == "left" else line[::-1]
        else:
            line = np.column_stack((across, np.full(SIDE, north if name == "top" else south)))
            line = line if name == "top" else line[::-1]
        return (self.plane.inverse(line), line) if self.own else (line, self.plane.forward(line))

    def _lonlat_box(self) -> Bounds:
        west, south, east, north = self.grid.lonlat_bounds
        around = HAIR if east - west > 360 - HAIR else 0.0
        return west + around, south, east - around, north

    def points(self, height: int, width: int) -> npt.NDArray[np.float64]:
        """Return the centres of pixels in the plane.

        Args:
            height: Pixels from top to bottom of the box.
            width: Pixels from left to right.

        Returns:
            (x, y), (height * width, 2), float64, row by row from the top.
        """
        west, south, east, north = self.box
        x = west + (np.arange(width) + 0.5) / width * (east - west)
        y = north - (np.arange(height) + 0.5) / height * (north - south)
        return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)

    def positions(self, points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return where on the grid points (N, 2) of the plane are: fractional (rows, cols), (N,), NaN off the globe."""
        if self.own:
            return (self.grid.north - points[:, 1]) / self.grid.res, (points[:, 0] - self.grid.west) / self.grid.res
        lonlat = self.plane.inverse(points)
        rows, cols = np.full((2, len(points)), np.nan)
        there = np.flatnonzero(np.isfinite(lonlat).all(axis=1))
        rows[there], cols[there] = self.grid.positions(lonlat[there])
        return rows, cols

    def pieces(self, lonlat: npt.NDArray[np.float64], line: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the pieces of lines of places that are on the chart.

        Args:
            lonlat: Degrees (lon, lat), (N, 2): vertices of lines, one after another.
            line: Which line each belongs to, (N,).

        Returns:
            Their two ends (x, y), (n, 2, 2); those that the map's seam tears apart are left out.
        """
        xy = self.plane.forward(lonlat)
        ends = np.stack((xy[:-1], xy[1:]), axis=1)
        west, south, east, north = self.box
        low, high = ends.min(axis=1), ends.max(axis=1)
        with np.errstate(invalid="ignore"):
            near = (high >= (west, south)).all(axis=1) & (low <= (east, north)).all(axis=1)
            whole = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) < TORN / self.plane.metres
        return np.asarray(ends[near & whole & (line[1:] == line[:-1])])

    def coastlines(self) -> npt.NDArray[np.float64]:
        """Return the pieces of Natural Earth's coastlines, 1:50 million, as `pieces` does."""
        with np.load(COASTLINES, allow_pickle=False) as file:
            lonlat, sizes = file["lonlat"] / UNITS, file["sizes"]
        return self.pieces(lonlat, np.repeat(np.arange(len(sizes)), sizes))

    @property
    def meshes(self) -> tuple[float, float]:
        """Degrees between two meridians and two parallels of a graticule that is neither dense nor empty."""
        west, south, east, north = self.grid.lonlat_bounds
        return _mesh(east - west), _mesh(north - south)

    def graticule(self) -> npt.NDArray[np.float64]:
        """Return the pieces of meridians and parallels at even degrees, as `pieces` does."""
        west, south, east, north = self.grid.lonlat_bounds
        across, up = self.meshes
        # Beyond the box of a projected grid, so that lines reach its corners.
        lats = np.clip(np.linspace(south - up, north + up, SIDE), -90, 90)
        lons = np.linspace(
            max(west - across, (west + east) / 2 - 180), min(east + across, (west + east) / 2 + 180), 2 * SIDE
        )
        meridians = [np.column_stack((np.full(SIDE, lon), lats)) for lon in _multiples(lons[0], lons[-1], across)]
        parallels = [np.column_stack((lons, np.full(len(lons), lat))) for lat in _multiples(lats[0], lats[-1], up)]
        lines = [*meridians, *parallels]
        number = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
        return self.pieces(np.concatenate(lines), number)

    def labels(self) -> tuple[list[tuple[str, float, float]], list[tuple[str, float, float]]]:
        """Return the words of a graticule and where its lines meet the frame, (words, x, y) each.

        Returns:
            Those of parallels at the left side, and those of meridians at the lower one.
        """
        across, up = self.meshes
        (left, left_xy), (below, below_xy) = self.sides[0], self.sides[3]
        parallels = [(_words(lat, "NS"), *point) for lat, point in _crossings(left[:, 1], left_xy, up)]
        # Degrees run on across the antimeridian.
        lons = np.rad2deg(np.unwrap(np.deg2rad(below[:, 0]))) if np.isfinite(below).all() else below[:, 0]
        meridians = [
            (_words((lon + 180) % 360 - 180, "EW"), *point) for lon, point in _crossings(lons, below_xy, across)
        ]
        return parallels, meridians


def _mesh(span: float) -> float:
    return next((step for step in STEPS if span / step <= MESHES), STEPS[-1])


def _multiples(low: float, high: float, step: float) -> npt.NDArray[np.float64]:
    """Return the whole multiples of a step from low to high."""
    return np.arange(np.ceil(low / step - HAIR), np.floor(high / step + HAIR) + 1) * step


def _crossings(
    degrees: npt.NDArray[np.float64], xy: npt.NDArray[np.float64], step: float
) -> list[tuple[float, tuple[float, float]]]:
    """Return the whole multiples of a step that degrees (N,) along a line pass, and the points (x, y) where they do."""
    found = []
    for start, stop, here, there in zip(degrees[:-1], degrees[1:], xy[:-1], xy[1:], strict=True):
        if not np.isfinite([start, stop, *here, *there]).all() or start == stop:
            continue
        for value in _multiples(min(start, stop), max(start, stop), step):
            share = (value - start) / (stop - start)
            point = here + np.clip(share, 0, 1) * (there - here)
            found.append((float(value), (float(point[0]), float(point[1]))))
    # At a vertex two pieces meet.
    return [one for number, one in enumerate(found) if not number or one[0] != found[number - 1][0]]


def _words(degrees: float, sides: str) -> str:
    """Return degrees in words: ``30°N``; on the equator and in Greenwich's or its opposite's without a side."""
    shown = f"{abs(degrees):.6g}°"
    return shown if degrees == 0 or abs(degrees) == 180 else f"{shown}{sides[degrees < 0]}"
