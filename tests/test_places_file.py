"""Places are read from any usual file, batch by batch, and no row is lost or guessed."""

from __future__ import annotations

import json
import sqlite3
import struct
import subprocess
import sys
import textwrap
import zipfile
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
from hypothesis import given
from hypothesis import strategies as st

from embedfield.errors import PlacesError
from embedfield.located import lonlat_of
from embedfield.tables import coordinates_of
from embedfield.tables.columns import Numbering, as_type
from embedfield.tables.places_file import PlacesFile, open_places, read_places

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONLAT = np.array([[8.54, 47.37], [-70.66, -33.45], [0.0, 0.0], [139.69, 35.69]])
NAMES = ["Zürich", "Santiago", "Null Island", "東京"]
SHAPES = [
    shapely.Point(1, 2),
    shapely.MultiPoint([(0, 0), (1, 1)]),
    shapely.LineString([(0, 0), (5, 1)]),
    shapely.MultiLineString([[(0, 0), (5, 1)], [(2, 2), (3, 3)]]),
    shapely.box(0, 0, 9, 9).difference(shapely.box(3, 3, 4, 4)),
    shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(3, 3, 4, 4)]),
    shapely.GeometryCollection([shapely.Point(0, 0), shapely.box(3, 3, 4, 4)]),
]


def table(lon: str = "lon", lat: str = "lat") -> pd.DataFrame:
    """Return named places as columns of numbers."""
    return pd.DataFrame({"name": NAMES, lon: LONLAT[:, 0], lat: LONLAT[:, 1]})


def points(crs: str | None = "EPSG:4326") -> geopandas.GeoDataFrame:
    """Return named places as points."""
    return geopandas.GeoDataFrame({"name": NAMES}, geometry=geopandas.points_from_xy(*LONLAT.T), crs=crs)


def write_csv(path: Path) -> None:
    table().to_csv(path, index=False)


def write_tsv(path: Path) -> None:
    table().to_csv(path, index=False, sep="\t")


def write_parquet(path: Path) -> None:
    table().to_parquet(path)


def write_feather(path: Path) -> None:
    table().to_feather(path)


def write_geoparquet(path: Path) -> None:
    points().to_parquet(path)


def write_geofeather(path: Path) -> None:
    points().to_feather(path)


def write_vector(path: Path) -> None:
    points().to_file(path)


def write_zipped(path: Path) -> None:
    folder = path.parent / "unzipped"
    folder.mkdir()
    points().to_file(folder / "places.shp")
    with zipfile.ZipFile(path, "w") as archive:
        for part in folder.iterdir():
            archive.write(part, part.name)


PLAIN: dict[str, Callable[[Path], None]] = {
    "places.csv": write_csv,
    "places.CSV": write_csv,
    "places.tsv": write_tsv,
    "places.parquet": write_parquet,
    "places.feather": write_feather,
}
LOCATED: dict[str, Callable[[Path], None]] = {
    "located.parquet": write_geoparquet,
    "located.geoparquet": write_geoparquet,
    "located.feather": write_geofeather,
    "located.arrow": write_geofeather,
    "places.geojson": write_vector,
    "places.gpkg": write_vector,
    "places.shp": write_vector,
    "places.fgb": write_vector,
    "shapes.zip": write_zipped,
}
KINDS = PLAIN | LOCATED


def made(folder: Path, name: str) -> Path:
    KINDS[name](folder / name)
    return folder / name


def whole(places: PlacesFile, rows: int = 65_536) -> pa.Table:
    """Return all rows of a file, from its batches."""
    return pa.concat_tables([places.schema.empty_table(), *(batch.table for batch in places.batches(rows))])


