"""A file of places goes in and a table comes out: the same rows in the same order, whatever the size."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pyogrio
import pytest
import rasterio
import shapely
from fields import ArrayField, Breaking, bumpy, listing
from geometries import objects
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedfield import stream as module
from embedfield.card import Card
from embedfield.errors import EmbedfieldWarning, OutputExistsError, PlacesError, StorageError
from embedfield.evaluate import EncodedField
from embedfield.formats import write_field
from embedfield.formats.cog import CogField
from embedfield.grid import Grid
from embedfield.sample import extract_points, zonal_stats
from embedfield.stream import sample_file
from embedfield.tables import open_places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.formats.stored import StoredField
    from embedfield.window import Window

DEGREES = "EPSG:4326"
# Nine blocks over Europe, with a hole between (-9.5, 59.7) and (-8.2, 58.8).
GRID = Grid(west=-10.0, north=60.0, res=0.1, width=300, height=260)
BANDS = ["bumps_000", "bumps_001", "bumps_002"]
HOLE = (-9.0, 59.3)


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


def card(name: str, dim: int = 3) -> Card:
    return Card(name=name, title=name, dim=dim, code="none:None", homepage="https://example.org")


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredField]:
    """Three bands over Europe, in a file."""
    values = ArrayField(bumpy(3, *GRID.shape), GRID, card("bumps"), {"precision": "float32"})
    with write_field(values, tmp_path_factory.mktemp("field") / "europe.tif", dtype="uint8") as stored:
        yield stored


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[StoredField]]:
    """Fields of other grids: one coarser and aside, one projected."""
    aside = Grid(west=0.0, north=70.0, res=0.25, width=200, height=140)
    plane = Grid.from_bounds(20_000, (2_500_000, 1_400_000, 7_400_000, 5_500_000), "EPSG:3035")
    folder = tmp_path_factory.mktemp("others")
    found = [
        write_field(ArrayField(bumpy(2, *grid.shape), grid, card(name, 2)), folder / f"{name}.tif", dtype="int16")
        for name, grid in (("aside", aside), ("plane", plane))
    ]
    yield found
    for one in found:
        one.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So little memory that places are divided into many parts, and read in many batches."""
    monkeypatch.setattr(module, "HELD", 1)
    monkeypatch.setattr(module, "LEAST", 40)
    monkeypatch.setattr(module, "ROWS", 64)


def random_places(count: int = 400, seed: int = 3, aside: float = 1.0) -> npt.NDArray[np.float64]:
    """Return places on the field, and a few beside it."""
    generator = np.random.default_rng(seed)
    return np.column_stack(
        (generator.uniform(-10 - aside, 20 + aside, count), generator.uniform(34 - aside, 60 + aside, count))
    )


def random_shapes(count: int = 200, seed: int = 4, size: float = 1.5) -> npt.NDArray[Any]:
    """Return points, lines, boxes, rings and several of them, smaller and larger than pixels, on the field mostly."""
    generator = np.random.default_rng(seed)
    centres, sizes = random_places(count, seed), size * generator.uniform(0.001, 1, count) ** 3
    circles = shapely.buffer(shapely.points(centres), sizes)
    kinds: list[Callable[[Any], Any]] = [
        lambda shape: shape,
        lambda shape: shapely.box(*shape.bounds),
        lambda shape: shape.exterior,
        lambda shape: shape.centroid,
        lambda shape: shapely.MultiPoint(list(shape.exterior.coords)[:5]),
        lambda shape: shapely.MultiPolygon([shape, shapely.affinity.translate(shape, 3, 1)]),
        lambda shape: shape.difference(shapely.affinity.scale(shape, 0.5, 0.5)),
    ]
    found = np.empty(count, dtype=object)
    found[:] = [kinds[row % len(kinds)](shape) for row, shape in enumerate(circles)]
    return found


def points(lonlat: npt.NDArray[np.float64], crs: str = DEGREES) -> geopandas.GeoDataFrame:
    geometry = geopandas.points_from_xy(*lonlat.T, crs=DEGREES)
    return geopandas.GeoDataFrame({"number": np.arange(len(lonlat))}, geometry=geometry).to_crs(crs)


def shapes(geometry: npt.NDArray[Any], crs: str = DEGREES) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame({"number": np.arange(len(geometry))}, geometry=geometry, crs=crs)


def save(places: geopandas.GeoDataFrame, path: Path) -> Path:
    """Write places as what the suffix says; points as text and in plain tables in two columns."""
    write = {".csv": _save_csv, ".feather": _save_feather, ".parquet": geopandas.GeoDataFrame.to_parquet}
    write.get(path.suffix, geopandas.GeoDataFrame.to_file)(places, path)
    if path.name == "plain.parquet":
        _plain(places).to_parquet(path)
    return path


def _plain(places: geopandas.GeoDataFrame) -> pd.DataFrame:
    return pd.DataFrame({"number": places["number"], "lon": places.geometry.x, "lat": places.geometry.y})


def _save_csv(places: geopandas.GeoDataFrame, path: Path) -> None:
    _plain(places).to_csv(path, index=False)


def _save_feather(places: geopandas.GeoDataFrame, path: Path) -> None:
    _plain(places).to_feather(path)


def sampled(field: Field | Sequence[Field], places: Path, output: Path, **options: Any) -> pa.Table:
    """Sample a file and read the table."""
    found = sample_file(field, places, output, **options)
    assert found.path == output
    table = pa.parquet.read_table(output)
    assert table.num_rows == found.rows
    assert Counter(table["status"].to_pylist()) == found.statuses
    return table


