"""Places of a table in memory: the coordinates of its points, or those in its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas
import numpy as np
import pandas as pd
import pyproj

from embedfield.errors import PlacesError
from embedfield.places import checked
from embedfield.projection import DEGREES
from embedfield.tables.columns import GAPS, LAT, LON, coordinate_column

if TYPE_CHECKING:
    import numpy.typing as npt

# How far, in degrees, a transformation between reference systems may overshoot a pole.
OVERSHOOT = 1e-9


def lonlat_of(places: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the coordinates of places, in degrees.

    Args:
        places: A GeoDataFrame of points in any reference system; a DataFrame
            with columns of longitudes and latitudes, or of those that its
            ``attrs`` name (see `read_places`); or (N, 2) numbers.

    Returns:
        Degrees (lon, lat), (N, 2), float64, row by row.

    Raises:
        PlacesError: If there are no points, they have no reference system, or
            a coordinate is not on the globe.
    """
    if isinstance(places, geopandas.GeoDataFrame) and places.active_geometry_name is not None:
        return checked(_from_geometry(places))
    if not isinstance(places, pd.DataFrame):
        return checked(places)
    xy, crs = coordinates_of(places), places.attrs.get("crs", DEGREES)
    if crs == DEGREES or len(_said(places)) < 2:
        return checked(xy)
    return checked(
        _on_poles(np.column_stack(pyproj.Transformer.from_crs(crs, DEGREES, always_xy=True).transform(*xy.T)))
    )


def coordinates_of(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return what stands in a table's columns of coordinates.

    Args:
        table: Its ``attrs["lonlat"]`` names the columns; otherwise they have usual names.

    Returns:
        (x, y) as they stand there, (N, 2), float64; NaN where a cell is empty.

    Raises:
        PlacesError: If there are no such columns, or a cell is no number.
    """
    names = _said(table)
    if len(names) < 2:
        names = [coordinate_column(table.columns, "The table", axis) for axis in (LON, LAT)]
    return np.column_stack([_numbers(table, name) for name in names])


def _said(table: pd.DataFrame) -> list[str]:
    """Return the columns of coordinates that a table names; one may have been renamed since the file was read."""
    return [name for name in table.attrs.get("lonlat", ()) if name in table.columns]


def _from_geometry(places: geopandas.GeoDataFrame) -> npt.NDArray[np.float64]:
    if places.crs is None:
        raise PlacesError("The places have no reference system. Set it: with geopandas, places.set_crs('EPSG:4326').")
    unfit = ~(places.geometry.geom_type == "Point") | places.geometry.is_empty
    if unfit.any():
        row = int(unfit.to_numpy().argmax())
        kind = places.geometry.iloc[row]
        what = "no geometry" if kind is None or kind.is_empty else f"a {kind.geom_type}"
        raise PlacesError(f"Place {row} has {what}. Only points can be sampled. Remove such rows, or take centroids.")
    points = places.geometry.to_crs(DEGREES)
    return _on_poles(np.column_stack((points.x.to_numpy(), points.y.to_numpy())))


def _numbers(table: pd.DataFrame, name: str) -> npt.NDArray[np.float64]:
    """Return a column as numbers; an empty cell is NaN."""
    column = table[name]
    try:
        return pd.to_numeric(column.where(~column.isin(GAPS))).to_numpy(dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise PlacesError(f"Column {name!r} holds what is no number: {error}. Write decimal degrees.") from error


def _on_poles(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return places of which those that overshoot a pole by a hair lie on it."""
    lon, lat = lonlat.T
    return np.column_stack((lon, np.where(abs(abs(lat) - 90) < OVERSHOOT, lat.clip(-90, 90), lat)))
