"""Formats of tables: how each is written, batch by batch, and which columns it cannot hold."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import pyogrio
import pyogrio.errors
import pyproj
import shapely

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    type Write = Callable[[pa.Table | pa.RecordBatch], None]
    type Test = Callable[[pa.DataType], bool]

# Rows that are written at a time: a row group of Parquet, a batch of Feather. Fewer if they are wide.
ROWS = 65_536
# The columns of a GeoPackage, which is a table of SQLite; two are its own: the geometry, and the number of the row.
GPKG_COLUMNS = 2000
# How programs mark a column of well-known binary; in what we write the metadata `geo` says it.
WKB = ("geoarrow.wkb", "ogc.wkb")
EXTENSION = (b"ARROW:extension:name", b"ARROW:extension:metadata")


@dataclass(frozen=True)
class Contents:
    """What is to be written: columns as the format holds them, and what the geometries are."""

    schema: pa.Schema
    geometry: str | None
    crs: str | None


def column(crs: str | pyproj.CRS | None, types: list[str] | None = None) -> dict[str, Any]:
    """Return what GeoParquet says of a column of geometries; no types are any types."""
    projjson = None if crs is None else pyproj.CRS.from_user_input(crs).to_json_dict()
    return {"encoding": "WKB", "crs": projjson, "geometry_types": types or []}


def _columns(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what the metadata `geo` say of the columns that are there, but for what depends on the rows."""
    said = json.loads((schema.metadata or {}).get(b"geo", b"{}")).get("columns", {})
    return {
        name: {key: value for key, value in column.items() if key not in {"bbox", "covering"}}
        for name, column in said.items()
        if name in schema.names and column.get("encoding") == "WKB"
    }


def _with_geo(table: Contents) -> pa.Schema:
    """Return a schema with the metadata of GeoParquet 1.1, or without any if there are no geometries."""
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"geo"}
    if table.geometry:
        columns = _columns(table.schema)
        known = columns.get(table.geometry, {})
        columns[table.geometry] = known | column(table.crs, known.get("geometry_types"))
        geo = {"version": "1.1.0", "primary_column": table.geometry, "columns": columns}
        metadata[b"geo"] = json.dumps(geo).encode()
    return table.schema.with_metadata(metadata)


@contextmanager
def _parquet(part: Path, table: Contents) -> Iterator[Write]:
    with pyarrow.parquet.ParquetWriter(part, _with_geo(table), compression="zstd") as writer:
        yield lambda rows: writer.write_table(rows, row_group_size=ROWS)


@contextmanager
def _feather(part: Path, table: Contents) -> Iterator[Write]:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(part), "wb") as file, pa.ipc.new_file(file, _with_geo(table), options=options) as writer:
        yield writer.write_table


@contextmanager
def _csv(part: Path, table: Contents, delimiter: str = ",") -> Iterator[Write]:
    # The header is ours: pyarrow would quote all of it.
    header = io.StringIO()
    csv.writer(header, delimiter=delimiter, lineterminator="\n").writerow(table.schema.names)
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter=delimiter)
    schema = pa.schema([(field.name, _text_or(field, table.geometry)) for field in table.schema])
    with part.open("wb") as file:
        file.write(header.getvalue().encode())
        with pyarrow.csv.CSVWriter(file, schema, write_options=options) as writer:
            yield lambda rows: writer.write_table(_as_text(rows, schema, table.geometry))


def _tsv(part: Path, table: Contents) -> AbstractContextManager[Write]:
    return _csv(part, table, "\t")


def _text_or(field: pa.Field, geometry: str | None) -> pa.DataType:
    return pa.string() if field.name == geometry else field.type


def _as_text(rows: pa.Table, schema: pa.Schema, geometry: str | None) -> pa.Table:
    """Return rows with geometries as WKT, and gaps where a number is none."""
    columns = [_wkt(rows[name]) if name == geometry else _gapped(rows[name]) for name in schema.names]
    return pa.table(columns, schema=schema)


def _wkt(column: pa.ChunkedArray) -> pa.Array:
    """Return WKB as WKT that reads back to the same bits; a gap where it is no WKB."""
    shapes = shapely.from_wkb(column.to_numpy(), on_invalid="ignore")
    return pa.array(shapely.to_wkt(shapes, rounding_precision=17, output_dimension=4), pa.string())