def values(table: pa.Table | pd.DataFrame, names: list[str]) -> npt.NDArray[np.float32]:
    """Return columns as numbers, (N, columns), NaN where there is none."""
    frame = table.select(names).to_pandas() if isinstance(table, pa.Table) else table[names]
    found: npt.NDArray[np.float32] = frame.to_numpy(dtype=np.float32)
    return found


def assert_same(left: pa.Table, right: pa.Table) -> None:
    """Hold two tables to be the same, bit by bit, metadata included."""
    assert left.schema.equals(right.schema, check_metadata=True)
    for name in left.column_names:
        assert left[name].to_pylist() == right[name].to_pylist(), name


# 1. Any file of places gives what the same places give in memory.

POINT_FILES = ["places.csv", "plain.parquet", "places.feather", "places.parquet", "places.gpkg", "places.shp"]
POINT_FILES += ["places.geojson", "places.fgb"]


@pytest.mark.parametrize("name", POINT_FILES)
@pytest.mark.parametrize("method", [None, "bilinear"])
def test_points_of_any_file_have_the_values_that_rasterio_and_memory_give(
    field: StoredField, tmp_path: Path, name: str, method: Any
) -> None:
    places = points(random_places(aside=0.0).round(4) + 0.00003)
    table = sampled(field, save(places, tmp_path / name), tmp_path / "table.parquet", method=method)
    table = table.sort_by("number")
    wanted = extract_points(field, places, method)
    np.testing.assert_array_equal(values(table, BANDS), values(wanted, BANDS))
    assert table["status"].to_pylist() == wanted["status"].tolist()
    if method is None:
        with rasterio.open(field.path) as raster:
            codes = np.array(list(raster.sample(places.get_coordinates().to_numpy())), dtype=float)
            codes[codes == raster.nodata] = np.nan
            decoded = codes * np.array(raster.scales) + np.array(raster.offsets)
        np.testing.assert_array_equal(values(table, BANDS), decoded.astype(np.float32))


@pytest.mark.parametrize("name", ["shapes.parquet", "shapes.gpkg", "shapes.geojson", "shapes.fgb"])
def test_shapes_of_any_file_have_the_statistics_that_memory_gives(
    field: StoredField, tmp_path: Path, name: str
) -> None:
    places = shapes(shapely.transform(random_shapes(), lambda xy: xy.round(4)))
    stats = ["mean", "std", "max", "count", "coverage"]
    table = sampled(field, save(places, tmp_path / name), tmp_path / "table.parquet", stats=stats)
    table, wanted = table.sort_by("number"), zonal_stats(field, places, stats)
    names = [name for name in wanted.columns if name not in ("number", "geometry", "status")]
    np.testing.assert_array_equal(values(table, names), values(wanted, names))
    assert table["status"].to_pylist() == wanted["status"].tolist()


def test_a_shapefile_of_polygons_gives_what_memory_gives(field: StoredField, tmp_path: Path) -> None:
    places = shapes(shapely.buffer(shapely.points(random_places(80)), 0.3))
    table = sampled(field, save(places, tmp_path / "places.shp"), tmp_path / "table.parquet")
    np.testing.assert_array_equal(values(table, BANDS), values(zonal_stats(field, places), BANDS))


@pytest.mark.parametrize(
    ("crs", "box"),
    [("EPSG:2056", (6, 46, 10, 47.5)), ("EPSG:3035", (0, 36, 18, 58)), ("EPSG:27700", (-6, 50, 1.5, 58))],
)
def test_a_shapefile_in_a_national_grid_gives_the_same_as_degrees(
    field: StoredField, others: list[StoredField], tmp_path: Path, crs: str, box: tuple[float, float, float, float]
) -> None:
    lonlat = np.random.default_rng(8).uniform(box[:2], box[2:], (200, 2))
    fields = [field, *others]
    tables = [
        sampled(fields, save(points(lonlat, system), tmp_path / f"{number}.shp"), tmp_path / f"{number}.parquet")
        for number, system in enumerate((crs, DEGREES))
    ]
    names = [name for name in tables[0].column_names if name[-4:-3] == "_"]
    assert len(names) == 7
    np.testing.assert_array_equal(values(tables[0], names), values(tables[1], names))
    assert tables[0]["status"].to_pylist() == tables[1]["status"].to_pylist()
    assert set(tables[0]["status"].to_pylist()) <= {"valid", "outside"}


@pytest.mark.parametrize(
    ("crs", "west", "south"), [("EPSG:2056", 2_500_000, 1_100_000), ("EPSG:3035", 3_700_000, 2_600_000)]
)
def test_polygons_of_a_national_grid_give_the_same_as_their_course_in_degrees(
    field: StoredField, tmp_path: Path, crs: str, west: float, south: float
) -> None:
    corners = np.random.default_rng(9).uniform(0, 150_000, (60, 2)) + np.array([west, south])
    sizes = np.random.default_rng(10).uniform(15_000, 80_000, 60)
    national = shapes(shapely.box(*corners.T, *(corners + sizes[:, None]).T), crs)
    degrees = national.set_geometry(national.geometry.segmentize(500)).to_crs(DEGREES)
    stats = ["mean", "count", "coverage"]
    found, wanted = (
        sampled(
            field, save(places, tmp_path / f"{crs[5:]}.shp"), tmp_path / "table.parquet", stats=stats, overwrite=True
        )
        for places in (national, degrees)
    )
    assert set(found["status"].to_pylist()) == {"valid"}
    # A band of waves one high; an edge may stray by a hundredth of a pixel.
    np.testing.assert_allclose(values(found, BANDS[:1]), values(wanted, BANDS[:1]), atol=0.005)
    np.testing.assert_allclose(values(found, ["count"]), values(wanted, ["count"]), rtol=0.01)
    np.testing.assert_allclose(values(found, ["coverage"]), 1, rtol=1e-6)