def refusal(call: Callable[[], object]) -> str:
    """Return the one line of a refusal."""
    with pytest.raises(PlacesError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# All kinds of files


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_its_places(tmp_path: Path, name: str) -> None:
    places = read_places(made(tmp_path, name))
    # A FlatGeobuf with an index is in the index's order.
    order = [NAMES.index(known) for known in places["name"]]
    assert sorted(order) == [0, 1, 2, 3]
    assert order == [0, 1, 2, 3] or name == "places.fgb"
    np.testing.assert_array_equal(lonlat_of(places), LONLAT[order])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("rows", [1, 3, 4, 1000])
def test_batches_have_as_many_rows_as_asked_and_together_all(tmp_path: Path, name: str, rows: int) -> None:
    places = open_places(made(tmp_path, name))
    sizes = [batch.table.num_rows for batch in places.batches(rows)]
    assert sizes == [rows] * (4 // rows) + [4 % rows] * (4 % rows > 0)
    assert places.count == 4
    assert all(batch.table.schema == places.schema for batch in places.batches(rows))
    assert sorted(whole(places, rows)["name"].to_pylist()) == sorted(NAMES)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_may_be_read_twice_at_once(tmp_path: Path, name: str) -> None:
    places = open_places(made(tmp_path, name))
    both = list(zip(places.batches(1), places.batches(1), strict=True))
    assert len(both) == 4
    assert all(first.table == second.table for first, second in both)


@pytest.mark.parametrize("name", LOCATED)
def test_a_file_of_geometries_becomes_a_geodataframe(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    found = read_places(path)
    assert isinstance(found, geopandas.GeoDataFrame)
    assert found.crs == "EPSG:4326"
    assert found.active_geometry_name == "geometry"
    places = open_places(path)
    assert (places.crs, places.geometry, places.lonlat) == ("EPSG:4326", "geometry", None)
    assert places.schema.names == ["name", "geometry"]
    assert places.schema.field("geometry").type in (pa.binary(), pa.large_binary())
    batch = next(places.batches())
    assert batch.xy is None
    assert shapely.from_wkb(batch.table["geometry"].to_numpy()).tolist() == found.geometry.tolist()
    assert batch.geometries is not None
    assert batch.geometries.tolist() == found.geometry.tolist()


@pytest.mark.parametrize("name", PLAIN)
def test_a_file_of_columns_becomes_a_table_of_coordinates(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    places = open_places(path)
    assert (places.crs, places.geometry, places.lonlat) == ("EPSG:4326", None, ("lon", "lat"))
    batch = next(places.batches())
    assert batch.geometries is None
    np.testing.assert_array_equal(batch.xy, LONLAT)
    pd.testing.assert_frame_equal(read_places(path), table())


@pytest.mark.parametrize("name", ["all.gpkg", "all.geojson", "all.fgb", "all.parquet", "all.feather"])
def test_geometries_of_all_kinds_are_those_that_geopandas_reads(tmp_path: Path, name: str) -> None:
    made_of = geopandas.GeoDataFrame(
        {"n": range(len(SHAPES) + 1)}, geometry=[*SHAPES, None], crs="EPSG:4326" if "json" in name else "EPSG:2056"
    )
    if name.endswith("feather"):
        made_of.to_feather(tmp_path / name)
    elif name.endswith("parquet"):
        made_of.to_parquet(tmp_path / name)
    else:
        made_of.to_file(tmp_path / name, **({"SPATIAL_INDEX": "NO"} if name.endswith("fgb") else {}))
    found = read_places(tmp_path / name)
    assert found.crs == made_of.crs
    assert found["n"].tolist() == made_of["n"].tolist()
    assert found.geometry.tolist() == made_of.geometry.tolist()


@pytest.mark.parametrize("name", ["z.gpkg", "z.shp", "z.parquet", "z.geojson"])
def test_heights_stay_in_the_files_own_column(tmp_path: Path, name: str) -> None:
    made_of = geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.Point(1, 2, 3)], crs="EPSG:4326")
    (made_of.to_parquet if name.endswith("parquet") else made_of.to_file)(tmp_path / name)
    kept = whole(open_places(tmp_path / name))["geometry"].to_pylist()
    assert shapely.from_wkb(kept[0]).coords[0] == (1, 2, 3)


def test_columns_keep_their_types_and_their_order(tmp_path: Path) -> None:
    kept = pa.table(
        {
            "when": pa.array([0, None], pa.timestamp("us", tz="UTC")),
            "lat": pa.array([1, 2], pa.float32()),
            "class": pa.array(["a", None]).dictionary_encode(),
            "count": pa.array([1, None], pa.int16()),
            "day": pa.array([1, None], pa.date32()),
            "lon": pa.array([3, 4], pa.int8()),
            "sure": pa.array([True, None]),
            "list": pa.array([[1.0], None], pa.list_(pa.float32())),
        }
    )
    pyarrow.parquet.write_table(kept, tmp_path / "p.parquet")
    pyarrow.feather.write_feather(kept, str(tmp_path / "p.feather"))
    for name in ("p.parquet", "p.feather"):
        places = open_places(tmp_path / name)
        assert places.schema == kept.schema
        assert whole(places).to_pydict() == kept.to_pydict()
        np.testing.assert_array_equal(next(places.batches()).xy, [[3, 1], [4, 2]])


def test_a_vector_files_columns_are_those_that_pyogrio_reads(tmp_path: Path) -> None:
    made_of = points().assign(
        n=[1, None, 3, 4], when=pd.Timestamp("2020-02-03T04:05:06Z"), sure=[True, False, True, True]
    )
    made_of.to_file(tmp_path / "p.gpkg")
    found, wanted = read_places(tmp_path / "p.gpkg"), geopandas.read_file(tmp_path / "p.gpkg")
    pd.testing.assert_frame_equal(found, wanted)


def test_numbers_of_features_are_no_column(tmp_path: Path) -> None:
    for name in ("places.gpkg", "places.fgb", "places.shp"):
        assert open_places(made(tmp_path, name)).schema.names == ["name", "geometry"]


def test_nested_properties_of_geojson_stay_as_json(tmp_path: Path) -> None:
    place = {"type": "Point", "coordinates": [1, 2]}
    feature = {"type": "Feature", "properties": {"a": {"k": 1}, "l": [1, 2]}, "geometry": place}
    (tmp_path / "p.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    found = whole(open_places(tmp_path / "p.geojson")).to_pydict()
    assert json.loads(found["a"][0]) == {"k": 1}
    assert found["l"] == [[1, 2]]


@pytest.mark.parametrize(
    ("times", "kind", "first"),
    [
        (["2020-01-01T00:00:00Z", "2020-01-01T00:00:00+02:00", None], "timestamp[ms, tz=UTC]", "2020-01-01 00:00:00Z"),
        (["2020-01-01T00:00:00", None], "timestamp[ms]", "2020-01-01 00:00:00"),
        (["2020-01-01T00:00:00", "2020-01-01T00:00:00+02:00"], "string", "2020-01-01T00:00:00"),
    ],
)
def test_times_of_different_zones_stay_the_times_they_are(
    tmp_path: Path, times: list[str | None], kind: str, first: str
) -> None:
    place = {"type": "Point", "coordinates": [1, 2]}
    features = [{"type": "Feature", "properties": {"t": time}, "geometry": place} for time in times]
    (tmp_path / "p.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    places = open_places(tmp_path / "p.geojson")
    assert str(places.schema.field("t").type) == kind
    found = whole(places, 1)["t"]
    assert str(found.cast(pa.string())[0]).removesuffix(".000Z").removesuffix(".000") == first.removesuffix("Z")
    if kind.endswith("UTC]"):
        wanted = geopandas.read_file(tmp_path / "p.geojson")["t"]
        assert found.to_pandas().tolist()[:2] == wanted.tolist()[:2]


def test_times_of_a_flatgeobuf_keep_their_zone(tmp_path: Path) -> None:
    points().assign(when=pd.Timestamp("2020-02-03T04:05:06Z")).to_file(tmp_path / "p.fgb")
    found, wanted = read_places(tmp_path / "p.fgb"), geopandas.read_file(tmp_path / "p.fgb")
    assert found["when"].tolist() == wanted["when"].tolist()


def test_a_property_called_geometry_does_not_hide_the_geometry(tmp_path: Path) -> None:
    place = {"type": "Point", "coordinates": [1, 2]}
    feature = {"type": "Feature", "properties": {"geometry": "round"}, "geometry": place}
    (tmp_path / "p.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    places = open_places(tmp_path / "p.geojson")
    assert places.geometry is not None
    assert whole(places)["geometry"].to_pylist() == ["round"]
    assert read_places(tmp_path / "p.geojson").active_geometry_name == places.geometry
    assert next(places.batches()).geometries == [shapely.Point(1, 2)]


def test_a_table_without_geometry_in_a_geopackage_has_coordinates_in_columns(tmp_path: Path) -> None:
    pyogrio.write_dataframe(table(), tmp_path / "p.gpkg")
    places = open_places(tmp_path / "p.gpkg")
    assert places.lonlat == ("lon", "lat")
    np.testing.assert_array_equal(next(places.batches()).xy, LONLAT)


def test_deleted_features_of_a_shapefile_are_not_counted(tmp_path: Path) -> None:
    path = made(tmp_path, "places.shp")
    records = bytearray(path.with_suffix(".dbf").read_bytes())
    records[int.from_bytes(records[8:10], "little")] = ord("*")
    path.with_suffix(".dbf").write_bytes(records)
    places = open_places(path)
    assert places.count == 3 == whole(places).num_rows


@pytest.mark.parametrize("name", ["places.gpkg", "places.fgb"])
def test_features_without_geometry_are_missing(tmp_path: Path, name: str) -> None:
    bare = points()
    bare.loc[1, "geometry"] = None
    bare.to_file(tmp_path / name, **({"SPATIAL_INDEX": "NO"} if name.endswith("fgb") else {}))
    (batch,) = open_places(tmp_path / name).batches()
    assert batch.geometries is not None
    assert [shape is None for shape in batch.geometries] == [False, True, False, False]
    assert batch.table["geometry"].is_null().to_pylist() == [False, True, False, False]


def test_geometries_that_cannot_be_read_are_nowhere_and_not_missing(tmp_path: Path) -> None:
    """A ring may be left open: it is closed."""
    good, left_open = shapely.to_wkb(shapely.Point(1, 2)), struct.pack("<BIII8d", 1, 3, 1, 4, 0, 0, 1, 0, 1, 1, 0, 1)
    arc = struct.pack("<BII6d", 1, 8, 3, 0, 0, 1, 1, 2, 0)
    write_wkb(tmp_path / "p.parquet", [good, b"\x01none", None, left_open])
    (batch,) = open_places(tmp_path / "p.parquet").batches()
    assert batch.geometries is not None
    assert batch.geometries[0] == shapely.Point(1, 2)
    assert not np.isfinite(shapely.get_coordinates(batch.geometries[1])).any()
    assert batch.geometries[2] is None
    assert batch.geometries[3].equals(shapely.box(0, 0, 1, 1))
    write_wkb(tmp_path / "a.parquet", [good, arc])
    (batch,) = open_places(tmp_path / "a.parquet").batches()
    assert batch.geometries is not None
    assert batch.geometries[0] == shapely.Point(1, 2)
    assert not np.isfinite(shapely.get_coordinates(batch.geometries[1])).any()


def write_wkb(path: Path, wkb: list[bytes | None], **said: Any) -> None:
    """Write GeoParquet of a column of bytes, with metadata by hand."""
    geo = {"version": "1.1.0", "primary_column": "shape", "columns": {"shape": {"encoding": "WKB", **said}}}
    schema = pa.schema([("shape", pa.binary())], metadata={"geo": json.dumps(geo)})
    pyarrow.parquet.write_table(pa.table({"shape": wkb}, schema=schema), path)


def test_arcs_become_lines(tmp_path: Path) -> None:
    """The arc from (0, 0) over (1, 1) to (2, 0) is half a circle: its length is pi."""
    arc = struct.pack("<BII6d", 1, 8, 3, 0, 0, 1, 1, 2, 0)
    line = shapely.to_wkb(shapely.LineString([(0, 0), (1, 0)]))
    pyogrio.write_arrow(
        pa.table({"n": [1, 2, 3], "geom": pa.array([line, arc, None], pa.binary())}),
        tmp_path / "p.gpkg", geometry_name="geom", geometry_type="Unknown", crs="EPSG:2056",
    )  # fmt: skip
    for rows in (1, 2, 10):
        shapes = np.concatenate([batch.geometries for batch in open_places(tmp_path / "p.gpkg").batches(rows)])
        np.testing.assert_allclose(shapely.length(shapes), [1, np.pi, np.nan], rtol=1e-3)
    (only,) = open_places(tmp_path / "p.gpkg", where="n > 1").batches(1000)
    assert only.geometries is not None
    np.testing.assert_allclose(shapely.length(only.geometries), [np.pi, np.nan], rtol=1e-3)


# Layers and conditions


def write_layers(path: Path) -> None:
    points().to_file(path, layer="cities")
    points().head(2).to_file(path, layer="towns")


def test_a_layer_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    write_layers(tmp_path / "p.gpkg")
    assert "several layers: cities, towns. Name one with --layer." in refusal(lambda: open_places(tmp_path / "p.gpkg"))
    assert open_places(tmp_path / "p.gpkg", layer="towns").count == 2
    assert len(read_places(tmp_path / "p.gpkg", layer="cities")) == 4
    said = refusal(lambda: open_places(tmp_path / "p.gpkg", layer="villages"))
    assert "no layer 'villages'. Choose from: cities, towns." in said


@pytest.mark.parametrize("name", ["places.gpkg", "places.geojson", "places.shp", "places.fgb", "shapes.zip"])
def test_a_condition_chooses_features_as_in_pyogrio(tmp_path: Path, name: str) -> None:
    path, where = made(tmp_path, name), "name IN ('Zürich', '東京')"
    places = open_places(path, where=where)
    assert places.count == 2
    assert whole(places, 1)["name"].to_pylist() == pyogrio.read_dataframe(path, where=where)["name"].tolist()
    assert open_places(path, where="name = 'nobody'").count == 0
    assert list(open_places(path, where="name = 'nobody'").batches()) == []


@pytest.mark.parametrize("name", ["places.gpkg", "places.geojson", "places.shp", "places.fgb"])
@pytest.mark.parametrize("where", ["nam = 'a'", "name ===", "1; DROP TABLE places"])
def test_a_condition_that_cannot_be_asked_is_refused_with_the_columns(tmp_path: Path, name: str, where: str) -> None:
    path = made(tmp_path, name)
    before = path.read_bytes()
    said = refusal(lambda: open_places(path, where=where))
    assert "where=" in said
    assert "its columns are: name." in said
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["places.csv", "places.parquet", "located.feather"])
def test_layers_and_conditions_are_refused_of_files_that_have_none(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    assert "has no layers. Leave --layer out." in refusal(lambda: open_places(path, layer="cities"))
    assert "--where" in refusal(lambda: open_places(path, where="name = 'a'"))


# Reference systems


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:2056"])
@pytest.mark.parametrize("name", ["p.gpkg", "p.shp", "p.parquet"])
def test_another_reference_system_gives_the_same_degrees(tmp_path: Path, crs: str, name: str) -> None:
    lonlat = np.array([[8.54, 47.37], [6.14, 46.2], [10.0, 46.5]])
    east, north = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*lonlat.T)
    made_of = geopandas.GeoDataFrame({"n": [1, 2, 3]}, geometry=geopandas.points_from_xy(east, north), crs=crs)
    (made_of.to_parquet if name.endswith("parquet") else made_of.to_file)(tmp_path / name)
    assert open_places(tmp_path / name).crs == crs
    np.testing.assert_allclose(lonlat_of(read_places(tmp_path / name)), lonlat, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["p.shp", "p.gpkg", "p.fgb", "p.parquet", "p.feather"])
def test_a_file_without_a_reference_system_needs_one_given(tmp_path: Path, name: str) -> None:
    write = {"parquet": "to_parquet", "feather": "to_feather"}.get(name.partition(".")[2], "to_file")
    made_of = points("EPSG:4326" if name == "p.shp" else None)
    if write == "to_file" and name != "p.shp":
        with pytest.warns(UserWarning, match="'crs' was not provided"):
            made_of.to_file(tmp_path / name)
    else:
        getattr(made_of, write)(tmp_path / name)
    (tmp_path / "p.prj").unlink(missing_ok=True)
    said = refusal(lambda: open_places(tmp_path / name))
    assert "does not say its reference system" in said
    assert "--crs" in said
    places = read_places(tmp_path / name, crs="EPSG:3857")
    assert places.crs == "EPSG:3857"
    assert open_places(tmp_path / name, crs="EPSG:3857").crs == "EPSG:3857"


@pytest.mark.parametrize("number", [0, -1])
def test_a_geopackage_that_says_undefined_says_nothing(tmp_path: Path, number: int) -> None:
    path = made(tmp_path, "places.gpkg")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE gpkg_contents SET srs_id = ?", (number,))
        database.execute("UPDATE gpkg_geometry_columns SET srs_id = ?", (number,))
    database.close()
    assert "--crs" in refusal(lambda: open_places(path))
    assert open_places(path, crs="EPSG:2056").crs == "EPSG:2056"


@pytest.mark.parametrize("name", LOCATED)
def test_a_reference_system_that_contradicts_the_file_is_refused(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    said = refusal(lambda: open_places(path, crs="EPSG:2056"))
    assert "says itself that its reference system is WGS 84" in said
    assert "CH1903+ / LV95" in said
    for same in ("EPSG:4326", "OGC:CRS84", pyproj.CRS(4326), pyproj.CRS(4326).to_wkt()):
        assert open_places(path, crs=same).crs == "EPSG:4326"


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        ("EPSG:999999", "no reference system that PROJ knows"),
        ("Switzerland", "no reference system that PROJ knows"),
        ("", "no reference system that PROJ knows"),
        ("EPSG:4978", "Geocentric CRS and no map of the globe"),
        ("EPSG:5728", "LN02 height is not on the Earth"),
        ("IAU_2015:30100", "not on the"),
    ],
)
@pytest.mark.parametrize("name", ["places.csv", "places.shp"])
def test_a_reference_system_that_is_none_is_refused(tmp_path: Path, name: str, crs: str, message: str) -> None:
    path = made(tmp_path, name)
    path.with_suffix(".prj").unlink(missing_ok=True)
    assert message in refusal(lambda: open_places(path, crs=crs))


def test_what_geoparquet_means_without_a_reference_system_is_degrees(tmp_path: Path) -> None:
    write_wkb(tmp_path / "p.parquet", [shapely.to_wkb(shapely.Point(1, 2))])
    places = open_places(tmp_path / "p.parquet")
    assert places.crs == "OGC:CRS84"
    assert places.geometry == "shape"
    assert b"geo" not in (places.schema.metadata or {})
    np.testing.assert_array_equal(lonlat_of(read_places(tmp_path / "p.parquet")), [[1, 2]])
    write_wkb(tmp_path / "n.parquet", [None], crs=None)
    assert "--crs" in refusal(lambda: open_places(tmp_path / "n.parquet"))


def test_a_reference_system_without_a_code_comes_as_wkt(tmp_path: Path) -> None:
    own = pyproj.CRS("+proj=laea +lat_0=10 +lon_0=20 +type=crs")
    geopandas.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=own).to_parquet(tmp_path / "p.parquet")
    assert pyproj.CRS.from_wkt(open_places(tmp_path / "p.parquet").crs) == own
    np.testing.assert_allclose(lonlat_of(read_places(tmp_path / "p.parquet")), [[20, 10]], rtol=0, atol=1e-9)


def test_geometries_in_another_encoding_are_refused(tmp_path: Path) -> None:
    points().to_parquet(tmp_path / "p.parquet", geometry_encoding="geoarrow")
    assert "in the encoding 'point', and only WKB is read" in refusal(lambda: open_places(tmp_path / "p.parquet"))


def test_geometries_that_only_geoarrow_marks_are_found(tmp_path: Path) -> None:
    marks = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": '{"crs": "EPSG:2056"}'}
    schema = pa.schema([pa.field("place", pa.binary(), metadata=marks), ("lon", pa.int8())])
    kept = pa.table({"place": [shapely.to_wkb(shapely.Point(1, 2))], "lon": [1]}, schema=schema)
    pyarrow.parquet.write_table(kept, tmp_path / "p.parquet")
    places = open_places(tmp_path / "p.parquet")
    assert (places.geometry, places.crs) == ("place", "EPSG:2056")
    assert next(places.batches()).geometries == [shapely.Point(1, 2)]


@pytest.mark.parametrize(
    "geo", ["{", "{}", "[]", '{"primary_column": "lon"}', '{"primary_column": "lon", "columns": 3}']
)
def test_damaged_metadata_are_refused(tmp_path: Path, geo: str) -> None:
    kept = pa.table({"lon": [1.0], "lat": [2.0]}).replace_schema_metadata({"geo": geo})
    pyarrow.parquet.write_table(kept, tmp_path / "p.parquet")
    assert "damaged" in refusal(lambda: open_places(tmp_path / "p.parquet"))


# Columns of coordinates


@pytest.mark.parametrize(
    ("lon", "lat"),
    [
        ("lon", "lat"),
        ("LON", "Lat"),
        ("Longitude", "LATITUDE"),
        ("lng", "lat"),
        ("long", "lat"),
        ("X", "Y"),
        ("decimalLongitude", "decimalLatitude"),
        (" lon ", " lat"),
    ],
)
def test_columns_are_found_by_usual_names_in_any_case(tmp_path: Path, lon: str, lat: str) -> None:
    table(lon, lat).to_csv(tmp_path / "places.csv", index=False)
    assert open_places(tmp_path / "places.csv").lonlat == (lon, lat)
    np.testing.assert_array_equal(lonlat_of(read_places(tmp_path / "places.csv")), LONLAT)


def test_columns_are_found_wherever_they_stand(tmp_path: Path) -> None:
    table()[["lat", "name", "lon"]].to_csv(tmp_path / "places.csv", index=False)
    np.testing.assert_array_equal(lonlat_of(read_places(tmp_path / "places.csv")), LONLAT)


def test_a_byte_order_mark_hides_no_column(tmp_path: Path) -> None:
    table()[["lon", "lat"]].to_csv(tmp_path / "places.csv", index=False, encoding="utf-8-sig")
    places = open_places(tmp_path / "places.csv")
    assert places.schema == pa.schema([("lon", pa.float64()), ("lat", pa.float64())])
    np.testing.assert_array_equal(next(places.batches()).xy, LONLAT)


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.feather"])
def test_columns_of_other_names_are_named_by_the_caller(tmp_path: Path, name: str) -> None:
    other = table("rechts", "hoch").assign(x=1.0, y=2.0)
    getattr(other, f"to_{name[2:]}")(tmp_path / name)
    places = read_places(tmp_path / name, lon="rechts", lat="hoch")
    np.testing.assert_array_equal(lonlat_of(places), LONLAT)
    np.testing.assert_array_equal(coordinates_of(places), LONLAT)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"rechts": [1.0], "hoch": [2.0]}, "no column of longitudes (lon, longitude, lng, long, x, decimallongitude)"),
        ({"rechts": [1.0], "hoch": [2.0]}, "its columns are: rechts, hoch. Name it with --lon COLUMN."),
        ({"lon": [1.0], "hoch": [2.0]}, "its columns are: lon, hoch. Name it with --lat COLUMN."),
        ({"lon": [1.0], "x": [2.0], "lat": [3.0]}, "several columns of longitudes (lon, x)"),
        ({"Lat": [1.0], "lat": [2.0], "lon": [3.0]}, "several columns of latitudes (Lat, lat)"),
    ],
)
@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_missing_or_ambiguous_columns_are_refused_with_the_columns_and_the_option(
    tmp_path: Path, name: str, columns: dict[str, list[float]], message: str
) -> None:
    made_of = pd.DataFrame(columns)
    made_of.to_csv(tmp_path / name, index=False) if name == "p.csv" else made_of.to_parquet(tmp_path / name)
    assert message in refusal(lambda: read_places(tmp_path / name))


