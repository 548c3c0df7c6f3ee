"""Tables: files of places, and the tables that samples become."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet
import pyogrio.errors

from embedfield.errors import OutputExistsError, PlacesError, StorageError
from embedfield.places import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt


@dataclass(frozen=True)
class _Axis:
    """A coordinate, and the names that its column usually has, in lower case."""

    name: str
    option: str
    usual: tuple[str, ...]


LON = _Axis("longitude", "--lon", ("lon", "longitude", "lng", "long", "x", "decimallongitude"))
LAT = _Axis("latitude", "--lat", ("lat", "latitude", "y", "decimallatitude"))
# How far, in degrees, a transformation between reference systems may overshoot a pole.
OVERSHOOT = 1e-9
# What programs write for a number that is not there.
GAPS = ("NA", "N/A", "NaN", "nan", "NULL", "null", "None")


def read_places(path: str | Path, lon: str | None = None, lat: str | None = None) -> pd.DataFrame:
    """Return the rows of a file, with its points where they can be found.

    Args:
        path: ``.csv``, ``.tsv`` or ``.parquet`` with a column of longitudes and
            one of latitudes (degrees), GeoParquet, or any vector file that
            pyogrio reads.
        lon: Name of the column of longitudes; None to look for a usual one.
        lat: Name of the column of latitudes.

    Returns:
        A GeoDataFrame where the file has geometries, else a DataFrame whose
        ``attrs["lonlat"]`` names the two columns.

    Raises:
        PlacesError: If the file is missing, cannot be read, or has no coordinates.
    """
    path = Path(path)
    if not path.exists():
        raise PlacesError(f"{path} does not exist. Give a CSV, Parquet or vector file of places.")
    try:
        table = _read(path)
    except (ValueError, OSError, RuntimeError, pd.errors.ParserWarning) as error:
        raise PlacesError(f"{path} cannot be read: {str(error).splitlines()[0]}. Is it what its name says?") from error
    if isinstance(table, geopandas.GeoDataFrame):
        if lon or lat:
            raise PlacesError(f"{path} has points of its own. Leave --lon and --lat out.")
    else:
        table.attrs["lonlat"] = [_column(table, str(path), LON, lon), _column(table, str(path), LAT, lat)]
    return table


def _read(path: Path) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        with warnings.catch_warnings():
            # Without index_col=False a cell too many in each row would shift the columns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            separator = "\t" if suffix == ".tsv" else ","
            text = pd.read_csv(path, sep=separator, index_col=False, dtype=str, keep_default_na=False, na_values=[""])
        return text.apply(_typed)
    if suffix == ".parquet" and b"geo" not in (pyarrow.parquet.read_schema(path).metadata or {}):
        return pd.read_parquet(path)
    located: pd.DataFrame = geopandas.read_parquet(path) if suffix == ".parquet" else geopandas.read_file(path)
    return located


def _typed(column: pd.Series[str]) -> pd.Series[Any]:
    """Return a column of text as numbers if it is one of numbers.

    Codes such as 007 stay text, and NA is a gap among numbers only: elsewhere
    it may be Namibia.
    """
    known = column[~column.isin(GAPS) & column.notna()]
    numbers = pd.to_numeric(known, errors="coerce")
    if known.empty or numbers.isna().any() or known.str.match(r"\s*[+-]?0\d").any():
        return column
    return _numeric(column)


def _numeric(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column as numbers, gaps as NaN; raise ValueError or TypeError if one is no number."""
    return pd.to_numeric(column.where(~column.isin(GAPS)))


def _column(table: pd.DataFrame, source: str, axis: _Axis, name: str | None = None) -> str:
    """Return the column that holds a coordinate: the one named, or the one with a usual name."""
    found = [
        str(column)
        for column in table.columns
        if (column == name if name else str(column).strip().lower() in axis.usual)
    ]
    if len(found) == 1:
        return found[0]
    held = ", ".join(map(str, table.columns)) or "none"
    some = f"several columns of {axis.name}s ({', '.join(found)})"
    none = f"no column {name!r}" if name else f"no column of {axis.name}s ({', '.join(axis.usual)})"
    raise PlacesError(
        f"{source} has {some if found else none}; its columns are: {held}. Name it with {axis.option} COLUMN."
    )


