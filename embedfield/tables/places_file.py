"""Files of places, read batch by batch, as often as wanted, in bounded memory."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import geopandas
import numpy as np
import pyarrow as pa
import pyproj
import shapely

from embedfield.errors import PlacesError
from embedfield.projection import DEGREES, plane_of
from embedfield.tables.arrow import FEATHER, PARQUET, ArrowSource
from embedfield.tables.columns import (
    EASTING,
    LAT,
    LON,
    NORTHING,
    coordinate_column,
    is_text,
    numbers_of,
    refuse_duplicates,
)
from embedfield.tables.text import SEPARATORS, TextSource
from embedfield.tables.vector import VectorSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt
    import pandas as pd

# What stands for a geometry that nothing can be made of: unlike None it is not missing, and it is nowhere.
UNREADABLE = shapely.points(np.inf, np.inf)


class Source(Protocol):
    """A file of one kind."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""

    @property
    def count(self) -> int:
        """Its rows."""

    @property
    def geometry(self) -> str | None:
        """The column of its geometries."""

    @property
    def crs(self) -> str | None:
        """Their reference system, as pyproj takes it."""

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield its rows, about so many at a time."""


@dataclass(frozen=True)
class PlacesBatch:
    """Some rows of a file of places."""

    table: pa.Table
    """The file's own columns, in their order."""
    geometries: npt.NDArray[np.object_] | None
    """(N,) of shapely, None where one is missing; None for a file without. A point at infinity cannot be read."""
    xy: npt.NDArray[np.float64] | None
    """(N, 2) coordinates from columns, NaN where a cell is empty; None for a file of geometries."""


@dataclass(frozen=True)
class PlacesFile:
    """A file of places: geometries, or coordinates in two of its columns. Make one with `open_places`."""

    path: Path
    count: int
    """Rows; where a condition was asked, those it chooses."""
    schema: pa.Schema
    """The file's own columns in their order, types as they are; the geometry as WKB."""
    geometry: str | None
    """Name of the column of geometries; None if coordinates stand in columns."""
    crs: str
    """Reference system of the geometries or coordinates: an authority's code, or WKT; x is first."""
    lonlat: tuple[str, str] | None
    """Names of the columns of coordinates, x first; None if there are geometries."""
    _source: Source = field(repr=False)

    def batches(self, rows: int = 65_536) -> Iterator[PlacesBatch]:
        """Yield all rows in their order, so many at a time; the last batch has the rest.

        Raises:
            PlacesError: If the file cannot be read to its end, or ``rows`` is below 1.
        """
        if rows < 1:
            raise PlacesError(f"rows={rows} is no number of places to read at a time. Give 1 or more.")
        start = 0
        with _reading(self.path):
            for table in _evenly(self._source.batches(rows), self.schema, rows):
                yield PlacesBatch(table, self._geometries(table), self._xy(table, start))
                start += table.num_rows

    def _geometries(self, table: pa.Table) -> npt.NDArray[np.object_] | None:
        return None if self.geometry is None else _decoded(table[self.geometry])

    def _xy(self, table: pa.Table, start: int) -> npt.NDArray[np.float64] | None:
        if self.lonlat is None:
            return None
        return np.column_stack([numbers_of(table[name], name, start) for name in self.lonlat])


def open_places(
    path: str | Path,
    *,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    layer: str | None = None,
    where: str | None = None,
) -> PlacesFile:
    """Open a file of places.

    CSV and TSV are read through once: all of a column decides what it holds.
    So is text in columns of coordinates.

    Args:
        path: ``.csv``, ``.tsv``, ``.parquet`` or ``.feather`` with columns of
            coordinates; GeoParquet; or any vector file that pyogrio reads.
        lon: Name of the column of longitudes, or of x; None to look for a usual one.
        lat: Name of the column of latitudes, or of y.
        crs: Reference system, as pyproj takes it, where the file does not say
            it; None means degrees (EPSG:4326) for columns of coordinates.
        layer: Name of a layer of a vector file; needed where it has several.
        where: Condition that chooses features of a vector file, in SQL, as in pyogrio.

    Raises:
        PlacesError: If the file is missing, cannot be read, or does not say
            where its places are; if columns have the same name; if a cell of a
            column of coordinates is no number.
    """
    path = Path(path)
    if not path.exists():
        raise PlacesError(f"{path} does not exist. Give a CSV, Parquet or vector file of places.")
    asked = None if crs is None else _known(crs, f"crs={crs!r}")
    with _reading(path):
        source = _source(path, layer, where)
    refuse_duplicates(source.schema.names, str(path))
    if source.geometry is not None:
        if lon or lat:
            raise PlacesError(f"{path} has geometries of its own. Leave --lon and --lat out.")
        system = _system(path, source.crs, asked)
        return PlacesFile(path, source.count, source.schema, source.geometry, _code(system), None, source)
    axes = (EASTING, NORTHING) if asked is not None and not asked.is_geographic else (LON, LAT)
    found = [
        coordinate_column(source.schema.names, str(path), axis, name)
        for axis, name in zip(axes, (lon, lat), strict=True)
    ]
    if found[0] == found[1]:
        raise PlacesError(f"Column {found[0]!r} of {path} is given as --lon and as --lat. Name two columns.")
    system = asked or pyproj.CRS(DEGREES)
    places = PlacesFile(path, source.count, source.schema, None, _code(system), (found[0], found[1]), source)
    _check_numbers(places)
    return places


