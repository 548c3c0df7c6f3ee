"""Projection: places on the globe as places in the plane of a reference system, and back."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import numpy as np

from embedfield.errors import GridError, PlacesError
from embedfield.places import on_sphere, turned

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyproj

    from embedfield.grid import Bounds

DEGREES = "EPSG:4326"
EARTH = 6_371_000.0
# Metres by which a place in the plane may miss itself on its way to the globe and back: what iterations leave.
ASTRAY = 1.0
# The same for a place on the globe. On the way to another datum and back it may take another transformation,
# which moves it by a few hundred metres; a place that a projection cannot show comes back thousands of kilometres off.
LOST = 10_000.0
# Degrees: a centimetre.
HAIR = 1e-7


class Projection:
    """A reference system's plane: `forward` from the globe, `inverse` to it.

    Safe to use from several threads.
    """

    def __init__(self, crs: pyproj.CRS) -> None:
        """Prepare the transformations of a reference system.

        Args:
            crs: With two axes; x is the first that `forward` returns, whatever the order of its axes.

        Raises:
            GridError: If it lies on another planet.
        """
        import pyproj

        globe = crs.geodetic_crs
        try:
            self._all = pyproj.Transformer.from_crs(DEGREES, crs, always_xy=True)
            # Without a change of datum there is one formula, and what comes back from the globe was on it.
            self._formula = pyproj.Transformer.from_crs(globe, crs, always_xy=True)
        except pyproj.exceptions.ProjError as error:
            raise GridError(
                f"{crs.name} is not on the Earth, as longitude and latitude are. Choose a reference system that is."
            ) from error
        self.crs = crs
        factor = crs.axis_info[0].unit_conversion_factor or 1.0
        self.metres = factor * (1.0 if crs.is_projected else EARTH)
        """Metres, about, in a unit of the plane."""

    def forward(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return places of the globe in the plane.

        Args:
            lonlat: Degrees (lon, lat), (N, 2).

        Returns:
            (x, y) in the units of the reference system, (N, 2), float64; NaN
            where it cannot show a place.
        """
        xy = self._there_and_back(lonlat)
        # On the meridian where a map is cut open rounding decides: a hair beside it a place is shown.
        for hair in (-HAIR, HAIR):
            lost = np.flatnonzero(np.isnan(xy[:, 0]))
            if len(lost):
                xy[lost] = self._there_and_back(lonlat[lost] + np.sign(lonlat[lost]) * (hair, 0.0))
        return xy

    def _there_and_back(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return places in the plane, (N, 2); NaN where they do not come back from there."""
        x, y = self._all.transform(lonlat[:, 0], lonlat[:, 1])
        back = np.column_stack(self._all.transform(x, y, direction="INVERSE"))
        with np.errstate(invalid="ignore"):
            lost = ~(EARTH * np.linalg.norm(on_sphere(back) - on_sphere(lonlat), axis=1) <= LOST)
        xy = np.column_stack((x, y))
        xy[lost] = np.nan
        return xy

    def inverse(self, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return places of the plane on the globe.

        Args:
            xy: (x, y) in the units of the reference system, (N, 2).

        Returns:
            Degrees (lon, lat), (N, 2), float64, lon in [-180, 180]; NaN where
            the plane shows nothing, as in the corners of an oval map of the world.
        """
        x, y = xy.T
        lon, lat = self._all.transform(x, y, direction="INVERSE")
        there = self._formula.transform(x, y, direction="INVERSE")
        again = np.column_stack(self._formula.transform(there[0], there[1]))
        with np.errstate(invalid="ignore"):
            astray = ~(abs(again - xy).max(axis=1) <= ASTRAY / self.metres)
            lonlat = np.column_stack((-turned(-turned(lon)), np.clip(lat, -90, 90)))
        lonlat[astray | ~np.isfinite(lonlat).all(axis=1)] = np.nan
        return lonlat

    def area(self) -> Bounds:
        """Return the box in the plane, in its units, around the area that the reference system is made for.

        Raises:
            GridError: If nobody has said which that is.
        """
        area = self.crs.area_of_use
        if area is None:
            raise GridError(f"{self.crs.name} does not say which area it is made for. Give bounds.")
        west, south, east, north = area.bounds
        east += 360.0 * (east <= west)
        # Eighths of a degree meet the meridians at which a round map is widest.
        across, up = np.linspace(west, east, 2881), np.linspace(south, north, 1441)
        lon = np.concatenate([across, across, np.full(1441, west), np.full(1441, east)])
        lat = np.concatenate([np.full(2881, south), np.full(2881, north), up, up])
        xy = self.forward(np.column_stack((turned(lon), lat)))
        low, high = np.nanmin(xy, axis=0), np.nanmax(xy, axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


@functools.cache
def projection(crs: str) -> Projection:
    """Return the projection of a reference system: an authority's code, or WKT.

    Raises:
        GridError: If it lies on another planet.
    """
    import pyproj

    return Projection(pyproj.CRS.from_user_input(crs))


@functools.cache
def checked_crs(crs: str) -> str:
    """Return the authority's code of a reference system that a grid can have, as ``EPSG:3035``.

    Raises:
        GridError: If it is no such code, or not of a plane; longitude and
            latitude are EPSG:4326 alone.
    """
    if crs == DEGREES:
        return crs
    import pyproj

    code = re.fullmatch(r"\s*([A-Za-z]\w*):(\w+)\s*", crs)
    if not code:
        raise GridError(f"crs={crs!r} is no code of a reference system. Give authority and code, such as EPSG:3035.")
    name = f"{code[1].upper()}:{code[2]}"
    try:
        found = pyproj.CRS.from_user_input(name)
    except pyproj.exceptions.CRSError as error:
        raise GridError(f"crs={crs!r} is not known to PROJ. Look for its code at https://epsg.io.") from error
    if name == DEGREES:
        return name
    if found.is_geographic and not found.is_compound:
        raise GridError(
            f"crs={crs!r} is {found.name}, in degrees of its own. Of those, fields are in EPSG:4326. Give that one."
        )
    if found.is_compound or not found.is_projected or len(found.axis_info) != 2:
        raise GridError(
            f"crs={crs!r} is {found.name}, a {found.type_name} and no plane map of the globe. "
            "Give a projected reference system, such as EPSG:3035, or EPSG:4326."
        )
    projection(name)
    return name


def plane_of(crs: str | pyproj.CRS, source: str) -> tuple[str, Projection]:
    """Return how the reference system of places is written, and its plane.

    Args:
        crs: As pyproj takes it; of a compound one the horizontal part counts.
        source: Where the places came from, for messages.

    Returns:
        An authority's code, else WKT, EPSG:4326 for OGC:CRS84 too; and the plane.

    Raises:
        PlacesError: If it is none on the globe.
    """
    import pyproj

    try:
        found = pyproj.CRS.from_user_input(crs)
        found = (found.sub_crs_list[0] if found.is_compound else found).to_2d()
        authority = found.to_authority()
        code = ":".join(authority) if authority else found.to_wkt()
        # The same degrees, longitude first.
        code = DEGREES if code == "OGC:CRS84" else code
        plane = projection(code)
    except (pyproj.exceptions.CRSError, GridError) as error:
        raise PlacesError(f"{source} has a reference system that is not on the globe: {error}") from error
    if not (plane.crs.is_geographic or plane.crs.is_projected):
        raise PlacesError(
            f"{source} has the reference system {plane.crs.name}, a {plane.crs.type_name} and no map of the globe. "
            "Transform it, as with 'ogr2ogr -t_srs EPSG:4326'."
        )
    return code, plane


def unit_of(crs: str) -> str:
    """Return the unit of a projected reference system's coordinates, in the plural: ``metres``, ``US survey feet``."""
    name: str = projection(crs).crs.axis_info[0].unit_name
    return name.replace("foot", "feet") if "foot" in name else f"{name}s"
