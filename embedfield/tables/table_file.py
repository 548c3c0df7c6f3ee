"""Table file: a table that is written batch by batch, whole or not at all."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas
import pandas as pd
import pyarrow as pa
import pyogrio.errors
import shapely

from embedfield.errors import EmbedfieldError, PlacesError, StorageError
from embedfield.integrity import check_free
from embedfield.tables.columns import coordinates_of, points_of
from embedfield.tables.formats import (
    EXTENSION,
    FORMATS,
    GPKG_COLUMNS,
    ROWS,
    SUFFIXES,
    WKB,
    AbandonedError,
    Contents,
    column,
    gpkg,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    type Write = Callable[[pa.Table | pa.RecordBatch], None]

# Bytes that are written at a time, where rows are wide.
BYTES = 128 << 20


def _checked(path: Path, table: Contents) -> Contents:
    """Return a table with the types of columns that its format holds.

    Raises:
        PlacesError: If it cannot hold one.
    """
    kind = FORMATS[path.suffix.lower()]
    if table.geometry is not None and table.geometry not in table.schema.names:
        raise PlacesError(f"{path} would be without geometries: there is no column {table.geometry!r}. Name another.")
    if kind.open is gpkg:
        _check_gpkg(path, table)
    _check_names(path, table.schema.names, str.lower if kind.open is gpkg else str)
    fields = [_bare(field) for field in table.schema]
    for field in fields:
        type_ = plain(field.type)
        if field.name != table.geometry and any(test(type_) for test in kind.unfit):
            mend = "or give columns='wide'" if pa.types.is_nested(type_) else "or remove it"
            raise PlacesError(f"{path} cannot hold column {field.name!r} of {type_}. Write .parquet, {mend}.")
    fields = [field.with_type(kind.type_of(field.type)) for field in fields]
    return replace(table, schema=pa.schema(fields, table.schema.metadata))


def _check_gpkg(path: Path, table: Contents) -> None:
    if table.geometry is None or table.crs is None:
        missing = "geometries" if table.geometry is None else "a reference system"
        raise PlacesError(f"{path} would be without {missing}, which a GeoPackage needs. Set them, or write .parquet.")
    if len(table.schema) >= GPKG_COLUMNS:
        raise PlacesError(
            f"{path} cannot hold {len(table.schema):,} columns; with one of its own a GeoPackage has {GPKG_COLUMNS:,} "
            "at most. Write .parquet."
        )


def _check_names(path: Path, names: list[str], same: Callable[[str], str]) -> None:
    known: dict[str, str] = {}
    for name in names:
        if same(name) in known:
            raise PlacesError(f"{path} cannot hold both columns {known[same(name)]!r} and {name!r}. Rename one.")
        known[same(name)] = name


def _bare(field: pa.Field) -> pa.Field:
    """Return a column of geometries as bytes without a mark; `geo` says what they are."""
    type_ = field.type
    if isinstance(type_, pa.BaseExtensionType) and type_.extension_name in WKB:
        field = field.with_type(type_.storage_type)
    metadata = field.metadata or {}
    if metadata.get(EXTENSION[0], b"").decode() not in WKB:
        return field
    return field.with_metadata({key: value for key, value in metadata.items() if key not in EXTENSION})


def check_output(path: str | Path, *, overwrite: bool = False) -> Path:
    """Return where a table may be written.

    Raises:
        PlacesError: If the suffix is of no table, or the folder is missing.
        OutputExistsError: If something stands there and may not be replaced.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise PlacesError(f"{path} is no table that can be written. Give one of: {', '.join(SUFFIXES)}.")
    check_free(path, PlacesError, overwrite=overwrite)
    return path


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn what libraries say of a failed write into errors of ours.

    Raises:
        StorageError: If it is the disk's fault.
        PlacesError: If it is the table's.
    """
    try:
        yield
    except EmbedfieldError:
        raise
    except (OSError, sqlite3.Error) as error:
        number = getattr(error, "errno", None)
        raise _full(path, os.strerror(number) if number else str(error)) from error
    except (pa.ArrowException, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        # SQLite is given a sound table: where it fails, the disk did, whatever it stumbles over next.
        if "sqlite" in reason:
            raise _full(path, "SQLite could not write all of it") from error
        raise PlacesError(f"{path} cannot hold the table: {reason}. Mend that column, or remove it.") from error


def _full(path: Path, reason: str) -> StorageError:
    return StorageError(f"Cannot write {path}: {reason}. Make room there and make it writable, or write elsewhere.")


class _Part:
    """A file that is being written, in a hidden folder beside where it will stand."""

    def __init__(self, path: Path, table: Contents) -> None:
        self.path, self.schema = path, table.schema
        self._held: list[pa.Table] = []
        self._rows = self._bytes = 0
        with ExitStack() as folder, ExitStack() as format_:
            name = folder.enter_context(tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}."))
            self._file = Path(name) / path.name
            self._write = format_.enter_context(FORMATS[path.suffix.lower()].open(self._file, table))
            self._folder, self._format = folder.pop_all(), format_.pop_all()

    def add(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Write rows, or hold them until there are enough."""
        with _said(self.path):
            rows = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
            rows = _as(rows, self.schema)
            self._held.append(rows)
            self._rows += rows.num_rows
            self._bytes += rows.nbytes
            if self._rows >= ROWS or self._bytes >= BYTES:
                self._flush(max(1, min(ROWS, self._rows * BYTES // max(self._bytes, 1))))

    def _flush(self, step: int) -> None:
        """Write what is held as often as there are `step` rows."""
        held = pa.concat_tables(self._held)
        whole = held.num_rows // step * step
        for start in range(0, whole, step):
            self._write(held.slice(start, step).combine_chunks())
        rest = held.slice(whole)
        self._held, self._rows, self._bytes = [rest], rest.num_rows, rest.nbytes

    def finish(self) -> None:
        """Write the rest, and give the file its name."""
        with _said(self.path):
            if self._rows:
                self._flush(self._rows)
            self._format.close()
            self._file.replace(self.path)

    def discard(self) -> None:
        """Leave nothing behind; after `finish`, of the folder."""
        with suppress(OSError, pa.ArrowException):
            self._format.__exit__(AbandonedError, AbandonedError(), None)
        self._folder.close()


def _as(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows in the types of a schema.

    Raises:
        PlacesError: If they have other columns, or a value that its type does not hold.
    """
    if rows.column_names != schema.names:
        raise PlacesError(f"Rows of columns {', '.join(rows.column_names)} do not go with {', '.join(schema.names)}.")
    columns = []
    for field in schema:
        try:
            columns.append(_cast(rows[field.name], field.type))
        except pa.ArrowException as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise PlacesError(f"Column {field.name!r} cannot be {field.type}: {reason}. Mend it.") from error
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if column.type == type_:
        return column
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column.cast(type_)


@contextmanager
def new_table(
    path: str | Path,
    schema: pa.Schema,
    *,
    geometry: str | None = None,
    crs: str | None = None,
    overwrite: bool = False,
) -> Iterator[Write]:
    """Open a table that is written batch by batch; whole, or not at all.

    Rows are written in groups of 65,536, or of 128 MB where they are wide, whatever the sizes of batches; no more is
    held in memory. If the block ends with an error, nothing is left behind, and what stood there stands.

    Args:
        path: Where; the suffix is the format, one of `SUFFIXES`.
        schema: Columns in their order. Metadata of the schema and of columns are kept in Parquet and Feather, those of
            the schema in a GeoPackage as metadata of its layer. What they say of geometries under ``geo``, as in
            GeoParquet, is kept too: one geometry type there is that of a GeoPackage's layer.
        geometry: The column of geometries, as WKB; None if there is none, which a GeoPackage refuses.
        crs: Their reference system, as an authority's code or WKT.
        overwrite: Whether to replace what stands there.

    Yields:
        What writes a table or batch of those columns. Types are cast where nothing is lost. CSV has geometries as WKT
        and gaps for NaN. Only Parquet keeps dictionaries; elsewhere their values are written. A GeoPackage has times
        to the millisecond, numbers its rows in ``fid``, or ``fid_1`` where that column is taken, and takes 30 bytes of
        memory a row for its index.

    Raises:
        PlacesError: If the suffix is of no table, the folder is missing, or the format cannot hold a column.
        OutputExistsError: If something stands there and may not be replaced.
        StorageError: If the disk is full or may not be written.
    """
    path = check_output(path, overwrite=overwrite)
    table = _checked(path, Contents(schema, geometry, crs))
    with _said(path):
        part = _Part(path, table)
    try:
        yield part.add
        part.finish()
    finally:
        part.discard()


def write_table(
    table: pd.DataFrame, path: str | Path, *, overwrite: bool = False, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a table in the format of its suffix; whole, or not at all.

    The index is left out. In a GeoPackage, a table without geometries gets points from its columns of
    coordinates, and none where a cell is empty.

    Args:
        table: A DataFrame or GeoDataFrame.
        path: Where; the suffix is the format, one of `SUFFIXES`.
        overwrite: Whether to replace what stands there.
        metadata: Words about the table; CSV has no place for them.

    Returns:
        Where it stands.

    Raises:
        PlacesError: If the suffix is of no table, the folder is missing, the format cannot hold a column, or a
            GeoPackage finds no coordinates.
        OutputExistsError: If something stands there and may not be replaced.
        StorageError: If the disk is full or may not be written.
    """
    path = check_output(path, overwrite=overwrite)
    if FORMATS[path.suffix.lower()].open is gpkg and _geometry(table) is None:
        table = _located(table)
    _check_names(path, [str(name) for name in table.columns], str)
    geometry = _geometry(table)
    crs = table[geometry].crs if geometry else None
    with _said(path):
        rows = _arrow(table, metadata or {})
    with new_table(path, rows.schema, geometry=geometry, crs=crs and crs.to_wkt(), overwrite=overwrite) as write:
        write(rows)
    return path


def _geometry(table: pd.DataFrame) -> str | None:
    """Return the column of geometries, if there is one."""
    name = table.active_geometry_name if isinstance(table, geopandas.GeoDataFrame) else None
    return None if name is None else str(name)


def _located(table: pd.DataFrame) -> geopandas.GeoDataFrame:
    """Return a table with its coordinates as points; none where one is missing."""
    named = bool(table.attrs.get("lonlat")) and set(table.attrs["lonlat"]) <= set(table.columns)
    crs = table.attrs.get("crs", "EPSG:4326") if named else "EPSG:4326"
    return geopandas.GeoDataFrame(table, geometry=points_of(coordinates_of(table), crs), crs=crs)


def _arrow(table: pd.DataFrame, metadata: Mapping[str, str]) -> pa.Table:
    """Return a table of pandas as one of Arrow, with WKB and what `geo` says of it."""
    shapes = [name for name in table.columns if isinstance(table[name], geopandas.GeoSeries)]
    geo = {str(name): column(table[name].crs, _types(table[name])) for name in shapes}
    plain = pd.DataFrame(table).copy(deep=False)
    for name in shapes:
        # GeoParquet wants WKB as ISO has it; GeoPandas writes another for Z and M.
        plain[name] = shapely.to_wkb(table[name].to_numpy(), flavor="iso")
    rows = pa.Table.from_pandas(plain, preserve_index=False)
    for name in geo:
        # Where all are gaps, pandas cannot know that they are bytes.
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows[name].cast(pa.binary()))
    said = {**(rows.schema.metadata or {}), **metadata, "geo": json.dumps({"columns": geo})}
    return rows.replace_schema_metadata(said)


def _types(shapes: geopandas.GeoSeries) -> list[str]:
    """Return the types of geometries as GeoParquet calls them; none where some have an M, for which it has no names."""
    known = shapes[~shapely.is_missing(shapes.to_numpy())]
    if shapely.has_m(known.to_numpy()).any():
        return []
    return sorted({f"{kind} Z" if z else kind for kind, z in zip(known.geom_type, known.has_z, strict=True)})
