"""Places are found in any usual table, and a table is written whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import Transformer

from embedfield.errors import OutputExistsError, PlacesError, StorageError
from embedfield.tables import WRITERS, check_output, lonlat_of, read_places, write_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONLAT = np.array([[8.54, 47.37], [-70.66, -33.45], [0.0, 0.0], [139.69, 35.69]])
NAMES = ["Zürich", "Santiago", "Null Island", "東京"]


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


def write_geoparquet(path: Path) -> None:
    points().to_parquet(path)


def write_vector(path: Path) -> None:
    points().to_file(path)


KINDS: dict[str, Callable[[Path], None]] = {
    "places.csv": write_csv,
    "places.CSV": write_csv,
    "places.tsv": write_tsv,
    "places.parquet": write_parquet,
    "located.parquet": write_geoparquet,
    "places.geojson": write_vector,
    "places.gpkg": write_vector,
    "places.shp": write_vector,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_its_places_in_their_order(tmp_path: Path, name: str) -> None:
    KINDS[name](tmp_path / name)
    places = read_places(tmp_path / name)
    assert places["name"].tolist() == NAMES
    np.testing.assert_array_equal(lonlat_of(places), LONLAT)


@pytest.mark.parametrize("name", ["located.parquet", "places.geojson", "places.gpkg", "places.shp"])
def test_a_file_of_geometries_becomes_a_geodataframe(tmp_path: Path, name: str) -> None:
    KINDS[name](tmp_path / name)
    assert isinstance(read_places(tmp_path / name), geopandas.GeoDataFrame)


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
    ],
)
def test_columns_are_found_by_usual_names_in_any_case(tmp_path: Path, lon: str, lat: str) -> None:
    table(lon, lat).to_csv(tmp_path / "places.csv", index=False)
    np.testing.assert_array_equal(lonlat_of(read_places(tmp_path / "places.csv")), LONLAT)


def test_columns_are_found_wherever_they_stand(tmp_path: Path) -> None:
    table()[["lat", "name", "lon"]].to_csv(tmp_path / "places.csv", index=False)
    np.testing.assert_array_equal(lonlat_of(read_places(tmp_path / "places.csv")), LONLAT)


def test_a_byte_order_mark_hides_no_column(tmp_path: Path) -> None:
    table()[["lon", "lat"]].to_csv(tmp_path / "places.csv", index=False, encoding="utf-8-sig")
    np.testing.assert_array_equal(lonlat_of(read_places(tmp_path / "places.csv")), LONLAT)


def test_columns_of_other_names_are_named_by_the_caller(tmp_path: Path) -> None:
    table("rechts", "hoch").to_csv(tmp_path / "places.csv", index=False)
    np.testing.assert_array_equal(lonlat_of(read_places(tmp_path / "places.csv", lon="rechts", lat="hoch")), LONLAT)


def test_a_named_column_wins_over_a_usual_one(tmp_path: Path) -> None:
    table().assign(x=1.0, y=2.0).to_csv(tmp_path / "places.csv", index=False)
    places = read_places(tmp_path / "places.csv", lon="x", lat="y")
    np.testing.assert_array_equal(lonlat_of(places), np.tile([1.0, 2.0], (4, 1)))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"rechts": [1.0], "hoch": [2.0]},
            r"no column of longitudes .*its columns are: rechts, hoch\. .*--lon COLUMN",
        ),
        ({"lon": [1.0], "hoch": [2.0]}, r"no column of latitudes .*its columns are: lon, hoch\. .*--lat COLUMN"),
        ({"lon": [1.0], "x": [2.0], "lat": [3.0]}, r"several columns of longitudes \(lon, x\).*--lon COLUMN"),
        ({"Lat": [1.0], "lat": [2.0], "lon": [3.0]}, r"several columns of latitudes \(Lat, lat\).*--lat COLUMN"),
    ],
)
def test_missing_or_ambiguous_columns_are_refused_with_the_columns_and_the_option(
    tmp_path: Path, columns: dict[str, list[float]], message: str
) -> None:
    pd.DataFrame(columns).to_csv(tmp_path / "places.csv", index=False)
    with pytest.raises(PlacesError, match=message):
        read_places(tmp_path / "places.csv")


def test_a_named_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "places.csv")
    with pytest.raises(PlacesError, match=r"no column 'east'; its columns are: name, lon, lat\."):
        read_places(tmp_path / "places.csv", lon="east")


def test_naming_a_column_of_a_file_with_geometries_is_refused_or_heeded(tmp_path: Path) -> None:
    points().assign(u=1.0, v=2.0).to_file(tmp_path / "places.gpkg")
    try:
        found = lonlat_of(read_places(tmp_path / "places.gpkg", lon="u", lat="v"))
    except PlacesError:
        return
    np.testing.assert_array_equal(found, np.tile([1.0, 2.0], (4, 1)))


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:2056"])
def test_another_reference_system_gives_the_same_degrees(tmp_path: Path, crs: str) -> None:
    lonlat = np.array([[8.54, 47.37], [6.14, 46.2], [10.0, 46.5]])
    east, north = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*lonlat.T)
    geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(east, north), crs=crs).to_file(tmp_path / "places.gpkg")
    np.testing.assert_allclose(lonlat_of(read_places(tmp_path / "places.gpkg")), lonlat, rtol=0, atol=1e-7)


def test_latitude_first_reference_systems_are_read_longitude_first() -> None:
    np.testing.assert_array_equal(lonlat_of(points("EPSG:4326")), lonlat_of(points("OGC:CRS84")))


def test_a_pole_that_a_transformation_overshoots_is_the_pole() -> None:
    place = geopandas.GeoDataFrame(geometry=[shapely.Point(0.0, 90.0 + 1e-12)], crs="EPSG:4326")
    np.testing.assert_array_equal(lonlat_of(place), [[0.0, 90.0]])


def test_points_without_a_reference_system_are_refused(tmp_path: Path) -> None:
    points().to_file(tmp_path / "places.shp")
    (tmp_path / "places.prj").unlink()
    with pytest.raises(PlacesError, match=r"no reference system.*set_crs"):
        lonlat_of(read_places(tmp_path / "places.shp"))


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
    with pytest.raises(PlacesError, match=rf"Place 2 has {what}\. Only points"):
        lonlat_of(places)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "places.CSV"])
def test_an_empty_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(PlacesError, match=name) as caught:
        read_places(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["places.parquet", "places.geojson", "places.gpkg", "places.shp", "places.txt"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00\x01 not at all \xff\n" * 50)
    with pytest.raises(PlacesError, match=name) as caught:
        read_places(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_csv_in_another_encoding_is_refused_as_unreadable(tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_bytes("name,lon,lat\nZürich,8.5,47.4\n".encode("latin-1"))
    with pytest.raises(PlacesError, match="cannot be read"):
        read_places(tmp_path / "places.csv")


def test_a_csv_with_ragged_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("lon,lat\n1,2\n3,4,5,6\n")
    with pytest.raises(PlacesError, match="cannot be read"):
        read_places(tmp_path / "places.csv")


def test_rows_with_a_cell_too_many_do_not_shift_the_columns(tmp_path: Path) -> None:
    """Pandas would take the first column of such a file for the index."""
    (tmp_path / "places.csv").write_text("lon,lat\n1,2,3\n4,5,6\n")
    try:
        found = lonlat_of(read_places(tmp_path / "places.csv"))
    except PlacesError:
        return
    np.testing.assert_array_equal(found, [[1, 2], [4, 5]])


def test_a_geojson_without_features_is_a_table_without_rows_or_refused(tmp_path: Path) -> None:
    (tmp_path / "places.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    try:
        found = lonlat_of(read_places(tmp_path / "places.geojson"))
    except PlacesError:
        return
    assert found.shape == (0, 2)


@pytest.mark.parametrize("name", ["places.csv", "places.parquet"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PlacesError, match=rf"{name} does not exist"):
        read_places(tmp_path / name)


def test_a_header_without_rows_gives_no_places(tmp_path: Path) -> None:
    table().head(0).to_csv(tmp_path / "places.csv", index=False)
    assert lonlat_of(read_places(tmp_path / "places.csv")).shape == (0, 2)


@pytest.mark.parametrize(
    ("lon", "lat", "message"),
    [
        ("", "5", r"Place 1, .* is not a pair of finite numbers"),
        ("4", "inf", r"Place 1, .* is not a pair of finite numbers"),
        ("4", "90.001", r"Place 1, .*latitude outside \[-90, 90\]"),
        ("-180.5", "5", r"Place 1, .*longitude outside \[-180, 360\)"),
        ("360", "5", r"Place 1, .*longitude outside \[-180, 360\)"),
        ("east", "5", r"Column 'lon' holds what is no number"),
        ("8°32'", "5", r"Column 'lon' holds what is no number"),
    ],
)
def test_coordinates_that_are_none_or_out_of_range_are_refused(
    tmp_path: Path, lon: str, lat: str, message: str
) -> None:
    (tmp_path / "places.csv").write_text(f"lon,lat\n1,2\n{lon},{lat}\n")
    with pytest.raises(PlacesError, match=message) as caught:
        lonlat_of(read_places(tmp_path / "places.csv"))
    assert len(str(caught.value).splitlines()) == 1


def test_many_bad_rows_are_counted_and_the_first_is_named() -> None:
    lonlat = np.vstack([LONLAT, np.full((1200, 2), np.nan)])
    with pytest.raises(PlacesError, match=r"Place 4 \(and 1,199 more\)"):
        lonlat_of(pd.DataFrame(lonlat, columns=["lon", "lat"]))


def test_longitudes_beyond_180_mean_the_west() -> None:
    np.testing.assert_array_equal(lonlat_of(pd.DataFrame({"lon": [190.0], "lat": [1.0]})), [[-170.0, 1.0]])


@pytest.mark.parametrize("dtype", ["Float64", "Int64"])
def test_missing_values_of_nullable_columns_are_refused(dtype: Any) -> None:
    places = pd.DataFrame({"lon": pd.Series([1, None]).astype(dtype), "lat": [1.0, 2.0]})
    with pytest.raises(PlacesError, match="Place 1"):
        lonlat_of(places)


def test_numbers_kept_as_text_are_numbers() -> None:
    np.testing.assert_array_equal(lonlat_of(pd.DataFrame({"lon": ["1.5"], "lat": ["-2"]})), [[1.5, -2.0]])


def test_pairs_of_numbers_are_places() -> None:
    np.testing.assert_array_equal(lonlat_of(LONLAT.tolist()), LONLAT)


@pytest.mark.parametrize("shape", [(2,), (4, 3), (2, 2, 2)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PlacesError, match=r"Give \(N, 2\)"):
        lonlat_of(np.zeros(shape))


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_of_columns_reads_back_as_it_was(tmp_path: Path, suffix: str) -> None:
    wanted = table().assign(value=np.arange(4, dtype=np.float32) / 3, status="valid")
    found = read_places(write_table(wanted, tmp_path / f"out{suffix}"))
    assert found[["name", "status"]].to_numpy().tolist() == wanted[["name", "status"]].to_numpy().tolist()
    np.testing.assert_allclose(found["value"], wanted["value"], rtol=1e-7)
    np.testing.assert_array_equal(lonlat_of(found), LONLAT)


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg"])
def test_a_table_of_points_reads_back_with_its_reference_system(tmp_path: Path, suffix: str) -> None:
    wanted = points().to_crs("EPSG:3857")
    found = read_places(write_table(wanted, tmp_path / f"out{suffix}"))
    assert isinstance(found, geopandas.GeoDataFrame)
    assert found.crs == "EPSG:3857"
    np.testing.assert_allclose(lonlat_of(found), LONLAT, rtol=0, atol=1e-9)


def test_parquet_keeps_float32(tmp_path: Path) -> None:
    wanted = table().assign(value=np.float32(1) / np.arange(1, 5, dtype=np.float32))
    found = pd.read_parquet(write_table(wanted, tmp_path / "out.parquet"))
    assert found["value"].dtype == np.float32
    assert found["value"].to_numpy().tobytes() == wanted["value"].to_numpy(dtype=np.float32).tobytes()


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_output_that_exists_is_refused_and_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="exists.*--overwrite"):
        write_table(table(), path)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", WRITERS)
def test_overwrite_replaces_an_output(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"theirs")
    write_table(table(), path, overwrite=True)
    assert len(read_places(path)) == len(NAMES)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_where_the_table_should_go_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "out.csv").mkdir()
    with pytest.raises((OutputExistsError, PlacesError)):
        write_table(table(), tmp_path / "out.csv", overwrite=True)
    assert (tmp_path / "out.csv").is_dir()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failed_write_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, overwrite: bool
) -> None:
    def fail(_: pd.DataFrame, path: Path) -> None:
        path.write_bytes(b"half of i")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(WRITERS, ".csv", fail)
    path = tmp_path / "out.csv"
    if overwrite:
        path.write_bytes(b"before")
    with pytest.raises(OSError, match="No space left"):
        write_table(table(), path, overwrite=overwrite)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == ([("out.csv", b"before")] * overwrite)


def test_a_column_that_the_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """A GeoPackage has a column 'fid' of its own, of unique whole numbers."""
    with pytest.raises(PlacesError, match="fid"):
        write_table(table().assign(fid=["a", "b", "b", "c"]), tmp_path / "out.gpkg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.tif"])
def test_an_output_of_no_known_kind_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PlacesError, match=r"Give one of: \.parquet, \.csv, \.gpkg"):
        check_output(tmp_path / name)


def test_an_output_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlacesError, match="is no folder"):
        check_output(tmp_path / "nowhere" / "out.csv")


def test_a_column_renamed_after_it_was_read_is_found_by_its_new_name(tmp_path: Path) -> None:
    write_csv(tmp_path / "places.csv")
    renamed = read_places(tmp_path / "places.csv").rename(columns={"lon": "longitude"})
    np.testing.assert_array_equal(lonlat_of(renamed), LONLAT)


def test_a_geodataframe_without_geometry_is_a_table_of_columns() -> None:
    np.testing.assert_array_equal(lonlat_of(geopandas.GeoDataFrame(table())), LONLAT)


def test_a_long_column_of_numbers_and_one_word_is_text(tmp_path: Path) -> None:
    count = 600_000
    (tmp_path / "long.csv").write_text("lon,lat,code\n" + "1,2,3\n" * count + "1,2,A\n")
    found = read_places(tmp_path / "long.csv")
    assert {type(code) for code in found["code"]} == {str}
    write_table(found, tmp_path / "long.parquet")


@pytest.mark.parametrize("columns", [["code", "code"], ["code", "other"]])
def test_a_table_that_parquet_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path, columns: list[str]) -> None:
    mixed = pd.DataFrame([[1, "A"], ["B", 2]], columns=columns, dtype=object)
    with pytest.raises(PlacesError, match="out.parquet cannot hold the table: .*code.*write .csv"):
        write_table(mixed, tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(WRITERS, ".csv", fail)
    with pytest.raises(StorageError, match="Cannot write .*out.csv: No space left on device.*elsewhere"):
        write_table(table(), tmp_path / "out.csv")


def test_cells_keep_their_meaning(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("lon,lat,iso,fips,income,note\n17.1,-22.6,NA,01001,NA,\n-86.6,32.5,US,01003,5,x\n")
    table = read_places(tmp_path / "p.csv")
    assert table["iso"].tolist() == ["NA", "US"]  # Namibia
    assert table["fips"].tolist() == ["01001", "01003"]
    assert table["income"].isna().tolist() == [True, False]
    assert table["income"][1] == 5
    assert table["note"].isna().tolist() == [True, False]
    assert table["lat"].dtype == np.float64


@pytest.mark.parametrize("name", ["P.CSV", "p.Tsv"])
def test_suffixes_in_capitals_mean_the_same(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("lon,lat\n1,2\n".replace(",", "\t" if name.endswith("Tsv") else ","))
    assert lonlat_of(read_places(tmp_path / name)).tolist() == [[1.0, 2.0]]


def test_coordinates_that_are_all_gaps_are_refused_as_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("lon,lat\nNA,NaN\n")
    with pytest.raises(PlacesError, match="Place 0, .* is not a pair of finite numbers"):
        lonlat_of(read_places(tmp_path / "p.csv"))
