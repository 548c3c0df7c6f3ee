"""Seam: shapes in degrees that cross the antimeridian or hold a pole, cut so that longitudes stay in [-180, 180]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely

from embedfield.shapes.pieces import apart, mended, together

if TYPE_CHECKING:
    import numpy.typing as npt

    Geometries = npt.NDArray[Any]
    Steps = Literal["as written", "short way", "jumps"]

WORLD = shapely.box(-180, -90, 180, 90)
# Degrees, a tenth of a millimetre: so near the antimeridian a corner is on it.
NEAR = 1e-9
# Degrees, a centimetre: so near a pole a corner is at it, and its longitude says nothing.
POLAR = 1e-7


def across(parts: Geometries) -> npt.NDArray[np.bool_]:
    """Return which shapes may have to be cut, (N,): too wide to be told apart from one across the antimeridian."""
    west, _, east, _ = shapely.bounds(parts).T
    wide: npt.NDArray[np.bool_] = (west < -180) | (east > 180) | (east - west > 180)
    return wide


def turned_lons(lon: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return longitudes as the same ones in [-180, 180]; those that are there already as they are."""
    return np.where(abs(lon) > 180, lon - 360 * np.rint(lon / 360), lon)


def cut_lines(lines: Geometries, steps: Steps) -> Geometries:
    """Return lines with longitudes in [-180, 180], in parts on both sides of the antimeridian.

    Args:
        lines: (N,), degrees.
        steps: How an edge goes from one corner to the next. ``as written``;
            the ``short way`` around the globe, always; or so if it ``jumps``
            by more than 180 degrees, unless by 360 from one end to the other.

    Returns:
        Lines and multiple ones, (N,).
    """
    xy, line = shapely.get_coordinates(lines, return_index=True)
    turns = _turns(xy[:, 0], line, steps)
    return cut(shapely.linestrings(_unrolled(xy, turns), indices=line))


