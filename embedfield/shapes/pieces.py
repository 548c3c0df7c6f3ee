"""Pieces: many geometries apart into single polygons, lines and points, and together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely import GeometryType

if TYPE_CHECKING:
    import numpy.typing as npt

    Geometries = npt.NDArray[Any]
    Owners = npt.NDArray[np.intp]


def apart(geometries: Geometries) -> tuple[Geometries, Owners]:
    """Return the polygons, lines and points of which geometries consist, and whose they are.

    Args:
        geometries: Of shapely, (N,); None and what is empty has no pieces.

    Returns:
        Pieces (P,), none of them multiple or empty; the index of each one's
        geometry, (P,), ascending.
    """
    pieces, owner = shapely.get_parts(geometries, return_index=True)
    # Collections may hold collections.
    while (shapely.get_type_id(pieces) > GeometryType.POLYGON).any():
        pieces, inner = shapely.get_parts(pieces, return_index=True)
        owner = owner[inner]
    full = ~shapely.is_empty(pieces)
    return pieces[full], owner[full]


def together(pieces: Geometries, owner: Owners, count: int) -> Geometries:
    """Return geometries made of their pieces, of those alone that have the highest dimension.

    Args:
        pieces: Polygons, lines, points and multiple ones of them, (P,); None counts for nothing.
        owner: The index of each one's geometry, (P,).
        count: How many geometries there are.

    Returns:
        (count,); a single piece as it is, None where there is none.
    """
    pieces, inner = apart(pieces)
    owner = owner[inner]
    dimension, highest = shapely.get_dimensions(pieces), np.full(count, -1)
    np.maximum.at(highest, owner, dimension)
    kept = np.flatnonzero(dimension == highest[owner])
    kept = kept[np.argsort(owner[kept], kind="stable")]
    pieces, owner = pieces[kept], owner[kept]
    found = np.full(count, None, dtype=object)
    alone = np.bincount(owner, minlength=count)[owner] == 1
    found[owner[alone]] = pieces[alone]
    for number, several in enumerate((shapely.multipoints, shapely.multilinestrings, shapely.multipolygons)):
        members = ~alone & (highest[owner] == number)
        if members.any():
            several(pieces[members], indices=owner[members], out=found)
    return found


def mended(geometries: Geometries) -> Geometries:
    """Return valid geometries of one dimension each.

    What is valid is returned as it is. A bow-tie becomes its two halves, spikes
    fall off, pieces of one geometry that overlap are united; a polygon or line
    without extent becomes the line or point that is left of it.

    Args:
        geometries: (N,), None among them; coordinates finite.

    Returns:
        (N,); None where nothing is left.
    """
    found = geometries.copy()
    wrong = np.flatnonzero(_wrong(geometries))
    pieces, owner = apart(_open(geometries[wrong]))
    broken = ~shapely.is_valid(pieces)
    pieces[broken] = shapely.make_valid(pieces[broken])
    joined = together(pieces, owner, len(wrong))
    for row in np.flatnonzero(~shapely.is_valid(joined) & ~shapely.is_missing(joined)):
        joined[row] = shapely.union_all(shapely.get_parts(joined[row]))
    found[wrong] = together(joined, np.arange(len(wrong)), len(wrong))
    return found


def _wrong(geometries: Geometries) -> npt.NDArray[np.bool_]:
    """Return which geometries are invalid, empty, of several dimensions, closed rings, or have empty pieces."""
    types = shapely.get_type_id(geometries)
    wrong: npt.NDArray[np.bool_] = (types == GeometryType.LINEARRING) | (types == GeometryType.GEOMETRYCOLLECTION)
    some = np.flatnonzero(types > GeometryType.POLYGON)
    pieces, owner = shapely.get_parts(geometries[some], return_index=True)
    wrong[some[owner[shapely.is_empty(pieces)]]] = True
    wrong |= shapely.is_empty(geometries) | ~shapely.is_valid(geometries)
    wrong &= ~shapely.is_missing(geometries)
    return wrong


def _open(geometries: Geometries) -> Geometries:
    """Return geometries with lines for closed rings that are no polygons."""
    rings = shapely.get_type_id(geometries) == GeometryType.LINEARRING
    geometries[rings] = [shapely.LineString(shapely.get_coordinates(ring)) for ring in geometries[rings]]
    return geometries