def read_places(
    path: str | Path,
    lon: str | None = None,
    lat: str | None = None,
    *,
    crs: Any = None,
    layer: str | None = None,
    where: str | None = None,
) -> pd.DataFrame:
    """Return all rows of a file of places, with its geometries where it has any.

    Args:
        path: See `open_places`, and so for all others.
        lon: Name of the column of longitudes, or of x.
        lat: Name of the column of latitudes, or of y.
        crs: Reference system, where the file does not say it.
        layer: Name of a layer of a vector file.
        where: Condition that chooses features of a vector file.

    Returns:
        A GeoDataFrame where the file has geometries, else a DataFrame whose
        ``attrs["lonlat"]`` names the two columns and ``attrs["crs"]`` their
        reference system.

    Raises:
        PlacesError: If the file is missing, cannot be read, or has no coordinates.
    """
    places = open_places(path, lon=lon, lat=lat, crs=crs, layer=layer, where=where)
    batches = list(places.batches())
    frame: pd.DataFrame = pa.concat_tables(
        [places.schema.empty_table(), *(batch.table for batch in batches)]
    ).to_pandas()
    if places.geometry is None:
        frame.attrs |= {"lonlat": list(places.lonlat or ()), "crs": places.crs}
        return frame
    geometries = np.concatenate([np.empty(0, dtype=object), *(batch.geometries for batch in batches)])
    frame[places.geometry] = geopandas.array.GeometryArray(geometries)
    located: pd.DataFrame = geopandas.GeoDataFrame(frame, geometry=places.geometry, crs=places.crs)
    return located


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of a file that it cannot be read, when it cannot."""
    try:
        yield
    except PlacesError:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise PlacesError(f"{path} cannot be read: {reason}. Is it what its name says?") from error


def _source(path: Path, layer: str | None, where: str | None) -> Source:
    """Open a file as what its suffix says it is."""
    suffix = path.suffix.lower()
    if suffix not in (*SEPARATORS, *PARQUET, *FEATHER):
        return VectorSource.open(path, layer, where)
    if layer is not None:
        raise PlacesError(f"{path} has no layers. Leave --layer out.")
    if where is not None:
        raise PlacesError(
            f"{path} cannot be asked --where: that is for vector files, such as GeoPackage. Leave it out, or choose "
            "the rows before."
        )
    return TextSource.open(path) if suffix in SEPARATORS else ArrowSource.open(path)


def _known(crs: Any, source: str) -> pyproj.CRS:
    """Return a reference system.

    Raises:
        PlacesError: If it is none that PROJ knows, or not on the globe.
    """
    try:
        found = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise PlacesError(f"{source} is no reference system that PROJ knows. Give one, such as EPSG:2056.") from error
    plane_of(found, source)
    return found


def _system(path: Path, said: str | None, asked: pyproj.CRS | None) -> pyproj.CRS:
    """Return the reference system of geometries: what the file says, or what the caller does."""
    if said is None:
        if asked is None:
            raise PlacesError(f"{path} does not say its reference system. Give it with --crs, such as --crs EPSG:4326.")
        return asked
    own = _known(said, f"What {path} says of itself")
    if asked is not None and not own.equals(asked, ignore_axis_order=True):
        raise PlacesError(
            f"{path} says itself that its reference system is {own.name}, which is not {asked.name}. Leave --crs out; "
            "if the file is wrong, mend it, as with 'ogr2ogr -a_srs'."
        )
    return own


def _code(crs: pyproj.CRS) -> str:
    """Return how a reference system is written: an authority's code, or WKT."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.to_wkt())


def _check_numbers(places: PlacesFile) -> None:
    """Refuse columns of coordinates that are not of numbers, or text with a cell that says none."""
    columns = places.schema.empty_table().select(list(places.lonlat or ()))
    for name in columns.column_names:
        numbers_of(columns[name], name)
    if any(is_text(kind) for kind in columns.schema.types):
        for _ in places.batches():
            """Each looks at its cells."""


def _evenly(batches: Iterable[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """Yield the same rows, so many at a time."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        left = batch
        while left.num_rows:
            room = rows - sum(part.num_rows for part in held)
            held.append(left.slice(0, room))
            left = left.slice(room)
            if len(held[-1]) == room:
                yield pa.Table.from_batches(held, schema)
                held = []
    if held:
        yield pa.Table.from_batches(held, schema)


def _decoded(wkb: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return geometries of shapely; None where there is none."""
    cells = wkb.to_numpy()
    found: npt.NDArray[Any]
    try:
        found = shapely.from_wkb(cells, on_invalid="fix")
    except NotImplementedError:  # what shapely says of a kind of geometry that it has no name for
        found = np.array([_single(cell) for cell in cells], dtype=object)
    found[shapely.is_missing(found) & np.array(wkb.is_valid())] = UNREADABLE
    return found


def _single(wkb: bytes | None) -> Any:
    """Return one geometry, of a batch with a kind among them that shapely has no name for."""
    try:
        return shapely.from_wkb(wkb, on_invalid="fix")
    except NotImplementedError:
        return UNREADABLE