def test_a_buffer_makes_circles_of_points(field: StoredField, tmp_path: Path) -> None:
    places = points(random_places(50))
    path = save(places, tmp_path / "places.csv")
    table = sampled(field, path, tmp_path / "table.parquet", buffer=30_000, stats=("mean", "count"))
    wanted = zonal_stats(field, places, ("mean", "count"), buffer=30_000)
    np.testing.assert_array_equal(values(table, [*BANDS, "count"]), values(wanted, [*BANDS, "count"]))
    # Without a word a buffer means the mean.
    mean = sampled(field, path, tmp_path / "mean.parquet", buffer=30_000)
    np.testing.assert_array_equal(values(mean, BANDS), values(table, BANDS))


def test_all_columns_are_kept_with_their_types_and_order(field: StoredField, tmp_path: Path) -> None:
    own = pa.table(
        {
            "Zürich": pa.array(["a", None, "ü", "", "NA"]),
            "lat": pa.array([47.0, 48.0, None, 91.0, 40.0], pa.float32()),
            "whole": pa.array([1, None, 3, 4, 5], pa.int16()),
            "lon": pa.array([8.0, 9.0, 8.0, 8.0, 100.0]),
            "yes": pa.array([True, None, False, True, True]),
            "when": pa.array([dt.datetime(2024, 1, 2, tzinfo=dt.UTC)] * 5, pa.timestamp("us", "UTC")),
            "day": pa.array([dt.date(2024, 1, 2), None] * 2 + [None]),
            "kind": pa.array(["x", "y", "x", None, "y"]).dictionary_encode(),
            "exact": pa.array([decimal.Decimal("1.10")] * 5),
            "many": pa.array([[1, 2], None, [], [3], [4]]),
            "raw": pa.array([b"\x00", None, b"", b"1", b"2"]),
        }
    ).replace_schema_metadata({"who": "me"})
    pa.parquet.write_table(own, tmp_path / "places.parquet")
    table = sampled(field, tmp_path / "places.parquet", tmp_path / "table.parquet")
    assert table.column_names == [*own.column_names, *BANDS, "status"]
    assert table.select(own.column_names).equals(own)
    assert table.schema.metadata[b"who"] == b"me"
    assert table["status"].to_pylist() == ["valid", "valid", "missing", "invalid", "outside"]


def test_an_index_of_pandas_comes_back_as_one(field: StoredField, tmp_path: Path) -> None:
    places = pd.DataFrame({"lon": [8.0, 9.0], "lat": [47.0, 48.0]}, index=pd.Index(["a", "b"], name="place"))
    places.to_parquet(tmp_path / "places.parquet")
    sample_file(field, tmp_path / "places.parquet", tmp_path / "table.parquet")
    found = pd.read_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(found[["lon", "lat"]], places)
    np.testing.assert_array_equal(found[BANDS], extract_points(field, places)[BANDS])


def test_layers_conditions_and_columns_are_those_of_the_opened_file(field: StoredField, tmp_path: Path) -> None:
    places = points(random_places(30))
    places.to_file(tmp_path / "places.gpkg", layer="one")
    places.head(3).to_file(tmp_path / "places.gpkg", layer="two")
    opened = open_places(tmp_path / "places.gpkg", layer="one", where="number >= 10")
    found = sample_file(field, opened, tmp_path / "table.csv")
    assert found.rows == 20
    assert pd.read_csv(tmp_path / "table.csv")["number"].tolist() == list(range(10, 30))
    (tmp_path / "named.csv").write_text("a,b\n47.1,8.1\n")
    sample_file(field, open_places(tmp_path / "named.csv", lon="b", lat="a"), tmp_path / "named.parquet")
    np.testing.assert_array_equal(values(pd.read_parquet(tmp_path / "named.parquet"), BANDS), field.at([[8.1, 47.1]]))


# One row in, one row out.

ROWS_OF_A_COLUMN = {
    "valid": (8.03, 47.07),
    "nodata": HOLE,
    "outside": (120.0, 10.0),
    "missing": (np.nan, 47.0),
    "invalid": (100.0, 90.5),
}
ROWS_OF_GEOMETRIES = {
    ("valid", shapely.Point(8.03, 47.07)),
    ("valid", shapely.Point(368.03, 47.07)),
    ("nodata", shapely.Point(*HOLE)),
    ("outside", shapely.Point(120, 10)),
    ("missing", None),
    ("missing", shapely.Point()),
    ("missing", shapely.from_wkt("POLYGON EMPTY")),
    ("invalid", shapely.Point(100, 90.5)),
    ("invalid", shapely.Point(-200, 0)),
}
ROWS_OF_SHAPES = [
    ("valid", shapely.box(8, 47, 9, 48)),
    ("valid", shapely.Polygon([(8, 47), (9, 48), (9, 47), (8, 48)])),
    ("valid", shapely.LineString([(8, 47), (9, 48)])),
    ("valid", shapely.box(-9.2, 59, 20, 59.2)),
    ("nodata", shapely.box(-9.1, 59.2, -8.9, 59.4)),
    ("outside", shapely.box(100, 0, 101, 1)),
    ("outside", shapely.Polygon([(179, 0), (-179, 0), (-179, 1), (179, 1)])),
    ("missing", None),
    ("missing", shapely.from_wkt("POLYGON EMPTY")),
    ("invalid", shapely.box(0, 80, 1, 95)),
    ("invalid", shapely.Point(np.inf, 0)),
]