def lonlat_of(places: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the coordinates of places, in degrees.

    Args:
        places: A GeoDataFrame of points in any reference system; a DataFrame
            with columns of longitudes and latitudes; or (N, 2) numbers.

    Returns:
        Degrees (lon, lat), (N, 2), float64, row by row.

    Raises:
        PlacesError: If there are no points, they have no reference system, or
            a coordinate is not on the globe.
    """
    if isinstance(places, geopandas.GeoDataFrame) and places.active_geometry_name is not None:
        return checked(_from_geometry(places))
    if isinstance(places, pd.DataFrame):
        # A column may have been renamed since the file was read.
        said = [name for name in places.attrs.get("lonlat", ()) if name in places.columns]
        names = said if len(said) == 2 else [_column(places, "The table", axis) for axis in (LON, LAT)]
        return checked(np.column_stack([_numbers(places, name) for name in names]))
    return checked(places)


def _numbers(table: pd.DataFrame, name: str) -> npt.NDArray[np.float64]:
    """Return a column as numbers; an empty cell is NaN."""
    try:
        return _numeric(table[name]).to_numpy(dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise PlacesError(f"Column {name!r} holds what is no number: {error}. Write decimal degrees.") from error


def _from_geometry(places: geopandas.GeoDataFrame) -> npt.NDArray[np.float64]:
    if places.crs is None:
        raise PlacesError("The places have no reference system. Set it: with geopandas, places.set_crs('EPSG:4326').")
    unfit = ~(places.geometry.geom_type == "Point") | places.geometry.is_empty
    if unfit.any():
        row = int(unfit.to_numpy().argmax())
        kind = places.geometry.iloc[row]
        what = "no geometry" if kind is None or kind.is_empty else f"a {kind.geom_type}"
        raise PlacesError(f"Place {row} has {what}. Only points can be sampled. Remove such rows, or take centroids.")
    points = places.geometry.to_crs("EPSG:4326")
    lat = points.y.to_numpy()
    lat = np.where(abs(abs(lat) - 90) < OVERSHOOT, lat.clip(-90, 90), lat)
    return np.column_stack((points.x.to_numpy(), lat))


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False)


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)


def _write_gpkg(table: pd.DataFrame, path: Path) -> None:
    located = table if isinstance(table, geopandas.GeoDataFrame) else _located(table)
    located.to_file(path, driver="GPKG", layer="places")


def _located(table: pd.DataFrame) -> geopandas.GeoDataFrame:
    """Return a table with its coordinates as points."""
    points = geopandas.points_from_xy(*lonlat_of(table).T)
    return geopandas.GeoDataFrame(table, geometry=points, crs="EPSG:4326")


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".gpkg": _write_gpkg,
}


def check_output(path: str | Path, *, overwrite: bool = False) -> Path:
    """Return where a table may be written.

    Raises:
        PlacesError: If the suffix is of no table, or the folder is missing.
        OutputExistsError: If something stands there and may not be replaced.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise PlacesError(f"{path} is no table that can be written. Give one of: {', '.join(WRITERS)}.")
    if not path.parent.is_dir():
        raise PlacesError(f"{path.parent} is no folder. Make it, or write elsewhere.")
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder. Write elsewhere.")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists. Give --overwrite to replace it, or write elsewhere.")
    return path


def write_table(table: pd.DataFrame, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a table in the format of its suffix; whole, or not at all.

    Raises:
        PlacesError: If the suffix is of no table, the folder is missing, or the
            format cannot hold a column.
        OutputExistsError: If something stands there and may not be replaced.
        StorageError: If the disk is full or may not be written.
    """
    path = check_output(path, overwrite=overwrite)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            part = Path(folder) / path.name
            _write(table, part, path)
            part.replace(path)
    except OSError as error:
        raise StorageError(
            f"Cannot write {path}: {error.strerror or error}. Make room there and make it writable, or write elsewhere."
        ) from error
    return path


def _write(table: pd.DataFrame, part: Path, path: Path) -> None:
    """Write a table to `part`; `path` is what it will be called.

    Raises:
        PlacesError: If the format cannot hold it.
    """
    try:
        WRITERS[path.suffix.lower()](table, part)
    except PlacesError:
        raise
    except (pyogrio.errors.FieldError, pyogrio.errors.FeatureError) as error:
        raise PlacesError(f"{path} cannot hold the table: {error}. Rename that column.") from error
    except (pyarrow.ArrowException, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise PlacesError(f"{path} cannot hold the table: {reason}. Mend that column, or write .csv.") from error
