"""Circles: places and shapes with what lies within so many metres of them, on the sphere."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from embedfield.errors import PlacesError
from embedfield.shapes.courses import Course, followed
from embedfield.shapes.pieces import apart, mended, together
from embedfield.shapes.seam import across, cut_polygons, spread_at_poles, turned_lons

if TYPE_CHECKING:
    import numpy.typing as npt

    Geometries = npt.NDArray[Any]
    Places = npt.NDArray[np.float64]

SPHERE = 6_371_008.8
"""Metres: the radius of the sphere with the Earth's mean radius."""
LARGEST = 5_000_000.0
"""Metres: the largest radius."""
WIDEST = 1_000_000.0
"""Metres: the largest width of a shape, points aside, around which a buffer is drawn."""
CORNERS = 128
# Part of the radius by which an edge may stray from its course.
STRAY = 2e-4
# Shapes that are brought to the globe at a time: their corners stay in a processor's cache.
BLOCK = 4000


def checked_radius(metres: float) -> float:
    """Return the radius of a buffer.

    Raises:
        PlacesError: If it is not positive, or too large.
    """
    if not 0 < metres <= LARGEST:
        raise PlacesError(
            f"A buffer of {metres:g} metres cannot be drawn. Give one above 0 and up to {LARGEST:,.0f} metres."
        )
    return metres


def circles(lonlat: Places, metres: float, corners: int = CORNERS) -> Geometries:
    """Return circles on the sphere around places.

    Args:
        lonlat: Degrees (lon, lat), (N, 2), lon in [-180, 180].
        metres: The radius, on a sphere of radius 6,371,008.8 m.
        corners: How many corners each has, at least. They lie outside of the
            circle by so much that the polygon has its area.

    Returns:
        Polygons in degrees, (N,), edges straight there; longitudes in
        [-180, 180], two parts for one across the antimeridian. One around a
        pole reaches to its latitude. Every place of an edge is so many metres
        from the centre, within a thousandth.

    Raises:
        PlacesError: If the radius is not positive, or above 5,000 km.
    """
    radius = checked_radius(metres)
    angle = 2 * np.pi / corners
    radius *= np.sqrt(angle / np.sin(angle))
    ring = radius * np.column_stack((np.cos(angle * np.arange(corners)), np.sin(angle * np.arange(corners))))
    flat = np.full(len(lonlat), shapely.Polygon(ring), dtype=object)
    return _landed(flat, lonlat, STRAY * metres)