def test_a_named_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    said = refusal(lambda: read_places(made(tmp_path, "places.csv"), lon="east"))
    assert "no column 'east'; its columns are: name, lon, lat." in said


@pytest.mark.parametrize("name", LOCATED)
def test_naming_a_column_of_a_file_with_geometries_is_refused(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    assert "has geometries of its own. Leave --lon and --lat out." in refusal(lambda: open_places(path, lon="name"))


def test_one_column_is_not_both_coordinates(tmp_path: Path) -> None:
    path = made(tmp_path, "places.csv")
    assert "Column 'lat' of" in refusal(lambda: open_places(path, lon="lat"))


def test_several_columns_of_a_name_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("lon,lat,a,b,a,b\n1,2,3,4,5,6\n")
    twice = pa.table([[1], [2], [3], [4]], names=["lon", "lat", "a", "a"])
    pyarrow.parquet.write_table(twice, tmp_path / "p.parquet")
    assert "p.csv has several columns named 'a', 'b'. Rename" in refusal(lambda: open_places(tmp_path / "p.csv"))
    assert "several columns named 'a'." in refusal(lambda: open_places(tmp_path / "p.parquet"))


def test_coordinates_of_a_given_reference_system_are_eastings_and_northings(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("Northing,Easting,lon\n1200000,2600000,9\n,2600000,9\n")
    places = open_places(tmp_path / "p.csv", crs="EPSG:2056")
    assert (places.lonlat, places.crs) == (("Easting", "Northing"), "EPSG:2056")
    np.testing.assert_array_equal(next(places.batches()).xy, [[2600000, 1200000], [2600000, np.nan]])
    # The old observatory of Bern, where the system has its origin (swisstopo).
    there = read_places(tmp_path / "p.csv", crs="EPSG:2056").head(1)
    np.testing.assert_allclose(lonlat_of(there), [[7.438632, 46.951083]], rtol=0, atol=2e-6)


def test_degrees_are_not_taken_for_metres(tmp_path: Path) -> None:
    path = made(tmp_path, "places.csv")
    assert "no column of eastings (easting, eastings, x)" in refusal(lambda: open_places(path, crs="EPSG:2056"))
    assert open_places(path, lon="lon", lat="lat", crs="EPSG:2056").lonlat == ("lon", "lat")
    assert open_places(path, crs="EPSG:4258").crs == "EPSG:4258"


# What cells mean


@pytest.mark.parametrize("cell", ["", "NA", "nan", "NaN", "None", '""'])
def test_an_empty_coordinate_is_a_place_that_is_missing(tmp_path: Path, cell: str) -> None:
    (tmp_path / "p.csv").write_text(f"lon,lat\n1,2\n{cell},5\n")
    places = open_places(tmp_path / "p.csv")
    np.testing.assert_array_equal(next(places.batches()).xy, [[1, 2], [np.nan, 5]])
    assert "Place 1, " in refusal(lambda: lonlat_of(read_places(tmp_path / "p.csv")))


@pytest.mark.parametrize("kind", [pa.float32(), pa.int64(), pa.string(), pa.decimal128(22, 3)])
def test_an_empty_coordinate_of_any_type_is_a_place_that_is_missing(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {"lon": pa.array([1, None], pa.int64()).cast(kind), "lat": pa.array([2.5, np.nan])}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "p.parquet")
    places = open_places(tmp_path / "p.parquet")
    assert places.schema.field("lon").type == kind
    np.testing.assert_array_equal(next(places.batches()).xy, [[1, 2.5], [np.nan, np.nan]])


@pytest.mark.parametrize("cell", ["east", "8°32'", "8,5", "1e", "0x10", "True", "--"])
def test_text_that_is_no_coordinate_is_refused_before_the_first_batch(tmp_path: Path, cell: str) -> None:
    (tmp_path / "p.csv").write_text(f'lon,lat\n1,2\nNA,2\n"{cell}",5\n')
    said = refusal(lambda: open_places(tmp_path / "p.csv"))
    assert f"Column 'lon' holds what is no number: {cell!r} at place 2." in said
    pyarrow.parquet.write_table(pa.table({"lon": ["1", cell], "lat": [1, 2]}), tmp_path / "p.parquet")
    assert f"{cell!r} at place 1." in refusal(lambda: read_places(tmp_path / "p.parquet"))


def test_the_place_of_a_bad_coordinate_is_counted_from_the_first_row(tmp_path: Path) -> None:
    cells = ["1"] * 100_000
    cells[77_777] = "oops"
    pyarrow.parquet.write_table(pa.table({"lon": cells, "lat": [1.0] * 100_000}), tmp_path / "p.parquet")
    assert "'oops' at place 77777." in refusal(lambda: open_places(tmp_path / "p.parquet"))


@pytest.mark.parametrize("kind", [pa.bool_(), pa.date32(), pa.list_(pa.float64())])
def test_columns_that_cannot_be_coordinates_are_refused(tmp_path: Path, kind: pa.DataType) -> None:
    pyarrow.parquet.write_table(pa.table({"lon": pa.nulls(1, kind), "lat": [1.0]}), tmp_path / "p.parquet")
    assert "Column 'lon' holds what is no number" in refusal(lambda: open_places(tmp_path / "p.parquet"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5", 1.5),
        ("+1.5", 1.5),
        (" 1.5 ", 1.5),
        ("1e1", 10.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("008.25", 8.25),
        ("-0", 0.0),
    ],
)
def test_coordinates_are_read_in_all_the_ways_numbers_are_written(tmp_path: Path, text: str, value: float) -> None:
    (tmp_path / "p.csv").write_text(f"lon,lat\n{text},2\n")
    pyarrow.parquet.write_table(
        pa.table({"lon": pa.array([text]).dictionary_encode(), "lat": [2]}), tmp_path / "p.parquet"
    )
    for name in ("p.csv", "p.parquet"):
        np.testing.assert_array_equal(next(open_places(tmp_path / name).batches()).xy, [[value, 2]])
        np.testing.assert_array_equal(coordinates_of(read_places(tmp_path / name)), [[value, 2]])


@pytest.mark.parametrize(
    ("lon", "lat", "message"),
    [
        ("4", "inf", "Place 1, (lon, lat) = (4, inf), is not a pair of finite numbers"),
        ("4", "90.001", "has a latitude outside [-90, 90]"),
        ("-180.5", "5", "has a longitude outside [-180, 360)"),
        ("360", "5", "has a longitude outside [-180, 360)"),
    ],
)
def test_coordinates_out_of_range_are_read_and_refused_as_places(
    tmp_path: Path, lon: str, lat: str, message: str
) -> None:
    (tmp_path / "places.csv").write_text(f"lon,lat\n1,2\n{lon},{lat}\n")
    places = read_places(tmp_path / "places.csv")
    assert message in refusal(lambda: lonlat_of(places))


def test_cells_keep_their_meaning(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("lon,lat,iso,fips,income,note\n17.1,-22.6,NA,01001,NA,\n-86.6,32.5,US,01003,5,x\n")
    found = read_places(tmp_path / "p.csv")
    assert found["iso"].tolist() == ["NA", "US"]  # Namibia
    assert found["fips"].tolist() == ["01001", "01003"]
    assert found["income"].isna().tolist() == [True, False]
    assert found["income"][1] == 5
    assert found["note"].isna().tolist() == [True, False]
    assert found["lat"].dtype == np.float64


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2", "+3"], pa.int64()),
        (["1", ""], pa.float64()),
        (["1", "NA"], pa.float64()),
        (["1", "2.0"], pa.float64()),
        (["1e3", "2"], pa.float64()),
        (["0", "0.5"], pa.float64()),
        (["1", "inf"], pa.float64()),
        (["1", "007"], pa.string()),
        (["-01"], pa.string()),
        (["1", "A"], pa.string()),
        (["NA", ""], pa.string()),
        (["", ""], pa.string()),
        (["True", "False"], pa.string()),
        (["9223372036854775807", "-9223372036854775808"], pa.int64()),
        (["9223372036854775808"], pa.string()),
        (["9007199254740993", "NA"], pa.string()),
        (["9007199254740993", "1.5"], pa.float64()),
        (["9007199254740992", "NA"], pa.float64()),
    ],
)
def test_the_whole_of_a_column_decides_what_it_holds(tmp_path: Path, cells: list[str], kind: pa.DataType) -> None:
    rows = [f"1,2,{cell}\n" for cell in cells]
    (tmp_path / "p.csv").write_text("lon,lat,c\n" + "".join(rows))
    places = open_places(tmp_path / "p.csv")
    assert places.schema.field("c").type == kind
    kept = whole(places, 1)["c"].to_pylist()
    gaps = ("",) if kind == pa.string() else ("", "NA")
    number: Any = {"string": str, "int64": int, "double": float}[str(kind)]
    assert kept == [None if cell in gaps else number(cell) for cell in cells]


def test_a_long_column_of_numbers_and_one_word_is_text_in_every_batch(tmp_path: Path) -> None:
    count = 1_500_000
    (tmp_path / "long.csv").write_text("lon,lat,code\n" + "1,2,3\n" * count + "1,2,A\n")
    assert (tmp_path / "long.csv").stat().st_size > 8 << 20
    places = open_places(tmp_path / "long.csv")
    assert places.count == count + 1
    assert places.schema.types == [pa.int64(), pa.int64(), pa.string()]
    last = None
    for batch in places.batches(100_000):
        last = batch.table["code"].to_pylist()[-1]
        assert batch.table.schema == places.schema
    assert last == "A"


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_numbers_come_back_to_the_last_bit(values: list[float]) -> None:
    cells = pa.array([repr(value) for value in values])
    column = Numbering()
    column.see(cells)
    assert column.type == pa.float64()
    assert as_type(cells, column.type).to_pylist() == values


@given(st.lists(st.one_of(st.integers(), st.text(), st.none(), st.sampled_from(["NA", "1.5", "007"])), min_size=1))
def test_no_cell_is_lost_whatever_it_says(values: list[Any]) -> None:
    cells = pa.array([None if value is None else str(value) for value in values], pa.string())
    column = Numbering()
    for cell in range(len(cells)):
        column.see(cells[cell : cell + 1])
    for before, after in zip(cells.to_pylist(), as_type(cells, column.type).to_pylist(), strict=True):
        if column.type == pa.string():
            assert after == before
        else:
            assert after == (None if before in (None, "NA") else float(before))


# Delimited text as it comes


@pytest.mark.parametrize("name", ["P.CSV", "p.Tsv"])
def test_suffixes_in_capitals_mean_the_same(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("lon,lat\n1,2\n".replace(",", "\t" if name.endswith("Tsv") else ","))
    assert lonlat_of(read_places(tmp_path / name)).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quoted_cells_may_hold_anything(tmp_path: Path, end: str) -> None:
    text = ['"a, ""b"""', f'"two{end}lines"', "plain", '"12"']
    rows = "".join(f"{cell},1,2{end}" for cell in text)
    (tmp_path / "p.csv").write_bytes(f"note,lon,lat{end}{rows}{end}".encode())
    assert read_places(tmp_path / "p.csv")["note"].tolist() == ['a, "b"', f"two{end}lines", "plain", "12"]


@pytest.mark.parametrize("before", [0, 100_000])
def test_a_cell_may_be_longer_than_what_is_read_at_a_time(tmp_path: Path, before: int) -> None:
    long = "POLYGON" * 600_000
    (tmp_path / "p.csv").write_text("note,lon,lat\n" + "short,1,2\n" * before + f'"{long}",1,2\nlast,1,2\n')
    places = open_places(tmp_path / "p.csv")
    assert places.count == before + 2
    assert whole(places)["note"].to_pylist()[-2:] == [long, "last"]


@pytest.mark.parametrize("text", ["lon,lat", "lon,lat\n", "lon,lat\r\n\r\n", "\n\nlon,lat\n", '"lon","lat"'])
def test_a_header_without_rows_gives_no_places(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_bytes(text.encode())
    places = open_places(tmp_path / "p.csv")
    assert (places.count, list(places.batches()), places.schema.names) == (0, [], ["lon", "lat"])
    assert coordinates_of(read_places(tmp_path / "p.csv")).shape == (0, 2)


def test_a_column_without_a_name_gets_one(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "p.csv")
    assert open_places(tmp_path / "p.csv").schema.names == ["Unnamed: 0", "name", "lon", "lat"]
    assert read_places(tmp_path / "p.csv").columns.tolist() == pd.read_csv(tmp_path / "p.csv").columns.tolist()


@pytest.mark.parametrize("rows", ["1,2\n3,4,5,6\n", "1,2,3\n4,5,6\n", "1,2\n3\n", "1,2\n3,4\n5"])
def test_rows_with_a_wrong_number_of_cells_are_refused(tmp_path: Path, rows: str) -> None:
    (tmp_path / "p.csv").write_text("lon,lat\n" + rows)
    said = refusal(lambda: open_places(tmp_path / "p.csv"))
    assert "cannot be read" in said
    assert "Expected 2 columns" in said


@pytest.mark.parametrize("row", ['1,2,"abc\n3,4,x\n', '1,2,"abc\n3,4,""x""\n\n'])
def test_a_quote_that_never_ends_swallows_no_rows(tmp_path: Path, row: str) -> None:
    (tmp_path / "p.csv").write_text("lon,lat,note\n" + row)
    assert "a quote does not end" in refusal(lambda: open_places(tmp_path / "p.csv"))
    (tmp_path / "p.csv").write_text("lon,lat,note\n" + row.rstrip() + '"\n')
    assert open_places(tmp_path / "p.csv").count == 1


def test_a_csv_in_another_encoding_is_refused_as_unreadable(tmp_path: Path) -> None:
    for number, text in enumerate(("name,lon,lat\nZürich,8.5,47.4\n", "näme,lon,lat\nZ,8.5,47.4\n")):
        (tmp_path / f"{number}.csv").write_bytes(text.encode("latin-1"))
        assert "cannot be read" in refusal(lambda: open_places(tmp_path / f"{number}.csv"))  # noqa: B023 -- called at once


# Files that are none


@pytest.mark.parametrize("name", [name for name in KINDS if name != "places.CSV"])
def test_an_empty_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert name in refusal(lambda: open_places(tmp_path / name))


@pytest.mark.parametrize("name", [*(name for name in KINDS if name[-3:].lower() not in ("csv", "tsv")), "places.txt"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00\x01 not at all \xff\n" * 50)
    assert f"{name} cannot be read" in refusal(lambda: open_places(tmp_path / name))


@pytest.mark.parametrize("name", ["places.csv", "places.parquet", "places.gpkg"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    assert f"{name} does not exist" in refusal(lambda: open_places(tmp_path / name))


@pytest.mark.parametrize("name", ["places.csv", "places.parquet", "places.feather"])
def test_a_folder_of_that_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert f"{name} cannot be read" in refusal(lambda: open_places(tmp_path / name))


@pytest.mark.parametrize("name", ["located.parquet", "located.feather", "places.gpkg", "places.fgb"])
def test_a_file_that_goes_bad_half_way_is_refused_there(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    places = open_places(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    assert f"{name} cannot be read" in refusal(lambda: list(places.batches()))


@pytest.mark.parametrize("name", ["p.gpkg", "p.geojson", "p.shp", "p.parquet", "p.feather", "p.fgb"])
def test_a_file_of_geometries_without_rows_is_fine(tmp_path: Path, name: str) -> None:
    write = {"p.parquet": "to_parquet", "p.feather": "to_feather"}.get(name, "to_file")
    more = {"SPATIAL_INDEX": "NO", "geometry_type": "Point"} if name == "p.fgb" else {}
    getattr(points("EPSG:4326" if "json" in name else "EPSG:2056").head(0), write)(tmp_path / name, **more)
    places = open_places(tmp_path / name)
    assert (places.count, list(places.batches()), places.geometry) == (0, [], "geometry")
    assert len(read_places(tmp_path / name)) == 0
    assert read_places(tmp_path / name).crs == places.crs


def test_a_geojson_without_features_has_no_places(tmp_path: Path) -> None:
    (tmp_path / "places.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    assert open_places(tmp_path / "places.geojson").count == 0
    assert lonlat_of(read_places(tmp_path / "places.geojson")).shape == (0, 2)


def test_no_rows_at_a_time_are_refused(tmp_path: Path) -> None:
    assert "rows=0" in refusal(lambda: next(open_places(made(tmp_path, "places.csv")).batches(0)))


# Places of tables in memory


def test_latitude_first_reference_systems_are_read_longitude_first() -> None:
    np.testing.assert_array_equal(lonlat_of(points("EPSG:4326")), lonlat_of(points("OGC:CRS84")))


def test_a_pole_that_a_transformation_overshoots_is_the_pole() -> None:
    place = geopandas.GeoDataFrame(geometry=[shapely.Point(0.0, 90.0 + 1e-12)], crs="EPSG:4326")
    np.testing.assert_array_equal(lonlat_of(place), [[0.0, 90.0]])


def test_points_without_a_reference_system_are_refused() -> None:
    said = refusal(lambda: lonlat_of(points(None)))
    assert "no reference system" in said
    assert "set_crs" in said


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (shapely.box(0, 0, 1, 1), "a Polygon"),
        (shapely.MultiPoint([(0, 0), (1, 1)]), "a MultiPoint"),
        (shapely.LineString([(0, 0), (1, 1)]), "a LineString"),
        (shapely.Point(), "no geometry"),
        (None, "no geometry"),
    ],
)
def test_what_is_no_point_is_refused_by_row_and_kind(kind: Any, what: str) -> None:
    places = geopandas.GeoDataFrame(geometry=[shapely.Point(1, 2), shapely.Point(3, 4), kind], crs="EPSG:4326")
    assert f"Place 2 has {what}. Only points" in refusal(lambda: lonlat_of(places))


def test_many_bad_rows_are_counted_and_the_first_is_named() -> None:
    lonlat = pd.DataFrame(np.vstack([LONLAT, np.full((1200, 2), np.nan)]), columns=["lon", "lat"])
    assert "Place 4 (and 1,199 more)" in refusal(lambda: lonlat_of(lonlat))


def test_longitudes_beyond_180_mean_the_west() -> None:
    np.testing.assert_array_equal(lonlat_of(pd.DataFrame({"lon": [190.0], "lat": [1.0]})), [[-170.0, 1.0]])


@pytest.mark.parametrize("dtype", ["Float64", "Int64"])
def test_missing_values_of_nullable_columns_are_gaps(dtype: Any) -> None:
    places = pd.DataFrame({"lon": pd.Series([1, None]).astype(dtype), "lat": [1.0, 2.0]})
    np.testing.assert_array_equal(coordinates_of(places), [[1, 1], [np.nan, 2]])
    assert "Place 1" in refusal(lambda: lonlat_of(places))


def test_numbers_kept_as_text_are_numbers() -> None:
    np.testing.assert_array_equal(lonlat_of(pd.DataFrame({"lon": ["1.5"], "lat": ["-2"]})), [[1.5, -2.0]])


def test_text_in_a_table_that_is_no_number_is_refused() -> None:
    east = pd.DataFrame({"lon": ["east"], "lat": [2]})
    assert "Column 'lon' holds what is no number" in refusal(lambda: coordinates_of(east))


def test_pairs_of_numbers_are_places() -> None:
    np.testing.assert_array_equal(lonlat_of(LONLAT.tolist()), LONLAT)


@pytest.mark.parametrize("shape", [(2,), (4, 3), (2, 2, 2)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    assert "Give (N, 2)" in refusal(lambda: lonlat_of(np.zeros(shape)))


def test_a_column_renamed_after_it_was_read_is_found_by_its_new_name(tmp_path: Path) -> None:
    renamed = read_places(made(tmp_path, "places.csv")).rename(columns={"lon": "longitude"})
    np.testing.assert_array_equal(lonlat_of(renamed), LONLAT)


def test_a_geodataframe_without_geometry_is_a_table_of_columns() -> None:
    np.testing.assert_array_equal(lonlat_of(geopandas.GeoDataFrame(table())), LONLAT)


def test_coordinates_of_a_table_are_what_stands_there() -> None:
    """Whether they are on the globe is not asked."""
    places = pd.DataFrame({"LAT": [1e9, np.inf], "lon": [None, "NA"]})
    np.testing.assert_array_equal(coordinates_of(places), [[np.nan, 1e9], [np.nan, np.inf]])
    assert "The table has no column of longitudes" in refusal(lambda: coordinates_of(pd.DataFrame({"a": [1]})))


# Memory


READ = """
import sys
from pathlib import Path
from embedfield.tables.places_file import open_places
places = open_places(sys.argv[1])
count = sum(batch.table.num_rows for batch in places.batches())
assert count == places.count == int(sys.argv[2])
# Not ru_maxrss: that begins with what the parent held.
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024)
"""


def write_many(path: Path, count: int) -> None:
    """Write so many places, in one group of rows."""
    lonlat = np.random.default_rng(0).uniform(-80, 80, (count, 2))
    columns: dict[str, Any] = {"id": np.arange(count), "name": np.arange(count).astype(str)}
    if path.suffix == ".csv":
        pa.csv.write_csv(pa.table(columns | {"lon": lonlat[:, 0], "lat": lonlat[:, 1]}), path)
        return
    made_of = geopandas.GeoDataFrame(columns, geometry=shapely.points(lonlat), crs="EPSG:4326")
    if path.suffix == ".parquet":
        made_of.to_parquet(path, row_group_size=count)
    else:
        pyogrio.write_dataframe(made_of, path, SPATIAL_INDEX="NO", use_arrow=True)


@pytest.mark.parametrize(("suffix", "most"), [(".csv", 3_000_000), (".parquet", 900_000), (".fgb", 900_000)])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, suffix: str, most: int) -> None:
    """All of them at once would take more than 100 MB."""
    peaks = []
    for count in (300_000, most):
        path = tmp_path / f"{count}{suffix}"
        write_many(path, count)
        words = [sys.executable, "-c", textwrap.dedent(READ), str(path), str(count)]
        peaks.append(int(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] - peaks[0] < 60
