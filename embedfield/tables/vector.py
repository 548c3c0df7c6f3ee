"""Vector files, all that GDAL reads, as batches of columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyogrio
import pyogrio.raw

from embedfield.errors import PlacesError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Formats whose own count of features is right: a Shapefile's includes deleted ones.
COUNTING = ("GPKG", "FlatGeobuf")
# Kinds of geometry in WKB, with arcs in them or allowing such; shapely has no name for them.
CURVED = (8, 9, 10, 11, 12, 13, 14)
# What GDAL calls reference systems that a GeoPackage does not know.
UNDEFINED = ("Undefined geographic SRS", "Undefined Cartesian SRS", "Undefined SRS")
# By which some writers mark a third coordinate, where the standard adds 1000 to the kind.
FLAGS = np.uint32(0xE0000000)


@dataclass(frozen=True)
class VectorSource:
    """A layer of a vector file, or those of its features that a condition chooses."""

    path: Path
    layer: str
    where: str | None
    schema: pa.Schema
    """As GDAL gives it, without its numbers of features; the geometry plain WKB, what is JSON plain text."""
    count: int
    geometry: str | None
    """``geometry``, as geopandas calls it, whatever its name in the file."""
    crs: str | None
    """An authority's code, or WKT."""
    zoned: bool
    """Whether GDAL itself gives all times with their zone."""

    @classmethod
    def open(cls, path: Path, layer: str | None = None, where: str | None = None) -> VectorSource:
        """Return a layer of a file, its features counted.

        Raises:
            PlacesError: If there is no such layer, several and none is named,
                or the condition cannot be asked.
            RuntimeError: If it is no vector file.
            OSError: If it cannot be read.
        """
        # GDAL 3.12's own stream of a FlatGeobuf breaks at a feature without geometry; its general one does not.
        pyogrio.set_gdal_config_options({"OGR_FLATGEOBUF_STREAM_BASE_IMPL": True})
        layer = _checked_layer(path, layer)
        info = pyogrio.read_info(path, layer=layer)
        with pyogrio.open_arrow(path, layer=layer, use_pyarrow=True) as (said, reader):
            geometry = None if said["geometry_type"] is None else said["geometry_name"] or "wkb_geometry"
            schema = reader.schema
        if geometry is not None and "geometry" not in schema.names:
            schema, geometry = _renamed(schema, geometry, "geometry"), "geometry"
        known = info["features"] if where is None and info["driver"] in COUNTING else 0
        count = known if known > 0 else _counted(path, layer, where, [str(name) for name in info["fields"]])
        schema = _plain(schema)
        zoned = all(kind.tz is not None for kind in schema.types if pa.types.is_timestamp(kind))
        schema = schema if zoned else _timed(path, layer, where, schema)
        return cls(path, layer, where, schema, count, geometry, _stated(said["crs"]), zoned)

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield its features, in order, so many at a time."""
        start = 0
        asked = {"layer": self.layer, "where": self.where, "datetime_as_string": not self.zoned}
        with pyogrio.open_arrow(self.path, batch_size=rows, use_pyarrow=True, **asked) as (_, reader):
            for batch in reader:
                cells = [_as_kept(*pair) for pair in zip(batch.columns, self.schema.types, strict=True)]
                if self.geometry is not None:
                    place = self.schema.get_field_index(self.geometry)
                    cells[place] = self._straight(cells[place], start)
                yield pa.RecordBatch.from_arrays(cells, schema=self.schema)
                start += batch.num_rows

    def _straight(self, wkb: pa.Array, start: int) -> pa.Array:
        """Return geometries of which circular arcs have become lines, as GDAL draws them."""
        kinds = np.array(pc.binary_slice(wkb, 1, 5).unique().drop_null().to_pylist(), dtype=bytes).view("<u4")
        if not np.isin((kinds & ~FLAGS) % 1000, CURVED).any():
            return wkb
        _, _, found, _ = pyogrio.raw.read(
            self.path,
            layer=self.layer,
            where=self.where,
            columns=_least(self.where),
            skip_features=start,
            max_features=len(wkb),
        )
        return pa.array(found, wkb.type)


def _checked_layer(path: Path, layer: str | None) -> str:
    """Return the layer that is meant."""
    layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
    if layer is None and len(layers) > 1:
        raise PlacesError(f"{path} has several layers: {', '.join(layers)}. Name one with --layer.")
    if layer is not None and layer not in layers:
        raise PlacesError(f"{path} has no layer {layer!r}. Choose from: {', '.join(layers)}.")
    if not layers:
        raise PlacesError(f"{path} has no layer. Give a file of places.")
    return layer or layers[0]


def _least(where: str | None) -> list[str] | None:
    """Return the columns that must be read where none is wanted: some formats know only of those when they choose."""
    return [] if where is None else None


def _counted(path: Path, layer: str, where: str | None, columns: list[str]) -> int:
    """Return how many features a condition chooses."""
    try:
        with pyogrio.open_arrow(
            path,
            layer=layer,
            where=where,
            columns=_least(where),
            read_geometry=False,
            return_fids=True,
            use_pyarrow=True,
        ) as (_, reader):
            return sum(batch.num_rows for batch in reader)
    except (ValueError, OSError, RuntimeError) as error:
        if where is None:
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        held = ", ".join(columns) or "none"
        raise PlacesError(
            f"where={where!r} cannot be asked of {path}: {reason}. Write a condition as after WHERE in SQL; "
            f"its columns are: {held}."
        ) from error


def _timed(path: Path, layer: str, where: str | None, schema: pa.Schema) -> pa.Schema:
    """Return a schema in which times without a zone are what all of them allow: local, of the world's time, or text.

    GDAL would leave out zones where they differ.
    """
    allowed = {
        place: [pa.timestamp("ms"), pa.timestamp("ms", "UTC"), pa.string()]
        for place, kind in enumerate(schema.types)
        if pa.types.is_timestamp(kind) and kind.tz is None
    }
    with pyogrio.open_arrow(path, layer=layer, where=where, use_pyarrow=True, datetime_as_string=True) as (_, reader):
        for batch in reader:
            for place, kinds in allowed.items():
                kinds[:] = [kind for kind in kinds if _allows(batch.column(place), kind)]
    for place, kinds in allowed.items():
        schema = schema.set(place, schema.field(place).with_type(kinds[0]))
    return schema


def _allows(times: pa.Array, kind: pa.DataType) -> bool:
    try:
        times.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _as_kept(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return cells of which times may have come as text, and others in an extension type."""
    cells = cells.storage if isinstance(cells, pa.ExtensionArray) else cells
    return cells.cast(kind) if pa.types.is_timestamp(kind) else cells


def _stated(crs: str | None) -> str | None:
    """Return a reference system that GDAL names, None if it only says that there is none."""
    return None if crs is None or any(f'"{name}"' in crs for name in UNDEFINED) else crs


def _renamed(schema: pa.Schema, name: str, new: str) -> pa.Schema:
    place = schema.get_field_index(name)
    return schema.set(place, schema.field(place).with_name(new))


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return a schema without extension types, and with nothing said about its columns."""
    kinds = [kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind for kind in schema.types]
    return pa.schema(list(zip(schema.names, kinds, strict=True)))