def buffered(geometries: Geometries, metres: float, precision: float = 10.0) -> Geometries:
    """Return geometries with what lies within so many metres of them.

    Points become `circles`. Others are buffered in the azimuthal equidistant
    plane around their middle: exact for what reaches no farther than it, too
    wide by a sixth of (distance / radius of the Earth) squared across the
    direction to it, which is 0.4 % at 1,000 km.

    Args:
        geometries: Degrees, longitudes in [-180, 180], valid, (N,); None stays None.
        metres: How far.
        precision: Metres by which an edge may stray from its course; points aside.

    Returns:
        Polygons and multiple ones in degrees, as `circles`, (N,).

    Raises:
        PlacesError: If the radius is not positive or too large, or a geometry
            that is no point is wider than 1,000 km.
    """
    checked_radius(metres)
    found = np.full(len(geometries), None, dtype=object)
    types = shapely.get_type_id(geometries)
    points = types == shapely.GeometryType.POINT
    found[points] = circles(shapely.get_coordinates(geometries[points]), metres)
    others = np.flatnonzero(~points & (types >= 0))
    if not len(others):
        return found
    centres = _centres(geometries[others])
    _check_widths(geometries[others], centres)
    stray = min(STRAY * metres, precision)
    parts, owner = apart(geometries[others])
    course = Course(functools.partial(_to_plane, centres[owner]), 1.0, to_globe=False)
    planes = mended(together(followed(parts, course, stray), owner, len(others)))
    parts, owner = apart(shapely.buffer(planes, metres, quad_segs=CORNERS // 4))
    found[others] = mended(together(_landed(parts, centres[owner], stray), owner, len(others)))
    return found


def _landed(planes: Geometries, centres: Places, stray: float) -> Geometries:
    """Return polygons (N,) of the azimuthal equidistant planes around centres (N, 2) on the globe."""
    found = np.full(len(planes), None, dtype=object)
    for start in range(0, len(planes), BLOCK):
        rows = slice(start, start + BLOCK)
        course = Course(functools.partial(_to_globe, centres[rows]), 1.0, to_globe=True)
        found[rows] = followed(planes[rows], course, stray)
    seam = across(found)
    found[seam] = cut_polygons(spread_at_poles(found[seam], north=True, south=True), "short way")
    return mended(found)


def _to_globe(centres: Places, xy: Places, number: npt.NDArray[np.intp]) -> Places:
    """Return places in the azimuthal equidistant planes of these numbers, metres (N, 2), in degrees, (N, 2)."""
    centres = centres[number]
    lat, far = np.deg2rad(centres[:, 1]), np.hypot(xy[:, 0], xy[:, 1]) / SPHERE
    # sin(far) / far is 1 at the centre.
    share = np.sinc(far / np.pi) / SPHERE
    east, north, up = xy[:, 0] * share, xy[:, 1] * share, np.cos(far)
    ahead = np.cos(lat) * up - np.sin(lat) * north
    lon = centres[:, 0] + np.rad2deg(np.arctan2(east, ahead))
    height = np.sin(lat) * up + np.cos(lat) * north
    return np.column_stack((turned_lons(lon), np.rad2deg(np.arctan2(height, np.hypot(east, ahead)))))


def _to_plane(centres: Places, lonlat: Places, number: npt.NDArray[np.intp]) -> Places:
    """Return places, degrees (N, 2), in the azimuthal equidistant planes of these numbers, metres, (N, 2)."""
    centres = centres[number]
    lat, middle = np.deg2rad(lonlat[:, 1]), np.deg2rad(centres[:, 1])
    turn = np.deg2rad(lonlat[:, 0] - centres[:, 0])
    east = np.cos(lat) * np.sin(turn)
    north = np.cos(middle) * np.sin(lat) - np.sin(middle) * np.cos(lat) * np.cos(turn)
    up = np.sin(middle) * np.sin(lat) + np.cos(middle) * np.cos(lat) * np.cos(turn)
    far = np.arctan2(np.hypot(east, north), up)
    share = SPHERE / np.maximum(np.sinc(far / np.pi), np.finfo(float).tiny)
    return np.column_stack((east * share, north * share))


def _centres(geometries: Geometries) -> Places:
    """Return the middle of the corners of geometries, degrees (N, 2)."""
    lonlat, owner = shapely.get_coordinates(geometries, return_index=True)
    lon, lat = np.deg2rad(lonlat).T
    sums = [
        np.bincount(owner, weights, minlength=len(geometries))
        for weights in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat))
    ]
    return np.rad2deg(np.column_stack((np.arctan2(sums[1], sums[0]), np.arctan2(sums[2], np.hypot(*sums[:2])))))


def _check_widths(geometries: Geometries, centres: Places) -> None:
    """Refuse geometries that are too wide for a plane of their own."""
    lonlat, owner = shapely.get_coordinates(geometries, return_index=True)
    xy = _to_plane(centres, lonlat, owner)
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    width = (np.maximum.reduceat(xy, starts) - np.minimum.reduceat(xy, starts)).max(axis=1)
    if (width > WIDEST).any():
        widest = int((width > WIDEST).argmax())
        lon, lat = centres[widest]
        raise PlacesError(
            f"The shape around longitude {lon:.4g}, latitude {lat:.4g} is {width[widest] / 1000:,.0f} km wide, too "
            f"wide for a buffer. Buffers are for points, and for shapes of up to {WIDEST / 1000:,.0f} km. Cut it up, "
            "or leave it out."
        )