@pytest.mark.filterwarnings("ignore:.*have latitudes beyond 90:embedfield.errors.EmbedfieldWarning")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(sorted(ROWS_OF_A_COLUMN)), max_size=60), st.booleans())
def test_a_row_of_coordinates_stays_a_row(
    field: StoredField, tmp_path_factory: pytest.TempPathFactory, kinds: list[str], divide: bool
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    xy = np.array([ROWS_OF_A_COLUMN[kind] for kind in kinds]).reshape(-1, 2)
    own = pa.table({"number": np.arange(len(kinds)), "x": xy[:, 0], "y": xy[:, 1]})
    pa.parquet.write_table(own, folder / "places.parquet")
    table = _sampled_small(divide, field, folder)
    assert table["status"].to_pylist() == kinds
    assert table["number"].to_pylist() == list(range(len(kinds)))
    assert table["bumps_001"].is_valid().to_pylist() == [kind == "valid" for kind in kinds]


@pytest.mark.filterwarnings("ignore:.*have latitudes beyond 90:embedfield.errors.EmbedfieldWarning")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(sorted(ROWS_OF_GEOMETRIES, key=str)), max_size=40), st.booleans())
def test_a_row_of_points_stays_a_row(
    field: StoredField, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Any]], divide: bool
) -> None:
    folder, geometry = tmp_path_factory.mktemp("rows"), objects([shape for _, shape in rows])
    # What is written 368 lies beyond what longitudes may be; points alone are held to that.
    wanted = ["invalid" if shape is not None and not shape.is_empty and shape.x > 360 else kind for kind, shape in rows]
    shapes(geometry).to_parquet(folder / "places.parquet")
    table = _sampled_small(divide, field, folder)
    assert table["status"].to_pylist() == wanted
    assert table["number"].to_pylist() == list(range(len(rows)))
    assert table["bumps_001"].is_valid().to_pylist() == [kind == "valid" for kind in wanted]


@pytest.mark.filterwarnings("ignore:.*have latitudes beyond 90:embedfield.errors.EmbedfieldWarning")
@pytest.mark.filterwarnings("ignore:A shape has an edge:embedfield.errors.EmbedfieldWarning")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(ROWS_OF_SHAPES), min_size=1, max_size=40), st.booleans())
def test_a_row_of_shapes_stays_a_row(
    field: StoredField, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Any]], divide: bool
) -> None:
    folder, geometry = tmp_path_factory.mktemp("rows"), objects([shape for _, shape in rows])
    shapes(geometry).to_parquet(folder / "places.parquet")
    table = _sampled_small(divide, field, folder, stats="mean")
    assert table["status"].to_pylist() == [kind for kind, _ in rows]
    assert table["bumps_001"].is_valid().to_pylist() == [kind == "valid" for kind, _ in rows]


def _sampled_small(divide: bool, field: Field, folder: Path, **options: Any) -> pa.Table:
    with pytest.MonkeyPatch.context() as patch:
        if divide:
            patch.setattr(module, "HELD", 1)
            patch.setattr(module, "LEAST", 3)
            patch.setattr(module, "ROWS", 7)
        return sampled(field, folder / "places.parquet", folder / "table.parquet", **options)


@pytest.mark.parametrize("options", [{}, {"stats": "mean"}, {"buffer": 1000}])
def test_swapped_coordinates_are_warned_about_and_sampled(
    field: StoredField, tmp_path: Path, options: dict[str, Any]
) -> None:
    (tmp_path / "places.csv").write_text("lon,lat\n-33.4,151.2\n-37.8,144.9\n8,47\n")
    with pytest.warns(EmbedfieldWarning, match="2 of 3 places have latitudes beyond 90.*may be swapped"):
        found = sample_file(field, tmp_path / "places.csv", tmp_path / "table.csv", **options)
    assert found.statuses == {"invalid": 2, "valid": 1}


# 2. What does not fit in memory is divided, and gives the same.


@pytest.mark.parametrize("options", [{"method": "nearest", "columns": "list"}, {"method": "bilinear"}])
def test_divided_points_have_the_same_values(
    field: StoredField,
    others: list[StoredField],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    options: dict[str, Any],
) -> None:
    path, fields = save(points(random_places(1000)), tmp_path / "places.gpkg"), [field, *others]
    whole = sampled(fields, path, tmp_path / "whole.parquet", **options)
    request.getfixturevalue("small")
    parts = sampled(fields, path, tmp_path / "parts.parquet", **options)
    assert_same(whole, parts)
    assert len(set(whole["status"].to_pylist())) >= 2
    assert listing(tmp_path) == ["parts.parquet", "places.gpkg", "whole.parquet"]


@pytest.mark.parametrize("columns", ["wide", "list"])
def test_divided_shapes_have_the_same_statistics(
    field: StoredField, others: list[StoredField], tmp_path: Path, request: pytest.FixtureRequest, columns: Any
) -> None:
    path, fields = save(shapes(random_shapes(300)), tmp_path / "places.parquet"), [field, *others]
    options = {"stats": ["mean", "min", "max", "median", "count", "coverage"], "columns": columns}
    whole = sampled(fields, path, tmp_path / "whole.parquet", **options)
    request.getfixturevalue("small")
    parts = sampled(fields, path, tmp_path / "parts.parquet", **options)
    assert_same(whole, parts)
    assert listing(tmp_path) == ["parts.parquet", "places.parquet", "whole.parquet"]


