"""Parquet and Feather, with geometries or without, as batches of columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from embedfield.errors import PlacesError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARQUET = (".parquet", ".geoparquet")
FEATHER = (".feather", ".arrow")
# Bytes of a column that are read ahead: groups of rows may be as large as the file.
BUFFER = 1 << 20
# What the specification of GeoParquet means where it names no reference system.
UNSAID = "OGC:CRS84"


@dataclass(frozen=True)
class ArrowSource:
    """A file of Parquet or Feather; its geometry is what GeoParquet's metadata, or geoarrow's, call so."""

    path: Path
    schema: pa.Schema
    """As it stands in the file; the geometry is plain WKB, and the metadata about it are gone."""
    count: int
    geometry: str | None
    crs: str | None
    """As pyproj takes it."""

    @classmethod
    def open(cls, path: Path) -> ArrowSource:
        """Return a file of which only the metadata are read.

        Raises:
            PlacesError: If its geometries are in an encoding other than WKB.
            ValueError: If it is no such file.
            OSError: If it cannot be read.
        """
        if _is_parquet(path):
            with pyarrow.parquet.ParquetFile(path) as file:
                schema, count = file.schema_arrow, file.metadata.num_rows
        else:
            with pa.OSFile(str(path)) as file, pyarrow.ipc.open_file(file) as reader:
                schema, count = reader.schema, reader.count_rows()
        geometry, crs = _geometry(schema, path)
        return cls(path, _plain(schema, geometry), count, geometry, crs)

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield its rows, in order; of Parquet so many at a time."""
        for batch in self._parquet(rows) if _is_parquet(self.path) else self._feather():
            cells = [cell.storage if name == self.geometry and isinstance(cell, pa.ExtensionArray) else cell
                     for name, cell in zip(self.schema.names, batch.columns, strict=True)]  # fmt: skip
            yield pa.RecordBatch.from_arrays(cells, schema=self.schema)

    def _parquet(self, rows: int) -> Iterator[pa.RecordBatch]:
        with pyarrow.parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=BUFFER) as file:
            yield from file.iter_batches(batch_size=rows)

    def _feather(self) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(self.path)) as file, pyarrow.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in PARQUET


def _geometry(schema: pa.Schema, path: Path) -> tuple[str | None, str | None]:
    """Return the column of geometries, if there is one, and its reference system."""
    try:
        said = _said(schema)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PlacesError(
            f"The metadata of {path} about its geometries are damaged: {error!r}. Write it anew."
        ) from error
    if said is None:
        return None, None
    name, encoding, crs = said
    if encoding.upper() != "WKB":
        raise PlacesError(
            f"{path} has its geometries in the encoding {encoding!r}, and only WKB is read. Write them so: with "
            "geopandas, table.to_parquet(path, geometry_encoding='WKB')."
        )
    return name, json.dumps(crs) if isinstance(crs, dict) else crs


def _said(schema: pa.Schema) -> tuple[str, str, Any] | None:
    """Return name, encoding and reference system of the column of geometries; None if there is none."""
    geo = json.loads((schema.metadata or {}).get(b"geo", b"null"))
    # Who leaves out the geometry when writing may forget what was said about it.
    if geo is not None and geo["primary_column"] in schema.names:
        column = geo["columns"][geo["primary_column"]]
        return geo["primary_column"], column["encoding"], column.get("crs", UNSAID)
    for field in schema:
        kind, more = _extension(field)
        if kind.startswith("geoarrow."):
            return field.name, kind.removeprefix("geoarrow."), json.loads(more or "{}").get("crs")
    return None


def _extension(field: pa.Field) -> tuple[str, str]:
    """Return the name of a column's extension type, and its metadata; both empty if it has none."""
    if isinstance(field.type, pa.ExtensionType):
        return field.type.extension_name, field.type.__arrow_ext_serialize__().decode()
    metadata = field.metadata or {}
    name, more = (metadata.get(b"ARROW:extension:" + key, b"").decode() for key in (b"name", b"metadata"))
    return name, more


def _plain(schema: pa.Schema, geometry: str | None) -> pa.Schema:
    """Return a schema whose geometry is plain WKB, of which nothing more is said."""
    if geometry is not None:
        place = schema.get_field_index(geometry)
        kind = schema.field(place).type
        kind = kind.storage_type if isinstance(kind, pa.ExtensionType) else kind
        schema = schema.set(place, pa.field(geometry, kind))
    return schema.with_metadata({key: value for key, value in (schema.metadata or {}).items() if key != b"geo"})
