"""Zarr v3: sharded arrays that xarray opens by themselves."""

from __future__ import annotations

import math
import shutil
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import zarr
from affine import Affine
from pyproj import CRS
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import LocalStore

from embedfield.errors import FormatError
from embedfield.formats.packing import LEVELS, packed
from embedfield.formats.stored import HEADER, StoredField, check_bands, grid_of, header_of, packing_of, refused
from embedfield.formats.vrt import Vrt
from embedfield.grid import Window
from embedfield.integrity import placed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.formats.journal import Work
    from embedfield.formats.packing import Packing
    from embedfield.grid import Grid

# One shard is one file and one unit of work; one chunk is what a point costs.
SHARD = 256
CHUNK = 32
# Shards that may wait to be written.
QUEUE = 1
# Without shards a chunk is a file: larger ones keep their number down.
FLAT_CHUNK = 64

CONVENTIONS = [
    {"name": "spatial:", "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"},
    {"name": "proj:", "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f"},
    {"name": "geoemb:", "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c"},
]
# The convention has no word for a scale a band: the arrays `scale` and `offset` hold them.
QUANTIZATION = {"method": "linear", "original_dtype": "float32"}
PYRAMID = {"name": "multiscales", "uuid": "d35379db-88df-4056-af3a-620245f8e347"}
Layout = Literal["sharded", "flat"]


