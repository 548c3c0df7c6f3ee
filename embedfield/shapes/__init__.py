"""Shapes: geometries of any file, made ready to be laid over a grid."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely
from shapely import GeometryType

from embedfield.errors import EmbedfieldWarning
from embedfield.projection import DEGREES, plane_of, projection
from embedfield.shapes.circles import buffered, checked_radius
from embedfield.shapes.courses import DEGREE, Course, followed
from embedfield.shapes.pieces import apart, mended, together
from embedfield.shapes.reach import reach
from embedfield.shapes.seam import across, cut, cut_lines, cut_polygons, spread_at_poles, turned_lons

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.projection import Projection
    from embedfield.shapes.seam import Steps

    Geometries = npt.NDArray[Any]
    Places = npt.NDArray[np.float64]

POLES = np.array([(0.0, 90.0), (0.0, -90.0)])
# Degrees by which a latitude may pass a pole, or a longitude the ends of its range.
ROOM = 1e-9


class Shapes(NamedTuple):
    """Geometries that lie in one reference system, and what became of those that do not."""

    geometries: Geometries
    """Of shapely, (N,): 2-D, valid, not empty, points or lines or polygons alone; None where `status` is set."""
    status: npt.NDArray[np.str_]
    """(N,): "", "missing", "invalid" or "outside"."""


def shapes_on(
    geometries: Any,
    crs: str,
    target: str = DEGREES,
    *,
    buffer: float | None = None,
    precision: float = 10.0,
) -> Shapes:
    """Return geometries in the reference system of a grid, repaired where they need it.

    Edges are straight in the system that they come in, and follow their course
    in another. In EPSG:4326 longitudes are in [-180, 180]: what crosses the
    antimeridian is cut there, also where an edge jumps by more than 180
    degrees (from 179 to -179), unless it runs from -180 to 180. What holds a
    pole reaches to its latitude. In the system that they come in, and where
    nothing is to be cut or repaired, coordinates are the same bits.

    ``missing`` is what has no geometry, an empty one, or a point without
    coordinates (NaN). ``invalid`` has a coordinate that is not finite or not
    on the globe (a latitude beyond a pole, a longitude beyond half a turn more
    than the globe's, a place that the source's plane does not have), or nothing
    is left of it after repair. ``outside`` lies where the target shows nothing.

    Args:
        geometries: Of shapely, (N,), or a GeoSeries; None where there is none.
            Of a collection the parts of the highest dimension count.
        crs: Their reference system, an authority's code or WKT; x is longitude
            or easting, whatever the order of its axes.
        target: EPSG:4326, or a projected system.
        buffer: Metres, above 0 and up to 5,000 km: take what lies within so
            many metres on the sphere; see `circles.buffered`.
        precision: Metres by which an edge may stray from its course.

    Returns:
        As many, in order.

    Raises:
        PlacesError: If a reference system is none on the globe, the buffer
            cannot be drawn, or a geometry is too wide for one.
    """
    if buffer is not None:
        checked_radius(buffer)
    source, target = (plane_of(code, name)[0] for code, name in ((crs, "The file of places"), (target, "The grid")))
    given = geometries if isinstance(geometries, np.ndarray) else np.array(list(geometries), dtype=object)
    status = np.zeros(len(given), dtype="<U7")
    found = _judged(given, status)
    if source == target != DEGREES and buffer is None:
        return Shapes(_kept(mended(found), status, "invalid"), status)
    # Degrees are on the way from any system to any other: each half of it may stray by half.
    precision = precision / 2
    found = _kept(_on_globe(found, source, precision), status, "invalid")
    if buffer is not None:
        found = buffered(found, buffer, precision)
    if target != DEGREES:
        found = _kept(_on_plane(found, target, precision), status, "outside")
    return Shapes(found, status)


def _judged(geometries: Geometries, status: npt.NDArray[np.str_]) -> Geometries:
    """Return geometries in two dimensions; None, and their status, for what is missing or not finite."""
    xy, owner = shapely.get_coordinates(geometries, return_index=True)
    infinite = np.unique(owner[~np.isfinite(xy).all(axis=1)])
    status[infinite] = "invalid"
    blank = infinite[shapely.get_type_id(geometries[infinite]) == GeometryType.POINT]
    status[blank[np.isnan(shapely.get_coordinates(geometries[blank])).any(axis=1)]] = "missing"
    status[shapely.is_missing(geometries) | shapely.is_empty(geometries)] = "missing"
    found = geometries.copy()
    found[status != ""] = None
    deep = shapely.has_z(found) | shapely.has_m(found)
    found[deep] = shapely.force_2d(found[deep])
    return found


def _kept(geometries: Geometries, status: npt.NDArray[np.str_], verdict: str) -> Geometries:
    """Return the geometries; what has gone gets its status."""
    status[shapely.is_missing(geometries) & (status == "")] = verdict
    return geometries


def _on_globe(geometries: Geometries, source: str, precision: float) -> Geometries:
    """Return geometries of any system in EPSG:4326, None where they are not on the globe."""
    plane = projection(source)
    if not plane.crs.is_geographic:
        return _from_plane(mended(geometries), plane, precision)
    # Degrees of its own, or grads.
    unit = float(np.rad2deg(plane.crs.axis_info[0].unit_conversion_factor)) if source != DEGREES else 1.0
    unit = 1.0 if abs(unit - 1) < ROOM else unit
    if unit != 1:
        geometries = shapely.transform(geometries, lambda xy: xy * unit)
    found = _folded(geometries)
    return found if source == DEGREES else _shifted(found, plane, unit, precision)


def _folded(geometries: Geometries) -> Geometries:
    """Return geometries in degrees with longitudes in [-180, 180], None where they are not on the globe."""
    west, south, east, north = shapely.bounds(geometries).T
    on_globe = (west >= -540 - ROOM) & (east <= 540 + ROOM) & (south >= -90 - ROOM) & (north <= 90 + ROOM)
    found = geometries.copy()
    found[~on_globe] = None
    over = on_globe & ((south < -90) | (north > 90))
    found[over] = shapely.transform(found[over], lambda xy: np.column_stack((xy[:, 0], np.clip(xy[:, 1], -90, 90))))
    beyond = on_globe & (shapely.get_type_id(geometries) == GeometryType.POINT) & ((west < -180) | (east > 180))
    found[beyond] = _wrapped(found[beyond])
    # A point is done; what is wide may jump, and is repaired where it is cut, not as it is written.
    wide = np.flatnonzero(on_globe & across(geometries) & ~beyond)
    rest = np.ones(len(found), dtype=bool)
    rest[wide] = False
    found[rest] = mended(found[rest])
    parts, owner = apart(found[wide])
    _warn_jumps(parts)
    found[wide] = mended(together(_cut(parts, "jumps"), owner, len(wide)))
    return found


def _warn_jumps(parts: Geometries) -> None:
    """Warn where an edge might be meant to go around the other side of the globe."""
    polygons = shapely.get_dimensions(parts) == 2
    lines = np.concatenate((shapely.get_rings(parts[polygons]), parts[shapely.get_dimensions(parts) == 1]))
    xy, line = shapely.get_coordinates(lines, return_index=True)
    step = np.where(line[1:] == line[:-1], abs(np.diff(xy[:, 0])), 0.0)
    jumps = np.flatnonzero((step > 180) & (step < 360 - ROOM))
    if len(jumps):
        here, there = xy[jumps[0] : jumps[0] + 2, 0]
        warnings.warn(
            f"A shape has an edge from longitude {here:g} to {there:g}: it is taken the short way, across the "
            "antimeridian. Put corners between if it goes the long way.",
            EmbedfieldWarning,
            stacklevel=2,
        )


def _wrapped(points: Geometries) -> Geometries:
    """Return points with longitudes in [-180, 180]."""
    xy = shapely.get_coordinates(points)
    return np.asarray(shapely.points(turned_lons(xy[:, 0]), xy[:, 1]), dtype=object)


def _cut(parts: Geometries, steps: Steps) -> Geometries:
    """Return parts, cut at the antimeridian where they cross it."""
    found, dimension = parts.copy(), shapely.get_dimensions(parts)
    seam = across(parts)
    for number, cutter in ((0, lambda points, _: _wrapped(points)), (1, cut_lines), (2, cut_polygons)):
        members = seam & (dimension == number)
        found[members] = cutter(parts[members], steps)
    return found


def _shifted(geometries: Geometries, plane: Projection, unit: float, precision: float) -> Geometries:
    """Return geometries in degrees of another datum or meridian in EPSG:4326, None where they are not on the globe."""

    def place(xy: Places, _: npt.NDArray[np.intp]) -> Places:
        found = plane.inverse(xy / unit)
        # Both ends of the world stay on their own side, and what reaches a pole reaches it.
        lon = xy[:, 0] + (found[:, 0] - xy[:, 0] + 180) % 360 - 180
        polar = (abs(xy[:, 1]) >= 90 - ROOM) & ~np.isnan(lon)
        return np.column_stack((lon, np.where(polar, np.copysign(90.0, xy[:, 1]), found[:, 1])))

    parts, owner = apart(geometries)
    found = followed(parts, Course(place, DEGREE, to_globe=True), precision)
    return _whole(_cut(found, "as written"), owner, len(geometries))


def _from_plane(geometries: Geometries, plane: Projection, precision: float) -> Geometries:
    """Return geometries of a plane in EPSG:4326, None where they are not on the globe."""
    parts, owner = apart(geometries)
    course = Course(lambda xy, _: plane.inverse(xy), plane.metres, to_globe=True)
    found = followed(parts, course, precision)
    poles, room = _poles(plane, precision), precision / plane.metres
    polygons = np.flatnonzero((shapely.get_dimensions(parts) == 2) & ~shapely.is_missing(found))
    holding = _holds(parts[polygons], poles, room).any(axis=1)
    seam = polygons[holding | across(found[polygons])]
    spread = spread_at_poles(found[seam], *~np.isnan(poles[:, 0]))
    found[seam] = cut_polygons(
        spread, "short way", _holds(shapely.polygons(shapely.get_rings(parts[seam])), poles, room)
    )
    lines = (shapely.get_dimensions(found) == 1) & across(found)
    found[lines] = cut_lines(found[lines], "short way")
    return _whole(found, owner, len(geometries))


def _poles(plane: Projection, precision: float) -> Places:
    """Return where a plane has the poles, north and south, (2, 2); NaN where it has none, or draws it as a line."""
    found = plane.forward(POLES)
    aside = plane.forward(POLES + np.array([90.0, 0.0]))
    point = np.hypot(*(found - aside).T) * plane.metres <= precision
    return np.where(point[:, None], found, np.nan)


def _holds(polygons: Geometries, places: Places, room: float) -> npt.NDArray[np.bool_]:
    """Return which polygons (N,) hold which places (M, 2), or come so near, (N, M); none holds NaN."""
    held = np.zeros((len(polygons), len(places)), dtype=bool)
    west, south, east, north = shapely.bounds(polygons).T
    for number, (x, y) in enumerate(places):
        near = (west - room <= x) & (east + room >= x) & (south - room <= y) & (north + room >= y)
        held[near, number] = shapely.dwithin(polygons[near], shapely.Point(x, y), room)
    return held


def _whole(parts: Geometries, owner: npt.NDArray[np.intp], count: int) -> Geometries:
    """Return geometries of their parts, mended; None where a part is."""
    found = mended(together(parts, owner, count))
    found[owner[shapely.is_missing(parts)]] = None
    return found


def _on_plane(geometries: Geometries, target: str, precision: float) -> Geometries:
    """Return geometries in EPSG:4326 in a projected system, None where it shows nothing of them."""
    plane, seen = projection(target), reach(target)
    parts, owner = apart(geometries)
    points = shapely.get_dimensions(parts) == 0
    parts[points] = _projected(parts[points], plane)
    shapes = parts[~points]
    if seen.meridian:
        shapes = cut(shapely.transform(shapes, lambda xy: xy - (seen.meridian, 0.0)))
    if seen.area is not None:
        part = np.flatnonzero(~shapely.contains_properly(seen.area, shapes))
        shown, dimension = shapely.intersection(shapes[part], seen.area), shapely.get_dimensions(shapes[part])
        pieces, piece = apart(shown)
        same = shapely.get_dimensions(pieces) == dimension[piece]
        shapes[part] = together(pieces[same], piece[same], len(part))
    pieces, piece = apart(shapes)
    course = Course(lambda lonlat, _: seen.place(lonlat), plane.metres, to_globe=False)
    drawn = followed(pieces, course, precision)
    everything = np.concatenate((parts[points], drawn))
    return mended(together(everything, np.concatenate((owner[points], owner[~points][piece])), len(geometries)))


def _projected(points: Geometries, plane: Projection) -> Geometries:
    """Return points in a plane, None where it does not show them."""
    xy = plane.forward(shapely.get_coordinates(points))
    found = np.asarray(shapely.points(np.nan_to_num(xy)), dtype=object)
    found[np.isnan(xy).any(axis=1)] = None
    return found
