"""Zarr v3: sharded arrays that xarray opens by themselves."""

from __future__ import annotations

import math
import shutil
import warnings
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import zarr
from affine import Affine
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import LocalStore, ObjectStore

from embedfield.axes import coordinates_of
from embedfield.errors import FormatError
from embedfield.formats.address import answering
from embedfield.formats.crew import Crew
from embedfield.formats.packing import LEVELS, STRIP
from embedfield.formats.shards import Chunking, Shards, shards_across
from embedfield.formats.stored import (
    HEADER,
    StoredField,
    check_bands,
    grid_of,
    header_of,
    no_header,
    packing_of,
    refused,
)
from embedfield.formats.vrt import Vrt
from embedfield.integrity import placed
from embedfield.processors import processors

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy.typing as npt
    from zarr.abc.store import Store

    from embedfield.field import Field
    from embedfield.formats.address import Address
    from embedfield.formats.journal import Journal, Notes, Work
    from embedfield.formats.packing import Dtype, Packing
    from embedfield.formats.pyramid import Cell
    from embedfield.grid import Grid
    from embedfield.window import Window

# One shard is one file and one unit of work; one chunk is what a point costs.
SHARD = 256
CHUNK = 32
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

    def __init__(self, path: str | Path) -> None:
        """Open a field.

        Args:
            path: A path, or an address on a network.

        Raises:
            FormatError: If it is no Zarr group, or no field of embedfield.
        """
        # A chunk that is not where it is looked for reads as nodata.
        self._take_place(path)
        fault = "cannot be opened: it is no Zarr v3 group, or not a whole one"
        mend = "Build the field again, or enter one that others made with 'embedfield catalog add'"
        with refused(self.path, fault, mend), self._answering():
            group = zarr.open_group(self._store(), mode="r", zarr_format=3)
            attributes: dict[str, Any] = dict(group.attrs)
        if HEADER not in attributes:
            raise no_header(path)
        self._take_header(attributes[HEADER])
        with refused(self.path, "has metadata that cannot be read"), self._answering():
            self._take_group(group, attributes)

    def _store(self) -> Store:
        """Return the store of Zarr's that has the group."""
        return store_of(self._file)

    def _answering(self) -> AbstractContextManager[None]:
        """Turn what goes wrong on the way to the store into an error of ours."""
        return answering(self._file)

    def _take_group(self, group: zarr.Group, attributes: dict[str, Any]) -> None:
        """Set what the group says of itself.

        Raises:
            FormatError: If it is no whole field.
        """
        self._group, self._embedding = group, _array(self.path, group, "embedding")
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
        scale, offset = (np.asarray(_array(self.path, group, name, (bands,))[:]) for name in ("scale", "offset"))
        self.packing = packing_of(self.path, self._embedding.dtype.name, scale, offset)

    def _factors(self) -> list[int]:
        return list(self._coarser)

    @cached_property
    def _coarser(self) -> dict[int, zarr.Array[Any]]:
        """The arrays of the coarser levels, by how many pixels a side one of theirs stands for; none that differ."""
        found: dict[int, zarr.Array[Any]] = {}
        with refused(self.path, "has metadata that cannot be read"), self._answering():
            for number in count(1):
                factor, array = 2**number, self._group.get(f"{number}/embedding")
                shape = self.dim, -(-self.grid.height // factor), -(-self.grid.width // factor)
                if not isinstance(array, zarr.Array) or (array.shape, array.dtype) != (shape, self._embedding.dtype):
                    break
                found[factor] = array
        return found

    def _codes(self, window: Window, overview: int | None = None) -> npt.NDArray[Any]:
        array = self._coarser[overview] if overview else self._embedding
        try:
            with self._answering():
                return np.asarray(array[:, window.rows, window.cols])
        except FormatError:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            raise FormatError(f"{self.path} cannot be read: it is damaged or cut short. Build it again.") from error


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
    claim_zarr(work.journal, path)
    lay_out(work, path, layout)
    with Crew(work) as crew:
        saturated = _shards(crew, path, layout).write()
    return finish_zarr(work, path, saturated, layout)


def claim_zarr(journal: Journal | Notes, path: Path) -> None:
    """Take note that a group is written, and remove one of a journal that was lost."""
    if not journal.done(path.name):
        shutil.rmtree(path, ignore_errors=True)
        journal.add(path.name)


def write_square(work: Work, path: Path, layout: Layout, row: int, col: int) -> None:
    """Write a square of shards, as `Shards.write_square` does, into a group that is laid out."""
    with Crew(work) as crew:
        _shards(crew, path, layout).write_square(row, col)


def write_coarser(work: Work, path: Path, layout: Layout, cell: Cell) -> None:
    """Write a shard of a coarser level, as `Shards.write_coarser` does, into a group that is laid out."""
    with Crew(work) as crew:
        _shards(crew, path, layout).write_coarser(cell)


def _shards(crew: Crew, path: Path, layout: Layout) -> Shards:
    return Shards(crew, folders_of(path, crew.work.field.grid), chunking_of(layout))


def folders_of(path: Path, grid: Grid) -> list[Path]:
    """Return the folders of the arrays of all levels of a group, the finest first."""
    return [path / level.name / "embedding" for level in _levels(grid)]


def finish_zarr(work: Work, path: Path, saturated: int, layout: Layout = "sharded") -> Path:
    """Write what tells of a whole group, once its shards are there; return its path.

    Args:
        work: What is written, and how.
        path: Of the group, laid out.
        saturated: How many values of the field saturated.
        layout: As for `write_zarr`.
    """
    field, packing, levels = work.field, work.packing, _levels(work.field.grid)
    for left in path.rglob("*.partial"):  # of a process that was killed
        left.unlink()
    for level in levels:
        group = zarr.open_group(LocalStore(path / level.name), mode="r+", zarr_format=3)
        own = {HEADER: header_of(field, packing, saturated), **_multiscales(levels)} if level.factor == 1 else {}
        group.attrs.put(_attributes(field, level, packing) | own)
    _consolidate(path)
    if layout == "flat":
        vrt = Vrt(field, packing, saturated, field.grid.window)
        vrt.add_files([f"{path.name}/{level.name}/embedding".replace("//", "/") for level in levels])
        placed(path.with_name(f"{path.name}.vrt"), lambda part: part.write_text(vrt.text(), encoding="utf-8"))
    return path


def shard_shape(grid: Grid) -> tuple[int, int]:
    """Return height and width of a piece of a field's finest level."""
    return min(SHARD, grid.height), min(SHARD, grid.width)


def peak_memory(grid: Grid, dim: int, dtype: Dtype) -> int:
    """Return the bytes that writing takes at most: floats in strips, shards side by side, and those above them."""
    height, width = shard_shape(grid)
    shard = dim * height * width * np.dtype(dtype).itemsize
    across = min(shards_across(dim * SHARD**2 * np.dtype(dtype).itemsize), -(-grid.width // width))
    # Twice as many as are computed together; fewer of coarser levels; and what a thread compresses.
    return 3 * STRIP + (3 * across + len(_levels(grid)) + processors()) * shard


def chunking_of(layout: Layout) -> Chunking:
    """Return how the arrays of a layout lie in files."""
    return Chunking(SHARD, CHUNK, sharded=True) if layout == "sharded" else Chunking(SHARD, FLAT_CHUNK, sharded=False)


def lay_out(work: Work, path: Path, layout: Layout) -> None:
    """Put all that a group has but its shards in place of what an earlier process wrote, or lost, of it.

    Args:
        work: What is written, and how.
        path: Of the group.
        layout: As for `write_zarr`.
    """
    # It is small, and no unit of the journal: made anew at every run it is right, whatever became of it.
    made = work.journal.folder / "structure"
    shutil.rmtree(made, ignore_errors=True)
    for level in _levels(work.field.grid):
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


def _levels(grid: Grid) -> list[_Level]:
    """Return a grid and its coarser levels, each of half as many pixels a side, down to one shard."""
    levels = [_Level(grid, 1)]
    while max(levels[-1].shape) > SHARD:
        levels.append(_Level(grid, 2 * levels[-1].factor))
    return levels


def _create_embedding(group: zarr.Group, level: _Level, field: Field, packing: Packing, layout: Layout) -> None:
    """Create the array of codes, still empty: (band, y, x)."""
    integer = packing.dtype in LEVELS
    attributes: dict[str, Any] = {"grid_mapping": "spatial_ref", "long_name": field.card.title}
    if integer:
        # Without this xarray takes nodata for a value: in Zarr v3 the fill value alone does not mask.
        attributes["_FillValue"] = int(packing.nodata)
    chunking = chunking_of(layout)
    group.create_array(
        "embedding",
        shape=(field.dim, *level.shape),
        dtype=packing.dtype,
        chunks=(field.dim, chunking.chunk, chunking.chunk),
        shards=(field.dim, *chunking.shard(level.shape)) if chunking.sharded else None,
        # As `shards.compressed` does it.
        compressors=ZstdCodec(level=1)
        if packing.dtype == "uint8"
        else BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
        fill_value=int(packing.nodata) if integer else packing.nodata,
        dimension_names=("band", "y", "x"),
        attributes=attributes,
    )


def _write_coordinates(group: zarr.Group, level: _Level, packing: Packing) -> None:
    """Write all that is small: axes, packing and the reference system."""
    decoded = {"long_name": "value = embedding * scale + offset"}
    small: dict[str, tuple[tuple[str, ...], npt.NDArray[Any], dict[str, Any]]] = {
        **coordinates_of(level.grid, level.factor),
        "band": (("band",), np.arange(len(packing.scale)), {"long_name": "number of the band, from 0"}),
        "scale": (("band",), packing.scale.astype(np.float32), decoded),
        "offset": (("band",), packing.offset.astype(np.float32), decoded),
    }
    for name, (dimensions, values, attributes) in small.items():
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


def store_of(place: Path | Address) -> LocalStore | ObjectStore[Any]:
    """Return a store of Zarr's for a place."""
    if isinstance(place, Path):
        return LocalStore(place, read_only=True)
    return ObjectStore(place.folder(), read_only=True)


def _array(path: Path | str, group: zarr.Group, name: str, shape: tuple[int, ...] | None = None) -> zarr.Array[Any]:
    """Return an array of a group.

    Raises:
        FormatError: If the group has none of that name and shape.
    """
    array = group.get(name)
    if not isinstance(array, zarr.Array) or shape not in (None, array.shape):
        wanted = f"{name!r}" if shape is None else f"{name!r} of shape {shape}"
        raise FormatError(f"{path} has no array {wanted}. It is not a whole field; build it again.")
    return array