class ZarrField(StoredField):
    """A field in a Zarr group."""

    format = "zarr"
    blocksize = CHUNK

    def __init__(self, path: Path) -> None:
        """Open a field.

        Raises:
            FormatError: If it is no Zarr group, or no field of embedfield.
        """
        self.path = Path(path)
        # A chunk that is not where it is looked for reads as nodata.
        self._file = self.path.absolute()
        with refused(self.path, "cannot be opened: it is no Zarr v3 group, or not a whole one"):
            group = zarr.open_group(LocalStore(self._file, read_only=True), mode="r", zarr_format=3)
            attributes: dict[str, Any] = dict(group.attrs)
        if HEADER not in attributes:
            raise FormatError(
                f"{path} is no field of embedfield: it has no '{HEADER}' header. Make one with 'embedfield build'."
            )
        self._take_header(attributes[HEADER])
        with refused(self.path, "has metadata that cannot be read"):
            self._take_group(group, attributes)

    def _take_group(self, group: zarr.Group, attributes: dict[str, Any]) -> None:
        """Set what the group says of itself.

        Raises:
            FormatError: If it is no whole field.
        """
        self._embedding = _array(group, "embedding")
        bands, *shape = self._embedding.shape
        check_bands(self.path, bands, self.dim)
        if attributes["spatial:shape"] != shape:
            raise FormatError(
                f"{self.path} has {shape} rows and columns, and its metadata say {attributes['spatial:shape']}. "
                "Build it again."
            )
        height, width = shape
        self.grid = grid_of(
            self.path, Affine(*attributes["spatial:transform"]), (height, width), attributes["proj:code"], self._crs
        )
        scale, offset = (np.asarray(_array(group, name, (bands,))[:]) for name in ("scale", "offset"))
        self.packing = packing_of(self.path, self._embedding.dtype.name, scale, offset)

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the embeddings of a window, (dim, height, width), float32."""
        window = window or self.grid.window
        self.grid.checked(window)  # refuses a window past the edge, which zarr would shorten
        try:
            codes = np.asarray(self._embedding[:, window.rows, window.cols])
        except (OSError, ValueError, RuntimeError) as error:
            raise FormatError(f"{self.path} cannot be read: it is damaged or cut short. Build it again.") from error
        return self.packing.unpack(codes)


def write_zarr(work: Work, path: Path, layout: Layout = "sharded") -> Path:
    """Write a field as a Zarr v3 group, coarser levels in groups ``1``, ``2``, … of it.

    Args:
        work: What to write, and how; what its journal has is kept.
        path: ``….zarr``.
        layout: ``sharded``, or ``flat`` for readers that do not know shards; a VRT
            beside it then tells GDAL the names and the packing of its bands.

    Returns:
        `path`.
    """
    field, packing, levels = work.field, work.packing, _levels(work.field.grid)
    if not work.journal.done(path.name):
        shutil.rmtree(path, ignore_errors=True)  # of a journal that was lost
        work.journal.add(path.name)
    _lay_out(work, path, levels, layout)
    with ThreadPoolExecutor(1) as writer:
        pyramid = _Pyramid(work, path, levels, writer)
        pyramid.write(len(levels) - 1, 0, 0)
        pyramid.finish()
    for left in path.rglob("*.partial"):  # of a process that was killed
        left.unlink()
    for level in levels:
        group = zarr.open_group(LocalStore(path / level.name), mode="r+", zarr_format=3)
        own = (
            {HEADER: header_of(field, packing, pyramid.saturated), **_multiscales(levels)} if level.factor == 1 else {}
        )
        group.attrs.put(_attributes(field, level, packing) | own)
    _consolidate(path)
    if layout == "flat":
        vrt = Vrt(field, packing, pyramid.saturated, field.grid.window)
        vrt.add_files([f"{path.name}/{level.name}/embedding".replace("//", "/") for level in levels])
        placed(path.with_name(f"{path.name}.vrt"), lambda part: part.write_text(vrt.text(), encoding="utf-8"))
    return path


def _lay_out(work: Work, path: Path, levels: list[_Level], layout: Layout) -> None:
    """Put all that a group has but its shards in place of what an earlier process wrote, or lost, of it."""
    # It is small, and no unit of the journal: made anew at every run it is right, whatever became of it.
    made = work.journal.folder / "structure"
    shutil.rmtree(made, ignore_errors=True)
    for level in levels:
        # As text it would be taken for an address: '#' and '?' would end it.
        group = zarr.open_group(LocalStore(made / level.name), mode="w", zarr_format=3)
        _write_coordinates(group, level, work.packing)
        _create_embedding(group, level, work.field, work.packing, layout)
    for file in sorted(file for file in made.rglob("*") if file.is_file()):
        target = path / file.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    shutil.rmtree(made)


def _consolidate(path: Path) -> None:
    """Gather all metadata in one file, that of the coarser levels too."""
    with warnings.catch_warnings():
        # Every reader of Zarr v3 in Python knows it; the specification does not yet.
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", ZarrUserWarning)
        zarr.consolidate_metadata(LocalStore(path))


class _Level(NamedTuple):
    """A grid, or a coarser one whose pixels are squares of its pixels; those at an odd edge reach beyond it."""

    grid: Grid
    factor: int

    @property
    def name(self) -> str:
        """Name of its group within that of the field."""
        return str(self.factor.bit_length() - 1) if self.factor > 1 else ""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.grid.shape
        return -(-height // self.factor), -(-width // self.factor)

    @property
    def transform(self) -> Affine:
        """From (col, row), corners at whole numbers, to the reference system."""
        return self.grid.transform @ Affine.scale(self.factor)

    @property
    def axes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Centres of rows and of columns in the reference system."""
        if self.factor == 1:
            return self.grid.ys(), self.grid.xs()
        height, width = self.shape
        res = self.factor * self.grid.res
        rows, cols = np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64)
        return self.grid.north - (rows + 0.5) * res, self.grid.west + (cols + 0.5) * res


def _levels(grid: Grid) -> list[_Level]:
    """Return a grid and its coarser levels, each of half as many pixels a side, down to one shard."""
    levels = [_Level(grid, 1)]
    while max(levels[-1].shape) > SHARD:
        levels.append(_Level(grid, 2 * levels[-1].factor))
    return levels


