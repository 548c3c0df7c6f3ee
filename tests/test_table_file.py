"""A table is written batch by batch, whole or not at all, and other programs read back what was given."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pyogrio
import pyproj
import pytest
import shapely

from embedfield.errors import FormatError, OutputExistsError, PlacesError
from embedfield.tables.formats import ROWS, SUFFIXES
from embedfield.tables.table_file import check_output, new_table, write_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONLAT = np.array([[8.54, 47.37], [-70.66, -33.45], [0.1 + 0.2, 0.0], [139.69, 35.69]])
NAMES = ["Zürich", "Santiago", 'Null "Island", or so', "東京"]
SHAPES = [
    shapely.Point(8.54, 0.1 + 0.2),
    shapely.MultiPoint([(0, 0), (1, 1)]),
    shapely.LineString([(0, 0), (1, 1)]),
    shapely.box(0, 0, 1, 1).difference(shapely.box(0.25, 0.25, 0.5, 0.5)),
    shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 2, 3, 3)]),
    shapely.Point(1, 2, 3),
    shapely.GeometryCollection([shapely.Point(1, 2), shapely.LineString([(0, 0), (1, 1)])]),
    None,
    shapely.from_wkt("POLYGON EMPTY"),
]
SCHEMA = pa.schema([("number", pa.int64()), ("name", pa.string()), ("value", pa.float32()), ("geometry", pa.binary())])
# Plain, without what a geometry needs: read back by programs that are not ours.
READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": pd.read_parquet,
    ".geoparquet": pd.read_parquet,
    ".feather": pd.read_feather,
    ".arrow": pd.read_feather,
    ".csv": pd.read_csv,
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".gpkg": lambda path: pd.DataFrame(pyogrio.read_dataframe(path, read_geometry=False)),
}
LOCATED: dict[str, Callable[[Path], geopandas.GeoDataFrame]] = {
    ".parquet": geopandas.read_parquet,
    ".geoparquet": geopandas.read_parquet,
    ".feather": geopandas.read_feather,
    ".arrow": geopandas.read_feather,
    ".gpkg": lambda path: pyogrio.read_dataframe(path, use_arrow=True),  # other ways lose M
}
TEXT = [".csv", ".tsv"]
ARROW = [".parquet", ".geoparquet", ".feather", ".arrow"]


def table() -> pd.DataFrame:
    """Return named places as columns of numbers."""
    return pd.DataFrame({"name": NAMES, "lon": LONLAT[:, 0], "lat": LONLAT[:, 1]})


def points(crs: str | None = "EPSG:4326") -> geopandas.GeoDataFrame:
    """Return named places as points."""
    return geopandas.GeoDataFrame({"name": NAMES}, geometry=geopandas.points_from_xy(*LONLAT.T), crs=crs)


def batch(start: int, rows: int) -> pa.Table:
    """Return rows of SCHEMA whose values follow from their number."""
    number = np.arange(start, start + rows)
    wkb = shapely.to_wkb(shapely.points(number % 180, number % 90))
    names = [f"é{value}" for value in number]
    columns = [number, names, number.astype(np.float32) / 7, pa.array(wkb, pa.binary())]
    return pa.table(columns, schema=SCHEMA)


def column(path: Path, values: pa.Array, name: str = "value") -> Path:
    """Write a table of one column beside points."""
    wkb = pa.array(shapely.to_wkb(shapely.points(np.zeros((len(values), 2)))), pa.binary())
    rows = pa.table({name: values, "geometry": wkb})
    with new_table(path, rows.schema, geometry="geometry", crs="EPSG:4326") as write:
        write(rows)
    return path


def write_in_pieces(path: Path, pieces: list[pa.Table], error: BaseException | None = None) -> None:
    """Write pieces with the columns of SCHEMA over what is there; stop with an error, if there is one."""
    with new_table(path, SCHEMA, geometry="geometry", crs="EPSG:4326", overwrite=True) as write:
        for piece in pieces:
            write(piece)
        if error:
            raise error


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_of_columns_reads_back_as_it_was(tmp_path: Path, suffix: str) -> None:
    wanted = table().assign(value=np.arange(4, dtype=np.float32) / 3, status="valid")
    found = READERS[suffix](write_table(wanted, tmp_path / f"out{suffix}"))
    assert found.columns.tolist() == wanted.columns.tolist()
    assert found[["name", "status"]].to_numpy().tolist() == wanted[["name", "status"]].to_numpy().tolist()
    np.testing.assert_array_equal(found["value"].to_numpy(np.float32), wanted["value"].to_numpy(np.float32))
    np.testing.assert_array_equal(found[["lon", "lat"]], LONLAT)


@pytest.mark.parametrize("suffix", LOCATED)
@pytest.mark.parametrize("crs", ["EPSG:4326", "OGC:CRS84", "EPSG:2056", "EPSG:3413"])
def test_a_table_of_points_reads_back_with_its_reference_system(tmp_path: Path, suffix: str, crs: str) -> None:
    found = LOCATED[suffix](write_table(points(crs), tmp_path / f"out{suffix}"))
    assert pyproj.CRS(found.crs).equals(pyproj.CRS(crs), ignore_axis_order=True)
    np.testing.assert_array_equal(shapely.get_coordinates(found.geometry), LONLAT)
    assert found["name"].tolist() == NAMES


@pytest.mark.parametrize("suffix", [*LOCATED, *TEXT])
def test_every_kind_of_geometry_reads_back_to_the_bit(tmp_path: Path, suffix: str) -> None:
    wanted = geopandas.GeoDataFrame({"row": range(len(SHAPES))}, geometry=SHAPES, crs="EPSG:2056")
    path = write_table(wanted, tmp_path / f"out{suffix}")
    if suffix in TEXT:
        cells = READERS[suffix](path)["geometry"]
        found = shapely.from_wkt([None if pd.isna(cell) else cell for cell in cells])
    else:
        found = LOCATED[suffix](path).geometry.to_numpy()
    assert shapely.to_wkb(found).tolist() == shapely.to_wkb(np.array(SHAPES)).tolist()


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".gpkg", ".csv"])
def test_measures_are_kept_beside_heights(tmp_path: Path, suffix: str) -> None:
    shape = shapely.from_wkt("LINESTRING ZM (1 2 3 4, 5 6 7 8)")
    path = write_table(geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:4326"), tmp_path / f"out{suffix}")
    if suffix == ".csv":
        assert READERS[suffix](path)["geometry"][0] == "LINESTRING ZM (1 2 3 4, 5 6 7 8)"
    else:
        assert LOCATED[suffix](path).geometry[0].wkt == shape.wkt


@pytest.mark.parametrize("suffix", LOCATED)
def test_a_geometry_column_of_another_name_keeps_it(tmp_path: Path, suffix: str) -> None:
    path = write_table(points().rename_geometry("Ort"), tmp_path / f"out{suffix}")
    name = pyogrio.read_info(path)["geometry_name"] if suffix == ".gpkg" else LOCATED[suffix](path).geometry.name
    assert name == "Ort"


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_a_second_geometry_column_stays_one(tmp_path: Path, suffix: str) -> None:
    wanted = points().assign(there=points().geometry.to_crs("EPSG:3857"))
    found = LOCATED[suffix](write_table(wanted, tmp_path / f"out{suffix}"))
    assert found.geometry.name == "geometry"
    assert found["there"].crs == "EPSG:3857"
    assert (found["there"].to_numpy() == wanted["there"].to_numpy()).all()


def test_geoparquet_says_what_the_specification_asks(tmp_path: Path) -> None:
    path = write_table(points("EPSG:2056"), tmp_path / "out.parquet")
    geo = json.loads(pyarrow.parquet.read_metadata(path).metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["primary_column"] == "geometry"
    assert geo["columns"]["geometry"]["encoding"] == "WKB"
    assert geo["columns"]["geometry"]["geometry_types"] == ["Point"]
    assert geo["columns"]["geometry"]["crs"]["id"] == {"authority": "EPSG", "code": 2056}


def test_geoparquet_has_wkb_as_iso_writes_it(tmp_path: Path) -> None:
    shapes = geopandas.GeoDataFrame(geometry=[shapely.Point(1, 2, 3)], crs="EPSG:4326")
    wkb = pyarrow.parquet.read_table(write_table(shapes, tmp_path / "out.parquet"))["geometry"][0].as_py()
    assert int.from_bytes(wkb[1:5], "little") == 1001


@pytest.mark.parametrize("suffix", ARROW)
def test_what_geoparquet_said_of_geometries_is_kept_but_for_what_depends_on_the_rows(
    tmp_path: Path, suffix: str
) -> None:
    said = {"encoding": "WKB", "edges": "spherical", "geometry_types": ["Point"], "bbox": [0, 0, 1, 1], "crs": None}
    geo = {"version": "1.0.0", "primary_column": "gone", "columns": {"geometry": said, "gone": said}}
    schema = SCHEMA.with_metadata({"geo": json.dumps(geo)})
    path = tmp_path / f"out{suffix}"
    with new_table(path, schema, geometry="geometry", crs="EPSG:4326") as write:
        write(batch(0, 3))
    reader = pyarrow.parquet if "parquet" in suffix else pyarrow.feather
    found = json.loads(reader.read_table(path).schema.metadata[b"geo"])["columns"]
    assert found.keys() == {"geometry"}
    assert found["geometry"]["edges"] == "spherical"
    assert found["geometry"]["crs"]["id"]["code"] == 4326
    assert "bbox" not in found["geometry"]


def test_a_table_without_geometries_says_nothing_of_any(tmp_path: Path) -> None:
    schema = pa.schema(
        [("a", pa.int64())], {"geo": json.dumps({"columns": {"gone": {"encoding": "WKB"}}}), "my": "own"}
    )
    with new_table(tmp_path / "out.parquet", schema) as write:
        write(pa.table({"a": [1]}))
    assert pyarrow.parquet.read_schema(tmp_path / "out.parquet").metadata == {b"my": b"own"}


@pytest.mark.parametrize("suffix", ARROW)
def test_metadata_of_table_and_columns_are_kept(tmp_path: Path, suffix: str) -> None:
    field = pa.field("value", pa.float32(), metadata={"model": "geoclip"})
    path = tmp_path / f"out{suffix}"
    with new_table(path, pa.schema([field], {"made": "é"})) as write:
        write(pa.table({"value": pa.array([1.5], pa.float32())}))
    schema = (pyarrow.parquet if "parquet" in suffix else pyarrow.feather).read_table(path).schema
    assert schema.metadata == {b"made": "é".encode()}
    assert schema.field("value").metadata[b"model"] == b"geoclip"


def test_a_geopackage_has_the_metadata_with_its_layer(tmp_path: Path) -> None:
    path = write_table(points(), tmp_path / "out.gpkg", metadata={"model": "geoclip", "place": "Zürich"})
    assert pyogrio.read_info(path)["layer_metadata"] == {"model": "geoclip", "place": "Zürich"}


def test_a_csv_is_written_without_metadata(tmp_path: Path) -> None:
    path = write_table(table()[["lon"]], tmp_path / "out.csv", metadata={"model": "geoclip"})
    assert path.read_text() == "lon\n8.54\n-70.66\n0.30000000000000004\n139.69\n"


@pytest.mark.parametrize("suffix", ARROW)
@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, None, 3]),
        pa.array([2**64 - 1, 0, None], pa.uint64()),
        pa.array([True, None, False]),
        pa.array([dt.date(2020, 2, 29), None, dt.date(1890, 1, 1)]),
        pa.array([dt.datetime(2020, 1, 2, 3, 4, 5, 678901, dt.UTC), None], pa.timestamp("us", "Europe/Zurich")),
        pa.array([1, 2], pa.timestamp("ns")),
        pa.array([Decimal("1.50"), None]),
        pa.array([b"\x00\xff", None]),
        pa.array([[1.5, 2.5], None, []], pa.list_(pa.float32())),
        pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float32)), 3),
        pa.array([{"a": 1}, None]),
        pa.nulls(2),
        pa.array([0.1, np.nan, None, np.inf], pa.float32()),
    ],
    ids=lambda values: str(values.type),
)
def test_parquet_and_feather_keep_types_and_values(tmp_path: Path, suffix: str, values: pa.Array) -> None:
    path = column(tmp_path / f"out{suffix}", values)
    found = (pyarrow.parquet if "parquet" in suffix else pyarrow.feather).read_table(path)["value"]
    assert found.type == values.type
    assert repr(found.to_pylist()) == repr(values.to_pylist())


@pytest.mark.parametrize("suffix", [*TEXT, ".gpkg"])
@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pa.array([1, None, 3]), [1, None, 3]),
        (pa.array([255, 0], pa.uint8()), [255, 0]),
        (pa.array([2**63 - 1, -(2**63)]), [2**63 - 1, -(2**63)]),
        (pa.array([2**63 - 1, 7], pa.uint64()), [2**63 - 1, 7]),
        (pa.array([True, False]), [True, False]),
        (pa.array(["a,b\tc", "line\nbreak", 'say "no"', " space ", "é", None]).dictionary_encode(), None),
        (pa.array(["a,b\tc", "line\nbreak", 'say "no"', " space ", "é", None]), None),
        (pa.array(["é", None], pa.large_string()), None),
        (pa.array(["é", None], pa.string_view()), None),
        (pa.array(["{}", None], pa.json_()), None),
        (pa.array([0.1, 1e-300, -1e300, 1 / 3, None]), None),
        (pa.array([0.1, np.nan, None, np.inf]), [0.1, None, None, np.inf]),
        (pa.array(np.array([0.1, 1 / 3, 3.4e38, 1e-45, 16777216], np.float32)), None),
        (pa.array(np.array([0.5, np.nan], np.float16)), [0.5, None]),
        (pa.array([Decimal("1.50"), None]), [1.5, None]),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda values: str(values.type) if isinstance(values, pa.Array) else "",
)
def test_text_and_geopackages_keep_values(
    tmp_path: Path, suffix: str, values: pa.Array, wanted: list[Any] | None
) -> None:
    found = READERS[suffix](column(tmp_path / f"out{suffix}", values))["value"]
    wanted = values.to_pylist() if wanted is None else wanted
    if values.type == pa.float32():
        found = found.astype(np.float32)
    assert [None if pd.isna(cell) else cell for cell in found] == wanted


@pytest.mark.parametrize("suffix", [*TEXT, ".gpkg"])
def test_dates_and_times_are_read_as_such(tmp_path: Path, suffix: str) -> None:
    day = column(tmp_path / f"day{suffix}", pa.array([dt.date(2020, 2, 29), None]))
    assert pd.to_datetime(READERS[suffix](day)["value"]).tolist() == [pd.Timestamp(2020, 2, 29), pd.NaT]
    moment = pa.array([dt.datetime(2020, 1, 2, 3, 4, 5, 678000, dt.UTC)], pa.timestamp("us", "Europe/Zurich"))
    time = column(tmp_path / f"time{suffix}", moment)
    assert pd.to_datetime(READERS[suffix](time)["value"], utc=True)[0] == pd.Timestamp("2020-01-02T03:04:05.678Z")


def test_words_in_a_csv_are_quoted_and_gaps_are_not(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a,b": ["x", "", None], "n": [1.0, 2.5, None]})
    assert write_table(rows, tmp_path / "out.csv").read_text() == '"a,b",n\n"x",1\n"",2.5\n,\n'


@pytest.mark.parametrize("suffix", [".parquet", ".geoparquet"])
def test_parquet_keeps_categories(tmp_path: Path, suffix: str) -> None:
    wanted = pd.DataFrame({"land": pd.Categorical(["low", "high", None], ["low", "mid", "high"], ordered=True)})
    found = pd.read_parquet(write_table(wanted, tmp_path / f"out{suffix}"))
    pd.testing.assert_frame_equal(found, wanted)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_batches_of_different_categories_become_one_column(tmp_path: Path, suffix: str) -> None:
    path, wkb = tmp_path / f"out{suffix}", pa.array([shapely.Point(1, 2).wkb] * 2, pa.binary())
    parts = [
        pa.table({"land": pa.array(names).dictionary_encode(), "geometry": wkb}) for names in (["b", "a"], ["c", "a"])
    ]
    with new_table(path, parts[0].schema, geometry="geometry", crs="EPSG:4326") as write:
        for part in parts:
            write(part)
    assert READERS[suffix](path)["land"].tolist() == ["b", "a", "c", "a"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_batches_of_any_size_become_rows_in_their_order(tmp_path: Path, suffix: str, rows: int) -> None:
    path, count = tmp_path / f"out{suffix}", 7 * rows
    with new_table(path, SCHEMA, geometry="geometry", crs="EPSG:4326") as write:
        for start in range(0, count, rows):
            part = batch(start, rows)
            write(part if start % 2 else part.to_batches()[0])
    found = READERS[suffix](path)
    np.testing.assert_array_equal(found["number"], np.arange(count))
    assert found["name"].tolist() == batch(0, count)["name"].to_pylist()


@pytest.mark.parametrize("sizes", [(1000,) * 200, (200_000,), (65_535, 2, 134_463), (65_536,) * 3 + (3392,)])
def test_row_groups_have_one_size_whatever_the_batches(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    schema = pa.schema([("number", pa.int64())])
    start = 0
    with new_table(tmp_path / "out.parquet", schema) as write:
        for size in sizes:
            write(pa.table({"number": np.arange(start, start + size)}))
            start += size
    file = pyarrow.parquet.ParquetFile(tmp_path / "out.parquet")
    found = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert found == [ROWS, ROWS, ROWS, 200_000 - 3 * ROWS]
    np.testing.assert_array_equal(file.read()["number"], np.arange(200_000))
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_row_groups_of_a_wide_table_are_of_128_mb(tmp_path: Path) -> None:
    wide = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4096 * 10_000, np.float32)), 4096)
    with new_table(tmp_path / "out.parquet", pa.schema([("wide", wide.type)])) as write:
        write(pa.table({"wide": wide}))
    metadata = pyarrow.parquet.read_metadata(tmp_path / "out.parquet")
    assert metadata.num_rows == 10_000
    assert metadata.row_group(0).num_rows == pytest.approx(2**27 / 2**14, rel=0.01)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_without_rows_has_its_columns(tmp_path: Path, suffix: str, rows: int) -> None:
    path = tmp_path / f"out{suffix}"
    with new_table(path, SCHEMA, geometry="geometry", crs="EPSG:2056") as write:
        for _ in range(rows):
            write(batch(0, 0))
    found = READERS[suffix](path)
    assert len(found) == 0
    assert [name for name in found.columns if name != "geometry"] == ["number", "name", "value"]
    if suffix in LOCATED:
        assert LOCATED[suffix](path).crs == "EPSG:2056"


@pytest.mark.parametrize("suffix", LOCATED)
def test_geometries_that_are_all_gaps_are_still_a_column(tmp_path: Path, suffix: str) -> None:
    wanted = geopandas.GeoDataFrame({"name": ["a", "b"]}, geometry=[None, None], crs="EPSG:4326")
    found = LOCATED[suffix](write_table(wanted, tmp_path / f"out{suffix}"))
    assert found.geometry.isna().tolist() == [True, True]
    assert found.crs == "EPSG:4326"


@pytest.mark.parametrize("suffix", [".gpkg", ".csv"])
def test_a_geometry_that_is_no_wkb_is_a_gap_and_its_row_stays(tmp_path: Path, suffix: str) -> None:
    rows = batch(0, 3).set_column(3, "geometry", pa.array([b"\x01\x02", shapely.Point(1, 2).wkb, None], pa.binary()))
    path = tmp_path / f"out{suffix}"
    with new_table(path, SCHEMA, geometry="geometry", crs="EPSG:4326") as write:
        write(rows)
    assert READERS[suffix](path)["number"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("suffix", LOCATED)
def test_marks_of_geoarrow_do_not_stand_in_the_way(tmp_path: Path, suffix: str) -> None:
    mark = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": '{"crs": "EPSG:3857"}', "my": "own"}
    schema = SCHEMA.set(3, pa.field("geometry", pa.binary(), metadata=mark)).append(
        pa.field("other", pa.binary(), metadata=mark)
    )
    rows = batch(0, 3)
    with new_table(tmp_path / f"out{suffix}", schema, geometry="geometry", crs="EPSG:2056") as write:
        write(rows.append_column("other", rows["geometry"]).cast(schema))
    found = LOCATED[suffix](tmp_path / f"out{suffix}")
    assert found.crs == "EPSG:2056"
    assert found["other"].tolist() == rows["geometry"].to_pylist()


@pytest.mark.parametrize("values", [["a", "b", "b", "c"], [7, 7, 8, 9], [1.5, None, 2.5, 3.5]])
@pytest.mark.parametrize("name", ["fid", "FID"])
def test_a_column_fid_is_a_column_as_any_other_in_a_geopackage(tmp_path: Path, name: str, values: list[Any]) -> None:
    path = write_table(points().assign(**{name: values}), tmp_path / "out.gpkg")
    found = pyogrio.read_dataframe(path)
    assert [None if pd.isna(cell) else cell for cell in found[name]] == values


def test_a_geopackage_has_a_spatial_index_and_the_type_of_its_geometries(tmp_path: Path) -> None:
    path = write_table(points(), tmp_path / "out.gpkg")
    with closing(sqlite3.connect(path)) as base:
        assert base.execute("SELECT count(*) FROM rtree_places_geometry").fetchone() == (4,)
        assert base.execute("SELECT geometry_type_name FROM gpkg_geometry_columns").fetchone() == ("POINT",)


def test_points_of_a_geopackage_are_made_of_columns_of_coordinates(tmp_path: Path) -> None:
    found = pyogrio.read_dataframe(write_table(table(), tmp_path / "out.gpkg"))
    np.testing.assert_array_equal(shapely.get_coordinates(found.geometry), LONLAT)
    assert found.crs == "EPSG:4326"
    assert found[["name", "lon", "lat"]].equals(table())


def test_rows_without_coordinates_are_rows_without_a_point(tmp_path: Path) -> None:
    rows = pd.DataFrame({"lon": [190.0, None, 8.0, np.inf], "lat": [1.0, 2.0, 95.0, 3.0]})
    found = pyogrio.read_dataframe(write_table(rows, tmp_path / "out.gpkg"))
    assert [shape and shape.wkt for shape in found.geometry] == ["POINT (-170 1)", None, "POINT (8 95)", None]


def test_points_of_a_national_grid_keep_it(tmp_path: Path) -> None:
    rows = pd.DataFrame({"rechts": [2_600_000.0], "hoch": [1_200_000.0]})
    rows.attrs |= {"lonlat": ("rechts", "hoch"), "crs": "EPSG:2056"}
    found = pyogrio.read_dataframe(write_table(rows, tmp_path / "out.gpkg"))
    assert found.crs == "EPSG:2056"
    assert found.geometry[0].wkt == "POINT (2600000 1200000)"


def test_a_table_without_coordinates_is_refused_as_a_geopackage(tmp_path: Path) -> None:
    with pytest.raises(PlacesError, match="no column of longitudes"):
        write_table(table()[["name"]], tmp_path / "out.gpkg")
    with (
        pytest.raises(PlacesError, match=r"without geometries, which a GeoPackage needs.*\.parquet"),
        new_table(tmp_path / "out.gpkg", pa.schema([("a", pa.int64())])),
    ):
        raise AssertionError
    assert left(tmp_path) == []


def test_a_geopackage_without_a_reference_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlacesError, match="without a reference system"):
        write_table(points(None), tmp_path / "out.gpkg")
    assert geopandas.read_parquet(write_table(points(None), tmp_path / "out.parquet")).crs is None


@pytest.mark.parametrize(
    ("suffix", "values"),
    [
        *((suffix, pa.array([[1.0, 2.0]])) for suffix in (*TEXT, ".gpkg")),
        *((suffix, pa.array([{"a": 1}])) for suffix in (*TEXT, ".gpkg")),
        *((suffix, pa.array([dt.timedelta(1)])) for suffix in (*TEXT, ".gpkg")),
        *((suffix, pa.array([b"\x00"])) for suffix in TEXT),
        *((suffix, pa.array([b"\x00"], pa.binary_view())) for suffix in TEXT),
        *((suffix, pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((1, 2)))) for suffix in (*TEXT, ".gpkg")),
        (".parquet", pa.array([pa.MonthDayNano([1, 2, 3])])),
    ],
    ids=lambda what: what if isinstance(what, str) else str(what.type),
)
def test_a_column_of_a_type_that_the_format_lacks_is_refused_by_name(
    tmp_path: Path, suffix: str, values: pa.Array
) -> None:
    with pytest.raises(PlacesError, match=rf"out{suffix} cannot hold column 'vector' of .*") as caught:
        column(tmp_path / f"out{suffix}", values, "vector")
    assert len(str(caught.value).splitlines()) == 1
    assert left(tmp_path) == []


@pytest.mark.parametrize("suffix", [*TEXT, ".gpkg"])
def test_a_list_column_is_refused_with_the_way_out(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(PlacesError, match=r"Write \.parquet, or give columns='wide'"):
        column(tmp_path / f"out{suffix}", pa.array([[1.0]]))


def test_a_number_too_large_for_a_geopackage_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PlacesError, match="Column 'value' cannot be int64"):
        column(tmp_path / "out.gpkg", pa.array([2**63], pa.uint64()))
    assert left(tmp_path) == []


@pytest.mark.parametrize("count", [1999, 1998])
def test_a_geopackage_has_2000_columns_at_most(tmp_path: Path, count: int) -> None:
    schema = pa.schema([*((f"m_{number:04}", pa.float32()) for number in range(count)), ("geometry", pa.binary())])
    if count == 1998:
        with new_table(tmp_path / "out.gpkg", schema, geometry="geometry", crs="EPSG:4326"):
            assert left(tmp_path) != []
        assert len(pyogrio.read_info(tmp_path / "out.gpkg")["fields"]) == count
        return
    with (
        pytest.raises(PlacesError, match=r"cannot hold 2,000 columns.*\.parquet"),
        new_table(tmp_path / "out.gpkg", schema, geometry="geometry", crs="EPSG:4326"),
    ):
        raise AssertionError


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_columns_of_one_name_are_refused(tmp_path: Path, suffix: str) -> None:
    twins = pd.DataFrame([[1, 2.0, 3.0, 4]], columns=["code", "lon", "lat", "code"])
    with pytest.raises(PlacesError, match=r"both columns 'code' and 'code'"):
        write_table(twins, tmp_path / f"out{suffix}")
    assert left(tmp_path) == []


@pytest.mark.parametrize("names", [("Code", "code"), ("a", "Geometry")])
def test_a_geopackage_does_not_tell_capitals_apart(tmp_path: Path, names: tuple[str, str]) -> None:
    twins = points().assign(**dict.fromkeys(names, 1))
    with pytest.raises(PlacesError, match="cannot hold both columns.*Rename one"):
        write_table(twins, tmp_path / "out.gpkg")
    assert geopandas.read_parquet(write_table(twins, tmp_path / "out.parquet"))[names[0]].tolist() == [1] * 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_column_of_mixed_values_is_refused_by_name_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    mixed = table().assign(code=pd.Series([1, "A", 2.5, None], dtype=object))
    with pytest.raises(PlacesError, match="cannot hold the table: .*code"):
        write_table(mixed, tmp_path / f"out{suffix}")
    assert left(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_of_other_columns_are_refused_and_leave_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with pytest.raises(PlacesError, match="do not go with number, name, value, geometry"):
        write_in_pieces(path, [batch(0, 3), batch(3, 3).select(["name", "number", "value", "geometry"])])
    assert left(tmp_path) == []


def test_rows_of_other_types_are_cast_where_nothing_is_lost(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    with new_table(tmp_path / "out.parquet", schema) as write:
        write(pa.table({"a": pa.array([1], pa.int8()), "b": pa.nulls(1)}))
        with pytest.raises(PlacesError, match="Column 'a' cannot be int64"):
            write(pa.table({"a": pa.array([1.5]), "b": ["x"]}))
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist() == [{"a": 1, "b": None}]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_that_exists_is_refused_and_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="exists.*--overwrite"):
        write_table(table(), path)
    assert path.read_bytes() == b"mine"
    assert left(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".CSV", ".Gpkg"])
def test_overwrite_replaces_an_output(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"theirs")
    assert write_table(table(), path, overwrite=True) == path
    assert READERS[suffix.lower()](path)["name"].tolist() == NAMES
    assert left(tmp_path) == [path.name]


def test_a_folder_where_the_table_should_go_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(OutputExistsError, match="is a folder"):
        write_table(table(), tmp_path / "out.csv", overwrite=True)
    assert (tmp_path / "out.csv").is_dir()


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.tif"])
def test_an_output_of_no_known_kind_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PlacesError, match=r"Give one of: \.parquet, \.csv, \.gpkg, \.geoparquet"):
        check_output(tmp_path / name)


def test_an_output_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlacesError, match="is no folder"):
        check_output(tmp_path / "nowhere" / "out.csv")


@pytest.mark.parametrize("rows", [0, 10, ROWS + 10])
@pytest.mark.parametrize("error", [FormatError("no field"), OSError(2, "No such file"), KeyboardInterrupt()])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_between_batches_stays_as_it_is_and_leaves_what_was_there(
    tmp_path: Path, suffix: str, error: BaseException, rows: int
) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(type(error)) as caught:
        write_in_pieces(path, [batch(0, rows)], error)
    assert caught.value is error
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path.name, b"before")]
    assert not [thread for thread in threading.enumerate() if "gpkg" in thread.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_until_the_last_row_nothing_stands_under_the_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with new_table(path, SCHEMA, geometry="geometry", crs="EPSG:4326") as write:
        write(batch(0, ROWS + 10))
        assert not path.exists()
        assert [child.name.startswith(".") for child in tmp_path.iterdir()] == [True]
    assert left(tmp_path) == [path.name]


DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np, pyarrow as pa, shapely
from embedfield.errors import StorageError
from embedfield.tables.table_file import new_table

path = Path(sys.argv[1])
number = np.random.default_rng(0).random(70_000)
wkb = pa.array(shapely.to_wkb(shapely.points(number, number)), pa.binary())
rows = pa.table({"number": number, "geometry": wkb})

def write_it():
    with new_table(path, rows.schema, geometry="geometry", crs="EPSG:4326", overwrite=True) as write:
        write(rows)

write_it()
whole = path.read_bytes()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for share in (0.0, 0.1, 0.4, 0.7, 0.99):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(len(whole) * share), resource.RLIM_INFINITY))
    try:
        write_it()
    except StorageError as error:
        print(path.read_bytes() == whole, error)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_said_in_words_whenever_it_fills(tmp_path: Path, suffix: str) -> None:
    """A file may have a part of the bytes that it needs: none, few, and almost all."""
    path = tmp_path / f"out{suffix}"
    command = [sys.executable, "-W", "error", "-c", DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert len(said) == 5
    assert all(line.startswith(f"True Cannot write {path}: ") for line in said)
    assert "Traceback" not in done.stderr
    assert left(tmp_path) == [path.name]


MEMORY = """
import resource, sys
import numpy as np, pyarrow as pa, shapely
from embedfield.tables.table_file import new_table

path, count = sys.argv[1], int(sys.argv[2])
number = np.random.default_rng(0).random(10_000).astype(np.float32)
wkb = pa.array(shapely.to_wkb(shapely.points(number, number)), pa.binary())
rows = pa.table({**{f"m_{band:03}": number for band in range(32)}, "geometry": wkb})
with new_table(path, rows.schema, geometry="geometry", crs="EPSG:4326") as write:
    for _ in range(count // len(rows)):
        write(rows)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".feather", ".gpkg"])
def test_memory_does_not_grow_with_rows(tmp_path: Path, suffix: str) -> None:
    peaks = []
    for count in (200_000, 1_000_000):  # 30 MB of columns, and 150
        command = [sys.executable, "-c", MEMORY, str(tmp_path / f"{count}{suffix}"), str(count)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024)
    assert peaks[1] - peaks[0] < 40e6
