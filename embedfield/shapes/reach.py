"""Reach: the part of the globe that a map can show in one piece."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import shapely

from embedfield.projection import projection
from embedfield.shapes.courses import DEGREE
from embedfield.shapes.seam import turned_lons

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyproj

# How many times as large as on the globe a degree may be drawn. Beyond lies what a map cannot show: the other side
# of an azimuthal one, the poles in Mercator's, the line where another is cut open.
STRETCHED = 20.0
# Degrees beside the meridian where a map is cut open, a tenth of a millimetre: there it is known which side is meant.
HAIR = 1e-9


class Reach(NamedTuple):
    """What a reference system can show, and from where its longitudes are counted."""

    crs: str
    """The reference system."""
    meridian: float
    """The longitude in its middle; the map may be cut open at the one opposite."""
    area: shapely.Geometry | None
    """Where places are shown, in whole degrees, longitudes from `meridian`; None for the whole globe."""

    def place(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return places in the plane, (N, 2), NaN where it does not show them.

        Args:
            lonlat: Degrees (N, 2), lon from `meridian`, in [-180, 180]; both ends on their own side of the map.
        """
        lon = np.clip(lonlat[:, 0], HAIR - 180, 180 - HAIR) + self.meridian
        return projection(self.crs).forward(np.column_stack((turned_lons(lon), lonlat[:, 1])))


@functools.lru_cache(maxsize=32)
def reach(crs: str) -> Reach:
    """Return what a projected reference system, an authority's code or WKT, can show."""
    plane = projection(crs)
    found = Reach(crs, _middle(plane.crs), None)
    lon, lat = np.linspace(-180, 180, 361), np.linspace(-90, 90, 181)
    xy = found.place(np.stack(np.meshgrid(lon, lat), axis=-1).reshape(-1, 2)).reshape(181, 361, 2)
    corners = np.stack((xy[:-1, :-1], xy[:-1, 1:], xy[1:, :-1], xy[1:, 1:]))
    size = (corners.max(axis=0) - corners.min(axis=0)).max(axis=-1) * plane.metres
    with np.errstate(invalid="ignore"):
        shown = size <= STRETCHED * DEGREE
    if shown.all():
        return found
    edges = np.diff(np.pad(shown.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    area = shapely.union_all(shapely.box(lon[starts], lat[rows], lon[stops], lat[rows + 1]))
    shapely.prepare(area)
    return found._replace(area=area)


def _middle(crs: pyproj.CRS) -> float:
    """Return the longitude in the middle of a map, in [-180, 180]; 0 if it does not say which."""
    operation = crs.coordinate_operation
    for parameter in operation.params if operation else ():
        if parameter.name.startswith("Longitude of"):
            lon = float(np.rad2deg(float(parameter.value) * parameter.unit_conversion_factor))
            return lon - 360 * float(np.rint(lon / 360))
    return 0.0