class _Pyramid:
    """The arrays of a field's levels, written shard by shard.

    A shard of a coarser level is written after the four below it, whose codes
    are still at hand: the whole needs the memory of a few shards.
    """

    def __init__(self, work: Work, path: Path, levels: list[_Level], writer: ThreadPoolExecutor) -> None:
        self.work, self.writer, self.pending = work, writer, deque[Future[None]]()
        self.saturated = 0
        self.shapes = [level.shape for level in levels]
        self.folders = [path / level.name / "embedding" for level in levels]
        self.arrays = [
            zarr.open_array(LocalStore(folder), mode="r+", zarr_format=3, config={"write_empty_chunks": True})
            for folder in self.folders
        ]

    def write(self, level: int, row: int, col: int) -> npt.NDArray[Any] | None:
        """Write a shard and all below it; return its codes (dim, height, width), None if it was there already."""
        unit, window = f"{level}-{row}-{col}", self._window(level, row, col)
        done = self.work.journal.done(unit, *self._files(level, window))
        if done:
            self._look_below(level, window, done["saturated"])
            return None
        codes = np.empty((self.work.field.dim, window.height, window.width), dtype=self.work.packing.dtype)
        saturated = self._gather(codes, level, window) if level else self._compute(codes, window)
        # The next shard is computed while this one is compressed and written. One below it may never be entered, if
        # the disk is full: whoever finds this one whole looks below it all the same.
        self.finish(QUEUE)
        self.pending.append(self.writer.submit(self._store, unit, codes, level, window, saturated))
        return codes

    def _store(self, unit: str, codes: npt.NDArray[Any], level: int, window: Window, saturated: int) -> None:
        files = list(self._files(level, window))
        for path in files:  # zarr would read one that is damaged, to write a part of it
            path.unlink(missing_ok=True)
        # A shard without any value is left out. Of others every chunk is written: zarr need not look into each.
        empty = np.isnan(codes).all() if codes.dtype.kind == "f" else (codes == self.work.packing.nodata).all()
        if not empty:
            self.arrays[level][:, window.rows, window.cols] = codes
        self.work.journal.add(unit, *files, saturated=saturated)

    def finish(self, left: int = 0) -> None:
        """Wait until no more than so many shards are still to be written."""
        while len(self.pending) > left:
            self.pending.popleft().result()

    def _window(self, level: int, row: int, col: int) -> Window:
        height, width = self.shapes[level]
        top, left = row * SHARD, col * SHARD
        return Window(left, top, min(SHARD, width - left), min(SHARD, height - top))

    def _below(self, level: int, window: Window) -> Iterator[tuple[Window, int, int]]:
        """Yield the quarters of a shard of a coarser level, and row and column of the shard below that each is of."""
        half = SHARD // 2
        for part in Window(0, 0, window.width, window.height).tiles(half, half) if level else ():
            yield part, (window.row_off + part.row_off) // half, (window.col_off + part.col_off) // half

    def _look_below(self, level: int, window: Window, saturated: int) -> None:
        """Go on below a shard that was there already; one of the field itself is counted."""
        for _, row, col in self._below(level, window):
            self.write(level - 1, row, col)
        if not level:
            self.saturated += saturated
            self.work.progress(window.width * window.height)

    def _compute(self, codes: npt.NDArray[Any], window: Window) -> int:
        """Set the codes of a shard of the field itself; return how many of its values saturated."""
        saturated = 0
        for strip, block, outside in packed(self.work.field, window, self.work.packing):
            codes[:, strip.row_off - window.row_off :][:, : strip.height] = block
            saturated += outside
            self.work.progress(strip.width * strip.height)
        self.saturated += saturated
        return saturated

    def _gather(self, codes: npt.NDArray[Any], level: int, window: Window) -> int:
        """Set the codes of a shard of a coarser level from the four below it, none of whose values can saturate."""
        for part, row, col in self._below(level, window):
            below = self.write(level - 1, row, col)
            if below is None:
                there = self._window(level - 1, row, col)
                below = np.asarray(self.arrays[level - 1][:, there.rows, there.cols])
            codes[:, part.rows, part.cols] = self.work.packing.halved(below)
        return 0

    def _files(self, level: int, window: Window) -> Iterator[Path]:
        """Yield the files that hold a shard."""
        array = self.arrays[level]
        _, height, width = array.shards or array.chunks
        for row in range(window.rows.start // height, -(-window.rows.stop // height)):
            for col in range(window.cols.start // width, -(-window.cols.stop // width)):
                yield self.folders[level] / f"c/0/{row}/{col}"


def _create_embedding(group: zarr.Group, level: _Level, field: Field, packing: Packing, layout: Layout) -> None:
    """Create the array of codes, still empty: (band, y, x)."""
    integer = packing.dtype in LEVELS
    attributes: dict[str, Any] = {"grid_mapping": "spatial_ref", "long_name": field.card.title}
    if integer:
        # Without this xarray takes nodata for a value: in Zarr v3 the fill value alone does not mask.
        attributes["_FillValue"] = int(packing.nodata)
    chunk, shards = FLAT_CHUNK, None
    if layout == "sharded":
        chunk = CHUNK
        shards = (field.dim, *(min(SHARD, -(-size // CHUNK) * CHUNK) for size in level.shape))
    group.create_array(
        "embedding",
        shape=(field.dim, *level.shape),
        dtype=packing.dtype,
        chunks=(field.dim, chunk, chunk),
        shards=shards,
        compressors=ZstdCodec(level=1)
        if packing.dtype == "uint8"
        else BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
        fill_value=int(packing.nodata) if integer else packing.nodata,
        dimension_names=("band", "y", "x"),
        attributes=attributes,
    )


def _write_coordinates(group: zarr.Group, level: _Level, packing: Packing) -> None:
    """Write all that is small: axes, packing and the reference system."""
    crs = CRS.from_user_input(level.grid.crs)
    ys, xs = level.axes
    axes = {axis["axis"].lower(): axis for axis in crs.cs_to_cf()}
    small: dict[str, tuple[npt.NDArray[Any], tuple[str, ...], dict[str, Any]]] = {
        "y": (ys, ("y",), axes["y"]),
        "x": (xs, ("x",), axes["x"]),
        "band": (np.arange(len(packing.scale)), ("band",), {"long_name": "number of the band, from 0"}),
        "scale": (packing.scale.astype(np.float32), ("band",), {"long_name": "value = embedding * scale + offset"}),
        "offset": (packing.offset.astype(np.float32), ("band",), {"long_name": "value = embedding * scale + offset"}),
        "spatial_ref": (
            np.array(0),
            (),
            crs.to_cf() | {"GeoTransform": " ".join(map(repr, level.transform.to_gdal()))},
        ),
    }
    for name, (values, dimensions, attributes) in small.items():
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            # A chunk that is lost must not be read as numbers.
            fill_value=math.nan if values.dtype.kind == "f" else 0,
            dimension_names=dimensions,
            attributes=attributes,
        )
        array[...] = values


def _multiscales(levels: list[_Level]) -> dict[str, Any]:
    """Return the attribute that says where the coarser levels are; none where there are none."""
    if len(levels) == 1:
        return {}
    layout: list[dict[str, Any]] = []
    for level in levels:
        scale = 2.0 if layout else 1.0
        layout.append({
            "asset": f"{level.name}/embedding".removeprefix("/"),
            **({"derived_from": layout[-1]["asset"]} if layout else {}),
            "transform": {"scale": [scale, scale], "translation": [0.0, 0.0]},
            "spatial:shape": list(level.shape),
            "spatial:transform": list(level.transform)[:6],
        })  # fmt: skip
    said = {"layout": layout, "resampling_method": "average"}
    return {"zarr_conventions": [*CONVENTIONS, PYRAMID], "multiscales": said}


def _attributes(field: Field, level: _Level, packing: Packing) -> dict[str, Any]:
    """Return the attributes of a level's group: the conventions that others read."""
    card, grid, integer = field.card, field.grid, packing.dtype in LEVELS
    height, width = level.shape
    west, north = grid.west, grid.north
    east, south = level.transform @ (width, height)
    return {
        "zarr_conventions": CONVENTIONS,
        "proj:code": grid.crs,
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": [height, width],
        "spatial:transform": list(level.transform)[:6],
        "spatial:bbox": list(grid.bounds) if level.factor == 1 else [west, south, east, north],
        "spatial:registration": "pixel",
        "geoemb:type": "pixel",
        "geoemb:dimensions": field.dim,
        "geoemb:model": card.homepage,
        "geoemb:source_data": [card.training_data],
        "geoemb:data_type": packing.dtype,
        **({"geoemb:quantization": QUANTIZATION | {"quantized_dtype": packing.dtype}} if integer else {}),
        "geoemb:spatial_layout": "global" if grid.closed else "regional",
    }


def _array(group: zarr.Group, name: str, shape: tuple[int, ...] | None = None) -> zarr.Array[Any]:
    """Return an array of a group.

    Raises:
        FormatError: If the group has none of that name and shape.
    """
    array = group.get(name)
    if not isinstance(array, zarr.Array) or shape not in (None, array.shape):
        wanted = f"{name!r}" if shape is None else f"{name!r} of shape {shape}"
        raise FormatError(f"{group.store_path} has no array {wanted}. It is not a whole field; build it again.")
    return array
