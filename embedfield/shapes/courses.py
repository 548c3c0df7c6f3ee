"""Courses: edges that are straight in one reference system, followed in another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely
from shapely import GeometryType

from embedfield.projection import EARTH

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Geometries = npt.NDArray[Any]
    Places = npt.NDArray[np.float64]
    Numbers = npt.NDArray[np.intp]

DEGREE = EARTH * np.pi / 180
# Metres of an edge that are looked at together, before it is known how it bends.
LONGEST = 100_000.0
# How often such a stretch is halved. What is not straight then is where a map is cut open.
HALVINGS = 30
# Metres of an edge whose middle may be nowhere when its ends are not.
GAP = 1000.0


class Course(NamedTuple):
    """The way from one reference system to another."""

    place: Callable[[Places, Numbers], Places]
    """Where places (N, 2) of the source are in the target, (N, 2), NaN where nowhere; of the parts of these numbers."""
    metres: float
    """In a unit of that one of the two which is a plane."""
    to_globe: bool
    """Whether the target is in degrees, and not the source."""


def followed(parts: Geometries, course: Course, precision: float) -> Geometries:
    """Return polygons and lines in the target of a course, with corners added where their edges bend there.

    Args:
        parts: Polygons, lines and points, none multiple, (P,).
        course: From where to where. Longitudes come as it gives them, in
            [-180, 180] where it does; an edge takes the shorter way around.
        precision: Metres by which an edge may stray from its course.

    Returns:
        (P,), rings and corners in the same order; None where a part of it is nowhere.
    """
    found = np.full(len(parts), None, dtype=object)
    types = shapely.get_type_id(parts)
    for kind in np.unique(types):
        members = np.flatnonzero(types == kind)
        found[members] = _followed(parts[members], members, course, precision)
    return found


class _Corners(NamedTuple):
    """The corners of all lines and rings, one after the other."""

    xy: Places
    """In the source, (N, 2)."""
    places: Places
    """In the target, (N, 2)."""
    number: Numbers
    """Of which part each is, (N,)."""


def _followed(parts: Geometries, number: Numbers, course: Course, precision: float) -> Geometries:
    """Return parts of one type in the target."""
    kind, xy, offsets = shapely.to_ragged_array(parts, include_z=False)
    part = shapely.get_coordinates(parts, return_index=True)[1]
    places = course.place(xy, number[part])
    lost = np.isnan(places).any(axis=1)
    if kind != GeometryType.POINT:
        edges = np.ones(len(xy), dtype=bool)
        edges[offsets[0][1:] - 1] = False
        edges[:-1] &= ~(lost[:-1] | lost[1:])
        starts, added = _added(_Corners(xy, places, number[part]), np.flatnonzero(edges), course, precision)
        offsets = (offsets[0] + np.searchsorted(starts, offsets[0]), *offsets[1:])
        order = np.argsort(np.concatenate((np.arange(len(xy)), starts)), kind="stable")
        places = np.concatenate((places, added))[order]
        part = np.concatenate((part, part[starts]))[order]
        lost = np.isnan(places).any(axis=1)
    places[lost] = 0.0
    found: Geometries = shapely.from_ragged_array(kind, places, offsets)
    found[part[lost]] = None
    return found


def _added(corners: _Corners, edges: Numbers, course: Course, precision: float) -> tuple[Numbers, Places]:
    """Return the corners to be added: after which one (M,), ascending, and where (M, 2), in order."""
    edges = edges[~_straight(corners, edges, course, precision)]
    low, high = np.zeros(len(edges)), np.ones(len(edges))
    first, last = corners.places[edges], corners.places[edges + 1]
    starts, along, added = [edges[:0]], [low[:0]], [first[:0]]
    for _ in range(HALVINGS):
        if not len(edges):
            break
        middle, step = (low + high) / 2, corners.xy[edges + 1] - corners.xy[edges]
        place = course.place(corners.xy[edges] + step * middle[:, None], corners.number[edges])
        length = np.hypot(*step.T) * (high - low) * (course.metres if course.to_globe else DEGREE)
        bent = ~(_stray(first, place, last, course) <= precision) | (length > LONGEST)
        # At the end of a map it is rounding that says nowhere.
        bent &= ~(np.isnan(place).any(axis=1) & (length <= GAP))
        for kept, values in ((starts, edges), (along, middle), (added, place)):
            kept.append(values[bent])
        # Where a place is nowhere, so is its part.
        bent = np.tile(bent & ~np.isnan(place).any(axis=1), 2)
        edges = np.concatenate((edges, edges))[bent]
        low, high = np.concatenate((low, middle))[bent], np.concatenate((middle, high))[bent]
        first, last = np.concatenate((first, place))[bent], np.concatenate((place, last))[bent]
    found, where = np.concatenate(starts), np.concatenate(along)
    order = np.lexsort((where, found))
    return found[order], np.concatenate(added)[order]


def _straight(corners: _Corners, edges: Numbers, course: Course, precision: float) -> npt.NDArray[np.bool_]:
    """Return which edges are so short that they cannot bend, (N,)."""
    lonlat, plane = (corners.places, corners.xy) if course.to_globe else (corners.xy, corners.places)
    step = lonlat[edges + 1] - lonlat[edges]
    if course.to_globe:
        step[:, 0] -= 360 * np.rint(step[:, 0] / 360)
    lat = np.deg2rad(abs(np.stack((lonlat[edges, 1], lonlat[edges + 1, 1]))))
    length = DEGREE * np.hypot(step[:, 0] * np.cos(lat.min(axis=0)), step[:, 1])
    # A parallel bends by its latitude's tangent; a map is given the bend of a few great circles.
    bend = length**2 / (8 * EARTH) * (np.tan(lat.max(axis=0)) + 4)
    across = course.metres * np.hypot(*(plane[edges + 1] - plane[edges]).T)
    short: npt.NDArray[np.bool_] = (bend <= precision / 4) & (across <= LONGEST) & (abs(step[:, 0]) < 90)
    return short


def _stray(first: Places, place: Places, last: Places, course: Course) -> npt.NDArray[np.float64]:
    """Return metres by which a place lies beside the middle of its edge, (N,)."""
    if not course.to_globe:
        beside = place - (first + last) / 2
        return np.hypot(beside[:, 0], beside[:, 1]) * course.metres
    step = last[:, 0] - first[:, 0]
    step -= 360 * np.rint(step / 360)
    east = place[:, 0] - first[:, 0] - step / 2
    east -= 360 * np.rint(east / 360)
    north = place[:, 1] - (first[:, 1] + last[:, 1]) / 2
    stray: npt.NDArray[np.float64] = DEGREE * np.hypot(east * np.cos(np.deg2rad(place[:, 1])), north)
    return stray
