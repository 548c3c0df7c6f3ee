"""Field: vectors over a grid, wherever they come from. Writers and samplers meet here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedfield.errors import GridError, PlacesError
from embedfield.places import checked, places_within
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt
    import xarray

    from embedfield.card import Card
    from embedfield.grid import Bounds, Grid
    from embedfield.reduce import Reduction
    from embedfield.region import Region

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
    region: Region | None = None
    """The area outside of which it has no value; None where it fills its grid."""
    accelerated: bool = False
    """Whether a device beside the processors computes it, and leaves them free meanwhile."""
    components: int | None = None
    """How many principal components of the model's vectors it holds; None where it holds the vectors themselves."""

    @abstractmethod
    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the embeddings of a window, the whole grid if None.

        Returns:
            (dim, height, width), float32; NaN where there is no value.

        Raises:
            GridError: If the window passes the edge of the grid.
        """

    @property
    def overviews(self) -> Mapping[int, tuple[int, int]]:
        """(height, width) of the coarser levels, by how many pixels a side a pixel of theirs stands for; rising."""
        return {}

    def read_overview(self, factor: int, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the embeddings of a window of a coarser level: means of pixels, leaving out those without a value.

        Args:
            factor: How many pixels a side one of the level stands for.
            window: Pixels of the level, all of it if None. At an odd edge the
                last of them reach beyond the grid.

        Returns:
            (dim, height, width), float32; NaN where there is no value.

        Raises:
            GridError: If there is no such level, or the window passes its edge.
        """
        raise GridError(
            f"factor={factor}, {window or 'all of it'}, is no part of this field: it has no coarser levels. "
            "Read windows of its pixels."
        )

    @property
    def dim(self) -> int:
        """Length of an embedding, as the field holds it."""
        return self.components or self.card.dim

    @property
    def reduction(self) -> Reduction | None:
        """The map to the components that it holds, and back; None where it holds the vectors themselves."""
        return None

    def restored(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return the model's vectors (N, dim of the model) of what the field holds, (N, dim)."""
        return self.reduction.restore(values) if self.reduction else values

    @property
    def band_names(self) -> list[str]:
        """Names of the bands and of the columns of tables: ``<model>_000`` and on, components ``<model>_pc000``."""
        digits = max(3, len(str(self.dim - 1)))
        stem = f"{self.card.name}_pc" if self.components else f"{self.card.name}_"
        return [f"{stem}{band:0{digits}d}" for band in range(self.dim)]

    @property
    def name(self) -> str:
        """What it is called: its model; if it is stored, its file."""
        return self.card.name

    def about(self) -> dict[str, Any]:
        """Return what its numbers are and where they come from, as plain data for JSON."""
        return {
            "name": self.name,
            "card": self.card.to_dict(),
            "grid": self.grid.to_dict(),
            "provenance": dict(self.provenance),
        }

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
        self.check_method(method)
        return self._at(checked(lonlat), method or self.methods[0])

    def ask(
        self, lonlat: npt.ArrayLike, method: Method | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.str_]]:
        """Return what `at` returns, and why a place has no value.

        Returns:
            (N, dim), float32; and (N,): ``valid``, ``nodata`` where a place has
            no value, ``outside`` where it has no pixel. An encoder has no outside.
        """
        values = self.at(lonlat, method)
        status = np.where(np.isnan(values).any(axis=1), "nodata", "valid")
        if (method or self.methods[0]) != "exact":
            status = np.where(self.grid.contains(checked(lonlat)), status, "outside")
        return values, status

    def check_method(self, method: Method | None) -> None:
        """Refuse a method that `at` does not have; None is the first.

        Raises:
            PlacesError: If it is so.
        """
        if method is not None and method not in self.methods:
            raise PlacesError(
                f"method={method!r} is not to be had from this field. Choose from: {', '.join(self.methods)}. "
                "'exact' needs the encoder: name the model in place of a stored field."
            )

    def pixels(self, rows: npt.ArrayLike, cols: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the values of single pixels; each block is decoded once.

        Args:
            rows: Rows of the grid, (N,), whole numbers.
            cols: Columns of the grid, (N,), whole numbers.

        Returns:
            (N, dim), float32; NaN where there is no value.

        Raises:
            GridError: If a pixel is not on the grid.
        """
        rows, cols = self.grid.checked_pixels(rows, cols)
        result = np.empty((len(rows), self.dim), dtype=np.float32)
        for members, values in self._parts(rows, cols):
            result[members] = values
        return result

    def places(self, count: int) -> npt.NDArray[np.float64]:
        """Return places spread evenly by area over the part of the field that can have values; the same at every call.

        Args:
            count: How many are wanted.

        Returns:
            Degrees (lon, lat), (n, 2), float64; on a projected grid or in a
            region about so many, fewer where it is a speck in its bounds, one
            at least if it has a pixel. None where the grid lies beyond the
            latitudes of the encoder.
        """
        if self.region is None:
            return self.grid.places(count, self.card.latitudes)
        found = places_within(count, self._box(self.region), self._fit)
        return found if len(found) else self._some_centres(count)

    def _box(self, region: Region) -> Bounds:
        """Return a box of degrees around the part of the grid where the encoder is defined and a region lies."""
        west, south, east, north = self.grid.lonlat_bounds
        left, low, right, high = region.bounds()
        # The smaller the box, the fewer are drawn in vain. Pixels on the region's rim reach beyond its own.
        rim = self.grid.res if self.grid.geographic else 4 * self.grid.res_degrees
        aside = rim if self.grid.geographic else rim / max(0.01, np.cos(np.deg2rad(max(-low, high))))
        if right - left + 2 * aside < east - west:
            turn = 360.0 * (left - aside < -180)
            west, east = left - aside + turn, right + aside + turn
        south, north = max(south, low - rim, self.card.latitudes[0]), min(north, high + rim, self.card.latitudes[1])
        return west, south, east, north

    def _fit(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which places lie on the grid, on a pixel of the region: (N,)."""
        fit = self.grid.contains(lonlat)
        if self.region:
            (rows, cols, _), *_ = self._nearest(lonlat[fit])
            fit[fit] = self.region.contains(self.grid, rows, cols)
        return fit

    def _some_centres(self, count: int) -> npt.NDArray[np.float64]:
        """Return centres of pixels of a region that is too small to be found by chance, (n, 2)."""
        south, north = self.card.latitudes
        centres = self.grid.centres(*self.region.some_pixels(self.grid, count)) if self.region else np.empty((0, 2))
        return centres[(centres[:, 1] >= south) & (centres[:, 1] <= north)]

    def _at(self, lonlat: npt.NDArray[np.float64], method: Method) -> npt.NDArray[np.float32]:
        there = self.grid.contains(lonlat)
        inside = lonlat if there.all() else lonlat[there]
        corners = self._nearest(inside) if method == "nearest" else self._bilinear(inside)
        found = self._weigh(corners, len(inside))
        if there.all():
            return found  # which may be large
        result = np.full((len(lonlat), self.dim), np.nan, dtype=np.float32)
        result[there] = found
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
        corners = []
        for rows, row_weight in ((north, 1 - (row - north)), (south, row - north)):
            for cols, col_weight in ((west, 1 - (col - west)), (east, col - west)):
                weight = row_weight * col_weight
                corners.append((rows.clip(0, self.grid.height - 1), self._wrapped(cols), weight))
        return corners if self.card.periodic else self._on_its_side(corners, lonlat[:, 0])

    def _on_its_side(self, corners: list[Corner], lon: npt.NDArray[np.float64]) -> list[Corner]:
        """Return corners of places without those across the antimeridian.

        There an encoder that is not periodic begins anew: such a pixel tells nothing.
        """
        here = [abs(self.grid.centres(rows, cols)[:, 0] - lon) <= 180 for rows, cols, _ in corners]
        weights = [np.where(side, weight, 0.0) for side, (_, _, weight) in zip(here, corners, strict=True)]
        # On the antimeridian itself a place has two names, and pixels maybe on the side of the other one alone.
        alone = np.sum(weights, axis=0) == 0
        return [
            (rows, cols, np.where(alone, whole, weight))
            for (rows, cols, whole), weight in zip(corners, weights, strict=True)
        ]

    def _wrapped(self, cols: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return columns brought onto the grid: around the world, or to its edge."""
        if self.grid.closed:
            return cols % self.grid.width
        return cols.clip(0, self.grid.width - 1)

    def _weigh(self, corners: list[Corner], count: int) -> npt.NDArray[np.float32]:
        """Return means (count, dim) of pixels by weight, decoding each block once."""
        total = np.zeros((count, self.dim), dtype=np.float32)
        weights = np.zeros(count)
        rows, cols, weight = (np.concatenate(parts) for parts in zip(*corners, strict=True))
        for members, values in self._parts(rows, cols):
            there = ~np.isnan(values).any(axis=1) & (weight[members] > 0)
            corner, points = np.divmod(members, max(1, count))
            # A place may have several corners in a block, and only one at a time can be added.
            for chosen in (there & (corner == number) for number in range(len(corners))):
                share = weight[members[chosen]]
                total[points[chosen]] += values[chosen] * share[:, None].astype(np.float32)
                weights[points[chosen]] += share
        with np.errstate(invalid="ignore"):
            # Dividing only where a corner was left out keeps single pixels bit for bit.
            partial = weights < 1 - 1e-12
            total[partial] /= weights[partial, None].astype(np.float32)
        return total

    def _parts(
        self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Yield the values of pixels part by part: which of them (n,), and their vectors (n, dim)."""
        for (members,), window in self._windows(rows, cols):
            yield members, self.read(window)[:, rows[members] - window.row_off, cols[members] - window.col_off].T

    def _windows(
        self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64], most: int = 1
    ) -> Iterator[tuple[list[npt.NDArray[np.int64]], Window]]:
        """Yield windows of blocks side by side, `most` at a time, and which pixels (n,) lie in each of their blocks.

        A block that holds a pixel is in one window, and no other block is in any.
        """
        size = self.blocksize
        # One more than there are: the last block of a row and the first of the next are no neighbours.
        across = -(-self.grid.width // size) + 1
        blocks = rows // size * across + cols // size
        order = np.argsort(blocks, kind="stable")
        each, starts = np.unique(blocks[order], return_index=True)
        members = np.split(order, starts[1:])
        for run in _runs(each, most):
            row, col = (int(part) * size for part in divmod(each[run.start], across))
            width = (run.stop - run.start) * size
            yield members[run], Window(col, row, min(width, self.grid.width - col), min(size, self.grid.height - row))

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
            coords={"band": self.band_names, "y": self.grid.ys(), "x": self.grid.xs()},
            name="embedding",
            attrs={"model": self.card.name, "licence": self.card.licence},
        )
        array = array.rio.write_crs(self.grid.crs).rio.write_transform(self.grid.transform)
        located: xarray.DataArray = array.rio.write_coordinate_system()
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


def _runs(numbers: npt.NDArray[np.int64], most: int) -> Iterator[slice]:
    """Yield slices of rising numbers that follow one another without a gap, `most` at a time."""
    breaks = [0, *(np.flatnonzero(np.diff(numbers) > 1) + 1).tolist(), len(numbers)]
    for first, last in pairwise(breaks):
        for start in range(first, last, most):
            yield slice(start, min(start + most, last))
