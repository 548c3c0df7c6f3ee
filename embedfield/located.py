"""Located: places as they came, geometries or coordinates, in one reference system."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Self

import geopandas
import numpy as np
import pandas as pd
import shapely

from embedfield.errors import EmbedfieldWarning, PlacesError
from embedfield.places import checked, turned
from embedfield.projection import DEGREES, plane_of, projection
from embedfield.shapes import Shapes, shapes_on
from embedfield.tables import coordinates_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

# How far, in degrees, a transformation between reference systems may overshoot a pole.
OVERSHOOT = 1e-9


class Located:
    """Places in one reference system."""

    def __init__(
        self, crs: str, geometries: npt.NDArray[Any] | None = None, xy: npt.NDArray[np.float64] | None = None
    ) -> None:
        """Take places: give either geometries or coordinates.

        Args:
            crs: Their reference system: an authority's code, or WKT, as `plane_of` gives it.
            geometries: Of shapely, (N,); None where there is none.
            xy: (x, y) of points, (N, 2), float64; NaN where there is none.
        """
        self.crs = crs
        self._xy = xy
        self.geometries = geometries

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return places, one at least, of one reference system and one kind, one after the other."""
        if parts[0].geometries is None:
            return cls(parts[0].crs, xy=np.concatenate([part.xy for part in parts]))
        return cls(parts[0].crs, np.concatenate([part.geometries for part in parts]))

    def __len__(self) -> int:
        """How many."""
        return len(self.xy if self.geometries is None else self.geometries)

    def __getitem__(self, which: slice | npt.NDArray[np.int64]) -> Located:
        """Return some of them."""
        xy = None if self._xy is None else self._xy[which]
        return Located(self.crs, None if self.geometries is None else self.geometries[which], xy)

    @property
    def points(self) -> bool:
        """Whether each of them is a point, or nothing."""
        if self.geometries is None:
            return True
        point = np.isin(shapely.get_type_id(self.geometries), (-1, shapely.GeometryType.POINT))
        return bool((point | shapely.is_empty(self.geometries)).all())

    @property
    def xy(self) -> npt.NDArray[np.float64]:
        """(x, y) of points, or the middle of what surrounds a shape, (N, 2); NaN where there is nothing."""
        if self._xy is None:
            self._xy = np.full((0 if self.geometries is None else len(self.geometries), 2), np.nan)
            if self.geometries is not None:
                box = shapely.bounds(self.geometries)
                # From end to end of the plane there is no middle.
                with np.errstate(invalid="ignore", over="ignore"):
                    self._xy = (box[:, :2] + box[:, 2:]) / 2
        return self._xy

    def lonlat(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]:
        """Return degrees of points, or about the middle of shapes, and what is wrong with them.

        Returns:
            Degrees (lon, lat), (N, 2), lon in [-180, 180], NaN where something is
            wrong; and (N,): ``missing``, ``invalid`` if off the globe, else "".
        """
        missing = np.isnan(self.xy).any(axis=1)
        lon, lat = self.degrees().T
        with np.errstate(invalid="ignore"):
            fit = (abs(lat) <= 90) & (lon >= -180) & (lon < 360)
        places = np.where(fit[:, None], np.column_stack((turned(lon), lat)), np.nan)
        return places, np.where(missing, "missing", np.where(fit, "", "invalid"))

    def degrees(self) -> npt.NDArray[np.float64]:
        """Return degrees (lon, lat) of the same, (N, 2), as they come out, which may be off the globe."""
        lonlat = self.xy if self.crs == DEGREES else projection(self.crs).inverse(self.xy)
        lon, lat = lonlat.T
        return np.column_stack((lon, np.where(abs(abs(lat) - 90) < OVERSHOOT, lat.clip(-90, 90), lat)))

    def off(self) -> int:
        """Return how many have a y that can be no latitude, though they are said to be in degrees."""
        if self.crs != DEGREES:
            return 0
        with np.errstate(invalid="ignore"):
            return int((abs(self.xy[:, 1]) > 90)[~np.isnan(self.xy[:, 0])].sum())

    def shapes(self, target: str, buffer: float | None, precision: float) -> Shapes:
        """Return them as shapes in another reference system, as `shapes_on` does."""
        geometries = self.geometries
        if geometries is None:
            geometries = shapely.points(self.xy)
            geometries[np.isnan(self.xy).any(axis=1)] = None
        return shapes_on(geometries, self.crs, target, buffer=buffer, precision=precision)


def located_of(table: pd.DataFrame, crs: Any = None) -> Located:
    """Return where the rows of a table are.

    Args:
        table: A GeoDataFrame; or with columns of coordinates, by their usual
            names or those that its ``attrs["lonlat"]`` gives.
        crs: Reference system of the coordinates, as pyproj takes it, where the
            table does not say it; None for degrees.

    Raises:
        PlacesError: If it has neither, or a reference system is missing, none
            on the globe, or stated twice.
    """
    if not isinstance(table, geopandas.GeoDataFrame) or table.active_geometry_name is None:
        said = table.attrs.get("crs", DEGREES) if crs is None else crs
        return Located(plane_of(said, "The table")[0], xy=coordinates_of(table))
    if table.crs is None and crs is None:
        raise PlacesError(
            "The places have no reference system. Give crs=, or set it: with geopandas, places.set_crs('EPSG:4326')."
        )
    if table.crs is not None and crs is not None:
        raise PlacesError(f"The places have a reference system of their own, {table.crs.name}. Leave crs out.")
    code, _ = plane_of(table.crs if crs is None else crs, "The table")
    return Located(code, geometries=np.asarray(table.geometry.array))


def lonlat_of(places: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the coordinates of places, in degrees, all of which must be on the globe.

    Args:
        places: A GeoDataFrame of points in any reference system; a DataFrame
            with columns of coordinates, as of `located_of`; or (N, 2) numbers.

    Returns:
        Degrees (lon, lat), (N, 2), float64, row by row.

    Raises:
        PlacesError: If there are no points, they have no reference system, or
            a coordinate is not on the globe.
    """
    if not isinstance(places, pd.DataFrame):
        return checked(places)
    located = located_of(places)
    if located.geometries is not None:
        _check_points(located.geometries)
    return checked(located.degrees())


def _check_points(geometries: npt.NDArray[Any]) -> None:
    """Refuse what is no point, by its row."""
    unfit = (shapely.get_type_id(geometries) != shapely.GeometryType.POINT) | shapely.is_empty(geometries)
    if unfit.any():
        row = int(unfit.argmax())
        kind = geometries[row]
        what = "no geometry" if kind is None or kind.is_empty else f"a {kind.geom_type}"
        raise PlacesError(f"Place {row} has {what}. Only points can be sampled. Remove such rows, or take centroids.")


def warn_off(off: int, count: int) -> None:
    """Warn where most places have no latitude: so many, of how many."""
    if 2 * off > count:
        warnings.warn(
            f"{off:,} of {count:,} places have latitudes beyond 90 degrees: longitude and latitude may be swapped, or "
            "be in another reference system.",
            EmbedfieldWarning,
            stacklevel=3,
        )
