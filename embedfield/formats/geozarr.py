"""Zarr v3: sharded arrays that xarray opens by themselves."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from affine import Affine
from pyproj import CRS
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.errors import GroupNotFoundError, ZarrUserWarning
from zarr.storage import LocalStore

from embedfield.errors import FormatError
from embedfield.formats.stored import HEADER, StoredField, check_bands, grid_of, header_of, packing_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.formats.packing import Packing
    from embedfield.grid import Window

# One shard is one file and one unit of work; one chunk is what a point costs.
SHARD = 256
CHUNK = 32

CONVENTIONS = [
    {"name": "spatial:", "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"},
    {"name": "proj:", "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f"},
    {"name": "geoemb:", "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c"},
]


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
        try:
            group = zarr.open_group(LocalStore(self._file, read_only=True), mode="r", zarr_format=3)
        # ContainsArrayError is one, and so is broken JSON.
        except (GroupNotFoundError, FileNotFoundError, ValueError) as error:
            raise FormatError(f"{path} cannot be opened: it is no Zarr v3 group, or not a whole one.") from error
        if HEADER not in group.attrs:
            raise FormatError(
                f"{path} is no field of embedfield: it has no '{HEADER}' header. Make one with 'embedfield build'."
            )
        self._take_header(group.attrs[HEADER])
        self._embedding = _array(group, "embedding")
        check_bands(self.path, self._embedding.shape[0], self.dim)
        attributes: dict[str, Any] = dict(group.attrs)
        height, width = attributes["spatial:shape"]
        self.grid = grid_of(
            self.path, Affine(*attributes["spatial:transform"]), (height, width), attributes["proj:code"]
        )
        scale, offset = (np.asarray(_array(group, name)[:]) for name in ("scale", "offset"))
        self.packing = packing_of(self.path, self._embedding.dtype.name, scale, offset)

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the embeddings of a window, (dim, height, width), float32."""
        window = window or self.grid.window
        self.grid.lons(window)  # refuses a window past the edge, which zarr would shorten
        try:
            codes = np.asarray(self._embedding[:, window.rows, window.cols])
        except (OSError, ValueError, RuntimeError) as error:
            raise FormatError(f"{self.path} cannot be read: it is damaged or cut short. Build it again.") from error
        return self.packing.unpack(codes)


def write_zarr(field: Field, path: Path, packing: Packing, progress: Callable[[int], None]) -> Path:
    """Write a field as a Zarr v3 group.

    Args:
        field: What to write; read in shards.
        path: ``….zarr``.
        packing: How numbers are stored.
        progress: Told the number of pixels done, piece by piece.

    Returns:
        `path`; it is there only when everything is whole.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        # As text it would be taken for an address: '#' and '?' would end it.
        group = zarr.open_group(LocalStore(part), mode="w", zarr_format=3)
        _write_coordinates(group, field, packing)
        embedding = _create_embedding(group, field, packing)
        saturated = 0
        for shard in field.grid.window.tiles(SHARD, SHARD):
            codes, outside = packing.pack(field.read(shard))
            embedding[:, shard.rows, shard.cols] = codes
            saturated += outside
            progress(shard.width * shard.height)
        group.attrs.put(_attributes(field, packing, saturated))
        with warnings.catch_warnings():
            # Every reader of Zarr v3 in Python knows it; the specification does not yet.
            warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", ZarrUserWarning)
            zarr.consolidate_metadata(group.store)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def _create_embedding(group: zarr.Group, field: Field, packing: Packing) -> zarr.Array[Any]:
    """Create the array of codes, still empty: (band, y, x)."""
    side = [min(SHARD, -(-size // CHUNK) * CHUNK) for size in field.grid.shape]
    smooth = (
        BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle") if packing.dtype == "float32" else ZstdCodec(level=1)
    )
    attributes: dict[str, Any] = {"grid_mapping": "spatial_ref", "long_name": field.card.title}
    if packing.dtype != "float32":
        # Without this xarray takes nodata for a value: in Zarr v3 the fill value alone does not mask.
        attributes["_FillValue"] = int(packing.nodata)
    return group.create_array(
        "embedding",
        shape=(field.dim, *field.grid.shape),
        dtype=packing.dtype,
        chunks=(field.dim, CHUNK, CHUNK),
        shards=(field.dim, *side),
        compressors=smooth,
        fill_value=packing.nodata if packing.dtype == "float32" else int(packing.nodata),
        dimension_names=("band", "y", "x"),
        attributes=attributes,
    )


def _write_coordinates(group: zarr.Group, field: Field, packing: Packing) -> None:
    """Write all that is small: axes, packing and the reference system."""
    grid = field.grid
    crs = CRS.from_user_input(grid.crs)
    axes = {axis["axis"].lower(): axis for axis in crs.cs_to_cf()}
    small: dict[str, tuple[npt.NDArray[Any], tuple[str, ...], dict[str, Any]]] = {
        "y": (grid.lats(), ("y",), axes["y"]),
        "x": (grid.lons(), ("x",), axes["x"]),
        "band": (np.arange(field.dim), ("band",), {"long_name": "number of the band, from 0"}),
        "scale": (packing.scale.astype(np.float32), ("band",), {"long_name": "value = embedding * scale + offset"}),
        "offset": (packing.offset.astype(np.float32), ("band",), {"long_name": "value = embedding * scale + offset"}),
        "spatial_ref": (np.array(0), (), crs.to_cf() | {"GeoTransform": " ".join(map(repr, grid.transform.to_gdal()))}),
    }
    for name, (values, dimensions, attributes) in small.items():
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, dimension_names=dimensions, attributes=attributes
        )
        array[...] = values


def _attributes(field: Field, packing: Packing, saturated: int) -> dict[str, Any]:
    """Return the group's attributes: our header, and the conventions that others read."""
    grid, card = field.grid, field.card
    west, south, east, north = grid.bounds
    return {
        "zarr_conventions": CONVENTIONS,
        "proj:code": grid.crs,
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(grid.shape),
        "spatial:transform": list(grid.transform)[:6],
        "spatial:bbox": [west, south, east, north],
        "spatial:registration": "pixel",
        "geoemb:type": "pixel",
        "geoemb:dimensions": field.dim,
        "geoemb:model": card.homepage,
        "geoemb:source_data": [card.training_data],
        "geoemb:data_type": packing.dtype,
        "geoemb:spatial_layout": "global" if grid.closed else "regional",
        HEADER: header_of(field, saturated),
    }


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Return an array of a group.

    Raises:
        FormatError: If the group has none of that name.
    """
    array = group.get(name)
    if not isinstance(array, zarr.Array):
        raise FormatError(f"{group.store_path} has no array {name!r}. It is not a whole field; build it again.")
    return array
