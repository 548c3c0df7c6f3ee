"""ForeignZarr: a field made by others in a Zarr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedfield.errors import FormatError
from embedfield.formats.foreign.decoding import Affine, Decoding, PixelScale, SignedSquare, Stored
from embedfield.formats.foreign.field import ANEW, ForeignField
from embedfield.formats.foreign.place import code_of, grid_along, grid_of
from embedfield.formats.foreign.stated import check_numbers, nodata_of, rules_of, time_of
from embedfield.formats.foreign.store import Store, beside, dimensions
from embedfield.formats.stored import refused
from embedfield.kept import Kept
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.formats.foreign.store import Array
    from embedfield.grid import Grid

# Bytes of codes that are kept, of chunks that are larger than a block; where one is larger still, it alone is.
KEPT = 2**28
# Where chunks of all bands are larger than this together, parts are read as they are asked for, however slowly.
LARGEST = 2**30
# What a pixel has beside its codes, by the rule: the name of the layout's entry for it.
ASIDE = {"pixel-scale": "scales", "affine": "mask"}


class ForeignZarr(ForeignField):
    """A field made by others in a Zarr, version 2 or 3."""

    format = "zarr"

    def __init__(self, path: str | Path, layout: Mapping[str, Any]) -> None:
        """Open a field.

        Args:
            path: A path, or an address on a network.
            layout: With ``rule``, ``card``, ``array`` (its path) and ``axes``
                (a letter each: t, b, y, x); where there are any ``time``,
                ``levels`` (paths by factor), ``scale`` and ``offset`` (paths),
                ``scales`` or ``mask`` (a name beside the array), and ``crs``.

        Raises:
            FormatError: If it is no Zarr, or it is not as its layout says.
        """
        self._take_place(path)
        self._take_layout(layout)
        self._store = Store.open(self.path, self._file)
        with refused(self.path, "has a layout that cannot be read", ANEW):
            self._take_store()

    def _take_store(self) -> None:
        """Set what the store says of itself.

        Raises:
            FormatError: If it is not as the layout says.
        """
        name, self._axes = str(self.layout["array"]), str(self.layout["axes"])
        array = self._store.array(name)
        if array.ndim != len(self._axes):
            raise FormatError(f"{self.path} has an array {name!r} of shape {array.shape}, and no {self._axes}.")
        self._time = time_of(self._store, name, self.layout.get("time")) if "t" in self._axes else 0
        sizes = dict(zip(self._axes, array.shape, strict=True))
        if sizes.get("b", 1) < self.dim:
            raise FormatError(f"{self.path} has {sizes.get('b', 1)} bands, and {self.dim} were entered.")
        self.grid, self._flipped = self._place(name, (sizes["y"], sizes["x"]))
        self.packing = self._decoding(name, array)
        chunks = dict(zip(self._axes, array.chunks, strict=True))
        self.blocksize = self._side(chunks["y"], chunks["x"])
        self._levels = {1: self._level(name)}
        self._take_names(self._own_names(name))

    def _place(self, name: str, shape: tuple[int, int]) -> tuple[Grid, bool]:
        """Return the grid of an array, and whether its rows run from south to north."""
        crs = code_of(self.path, self._store.crs(name), self.layout.get("crs"))
        transform = self._store.transform(name)
        ys, xs = (self._store.coordinate(name, axis) for axis in "yx")
        if ys and xs:
            return grid_along(self.path, self._store.values(ys), self._store.values(xs), transform, crs)
        if transform is None:
            raise FormatError(
                f"{self.path} does not tell where {name!r} is: it has neither coordinates nor a transform."
            )
        return grid_of(self.path, transform, shape, crs)

    def _decoding(self, name: str, array: Array) -> Decoding:
        """Return the rule of the layout, with what the store has for it.

        Raises:
            FormatError: If the array's numbers are not those of the rule.
        """
        dtype, rule = array.dtype.name, self.layout["rule"]
        if rule != "affine":
            found: Decoding = SignedSquare() if rule == "signed-square" else PixelScale()
            if found.dtype != dtype:
                raise FormatError(f"{self.path} holds {dtype}, and by its rule it is {found.dtype}. Enter it anew.")
            return found
        check_numbers(self.path, name, array)
        masked = "mask" in self.layout
        nodata = np.full(self.dim, np.nan if masked else nodata_of(array))
        if "scale" in self.layout:
            scale, offset = (self._store.values(self.layout[key])[: self.dim] for key in ("scale", "offset"))
        else:
            scale, offset = rules_of(array, self.dim)
        if scale.shape != (self.dim,) or offset.shape != (self.dim,):
            raise FormatError(f"{self.path} has scales of shape {scale.shape}, and {self.dim} bands. Ask who made it.")
        return Affine(dtype, scale, offset, nodata, masked=masked)

    def _own_names(self, name: str) -> list[str]:
        """Return what the bands are called, (dim,); empty texts where they are not."""
        names = dimensions(self._store.array(name))
        band = names[self._axes.index("b")] if names and "b" in self._axes else None
        found = self._store.maybe(f"{beside(name)}{band}") if band else None
        if found is None or found.dtype.kind not in "UTO" or found.ndim != 1:
            return [""] * self.dim
        return [str(each) for each in self._store.values(f"{beside(name)}{band}")[: self.dim]]

    def _level(self, name: str) -> _Level:
        aside = ASIDE.get(self.layout["rule"])
        beside_it = self.layout.get(aside) if aside else None
        array = self._store.array(name)
        if not beside_it:
            return _Level(self, array, None)
        found = self._store.array(f"{beside(name)}{beside_it}")
        axes = _axes_of(self._axes, found.ndim)
        sizes = dict(zip(self._axes, array.shape, strict=True))
        if found.shape != tuple(sizes[axis] for axis in axes):
            raise FormatError(
                f"{self.path} has {beside_it} of shape {found.shape} beside {name!r} of {array.shape}: they are not of "
                "the same pixels. Ask who made it."
            )
        return _Level(self, array, found)

    def _shapes(self) -> dict[int, tuple[int, int]]:
        with refused(self.path, "has a layout that cannot be read", ANEW):
            for factor, name in self.layout.get("levels", {}).items():
                self._levels[int(factor)] = self._level(name)
        return {factor: level.shape for factor, level in self._levels.items()}

    def _stored(self, rows: slice, cols: slice, overview: int | None) -> Stored:
        with self._store.reading():
            return self._levels[overview or 1].read(rows, cols)

    def close(self) -> None:
        """Let go of what is kept."""
        for level in self._levels.values():
            level.forget()


class _Level:
    """An array of the store, and what is stored beside it."""

    def __init__(self, field: ForeignZarr, array: Array, aside: Array | None) -> None:
        self.axes, self.time, self.dim = field._axes, field._time, field.dim  # noqa: SLF001  they are one
        self.array, self.aside = array, aside
        sizes, chunks = (dict(zip(self.axes, each, strict=True)) for each in (array.shape, array.chunks))
        self.shape = sizes["y"], sizes["x"]
        self.chunk = chunks["y"], chunks["x"]
        # A chunk is decoded whole. Those that are larger than a block are kept for the blocks beside it.
        size = self.dim * min(self.chunk[0], self.shape[0]) * min(self.chunk[1], self.shape[1]) * array.dtype.itemsize
        self.large = max(self.chunk) > field.blocksize and size <= LARGEST
        self.kept = Kept["npt.NDArray[Any]"](KEPT)

    def read(self, rows: slice, cols: slice) -> Stored:
        """Return the numbers of a part."""
        codes = self._by_chunks(rows, cols) if self.large else self._read(rows, cols)
        if self.aside is None:
            return Stored(codes)
        return Stored(codes, _picked(self.aside, _axes_of(self.axes, self.aside.ndim), self._picks(rows, cols)))

    def forget(self) -> None:
        """Let go of the chunks that are kept."""
        self.kept.clear()

    def _read(self, rows: slice, cols: slice) -> npt.NDArray[Any]:
        return _picked(self.array, self.axes, self._picks(rows, cols))

    def _picks(self, rows: slice, cols: slice) -> dict[str, int | slice]:
        """Return what is picked of each dimension."""
        return {"t": self.time, "b": slice(0, self.dim), "y": rows, "x": cols}

    def _by_chunks(self, rows: slice, cols: slice) -> npt.NDArray[Any]:
        """Return the codes of a part, from whole chunks."""
        part = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        codes = np.empty((self.dim, part.height, part.width), dtype=self.array.dtype)
        for chunk in part.aligned(*self.chunk, self.shape).tiles(*self.chunk):
            here, there = part.common(chunk)
            size = self.dim * chunk.width * chunk.height * codes.itemsize
            whole = self.kept.get(chunk, size, lambda window: self._read(window.rows, window.cols))
            codes[:, *here] = whole[:, *there]
        return codes


def _axes_of(axes: str, count: int) -> str:
    """Return the dimensions of what is stored beside codes, by how many they are: without bands, without times."""
    axes = axes if count == len(axes) else axes.replace("b", "")
    return axes if count == len(axes) else axes.replace("t", "")


def _picked(array: Array, axes: str, picks: Mapping[str, int | slice]) -> npt.NDArray[Any]:
    """Return a part of an array as (band, y, x)."""
    found = np.asarray(array[tuple(picks[axis] for axis in axes)])
    left = axes.replace("t", "")
    if "b" not in left:
        found, left = found[None], f"b{left}"
    return np.ascontiguousarray(found.transpose([left.index(axis) for axis in "byx"]))