def _gapped(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_floating(column.type) or not pc.any(pc.is_nan(column)).as_py():
        return column
    return pc.if_else(pc.is_nan(column), None, column)


class AbandonedError(Exception):
    """The table is not to be finished."""


@contextmanager
def gpkg(part: Path, table: Contents) -> Iterator[Write]:
    """GDAL pulls batches, so it works in a thread of its own, beside whoever gives them."""
    queue: Queue[pa.Table | Exception | None] = Queue(maxsize=1)
    written = 0
    with ThreadPoolExecutor(1, thread_name_prefix="embedfield-gpkg") as pool:
        writing = pool.submit(_write_gpkg, _pulled(queue, table.schema), part, table)

        def give(what: pa.Table | Exception | None) -> None:
            while not writing.done():
                with suppress(Full):
                    return queue.put(what, timeout=0.1)
            return None

        def write(rows: pa.Table) -> None:
            nonlocal written
            written += rows.num_rows
            give(rows)
            if writing.done():
                writing.result()

        with ExitStack() as undo:
            undo.callback(give, AbandonedError())  # after Ctrl-C too: the thread would wait for ever
            yield write
            undo.pop_all()
        give(None)
        writing.result()
    _check_whole(part, _key(table.schema), written)


def _pulled(queue: Queue[pa.Table | Exception | None], schema: pa.Schema) -> pa.RecordBatchReader:
    """Return a stream of what is put into a queue, up to None."""

    def batches() -> Iterator[pa.RecordBatch]:
        while (rows := queue.get()) is not None:
            if isinstance(rows, Exception):
                raise rows
            yield from rows.to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _key(schema: pa.Schema) -> str:
    """Return what a GeoPackage calls the numbers of rows: ``fid``, unless a column is called so."""
    taken = {name.lower() for name in schema.names}
    return next(key for key in ("fid", *(f"fid_{number}" for number in range(1, GPKG_COLUMNS))) if key not in taken)


def _check_whole(part: Path, key: str, rows: int) -> None:
    """Refuse a file without its last rows or its index: GDAL does not say what goes wrong as it closes one.

    Raises:
        OSError: If it is not whole.
    """
    with closing(sqlite3.connect(part)) as base:
        (last,) = base.execute(f"SELECT max({key}) FROM places").fetchone()  # noqa: S608 (a name that we gave)
        index = base.execute("SELECT 1 FROM gpkg_extensions WHERE extension_name = 'gpkg_rtree_index'").fetchone()
    if (last or 0) != rows or index is None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def _write_gpkg(stream: pa.RecordBatchReader, part: Path, table: Contents) -> None:
    types = _columns(table.schema).get(table.geometry or "", {}).get("geometry_types", [])
    said = {key: value for key, value in (table.schema.metadata or {}).items() if key not in {b"geo", b"pandas"}}
    pyogrio.write_arrow(
        stream,
        part,
        layer="places",
        driver="GPKG",
        geometry_name=table.geometry,
        geometry_type=types[0] if len(types) == 1 else "Unknown",
        crs=table.crs,
        layer_metadata={key.decode(): value.decode(errors="backslashreplace") for key, value in said.items()} or None,
        layer_options={"GEOMETRY_NAME": table.geometry, "FID": _key(table.schema)},
    )


def _decoded(type_: pa.DataType) -> pa.DataType:
    """Return the type of the values of a dictionary: batches may each have their own, and a file of Arrow only one."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def plain(type_: pa.DataType) -> pa.DataType:
    """Return a type as formats that are not Arrow's know it."""
    while isinstance(type_, pa.BaseExtensionType):
        type_ = type_.storage_type
    if pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_):
        return plain(type_.value_type)
    if pa.types.is_null(type_) or pa.types.is_string_view(type_):
        return pa.string()
    if pa.types.is_float16(type_):
        return pa.float32()
    return pa.binary() if pa.types.is_binary_view(type_) else type_


def _of_gpkg(type_: pa.DataType) -> pa.DataType:
    """Return a plain type; GDAL would make floats of unsigned numbers of 64 bits."""
    found = plain(type_)
    return pa.int64() if pa.types.is_uint64(found) else found


def _is_bytes(type_: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(type_) for test in tests)


class TableFormat(NamedTuple):
    """How a format is opened, what it makes of the types of columns, and which it cannot hold."""

    open: Callable[[Path, Contents], AbstractContextManager[Write]]
    type_of: Callable[[pa.DataType], pa.DataType]
    unfit: tuple[Test, ...]


SPANS = (pa.types.is_duration, pa.types.is_interval)
PARQUET = TableFormat(_parquet, lambda type_: type_, (pa.types.is_union, pa.types.is_interval))
FEATHER = TableFormat(_feather, _decoded, ())
FORMATS = {
    ".parquet": PARQUET,
    ".csv": TableFormat(_csv, plain, (pa.types.is_nested, _is_bytes, *SPANS)),
    ".gpkg": TableFormat(gpkg, _of_gpkg, (pa.types.is_nested, *SPANS)),
    ".geoparquet": PARQUET,
    ".tsv": TableFormat(_tsv, plain, (pa.types.is_nested, _is_bytes, *SPANS)),
    ".feather": FEATHER,
    ".arrow": FEATHER,
}
SUFFIXES = tuple(FORMATS)
