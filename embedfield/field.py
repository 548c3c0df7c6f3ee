"""Field: vectors over a grid, wherever they come from. Writers and samplers meet here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedfield.errors import PlacesError
from embedfield.grid import Window
from embedfield.places import checked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt
    import xarray

    from embedfield.card import Card
    from embedfield.grid import Grid

Method = Literal["nearest", "bilinear", "exact"]
Corner = tuple["npt.NDArray[np.int64]", "npt.NDArray[np.int64]", "npt.NDArray[np.float64]"]


class Field(ABC):
    """Embeddings over a grid: `read` a window, or ask `at` places."""

    card: Card
    """The model."""
    grid: Grid
    """Where the pixels are."""
    provenance: Mapping[str, Any] = MappingProxyType({})
    """How the numbers came about: versions, weights, precision. Plain data."""
    blocksize: int = 128
    """Side, in pixels, of the squares that are cheap to read."""
    methods: tuple[Method, ...] = ("nearest", "bilinear")
    """How `at` can answer; the first is the default."""

    @abstractmethod
    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the embeddings of a window, the whole grid if None.

        Returns:
            (dim, height, width), float32; NaN where there is no value.

        Raises:
            GridError: If the window passes the edge of the grid.
        """

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.card.dim

    @property
    def band_names(self) -> list[str]:
        """Names of the bands and of the columns of tables, ``<model>_000`` and on."""
        digits = max(3, len(str(self.dim - 1)))
        return [f"{self.card.name}_{band:0{digits}d}" for band in range(self.dim)]

    def at(self, lonlat: npt.ArrayLike, method: Method | None = None) -> npt.NDArray[np.float32]:
        """Return embeddings at places.

        ``nearest`` is the value of the pixel that a place lies in; ``bilinear``
        weighs the four nearest centres, leaving out those without a value.
        Between the outermost centres and the edge the outermost hold. Both
        cross the antimeridian where the grid is closed and the encoder is
        periodic.

        Args:
            lonlat: Degrees (lon, lat), (N, 2).
            method: One of `methods`; None for the first.

        Returns:
            (N, dim), float32; NaN where a place is outside or has no value.

        Raises:
            PlacesError: If a place is not on the globe, or the field cannot
                answer by that method.
        """
        method = method or self.methods[0]
        if method not in self.methods:
            raise PlacesError(
                f"method={method!r} is not to be had from this field. Choose from: {', '.join(self.methods)}. "
                "'exact' needs the encoder: name the model in place of a stored field."
            )
        return self._at(checked(lonlat), method)

    def _at(self, lonlat: npt.NDArray[np.float64], method: Method) -> npt.NDArray[np.float32]:
        found = np.flatnonzero(self.grid.contains(lonlat))
        result = np.full((len(lonlat), self.dim), np.nan, dtype=np.float32)
        corners = self._nearest(lonlat[found]) if method == "nearest" else self._bilinear(lonlat[found])
        result[found] = self._weigh(corners, len(found))
        return result

    def _nearest(self, lonlat: npt.NDArray[np.float64]) -> list[Corner]:
        rows, cols = (np.floor(position).astype(np.int64) for position in self.grid.positions(lonlat))
        # The outer edges belong to the last pixels.
        rows, cols = rows.clip(max=self.grid.height - 1), cols.clip(max=self.grid.width - 1)
        return [(rows, cols, np.ones(len(rows)))]

    def _bilinear(self, lonlat: npt.NDArray[np.float64]) -> list[Corner]:
        row, col = (position - 0.5 for position in self.grid.positions(lonlat))
        north, west = np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)
        # On a centre both are the same, so that no further block is read.
        south, east = np.ceil(row).astype(np.int64), np.ceil(col).astype(np.int64)
        past = lonlat[:, 0] < self.grid.west  # places that the grid reaches past 180
        corners = []
        for rows, row_weight in ((north, 1 - (row - north)), (south, row - north)):
            for cols, col_weight in ((west, 1 - (col - west)), (east, col - west)):
                weight = row_weight * col_weight
                if not self.card.periodic:
                    # Across the antimeridian such an encoder begins anew: the pixel there tells nothing.
                    centre = self.grid.west + (cols + 0.5) * self.grid.res
                    weight = np.where(np.ceil((centre - 180) / 360) == past, weight, 0.0)
                corners.append((rows.clip(0, self.grid.height - 1), self._wrapped(cols), weight))
        return corners

    def _wrapped(self, cols: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return columns brought onto the grid: around the world, or to its edge."""
        if self.grid.closed:
            return cols % self.grid.width
        return cols.clip(0, self.grid.width - 1)

    def _weigh(self, corners: list[Corner], count: int) -> npt.NDArray[np.float32]:
        """Return means (count, dim) of pixels by weight, decoding each block once."""
        total = np.zeros((count, self.dim), dtype=np.float32)
        weights = np.zeros(count)
        for window, members in self._by_block(corners):
            block = self.read(window)
            for corner, points in members:
                rows, cols, weight = (part[points] for part in corners[corner])
                values = block[:, rows - window.row_off, cols - window.col_off].T
                there = ~np.isnan(values).any(axis=1) & (weight > 0)
                total[points[there]] += values[there] * weight[there, None].astype(np.float32)
                weights[points[there]] += weight[there]
        with np.errstate(invalid="ignore"):
            # Dividing only where a corner was left out keeps single pixels bit for bit.
            partial = weights < 1 - 1e-12
            total[partial] /= weights[partial, None].astype(np.float32)
        return total

    def _by_block(self, corners: list[Corner]) -> Iterator[tuple[Window, list[tuple[int, npt.NDArray[np.int64]]]]]:
        """Yield each block that is touched, with the (corner, points) it serves."""
        size = self.blocksize
        across = -(-self.grid.width // size)
        blocks = np.concatenate([rows // size * across + cols // size for rows, cols, _ in corners])
        order = np.argsort(blocks, kind="stable")
        starts = np.flatnonzero(np.diff(blocks[order], prepend=-1))
        count = len(corners[0][0])
        for members in np.split(order, starts[1:]) if len(order) else ():
            which, points = np.divmod(members, count)
            pairs = [(int(corner), points[which == corner]) for corner in np.unique(which)]
            row, col = (int(part) * size for part in divmod(blocks[members[0]], across))
            yield Window(col, row, min(size, self.grid.width - col), min(size, self.grid.height - row)), pairs

    def to_xarray(self) -> xarray.DataArray:
        """Return the field as a lazy DataArray (band, y, x), float32, with its CRS.

        Blocks are read when they are computed (dask); NaN where there is no value.
        """
        import dask.array
        import rioxarray  # noqa: F401  registers the .rio accessor
        import xarray

        chunks = (self.dim, self.blocksize, self.blocksize)
        array = xarray.DataArray(
            dask.array.from_array(  # type: ignore[no-untyped-call]
                _Pixels(self), chunks=chunks, asarray=False, lock=True
            ),
            dims=("band", "y", "x"),
            coords={"band": self.band_names, "y": self.grid.lats(), "x": self.grid.lons()},
            name="embedding",
            attrs={"model": self.card.name, "licence": self.card.licence},
        )
        located: xarray.DataArray = array.rio.write_crs(self.grid.crs).rio.write_transform(self.grid.transform)
        return located


class _Pixels:
    """A field in the shape that dask reads arrays in."""

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, field: Field) -> None:
        self.field = field
        self.shape = (field.dim, *field.grid.shape)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> npt.NDArray[np.float32]:
        # dask merges later selections into this one: steps, lists and single numbers too.
        picked = [np.arange(size)[part] for part, size in zip(key, self.shape, strict=True)]
        shape = [size for part in picked for size in part.shape]
        if 0 in shape:
            return np.empty(shape, dtype=np.float32)
        bands, rows, cols = (np.atleast_1d(part) for part in picked)
        window = Window(int(cols.min()), int(rows.min()), int(np.ptp(cols)) + 1, int(np.ptp(rows)) + 1)
        return self.field.read(window)[np.ix_(bands, rows - rows.min(), cols - cols.min())].reshape(shape)