def cut_polygons(polygons: Geometries, steps: Steps, poles: npt.NDArray[np.bool_] | None = None) -> Geometries:
    """Return polygons with longitudes in [-180, 180], in parts on both sides of the antimeridian.

    One around a pole reaches to its latitude, from -180 to 180. Those that
    need no cut are returned as they are.

    Args:
        polygons: (N,), degrees; may be invalid.
        steps: See `cut_lines`.
        poles: Whether each ring, of all polygons in order, has the north and
            the south pole in it, (R, 2). If None, of the two parts into which
            a ring around the globe divides it the smaller one is meant.

    Returns:
        Polygons and multiple ones, valid, (N,); lines or points where they
        have no extent; None where nothing is left.
    """
    rings, owner = shapely.get_rings(polygons, return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    turns = _turns(xy[:, 0], ring, steps, closed=True)
    first = np.diff(owner, prepend=-1) > 0
    both = np.zeros(len(rings), dtype=bool) if poles is None else poles.all(axis=1)
    last = np.flatnonzero(np.diff(ring, append=-1))
    around = turns[last]
    both &= around == 0
    touched = both.copy()
    touched[ring[(turns != 0) | (abs(xy[:, 0]) > 180)]] = True
    found = polygons.copy()
    concerned = np.isin(owner, owner[touched])
    if not concerned.any():
        return mended(found)
    bodies = _bodies(_unrolled(xy, turns), ring, around, poles)
    # A ring with both poles in it bounds what lies outside of it as degrees are drawn.
    bodies[both] = shapely.difference(WORLD, bodies[both])
    found[owner[first & concerned]] = bodies[first & concerned]
    for row in np.unique(owner[~first & concerned]):
        holes = bodies[(owner == row) & ~first]
        found[row] = shapely.difference(found[row], shapely.union_all(holes[shapely.get_dimensions(holes) == 2]))
    return mended(found)


def spread_at_poles(polygons: Geometries, north: bool, south: bool) -> Geometries:
    """Return polygons with the corners at a pole replaced by two, at the longitudes of their neighbours.

    Edges to a pole are meridians then. Others are returned as they are.

    Args:
        polygons: (N,), degrees.
        north: Whether the longitude of a corner at the north pole says nothing.
        south: The same of the south pole.
    """
    lonlat, polygon = shapely.get_coordinates(polygons, return_index=True)
    lat = lonlat[:, 1]
    found = polygons.copy()
    for row in np.unique(polygon[(north & (lat >= 90 - POLAR)) | (south & (lat <= POLAR - 90))]):
        rings = [_spread(shapely.get_coordinates(ring), north, south) for ring in shapely.get_rings(polygons[row])]
        found[row] = shapely.Polygon(rings[0], rings[1:])
    return found


def _spread(lonlat: npt.NDArray[np.float64], north: bool, south: bool) -> npt.NDArray[np.float64]:
    """Return the corners of a ring, spread at the poles."""
    lonlat = lonlat[:-1]
    polar = (north & (lonlat[:, 1] >= 90 - POLAR)) | (south & (lonlat[:, 1] <= POLAR - 90))
    if polar.all() or not polar.any():
        return lonlat
    found = []
    for corner, last, following in zip(
        range(len(lonlat)), *(np.roll(np.arange(len(lonlat)), by) for by in (1, -1)), strict=True
    ):
        pole = np.copysign(90.0, lonlat[corner, 1])
        if not polar[corner]:
            found.append(lonlat[corner])
        else:
            found += [np.array([lonlat[other, 0], pole]) for other in (last, following) if not polar[other]]
    return np.array(found)


def cut(geometries: Geometries) -> Geometries:
    """Return valid geometries with longitudes in [-180, 180]: what lies beyond is cut and turned.

    Args:
        geometries: (N,), of one dimension each, degrees, edges as written; None stays None.

    Returns:
        (N,), of the same dimensions.
    """
    found = np.full(len(geometries), None, dtype=object)
    west, _, east, _ = shapely.bounds(geometries).T
    whole, dimension = np.zeros(len(geometries), dtype=bool), shapely.get_dimensions(geometries)
    # The turn around Greenwich first, so that what lies along the antimeridian stays where it is.
    turns = range(
        int((np.nanmin(west, initial=0.0) - 180) // 360), int((np.nanmax(east, initial=0.0) + 180) // 360) + 1
    )
    for turn in sorted(turns, key=abs):
        low, high = 360.0 * turn - 180, 360.0 * turn + 180
        inside = ~whole & (west >= low) & (east <= high)
        partly = np.flatnonzero(~whole & ~inside & (west < high) & (east > low))
        found[inside] = _shifted(geometries[inside], -360.0 * turn)
        whole |= inside
        pieces = shapely.intersection(geometries[partly], shapely.box(low, -91, high, 91))
        parts, owner = apart(_shifted(pieces, -360.0 * turn))
        # What only touches the cut leaves a line or a point there.
        kept = shapely.get_dimensions(parts) == dimension[partly[owner]]
        pieces = together(parts[kept], owner[kept], len(partly))
        had = ~shapely.is_missing(found[partly])
        found[partly] = np.where(had, shapely.union(found[partly], pieces), pieces)
    return found


def _shifted(geometries: Geometries, shift: float) -> Geometries:
    """Return geometries moved to the east."""
    if not shift:
        return geometries
    moved: Geometries = shapely.transform(geometries, lambda xy: xy + np.array([shift, 0.0]))
    return moved


def _turns(
    lon: npt.NDArray[np.float64], line: npt.NDArray[np.intp], steps: Steps, *, closed: bool = False
) -> npt.NDArray[np.float64]:
    """Return how often each corner of lines lies around the globe from where it is written, whole numbers, (N,)."""
    step = np.diff(lon, prepend=lon[:1])
    start = np.diff(line, prepend=-1) > 0
    step[start] = 0.0
    width = abs(step)
    short = {
        "as written": np.zeros(len(lon), dtype=bool),
        "short way": width > 180,
        "jumps": (width > 180) & (width < 360 - NEAR),
    }[steps]
    turns = _counted(step, short, start, line)
    full = (abs(width - 360) <= NEAR) & (abs(abs(lon) - 180) <= NEAR)
    if steps != "jumps" or not closed or not full.any():
        return turns
    # From 180 to -180 goes around the globe at a pole and in a box as wide as it, and nowhere in a ring that
    # crosses the antimeridian at corners of its own: such a ring closes without it, and has an extent.
    other = _counted(step, short | full, start, line)
    starts, last = np.flatnonzero(start), np.flatnonzero(np.diff(line, append=-1))
    unrolled = lon + 360 * other
    extent = np.maximum.reduceat(unrolled, starts) - np.minimum.reduceat(unrolled, starts)
    closes = (other[last] == 0) & (extent > NEAR)
    return np.where(closes[line], other, turns)


def _counted(
    step: npt.NDArray[np.float64],
    short: npt.NDArray[np.bool_],
    start: npt.NDArray[np.bool_],
    line: npt.NDArray[np.intp],
) -> npt.NDArray[np.float64]:
    """Return the sum of turns along each line, where some steps go the short way."""
    total = np.cumsum(np.where(short, -np.rint(step / 360), 0.0))
    counted: npt.NDArray[np.float64] = total - total[start][line]
    return counted


def _unrolled(xy: npt.NDArray[np.float64], turns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return corners at longitudes that run on beyond the antimeridian, (N, 2)."""
    lon = xy[:, 0] + 360 * turns
    edge = 180 + 360 * np.rint((lon - 180) / 360)
    return np.column_stack((np.where(abs(lon - edge) <= NEAR, edge, lon), xy[:, 1]))


def _bodies(
    xy: npt.NDArray[np.float64],
    ring: npt.NDArray[np.intp],
    around: npt.NDArray[np.float64],
    poles: npt.NDArray[np.bool_] | None,
) -> Geometries:
    """Return what rings enclose, cut, (R,)."""
    closed = np.isin(ring, np.flatnonzero(around == 0))
    bodies = np.full(len(around), None, dtype=object)
    _, number = np.unique(ring[closed], return_inverse=True)
    bodies[around == 0] = shapely.polygons(shapely.linearrings(xy[closed], indices=number))
    for row in np.flatnonzero(around):
        bodies[row] = _cap(xy[ring == row], None if poles is None else bool(poles[row, 0]))
    return cut(mended(bodies))


def _cap(xy: npt.NDArray[np.float64], north: bool | None) -> shapely.Geometry:
    """Return what lies between a ring around the globe, open where it comes round, and a pole."""
    xy = xy if xy[-1, 0] > xy[0, 0] else xy[::-1]
    if north is None:
        sines = np.sin(np.deg2rad(xy[:, 1]))
        north = bool(np.sum(np.diff(xy[:, 0]) * (sines[1:] + sines[:-1])) > 0)
    period = xy[-1, 0] - xy[0, 0]
    xy = xy - (360 * np.floor((xy[0, 0] + 180) / 360), 0.0)
    # Round after round: where it is closed at its ends, far from the world, it may cross itself.
    rounds = np.concatenate([xy[:-1] + np.array([period * number, 0.0]) for number in range(-2, 3)])
    pole = 90.0 if north else -90.0
    body = shapely.Polygon([*rounds, (rounds[-1, 0], pole), (rounds[0, 0], pole)])
    return shapely.intersection(shapely.make_valid(body), WORLD)