def test_divided_shapes_have_the_same_deviation_but_for_rounding(
    field: StoredField, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = save(shapes(random_shapes(300)), tmp_path / "places.parquet")
    whole = sampled(field, path, tmp_path / "whole.parquet", stats="std")
    request.getfixturevalue("small")
    parts = sampled(field, path, tmp_path / "parts.parquet", stats="std")
    names = [f"{name}_std" for name in BANDS]
    # Squares are of distances from a value that depends on which shapes are asked together.
    np.testing.assert_allclose(values(whole, names), values(parts, names), rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"stats": ["mean", "count"]}])
def test_a_projected_field_may_be_the_first(
    field: StoredField,
    others: list[StoredField],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    options: dict[str, Any],
) -> None:
    # In a national grid too; some lie where the field shows nothing.
    places = points(np.concatenate((random_places(300), [(-170.0, -52.0), (179.0, 0.0)])), "EPSG:3857")
    path, fields = save(places, tmp_path / "places.gpkg"), [others[1], field]
    whole = sampled(fields, path, tmp_path / "whole.parquet", **options)
    request.getfixturevalue("small")
    assert_same(whole, sampled(fields, path, tmp_path / "parts.parquet", **options))


def test_places_of_one_block_are_divided_all_the_same(field: StoredField, tmp_path: Path, small: None) -> None:
    places = points(np.random.default_rng(5).uniform([5, 45], [6, 46], (500, 2)))
    table = sampled(field, save(places, tmp_path / "places.csv"), tmp_path / "table.parquet")
    np.testing.assert_array_equal(values(table, BANDS), values(extract_points(field, places), BANDS))


def test_places_outside_of_all_blocks_are_divided_all_the_same(field: StoredField, tmp_path: Path, small: None) -> None:
    places = points(np.random.default_rng(5).uniform([105, -45], [106, 46], (500, 2)))
    table = sampled(field, save(places, tmp_path / "places.csv"), tmp_path / "table.parquet")
    assert table["status"].to_pylist() == ["outside"] * 500
    assert table["bumps_000"].null_count == 500


