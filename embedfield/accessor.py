"""The accessor ``.embedfield`` of xarray's arrays and datasets. Importing this module registers it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import xarray

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    import pandas as pd

    from embedfield.array_field import ArrayField
    from embedfield.field import Method
    from embedfield.sampler import Columns


@xarray.register_dataset_accessor("embedfield")  # type: ignore[no-untyped-call]
@xarray.register_dataarray_accessor("embedfield")  # type: ignore[no-untyped-call]
class Accessor:
    """An array or a dataset that is a field, sampled at places.

    import embedfield

    ds = xarray.open_zarr("geoclip-1deg.zarr")
    table = ds.embedfield.sample(places)
    """

    def __init__(self, array: xarray.DataArray | xarray.Dataset) -> None:
        """Take an array; it is not looked at yet."""
        self._array = array

    @cached_property
    def field(self) -> ArrayField:
        """The array as a field.

        Raises:
            GridError: If its pixels are not squares, evenly spaced, in a
                reference system that is known.
            FormatError: If it is not numbers, or it cannot be told what they mean.
        """
        from embedfield.array_field import ArrayField

        return ArrayField(self._array)

    def sample(
        self,
        places: str | Path | pd.DataFrame | npt.ArrayLike,
        method: Method | None = None,
        *,
        columns: Columns = "wide",
        crs: Any = None,
    ) -> pd.DataFrame:
        """Return places with the embedding of each.

        Args:
            places: As of `embedfield.extract_points`.
            method: ``nearest``, the default, or ``bilinear``.
            columns: ``wide`` for a column a band, ``list`` for one column of lists.
            crs: Reference system of places that do not say it.

        Returns:
            What `embedfield.extract_points` returns.

        Raises:
            PlacesError: As there.
            GridError: As of `field`.
            FormatError: As of `field`.
        """
        from embedfield.sample import extract_points

        return extract_points(self.field, places, method, columns=columns, crs=crs)

    def zonal_stats(
        self,
        places: str | Path | pd.DataFrame | npt.ArrayLike,
        stats: str | Sequence[str] = "mean",
        *,
        columns: Columns = "wide",
        buffer: float | None = None,
        crs: Any = None,
    ) -> pd.DataFrame:
        """Return places with statistics of the pixels under each.

        Args:
            places: As of `embedfield.zonal_stats`: geometries of any kind.
            stats: One or more, by name.
            columns: ``wide`` for a column a band, ``list`` for one column of lists.
            buffer: Metres around each place that are a part of it.
            crs: Reference system of places that do not say it.

        Returns:
            What `embedfield.zonal_stats` returns.

        Raises:
            PlacesError: As there.
            GridError: As of `field`.
            FormatError: As of `field`.
        """
        from embedfield.sample import zonal_stats

        return zonal_stats(self.field, places, stats, columns=columns, buffer=buffer, crs=crs)
