"""Sampling: any field × places → a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from embedfield.errors import PlacesError
from embedfield.tables import lonlat_of, read_places

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.field import Field, Method

STATUS = "status"


def extract_points(
    field: Field, places: str | Path | pd.DataFrame | npt.ArrayLike, method: Method | None = None
) -> pd.DataFrame:
    """Return places with the embedding of each.

    Args:
        field: Stored or computed.
        places: A file that `read_places` reads; a GeoDataFrame of points in any reference system; a DataFrame
            with columns of longitudes and latitudes; or (N, 2) degrees, lon first.
        method: ``nearest`` or ``bilinear`` of a stored field; ``exact`` of a
            computed one. None for the field's first.

    Returns:
        The rows and columns of `places` in their order, then ``<model>_000``, …
        in float32, then ``status``: ``valid``, ``nodata`` where the field has no
        value, ``outside`` where it has no pixel. A GeoDataFrame stays one.

    Raises:
        PlacesError: If places have no coordinates or one is not on the globe,
            if a column of that name is there already, or if the field cannot
            answer by that method.
    """
    places = read_places(places) if isinstance(places, str | Path) else places
    lonlat = lonlat_of(places)
    table = places if isinstance(places, pd.DataFrame) else pd.DataFrame(lonlat, columns=["lon", "lat"])
    taken = [name for name in (*field.band_names, STATUS) if name in table.columns]
    if taken:
        raise PlacesError(f"The places have a column {taken[0]!r} already. Rename or remove it.")
    values = field.at(lonlat, method)
    status = np.where(np.isnan(values).any(axis=1), "nodata", "valid")
    status = np.where(_outside(field, lonlat, method), "outside", status)
    columns = pd.DataFrame(values, columns=field.band_names, index=table.index)
    columns[STATUS] = status
    return pd.concat([table, columns], axis=1)


def _outside(field: Field, lonlat: npt.NDArray[np.float64], method: Method | None) -> npt.NDArray[np.bool_]:
    """Return which places a field has no pixel for; an encoder has values everywhere."""
    if (method or field.methods[0]) == "exact":
        return np.zeros(len(lonlat), dtype=bool)
    return ~field.grid.contains(lonlat)