def reads_of_blocks(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """Count how often each block (row, column) of any COG is decoded from now on."""
    read, found = CogField._codes, Counter[tuple[int, int]]()

    def counting(self: CogField, window: Window, overview: int | None = None) -> Any:
        size = self.blocksize
        rows, cols = (range(part.start // size, -(-part.stop // size)) for part in (window.rows, window.cols))
        found.update((row, col) for row in rows for col in cols)
        return read(self, window, overview)

    monkeypatch.setattr(CogField, "_codes", counting)
    return found


@pytest.mark.parametrize("least", [40, 150, 400])
def test_each_block_is_decoded_once_unless_more_of_its_places_come_than_fit(
    field: StoredField, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None, least: int
) -> None:
    lonlat = np.concatenate(
        (random_places(1200, aside=0.0), np.random.default_rng(0).uniform(45, 46, (300, 2)) - (40, 0))
    )
    lonlat = lonlat[np.random.default_rng(1).permutation(len(lonlat))]
    path = save(points(lonlat), tmp_path / "places.csv")
    monkeypatch.setattr(module, "LEAST", least)
    reads = reads_of_blocks(monkeypatch)
    sample_file(field, path, tmp_path / "table.csv")
    rows, cols = (np.floor(part).astype(int) // 128 for part in GRID.positions(lonlat))
    places = Counter(zip(rows.tolist(), cols.tolist(), strict=True))
    assert len(places) == 9
    assert reads == {block: -(-count // least) for block, count in places.items()}


def test_blocks_are_decoded_once_though_an_encoder_without_any_comes_first(
    field: StoredField,
    make_field: Callable[..., EncodedField],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small: None,
) -> None:
    path = save(points(random_places(1200, aside=0.0)), tmp_path / "places.csv")
    monkeypatch.setattr(module, "LEAST", 400)
    reads = reads_of_blocks(monkeypatch)
    sample_file([EncodedField.everywhere(make_field().evaluator), field], path, tmp_path / "table.csv")
    assert set(reads.values()) == {1}


def test_bilinear_decodes_a_block_again_only_at_the_borders_of_parts(
    field: StoredField, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    path = save(points(random_places(1500, aside=0.0)), tmp_path / "places.csv")
    monkeypatch.setattr(module, "LEAST", 600)
    reads = reads_of_blocks(monkeypatch)
    sample_file(field, path, tmp_path / "table.csv", method="bilinear")
    # Blocks alone and shares of others, at most two parts for each 600 places; a block has neighbours in each at most.
    assert len(reads) == 9
    assert max(reads.values()) <= 2 * -(-1500 // 600)


def test_progress_goes_to_the_end_of_each_step_in_order(field: StoredField, tmp_path: Path, small: None) -> None:
    path, told = save(points(random_places(300)), tmp_path / "places.csv"), list[Any]()
    options: dict[str, Any] = {"progress": lambda done, total: told.append((done, total)), "step": told.append}
    sample_file(field, path, tmp_path / "table.csv", **options)
    steps = [word for word in told if isinstance(word, str)]
    assert steps == [
        "reading the places",
        "counting the places of each block",
        "dividing the places by block",
        "sampling",
        "writing the table",
    ]
    for step in steps:
        start = told.index(step) + 1
        own = [*told[start:], "end"]
        numbers = own[: next(number for number, word in enumerate(own) if isinstance(word, str))]
        assert numbers == sorted(numbers)
        assert numbers[-1] == (300, 300)


def test_steps_of_what_fits_are_told_in_order(field: StoredField, tmp_path: Path) -> None:
    path, told = save(points(random_places(300)), tmp_path / "places.csv"), list[str]()
    sample_file(field, path, tmp_path / "table.csv", step=told.append)
    assert told == ["reading the places", "reading the places", "sampling", "writing the table"]


# 3. Several fields and statistics.


def test_several_fields_stand_side_by_side(field: StoredField, others: list[StoredField], tmp_path: Path) -> None:
    lonlat = random_places(100)
    path = save(points(lonlat), tmp_path / "places.csv")
    table = sampled([field, *others], path, tmp_path / "table.parquet")
    names = [*BANDS, "aside_000", "aside_001", "plane_000", "plane_001"]
    assert table.column_names == ["number", "lon", "lat", *names, "status"]
    np.testing.assert_array_equal(values(table, names), np.hstack([one.at(lonlat) for one in (field, *others)]))
    with CogField(field.path) as again:
        both = sampled([field, again], path, tmp_path / "both.parquet", columns="list")
    assert both.column_names[3:] == ["europe-1", "europe-2", "status"]


def test_vectors_may_be_lists_and_are_null_where_there_are_none(field: StoredField, tmp_path: Path) -> None:
    lonlat = np.array([(8.0, 47.0), HOLE, (100.0, 0.0)])
    path = save(points(lonlat), tmp_path / "places.csv")
    table = sampled(field, path, tmp_path / "table.parquet", columns="list")
    assert table.schema.field("bumps").type == pa.list_(pa.float32())
    np.testing.assert_array_equal(table["bumps"][0].as_py(), field.at(lonlat[:1])[0])
    assert table["bumps"].to_pylist()[1:] == [None, None]
    stats = sampled(field, path, tmp_path / "stats.parquet", columns="list", stats=["max", "count", "mean"])
    assert stats.column_names[3:] == ["bumps", "bumps_max", "count", "status"]
    assert stats["count"].to_pylist() == [1.0, 0.0, 0.0]


def test_an_encoder_answers_at_any_place(make_field: Callable[..., EncodedField], tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("id,lon,lat\na,0,0\nb,,1\nc,90,0\nd,0,90\ne,0,100\n")
    field = EncodedField.everywhere(make_field().evaluator)
    told = list[str]()
    table = sampled(field, tmp_path / "places.csv", tmp_path / "table.parquet", step=told.append)
    assert table["status"].to_pylist() == ["valid", "missing", "valid", "valid", "invalid"]
    np.testing.assert_allclose(
        values(table, ["xyz_000", "xyz_001", "xyz_002"])[[0, 2, 3]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]], atol=1e-7
    )
    assert told == ["reading the places", "sampling"]
    assert json.loads(table.schema.field("xyz_000").metadata[b"embedfield"])["method"] == "exact"


def test_an_encoder_beside_a_field_is_divided_with_it(
    field: StoredField, make_field: Callable[..., EncodedField], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = save(points(random_places(300)), tmp_path / "places.csv")
    fields: list[Field] = [EncodedField.everywhere(make_field().evaluator), field]
    whole = sampled(fields, path, tmp_path / "whole.parquet")
    request.getfixturevalue("small")
    assert_same(whole, sampled(fields, path, tmp_path / "parts.parquet"))


def test_what_cannot_be_answered_is_refused_and_leaves_nothing(
    field: StoredField, make_field: Callable[..., EncodedField], tmp_path: Path
) -> None:
    everywhere = EncodedField.everywhere(make_field().evaluator)
    at = save(points(random_places(5)), tmp_path / "points.csv")
    under = save(shapes(random_shapes(5)), tmp_path / "shapes.gpkg")
    (tmp_path / "status.csv").write_text("status,lon,lat\na,0,40\n")
    (tmp_path / "taken.csv").write_text("bumps_001,lon,lat\na,0,40\n")
    before = listing(tmp_path)
    asked: list[tuple[str, Field, Path, dict[str, Any]]] = [
        ("have a column 'status' already", field, tmp_path / "status.csv", {}),
        ("have a column 'bumps_001' already", field, tmp_path / "taken.csv", {}),
        ("method='cubic' is not to be had", field, at, {"method": "cubic"}),
        ("method='exact' is not to be had", field, at, {"method": "exact"}),
        ("method='bilinear' is one for points", field, under, {"method": "bilinear"}),
        ("method='bilinear' is one for points", field, at, {"method": "bilinear", "stats": "mean"}),
        ("method='bilinear' is one for points", field, at, {"method": "bilinear", "buffer": 10}),
        ("stats=mode: give one or more", field, at, {"stats": "mode"}),
        ("columns='tall' is not known", field, at, {"columns": "tall"}),
        ("xyz by itself has no pixels", everywhere, under, {}),
        ("buffer", field, at, {"buffer": -1}),
        ("does not exist", field, tmp_path / "none.csv", {}),
    ]
    for message, one, places, options in asked:
        with pytest.raises(PlacesError, match=message):
            sample_file(one, places, tmp_path / "table.parquet", **options)
        assert listing(tmp_path) == before
    for name, message in (("table.txt", "no table that can be written"), ("none/table.csv", "is no folder")):
        with pytest.raises(PlacesError, match=message):
            sample_file(field, at, tmp_path / name)
    with pytest.raises(PlacesError, match=r"cannot hold column 'bumps' of list.*columns='wide'"):
        sample_file(field, at, tmp_path / "table.csv", columns="list")
    assert listing(tmp_path) == before


# 4. What is known of the numbers goes with them.


def test_columns_and_table_say_where_their_numbers_come_from(
    field: StoredField, others: list[StoredField], tmp_path: Path
) -> None:
    path = save(points(random_places(20)), tmp_path / "places.csv")
    table = sampled([field, others[1]], path, tmp_path / "table.parquet", method="bilinear")
    about = json.loads(table.schema.field("bumps_002").metadata[b"embedfield"])
    assert about == {"field": 0, "model": "bumps", "method": "bilinear", "band": 2}
    assert json.loads(table.schema.field("plane_001").metadata[b"embedfield"])["field"] == 1
    assert not table.schema.field("lon").metadata or b"embedfield" not in table.schema.field("lon").metadata
    said = json.loads(table.schema.metadata[b"embedfield"])["fields"]
    assert [one["card"]["name"] for one in said] == ["bumps", "plane"]
    assert said[0]["provenance"] == {"precision": "float32"}
    assert said[0]["href"] == str(field.path)
    assert said[1]["grid"]["crs"] == "EPSG:3035"
    feather = sample_file(field, path, tmp_path / "table.feather").path
    assert b"embedfield" in pa.feather.read_table(feather).schema.metadata
    package = sample_file(field, save(points(random_places(20)), tmp_path / "p.gpkg"), tmp_path / "table.gpkg").path
    metadata = pyogrio.read_info(package)["layer_metadata"]
    assert json.loads(metadata["embedfield"])["fields"][0]["href"] == str(field.path)


@pytest.mark.parametrize("columns", ["wide", "list"])
def test_metadata_name_the_statistic(field: StoredField, tmp_path: Path, columns: Any) -> None:
    path = save(points(random_places(20)), tmp_path / "places.csv")
    table = sampled(field, path, tmp_path / "table.parquet", stats=["mean", "std", "count"], columns=columns)
    said = {name: json.loads((table.schema.field(name).metadata or {}).get(b"embedfield", b"{}")).get("stat")
            for name in table.column_names[3:]}  # fmt: skip
    assert set(said.values()) == {"mean", "std", "count", None}
    assert said["status"] is None
    assert said["count"] == "count"


# 5. Tables of any format.

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": pd.read_parquet,
    ".feather": pd.read_feather,
    ".csv": pd.read_csv,
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".gpkg": lambda path: pd.DataFrame(pyogrio.read_dataframe(path)),
}


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("source", ["places.csv", "places.gpkg"])
def test_a_table_of_any_format_holds_all_rows(
    field: StoredField, tmp_path: Path, small: None, suffix: str, source: str
) -> None:
    places = points(random_places(150))
    output = sample_file(field, save(places, tmp_path / source), tmp_path / f"table{suffix}").path
    table, wanted = READERS[suffix](output), extract_points(field, places)
    assert table["number"].tolist() == list(range(150))
    np.testing.assert_array_equal(values(table, BANDS), values(wanted, BANDS))
    assert table["status"].tolist() == wanted["status"].tolist()
    if suffix == ".gpkg" or (source == "places.gpkg" and suffix in (".parquet", ".feather")):
        read = {".gpkg": geopandas.read_file, ".parquet": geopandas.read_parquet, ".feather": geopandas.read_feather}
        located = read[suffix](output)
        assert located.crs == DEGREES
        np.testing.assert_array_equal(located.get_coordinates(), places.get_coordinates())
    assert listing(tmp_path) == sorted([source, output.name])


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("source", ["places.csv", "places.gpkg", "plain.parquet"])
def test_no_places_make_a_table_without_rows(field: StoredField, tmp_path: Path, suffix: str, source: str) -> None:
    path = save(points(random_places(1)[:0]), tmp_path / source)
    found = sample_file(field, path, tmp_path / f"table{suffix}")
    assert (found.rows, found.statuses) == (0, {})
    table = READERS[suffix](found.path)
    assert len(table) == 0
    assert {"number", *BANDS, "status"} <= set(table.columns)


def test_a_geopackage_of_coordinates_has_points_where_there_are_any(field: StoredField, tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("lon,lat\n8,47\n,47\n352.5,50\n0,95\ninf,3\n")
    found = sample_file(field, tmp_path / "places.csv", tmp_path / "table.gpkg")
    table = geopandas.read_file(found.path)
    assert table["status"].tolist() == ["valid", "missing", "valid", "invalid", "invalid"]
    assert table.crs == DEGREES
    assert table.geometry.isna().tolist() == [False, True, False, False, True]
    # Maps begin at -180.
    assert table.geometry[2] == shapely.Point(-7.5, 50)


def test_a_geopackage_of_coordinates_in_a_plane_is_in_it(field: StoredField, tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("x,y\n2600000,1200000\n")
    found = sample_file(field, open_places(tmp_path / "places.csv", crs="EPSG:2056"), tmp_path / "table.gpkg")
    table = geopandas.read_file(found.path)
    assert table.crs == "EPSG:2056"
    assert table.geometry[0] == shapely.Point(2_600_000, 1_200_000)


def test_a_geopackage_of_coordinates_beside_a_column_called_geometry(field: StoredField, tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("lon,lat,geometry\n8,47,mine\n")
    found = sample_file(field, tmp_path / "places.csv", tmp_path / "table.csv")
    assert pd.read_csv(found.path)["geometry"].tolist() == ["mine"]
    with pytest.raises(PlacesError, match="geometry"):
        sample_file(field, tmp_path / "places.csv", tmp_path / "table.gpkg")


def test_a_table_that_exists_is_refused_before_anything_is_read(field: StoredField, tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_text("mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        sample_file(field, tmp_path / "is not there.csv", tmp_path / "table.parquet")
    assert (tmp_path / "table.parquet").read_text() == "mine"
    path = save(points(random_places(5)), tmp_path / "places.csv")
    assert sampled(field, path, tmp_path / "table.parquet", overwrite=True).num_rows == 5


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("divide", [False, True])
def test_a_crash_in_the_middle_leaves_nothing(
    tmp_path: Path, request: pytest.FixtureRequest, suffix: str, divide: bool
) -> None:
    if divide:
        request.getfixturevalue("small")
    broken = Breaking(bumpy(2, 300, 200), KeyboardInterrupt, 128)
    places = shapes(shapely.buffer(shapely.points(np.random.default_rng(0).uniform([-9, 21], [9, 49], (300, 2))), 0.2))
    save(places, tmp_path / "places.gpkg")
    (tmp_path / f"table{suffix}").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        sample_file(broken, tmp_path / "places.gpkg", tmp_path / f"table{suffix}", stats="mean", overwrite=True)
    assert broken.broke
    assert listing(tmp_path) == sorted(["places.gpkg", f"table{suffix}"])
    assert (tmp_path / f"table{suffix}").read_text() == "mine"


def test_a_disk_without_room_is_refused_before_work(
    field: StoredField, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    path = save(points(random_places(500)), tmp_path / "places.csv")
    reads = reads_of_blocks(monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10_000, 5000, 5000))
    with pytest.raises(StorageError, match=r"Sampling needs .* 5.* are free\. Make room there"):
        sample_file(field, path, tmp_path / "table.parquet")
    assert not reads
    assert listing(tmp_path) == ["places.csv"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, 10**9))
    assert sampled(field, path, tmp_path / "table.parquet").num_rows == 500


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder in which not even root may write")
def test_a_folder_that_may_not_be_written_is_said_as_such(field: StoredField, tmp_path: Path) -> None:
    path = save(points(random_places(5)), tmp_path / "places.csv")
    with pytest.raises(StorageError, match=r"Cannot write /proc/self/table\.parquet"):
        sample_file(field, path, "/proc/self/table.parquet")


def test_a_file_that_changes_while_it_is_read_is_no_table_of_wrong_rows(
    field: StoredField, tmp_path: Path, small: None
) -> None:
    path = save(points(random_places(300)), tmp_path / "plain.parquet")

    def shorten(doing: str) -> None:
        if doing == "writing the table":
            save(points(random_places(100)), path)

    with pytest.raises((ValueError, PlacesError)):
        sample_file(field, path, tmp_path / "table.parquet", step=shorten)
    assert listing(tmp_path) == ["plain.parquet"]


# 6. However many places, the memory is the same.

SAMPLE = """
import sys
from embedfield import stream as module
from embedfield.formats import open_field
module.HELD = 8 * 2**20
with open_field(sys.argv[1]) as field:
    found = module.sample_file(field, sys.argv[2], sys.argv[3])
with open("/proc/self/status") as status:
    print(found.rows, next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def many(path: Path, count: int) -> Path:
    """Write so many random places, in groups."""
    schema = pa.schema([("id", pa.int64()), ("lon", pa.float64()), ("lat", pa.float64())])
    generator = np.random.default_rng(6)
    with pa.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, count, 100_000):
            rows = min(100_000, count - start)
            lon, lat = generator.uniform(-11, 20, rows), generator.uniform(34, 60, rows)
            writer.write_table(pa.table({"id": np.arange(start, start + rows), "lon": lon, "lat": lat}, schema=schema))
    return path


def peak(field: Path, places: Path) -> int:
    """Return the most memory, in megabytes, that sampling takes in a process of its own."""
    words = [sys.executable, "-c", SAMPLE, str(field), str(places), str(places.with_suffix(".table.parquet"))]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == pa.parquet.ParquetFile(places).metadata.num_rows
    return kilobytes // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the most memory a process had")
def test_memory_does_not_grow_with_the_number_of_places(tmp_path: Path) -> None:
    grid = Grid(west=-10.0, north=60.0, res=0.1, width=300, height=260)
    waves = np.sin(np.arange(64)[:, None, None] + np.add.outer(np.arange(260), np.arange(300)) / 40)
    write_field(ArrayField(waves, grid, card("waves", 64)), tmp_path / "waves.tif", dtype="uint8").close()
    few, lots = (
        peak(tmp_path / "waves.tif", many(tmp_path / f"{count}.parquet", count)) for count in (200_000, 2_000_000)
    )
    assert abs(lots - few) < 60


def test_a_million_points_are_sampled_in_order(field: StoredField, tmp_path: Path) -> None:
    found = sample_file(field, many(tmp_path / "places.parquet", 1_000_000), tmp_path / "table.parquet")
    assert found.rows == 1_000_000
    table = pa.parquet.read_table(tmp_path / "table.parquet")
    assert table["id"].to_numpy().tolist() == list(range(1_000_000))
    lonlat = np.column_stack((table["lon"].to_numpy(), table["lat"].to_numpy()))[::997]
    some = table.take(np.arange(0, 1_000_000, 997))
    np.testing.assert_array_equal(values(some, BANDS), field.at(lonlat))
