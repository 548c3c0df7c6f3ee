"""Sampling: any field × places → a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from embedfield.located import located_of, warn_off
from embedfield.places import pairs
from embedfield.sampler import STATUS, Sampler
from embedfield.tables import read_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    import geopandas
    import numpy.typing as npt

    from embedfield.field import Field, Method
    from embedfield.sampler import Columns, Samples


def extract_points(
    field: Field | Sequence[Field],
    places: str | Path | pd.DataFrame | npt.ArrayLike,
    method: Method | None = None,
    *,
    columns: Columns = "wide",
    crs: Any = None,
) -> pd.DataFrame:
    """Return places with the embedding of each.

    Args:
        field: Stored or computed; or several, whose columns then stand side by side.
        places: A file that `read_places` reads; a GeoDataFrame of points in any reference system; a DataFrame
            with columns of longitudes and latitudes; or (N, 2) degrees, lon first.
        method: ``nearest`` or ``bilinear`` of a stored field; ``exact`` of a
            computed one. None for the field's first.
        columns: ``wide`` for a column a band, ``list`` for one column of lists.
        crs: Reference system of places that do not say it: those of a file
            without one, or columns and numbers that are not degrees.

    Returns:
        The rows and columns of `places` in their order, then ``<model>_000``, …
        in float32, then ``status``: ``valid``; ``nodata`` where the field has no
        value; ``outside`` where it has no pixel; ``missing`` where a place has
        no coordinates; ``invalid`` where they are not on the globe. A
        GeoDataFrame stays one. Of several fields, columns of those of one
        model begin with the names of their files, and ``status`` is the first
        that is not ``valid``.

    Raises:
        PlacesError: If places have no coordinates or are no points, if a
            column of that name is there already, or if the field cannot answer
            by that method.
    """
    return _table(Sampler(field, method, columns=columns), places, crs)


def zonal_stats(
    field: Field | Sequence[Field],
    places: str | Path | geopandas.GeoDataFrame | pd.DataFrame | npt.ArrayLike,
    stats: str | Sequence[str] = "mean",
    *,
    columns: Columns = "wide",
    buffer: float | None = None,
    crs: Any = None,
) -> pd.DataFrame:
    """Return places with statistics of the pixels under each.

    A polygon weighs pixels by the area that it covers of each, on the sphere
    where the grid is over longitude and latitude; a line by its length in
    them; the points of a multipoint count one each. Pixels without a value are left out.

    Args:
        field: Stored or computed; or several, whose columns then stand side by side.
        places: As for `extract_points`, with geometries of any kind. Polygons
            may overlap, be smaller than a pixel, cross the antimeridian or
            hold a pole; what is invalid is repaired.
        stats: One or more of ``mean``, ``std`` (of the population), ``min``,
            ``max``, ``median``; ``count``, the number of pixels, covered parts added
            up; ``coverage``, the part of the place that lies on pixels with a value.
        columns: ``wide`` for a column a band, ``list`` for one column of lists.
        buffer: Metres around each place that are a part of it: a point becomes
            a circle on the sphere.
        crs: As for `extract_points`.

    Returns:
        The rows and columns of `places` in their order, then ``<model>_000``, …
        of the mean and ``<model>_000_max``, … of others, in float32, then
        ``status`` as in `extract_points`.

    Raises:
        PlacesError: If places have no geometries or coordinates, there is no
            such statistic, or a column of that name is there already.
    """
    return _table(Sampler(field, stats=stats, columns=columns, buffer=buffer), places, crs)


def _table(sampler: Sampler, places: str | Path | pd.DataFrame | npt.ArrayLike, crs: Any) -> pd.DataFrame:
    if isinstance(places, str | Path):
        places, crs = read_places(places, crs=crs), None
    table = places if isinstance(places, pd.DataFrame) else pd.DataFrame(pairs(places), columns=["lon", "lat"])
    sampler.check_free(map(str, table.columns))
    located = located_of(table, crs)
    warn_off(located.off(), len(located))
    found = sampler.sample(located)
    return pd.concat([table, _columns(sampler, found, table.index)], axis=1)


def _columns(sampler: Sampler, found: Samples, index: pd.Index[Any]) -> pd.DataFrame:
    """Return what was found as columns."""
    layout = sampler.layout()
    if sampler.columns == "wide":
        columns = pd.DataFrame(found.numbers, columns=[column.name for column in layout], index=index)
    else:
        held = {
            column.name: found.numbers[:, column.bands.start] if column.single else list(found.numbers[:, column.bands])
            for column in layout
        }
        columns = pd.DataFrame(held, index=index)
    columns[STATUS] = pd.array(found.status.tolist(), dtype="str")
    return columns
