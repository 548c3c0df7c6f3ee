"""A sampled place is a row with its embedding, in the order and with the columns it came with."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio

from embedfield.errors import PlacesError
from embedfield.evaluate import EncodedField
from embedfield.formats import open_field, write_field
from embedfield.grid import Grid
from embedfield.sample import extract_points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.formats.stored import StoredField
    from embedfield.window import Window

    Make = Callable[..., EncodedField]

BANDS = ["xyz_000", "xyz_001", "xyz_002"]


class Holed(EncodedField):
    """A field without values south of the equator."""

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        values = super().read(window).copy()
        values[:, self.grid.lats(window) < 0] = np.nan
        return values


def random_places(count: int = 500, west: float = -180, east: float = 180) -> npt.NDArray[np.float64]:
    """Return places spread over longitudes and latitudes, the same at every call."""
    generator = np.random.default_rng(20)
    return np.column_stack((generator.uniform(west, east, count), generator.uniform(-90, 90, count)))


def unit_vector(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return places as vectors, by the formula of any textbook."""
    lon, lat = np.deg2rad(lonlat).T
    return np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def vectors(table: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Return the columns of the embedding."""
    found: npt.NDArray[np.float32] = table[BANDS].to_numpy()
    return found


@pytest.fixture
def store(tmp_path: Path, make_field: Make) -> Iterator[Callable[..., StoredField]]:
    """Return a writer of small fields, closed at the end."""
    with contextlib.ExitStack() as opened:

        def stored(suffix: str = ".tif", dtype: Any = "uint8", **kwargs: Any) -> StoredField:
            return opened.enter_context(write_field(make_field(**kwargs), tmp_path / f"field{suffix}", dtype=dtype))

        yield stored


def test_exact_values_are_the_encoders(make_field: Make) -> None:
    places = random_places()
    table = extract_points(make_field(), places)
    np.testing.assert_array_equal(vectors(table), make_field().evaluator.encode(places).astype(np.float32))
    np.testing.assert_allclose(vectors(table), unit_vector(places), rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_nearest_values_are_those_that_rasterio_samples(store: Callable[..., StoredField], dtype: str) -> None:
    field, places = store(res=2.5, dtype=dtype), random_places()
    with rasterio.open(field.path) as raster:
        codes = np.array(list(raster.sample(places.tolist())))
        wanted = codes * np.array(raster.scales) + np.array(raster.offsets)
    np.testing.assert_array_equal(vectors(extract_points(field, places, "nearest")), wanted.astype(np.float32))


def test_nearest_is_the_default_of_a_stored_field(store: Callable[..., StoredField]) -> None:
    field, places = store(), random_places(50)
    pd.testing.assert_frame_equal(extract_points(field, places), extract_points(field, places, "nearest"))


def test_formats_give_the_same_table(store: Callable[..., StoredField]) -> None:
    places = random_places(100)
    pd.testing.assert_frame_equal(extract_points(store(".tif"), places), extract_points(store(".zarr"), places))


def test_bilinear_comes_nearer_to_the_encoder_than_nearest(store: Callable[..., StoredField]) -> None:
    field = store(res=5.0, dtype="float32")
    # Beyond the outermost centres there is one row, and the meridians meet.
    places = random_places() * [1, 0.9]
    errors = [
        abs(vectors(extract_points(field, places, method)) - unit_vector(places)).max()
        for method in ("bilinear", "nearest")
    ]
    # A chord of 5 degrees misses the circle by 1 - cos(2.5°) = 0.00095, along each axis.
    assert errors[0] < 0.002
    # The far corner of a pixel at the equator is 2.5 degrees away in both directions: 0.044 each.
    assert errors[1] > 0.03


def test_a_stored_field_has_no_exact_values(store: Callable[..., StoredField]) -> None:
    with pytest.raises(PlacesError, match=r"'exact' is not to be had.*nearest, bilinear.*name the model"):
        extract_points(store(), random_places(3), "exact")


def test_an_unknown_method_is_refused(make_field: Make) -> None:
    with pytest.raises(PlacesError, match="'cubic' is not to be had"):
        extract_points(make_field(), random_places(3), "cubic")  # type: ignore[arg-type]


def test_pairs_of_numbers_become_a_table_with_their_degrees(make_field: Make) -> None:
    table = extract_points(make_field(), [[8.5, 47.4], [0.0, 0.0]])
    assert list(table.columns) == ["lon", "lat", *BANDS, "status"]
    assert table[["lon", "lat"]].to_numpy().tolist() == [[8.5, 47.4], [0.0, 0.0]]
    np.testing.assert_array_equal(vectors(table)[1], [1, 0, 0])


def test_columns_of_the_embedding_are_float32(make_field: Make, store: Callable[..., StoredField]) -> None:
    for field in (make_field(), store()):
        table = extract_points(field, random_places(5))
        assert {str(dtype) for dtype in table[BANDS].dtypes} == {"float32"}


def test_columns_are_numbered_with_as_many_digits_as_they_need(make_field: Make) -> None:
    columns = list(extract_points(make_field(model="sh-l40"), [[0.0, 0.0]]).columns)
    assert columns[2:4] + columns[-2:] == ["sh-l40_0000", "sh-l40_0001", "sh-l40_1599", "status"]


def test_rows_keep_their_order_columns_and_index(make_field: Make) -> None:
    places = pd.DataFrame({"name": list("cab"), "lon": [30.0, 10.0, 20.0], "lat": [3.0, 1.0, 2.0]}, index=[7, 5, 6])
    table = extract_points(make_field(), places)
    pd.testing.assert_frame_equal(table[["name", "lon", "lat"]], places)
    np.testing.assert_allclose(vectors(table), unit_vector(places[["lon", "lat"]].to_numpy()), atol=1e-7)


def test_an_index_with_duplicates_mixes_no_rows(make_field: Make, store: Callable[..., StoredField]) -> None:
    places = pd.DataFrame({"lon": [10.0, 20.0, 30.0], "lat": [0.0, 40.0, 80.0]}, index=["a", "a", "b"])
    for field in (make_field(), store()):
        table = extract_points(field, places)
        assert table.index.tolist() == ["a", "a", "b"]
        np.testing.assert_array_equal(vectors(table), field.at(places[["lon", "lat"]].to_numpy()))


def test_the_callers_table_is_left_as_it_was(make_field: Make) -> None:
    places = pd.DataFrame({"lon": [190.0], "lat": [0.0]})
    extract_points(make_field(), places)
    pd.testing.assert_frame_equal(places, pd.DataFrame({"lon": [190.0], "lat": [0.0]}))


def test_a_geodataframe_stays_one_in_its_own_reference_system(make_field: Make) -> None:
    lonlat = np.array([[7.44, 46.95], [8.54, 47.37]])
    places = geopandas.GeoDataFrame(
        {"name": ["Bern", "Zürich"]}, geometry=geopandas.points_from_xy(*lonlat.T), crs=4326
    )
    table = extract_points(make_field(), places.to_crs("EPSG:2056"))
    assert isinstance(table, geopandas.GeoDataFrame)
    assert table.crs == "EPSG:2056"
    assert table.geometry.name == "geometry"
    np.testing.assert_allclose(vectors(table), unit_vector(lonlat), atol=1e-7)


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:2056"])
def test_a_reference_system_does_not_change_the_sample(store: Callable[..., StoredField], crs: str) -> None:
    lonlat = np.array([[7.44, 46.95], [8.54, 47.37], [6.14, 46.2]])
    places = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(*lonlat.T), crs="EPSG:4326")
    field = store(res=0.5, bounds=(5, 45, 11, 48))
    np.testing.assert_array_equal(
        vectors(extract_points(field, places.to_crs(crs))), vectors(extract_points(field, lonlat))
    )


@pytest.mark.parametrize("name", ["xyz_001", "status"])
def test_a_column_that_would_be_written_twice_is_refused(make_field: Make, name: str) -> None:
    with pytest.raises(PlacesError, match=f"have a column '{name}' already. Rename or remove it"):
        extract_points(make_field(), pd.DataFrame({"lon": [0.0], "lat": [0.0], name: ["mine"]}))


def test_status_says_why_a_place_has_no_values(make_field: Make, tmp_path: Path) -> None:
    whole = make_field(bounds=(0, -40, 40, 40))
    field = write_field(Holed(whole.evaluator, whole.grid), tmp_path / "holed.tif")
    table = extract_points(field, [[5.0, 5.0], [5.0, -5.0], [50.0, 5.0], [40.0, 40.0], [0.0, -40.0]])
    assert table["status"].tolist() == ["valid", "nodata", "outside", "valid", "nodata"]
    assert np.isnan(vectors(table)).all(axis=1).tolist() == [False, True, True, False, True]
    field.close()


def test_a_computed_field_has_values_beyond_its_grid(make_field: Make) -> None:
    field = make_field(bounds=(0, 0, 40, 40))
    assert extract_points(field, [[-100.0, -50.0]])["status"].tolist() == ["valid"]
    assert extract_points(field, [[-100.0, -50.0]], "nearest")["status"].tolist() == ["outside"]


def test_places_on_either_side_of_the_antimeridian_are_inside_a_field_across_it(
    store: Callable[..., StoredField],
) -> None:
    field = store(bounds=(170, -20, -170, 20))
    table = extract_points(field, [[175.0, 5.0], [-175.0, 5.0], [185.0, 5.0], [165.0, 5.0], [-165.0, 5.0]])
    assert table["status"].tolist() == ["valid", "valid", "valid", "outside", "outside"]
    np.testing.assert_array_equal(vectors(table)[1], vectors(table)[2])
    np.testing.assert_allclose(vectors(table)[:2], unit_vector(np.array([[175.0, 5], [-175, 5]])), atol=0.01)


@pytest.mark.parametrize("corner", [(-180, -90), (180, 90), (180, -90), (-180, 90), (0, 90)])
def test_the_corners_of_the_world_are_inside(store: Callable[..., StoredField], corner: tuple[float, float]) -> None:
    assert extract_points(store(), [corner])["status"].tolist() == ["valid"]


def test_no_places_make_a_table_without_rows(make_field: Make, store: Callable[..., StoredField]) -> None:
    for field in (make_field(), store()):
        table = extract_points(field, np.empty((0, 2)))
        assert list(table.columns) == ["lon", "lat", *BANDS, "status"]
        assert len(table) == 0


@pytest.mark.parametrize(
    ("place", "status"),
    [((np.nan, 0), "missing"), ((0, 91), "invalid"), ((-181, 0), "invalid"), ((0, np.inf), "invalid")],
)
def test_a_place_that_is_none_keeps_its_row_and_says_why(
    make_field: Make, store: Callable[..., StoredField], place: tuple[float, float], status: str
) -> None:
    for field in (make_field(), store()):
        table = extract_points(field, np.array([(0, 0), place, (9, 9)]))
        assert table["status"].tolist() == ["valid", status, "valid"]
        assert np.isnan(vectors(table)).any(axis=1).tolist() == [False, True, False]


def test_a_field_opened_again_gives_the_same_table(store: Callable[..., StoredField]) -> None:
    field, places = store(), random_places(50)
    with open_field(field.path) as again:
        pd.testing.assert_frame_equal(extract_points(again, places), extract_points(field, places))


def test_a_projected_field_tells_places_outside_from_those_without_a_value(make_field: Make) -> None:
    grid = Grid.from_bounds(500_000, None, "EPSG:8857")
    field = EncodedField(make_field().evaluator, grid)
    rim = np.column_stack((np.full(80, 179.99), np.linspace(-80, 80, 80)))
    rows, cols = (np.floor(part).astype(int) for part in grid.positions(rim))
    empty = np.isnan(grid.centres(rows, cols)).any(axis=1)
    assert 0 < empty.sum() < 80
    status = extract_points(field, rim, "nearest")["status"]
    assert status.tolist() == np.where(empty, "nodata", "valid").tolist()
    europe = Grid.from_bounds(100_000, (2_500_000, 1_400_000, 7_400_000, 5_500_000), "EPSG:3035")
    found = extract_points(
        EncodedField(field.evaluator, europe), [[8.5, 47.4], [-60.0, 0.0], [-170.0, -52.0]], "bilinear"
    )
    assert found["status"].tolist() == ["valid", "outside", "outside"]
    np.testing.assert_allclose(vectors(found)[0], unit_vector(np.array([[8.5, 47.4]]))[0], atol=1e-3)


def test_places_may_be_a_file(make_field: Callable[..., EncodedField], tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("name,lon,lat\nhere,0,0\n")
    table = extract_points(make_field(), tmp_path / "places.csv")
    assert (table["name"][0], table["xyz_000"][0], table["status"][0]) == ("here", 1.0, "valid")
