"""What is similar is what numpy, written out, finds similar; and no two of the places found are near each other."""

# ruff: noqa: PD011  the values are of ArrayField, and numpy's already

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import typer
from fields import ArrayField, Breaking, bumpy, listing
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

from embedfield.build import build_field
from embedfield.card import Card
from embedfield.commands.similar import SimilarCommand, similar
from embedfield.errors import EmbedfieldError, FormatError, OutputExistsError, PlacesError, WeightsError
from embedfield.evaluate import EncodedField, load
from embedfield.formats import cog, open_field, write_field
from embedfield.grid import Grid
from embedfield.region import Region
from embedfield.similar import find_similar, similar_places, spacing, write_similarity
from embedfield.similar.apart import Anchors, apart
from embedfield.similar.growing import Growing
from embedfield.similar.query import Query
from embedfield.similar.similarity import SimilarityField

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.window import Window

GLOBE = Grid.from_bounds(10)
COLUMNS = ["lon", "lat", "similarity", "rank", "distance_km"]


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no map of the world with each table, unless a test is about it."""
    if "real_picture" not in request.fixturenames:
        monkeypatch.setattr("embedfield.similar.write_picture", lambda _, path, **__: path.write_bytes(b"PNG"))


@pytest.fixture
def real_picture() -> None:
    """Draw it."""


def card(dim: int) -> Card:
    return Card(name="array", title="An array", dim=dim, code="none:None", homepage="https://example.org")


def noise(dim: int = 5, grid: Grid = GLOBE, digits: int | None = None, seed: int = 1) -> ArrayField:
    """Return a field of chance with holes; of few digits it has many ties."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(dim, *grid.shape)) + 1
    values = values if digits is None else values.round(digits)
    values[:, rng.random(grid.shape) < 0.1] = np.nan
    field = ArrayField(values, grid, card(dim))
    field.blocksize = 7
    return field


def valued(field: ArrayField) -> npt.NDArray[np.float64]:
    """Return the centre of some pixel that has a value: degrees, (1, 2)."""
    rows, cols = np.nonzero(~np.isnan(field.values[0]))
    return field.grid.centres(rows[len(rows) // 3 :][:1], cols[len(rows) // 3 :][:1])


def haversine(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return great-circle distances, km, of places (n, 2) and (m, 2): (n, m)."""
    (lon1, lat1), (lon2, lat2) = np.deg2rad(one).T[:, :, None], np.deg2rad(other).T[:, None]
    square = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    distances: npt.NDArray[np.float64] = 2 * 6371.0 * np.arcsin(np.sqrt(np.clip(square, 0, 1)))
    return distances


def greedy(
    similarity: npt.NDArray[np.floating], centres: npt.NDArray[np.float64], query: npt.NDArray[np.float64],
    count: int, min_km: float,
) -> list[int]:  # fmt: skip
    """Return pixels, the most similar first, by looking at all of them."""
    free = ~np.isnan(similarity) & ((haversine(centres, query).min(axis=1) >= min_km) | (min_km == 0))
    chosen: list[int] = []
    for pixel in np.argsort(-similarity, kind="stable"):
        near = len(chosen) > 0 and haversine(centres[[pixel]], centres[chosen]).min() < min_km
        if free[pixel] and not near and len(chosen) < count:
            chosen.append(int(pixel))
    return chosen


def cosine(vectors: npt.NDArray[Any], query: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return cosines of vectors (n, dim) and a query (dim,)."""
    vectors, query = vectors.astype(np.float64), query.astype(np.float64)
    found: npt.NDArray[np.float64] = (vectors @ query) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    return found


def flat(field: ArrayField) -> npt.NDArray[np.float32]:
    """Return the vectors of all pixels, (n, dim)."""
    return field.values.reshape(field.dim, -1).T


@pytest.mark.parametrize("min_km", [0.0, 1500.0, 5000.0, 30_000.0])
@pytest.mark.parametrize("digits", [None, 0])
def test_places_are_those_that_looking_at_all_pixels_gives(min_km: float, digits: int | None) -> None:
    field = noise(3, digits=digits)
    query = valued(field)
    found = similar_places(field, query, count=40, min_km=min_km, centre=False)
    centres = GLOBE.lonlat()
    # As the map has them: ties in float32 are ties.
    values = SimilarityField(field, Query.of(field, query, centre=False)).read().ravel()
    expected = greedy(values, centres, query, 40, min_km)
    assert list(found.columns) == COLUMNS
    np.testing.assert_allclose(found[["lon", "lat"]], centres[expected].reshape(-1, 2))
    np.testing.assert_array_equal(found["similarity"], values[expected])
    np.testing.assert_array_equal(found["rank"], np.arange(len(expected)) + 1)
    np.testing.assert_allclose(found["distance_km"], haversine(centres[expected].reshape(-1, 2), query).min(axis=1))


@pytest.mark.parametrize("min_km", [300.0, 900.0, 4000.0])
def test_blocks_that_are_near_as_a_whole_change_nothing(min_km: float) -> None:
    grid = Grid.from_bounds(1, (100, 30, -120, 90))
    field = noise(3, grid)
    query = valued(field)
    mapped = SimilarityField(field, Query.of(field, query, centre=False))
    found = apart(mapped, Anchors(mapped.query.located, 1), 60, min_km)
    expected = greedy(mapped.read().ravel(), grid.lonlat(), query, 60, min_km)
    np.testing.assert_allclose(found.lonlat, grid.lonlat()[expected])


def test_a_block_is_read_twice_however_many_places_are_chosen_in_it() -> None:
    class Counting(ArrayField):
        asked = 0

        def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
            self.asked += 1
            return super().read(window)

    field = Counting(np.random.default_rng(3).normal(size=(1, 36, 72)), Grid.from_bounds(5), card(1))
    anchors = Anchors(Query.of(noise(), valued(noise())).located, 1)
    assert field.blocksize == 128
    assert len(apart(field, anchors, 1000, 0).heights) == 1000
    assert field.asked == 2


def test_many_chosen_places_are_all_kept_away_from() -> None:
    # More than are measured from one by one, so that trees of unlike sizes hold them.
    grid = Grid.from_bounds(3)
    field = noise(3, grid)
    query = valued(field)
    mapped = SimilarityField(field, Query.of(field, query, centre=False))
    found = apart(mapped, Anchors(mapped.query.located, 1), 10_000, 400)
    assert len(found.lonlat) > 1000
    np.testing.assert_allclose(
        found.lonlat, grid.lonlat()[greedy(mapped.read().ravel(), grid.lonlat(), query, 10_000, 400)]
    )


def test_points_that_are_added_are_all_measured_from() -> None:
    chance = np.random.default_rng(4).normal(size=(2000, 3))
    points = chance / np.linalg.norm(chance, axis=1, keepdims=True)
    growing, asked = Growing(), points[1700:]
    assert growing.chords(asked).tolist() == [2.0] * 300
    for count, point in enumerate(points[:1700], 1):
        growing.add(point)
        if count in {1, 255, 256, 257, 768, 1024, 1700}:
            expected = np.linalg.norm(asked[:, None] - points[None, :count], axis=2).min(axis=1)
            np.testing.assert_allclose(growing.chords(asked), expected, rtol=1e-12)


def test_infinite_vectors_are_none() -> None:
    values = noise().values
    values[0, 3, 3], values[:, 5, 5] = np.inf, -np.inf
    holes = values.copy()
    holes[:, [3, 5], [3, 5]] = np.nan
    field, other = ArrayField(values, GLOBE, card(5)), ArrayField(holes, GLOBE, card(5))
    place = valued(noise())
    pd.testing.assert_frame_equal(similar_places(field, place), similar_places(other, place))
    with pytest.raises(PlacesError, match="array has no value there"):
        similar_places(field, GLOBE.centres(np.array([3]), np.array([3])))


def test_similarity_is_the_cosine_of_vectors() -> None:
    field = noise()
    query = valued(field)
    row, col = (int(part[0]) for part in GLOBE.positions(query))
    values = SimilarityField(field, Query.of(field, query, centre=False)).read()
    np.testing.assert_allclose(values.ravel(), cosine(flat(field), field.values[:, row, col]), atol=1e-6)
    assert values[0, row, col] == pytest.approx(1)


def test_a_query_between_centres_is_interpolated() -> None:
    field = ArrayField(np.arange(8.0).reshape(2, 2, 2) ** 2, Grid(west=0, north=20, res=10, width=2, height=2))
    values = SimilarityField(field, Query.of(field, [(7.5, 15.0)], centre=False)).read()
    query = 0.75 * field.values[:, 0, 0] + 0.25 * field.values[:, 0, 1]
    np.testing.assert_allclose(values.ravel(), cosine(flat(field), query), atol=1e-6)


@pytest.mark.parametrize(("res", "name"), [(2, ""), (0.25, ""), (0.25, "field.tif"), (0.25, "field.zarr")])
def test_the_middle_is_the_mean_by_area(tmp_path: Path, res: float, name: str) -> None:
    grid = Grid.from_bounds(res)
    lon, lat = (np.deg2rad(part).reshape(grid.shape) for part in grid.lonlat().T)
    values = np.stack([np.sin(lat) ** 2 + 3, np.cos(lon) * np.cos(lat), np.sin(2 * lat), np.ones_like(lat)])
    field: Field = ArrayField(values, grid, card(4))
    # All pixels are read, or a sample of places, or a coarser level, from the blocks of a file.
    field = write_field(field, tmp_path / name, dtype="float32") if name else field
    query = Query.of(field, [(45.0, 45.0)])
    assert query.middle is not None
    # The mean of the square of sin(lat) over the sphere is 1/3; waves have none.
    np.testing.assert_allclose(query.middle, [3 + 1 / 3, 0, 0, 1], atol=1e-3)
    middle = np.array([3 + 1 / 3, 0, 0, 1])
    found = SimilarityField(field, query).read().ravel()
    expected = cosine(values.reshape(4, -1).T - middle, field.at([(45.0, 45.0)])[0] - middle)
    np.testing.assert_allclose(found, expected, atol=3e-3)


def test_the_middle_leaves_out_nodata_and_weighs_the_rest_by_area() -> None:
    values = np.stack([np.repeat(np.arange(18.0)[:, None], 36, axis=1), np.ones((18, 36))])
    values[:, :9, 3:] = np.nan
    query = Query.of(ArrayField(values, GLOBE, card(2)), [(-175.0, 5.0)])
    edges = np.sin(np.deg2rad(np.linspace(90, -90, 19)))
    area = (edges[:-1] - edges[1:]) * np.where(np.arange(18) < 9, 3, 36)
    assert query.middle is not None
    np.testing.assert_allclose(query.middle, [np.average(np.arange(18), weights=area), 1])


def test_of_several_places_the_mean_direction_counts_or_the_nearest() -> None:
    field = noise()
    rows, cols = (part[:300:100] for part in np.nonzero(~np.isnan(field.values[0])))
    query = GLOBE.centres(rows, cols)
    directions = field.values[:, rows, cols].T.astype(np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    mean = SimilarityField(field, Query.of(field, query, centre=False)).read().ravel()
    nearest = SimilarityField(field, Query.of(field, query, match="any", centre=False)).read().ravel()
    np.testing.assert_allclose(mean, cosine(flat(field), directions.mean(axis=0)), atol=1e-6)
    np.testing.assert_allclose(
        nearest, np.max([cosine(flat(field), direction) for direction in directions], axis=0), atol=1e-6
    )


def test_more_places_than_are_compared_together_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    field = noise()
    rows, cols = np.nonzero(~np.isnan(field.values[0]))
    query = Query.of(field, GLOBE.centres(rows[:10], cols[:10]), match="any", centre=False)
    once = query.similarity(flat(field))
    monkeypatch.setattr("embedfield.similar.query.TOGETHER", 3)
    np.testing.assert_allclose(query.similarity(flat(field)), once, atol=1e-6)


def test_places_across_the_antimeridian_are_near() -> None:
    field = noise()
    field.values = np.abs(np.nan_to_num(field.values, nan=0.5))
    found = similar_places(field, [(179.9, 5.0)], count=1000, min_km=1300)
    away = haversine(found[["lon", "lat"]].to_numpy(), np.array([[179.9, 5.0]]))
    assert away.min() >= 1300
    assert not ((found["lon"] == -175) & (found["lat"].abs() <= 5)).any()
    between = haversine(found[["lon", "lat"]].to_numpy(), found[["lon", "lat"]].to_numpy())
    assert between[~np.eye(len(found), dtype=bool)].min() >= 1300


def test_around_a_pole_all_longitudes_are_near() -> None:
    field = noise()
    field.values = np.abs(np.nan_to_num(field.values, nan=0.5))
    found = similar_places(field, [(0.0, 0.0)], count=1000, min_km=1200)
    assert (found["lat"].abs() == 85).sum() == 2


def test_a_grid_past_the_antimeridian_gives_longitudes_of_the_globe() -> None:
    grid = Grid.from_bounds(1, (175, -5, -175, 5))
    found = similar_places(noise(grid=grid), [(179.6, 0.2)], count=50, min_km=150)
    assert found["lon"].between(-180, 180).all()
    assert (found["lon"] < 0).any()
    assert (found["lon"] > 0).any()
    expected = haversine(found[["lon", "lat"]].to_numpy(), np.array([[179.6, 0.2]]))[:, 0]
    np.testing.assert_allclose(found["distance_km"], expected)


def test_a_projected_field_measures_on_the_sphere() -> None:
    grid = Grid.from_bounds(1000, (400_000, 5_200_000, 440_000, 5_230_000), "EPSG:32632")
    field = noise(grid=grid)
    query = grid.centres([10], [10])
    field.values[:, 10, 10] = 1
    found = similar_places(field, query, count=20, min_km=5, centre=False)
    values = SimilarityField(field, Query.of(field, query, centre=False)).read().ravel()
    expected = greedy(values, grid.lonlat(), query, 20, 5)
    np.testing.assert_allclose(found[["lon", "lat"]], grid.lonlat()[expected])


def test_components_are_restored_to_vectors_first(tmp_path: Path) -> None:
    with build_field("sh-l10", 10, pca=5, dtype="float32", out=tmp_path, verify=False) as field:
        found = SimilarityField(field, Query.of(field, [(15.0, 45.0)], centre=False)).read().ravel()
        kept = load_file(next(field.disk_path.parent.glob("*.safetensors")))
        reduced = rasterio.open(field.disk_path).read().reshape(5, -1).T
    vectors = (reduced * kept["deviation"]) @ kept["components"] + kept["mean"]
    np.testing.assert_allclose(found, cosine(vectors, vectors[4 * 36 + 19]), atol=1e-6)


def test_of_a_polygon_the_mean_of_its_pixels_counts_and_nothing_in_it_is_found() -> None:
    field = noise()
    field.values = np.abs(np.nan_to_num(field.values, nan=0.5))
    box = geopandas.GeoDataFrame(geometry=[shapely.box(-30, -20, 30, 20)], crs="EPSG:4326")
    found = similar_places(field, box, count=1000, min_km=500, centre=False)
    centres = found[["lon", "lat"]].to_numpy()
    assert not ((abs(centres[:, 0]) < 30) & (abs(centres[:, 1]) < 20)).any()
    # Due south of the box the way to it is along a meridian.
    south = found[(found["lon"].abs() < 30) & (found["lat"] < -20)]
    np.testing.assert_allclose(south["distance_km"], np.deg2rad(-20 - south["lat"]) * 6371, rtol=2e-3)
    values = field.values[:, 7:11, 15:21].reshape(5, -1)
    share = np.repeat(np.sin(np.deg2rad([20, 10, 0, -10])) - np.sin(np.deg2rad([10, 0, -10, -20])), 6)
    similarity = SimilarityField(field, Query.of(field, box, centre=False)).read().ravel()
    np.testing.assert_allclose(similarity, cosine(flat(field), values @ share), atol=1e-6)


def test_a_polygon_across_the_antimeridian_keeps_both_sides_away() -> None:
    field = noise()
    field.values = np.abs(np.nan_to_num(field.values, nan=0.5))
    box = geopandas.GeoDataFrame(geometry=[shapely.box(165, -10, 195, 10)], crs="EPSG:4326")
    found = similar_places(field, box, count=1000, min_km=100, centre=False)
    assert not ((found["lon"].abs() >= 165) & (found["lat"].abs() < 10)).any()
    assert ((found["lon"].abs() == 175) & (found["lat"].abs() == 15)).sum() == 4


def test_a_field_of_one_pixel_has_a_map_and_no_other_place() -> None:
    field = ArrayField(np.ones((3, 1, 1)), Grid(west=0, north=1, res=1, width=1, height=1))
    assert similar_places(field, [(0.5, 0.5)], centre=False).empty
    assert list(similar_places(field, [(0.5, 0.5)], centre=False).columns) == COLUMNS
    assert len(similar_places(field, [(0.5, 0.5)], centre=False, min_km=0)) == 1


def test_a_field_without_differences_has_no_directions_once_its_mean_is_off() -> None:
    field = ArrayField(np.full((3, 20, 20), 0.1))
    with pytest.raises(PlacesError, match=r"place 0 is the field's own mean.*--no-centre"):
        similar_places(field, [(-9.0, 49.0)])


def test_a_pixel_without_direction_is_nodata() -> None:
    values = np.ones((2, 3, 3))
    values[:, 0, 0] = 0
    field = ArrayField(values, Grid(west=0, north=3, res=1, width=3, height=3))
    found = SimilarityField(field, Query.of(field, [(2.5, 0.5)], centre=False)).read()
    assert np.isnan(found[0, 0, 0])
    assert np.isnan(found).sum() == 1


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((0.0, 0.0), r"place 0, at \(0, 0\): it is outside of array\. Choose"),
        ((-9.0, 49.5), r"place 0, at \(-9, 49\.5\): array has no value there\. Choose"),
        ((0.0, 95.0), r"place 0, at \(0, 95\): it is not on the globe\. Choose"),
        ((np.nan, 4.0), r"place 0, at \(nan, 4\): it has no coordinates\. Choose"),
    ],
)
def test_a_place_without_a_vector_is_refused(place: tuple[float, float], message: str) -> None:
    with pytest.raises(PlacesError, match=message):
        similar_places(ArrayField(bumpy(2, 40, 50)), [place])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"match": "best"}, "match='best' is not known. Choose from: mean, any"),
        ({"count": 0}, "count=0 is no number of places"),
        ({"count": 2.5}, "count=2.5 is no number"),
        ({"min_km": -1.0}, "min_km=-1 is no distance"),
        ({"min_km": np.nan}, "min_km=nan is no distance"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(PlacesError, match=message):
        similar_places(noise(), [(5.0, 5.0)], **asked)


def test_no_place_at_all_is_refused() -> None:
    with pytest.raises(PlacesError, match="no place to be similar to"):
        similar_places(noise(), np.empty((0, 2)))


def test_opposite_vectors_have_no_mean_direction() -> None:
    values = np.ones((2, 1, 2))
    values[:, 0, 1] = -1
    field = ArrayField(values, Grid(west=0, north=1, res=1, width=2, height=1))
    with pytest.raises(PlacesError, match="2 places cancel.*--match any"):
        similar_places(field, [(0.5, 0.5), (1.5, 0.5)], centre=False)
    assert len(similar_places(field, [(0.5, 0.5), (1.5, 0.5)], match="any", centre=False, min_km=0)) == 2


def test_a_field_without_values_is_refused() -> None:
    field = ArrayField(np.full((3, 9, 9), np.nan))
    with pytest.raises(EmbedfieldError, match="has no value"):
        similar_places(field, [(-9.5, 49.5)])


def test_an_exact_query_is_the_encoders_own_and_may_lie_off_the_field(make_field: Callable[..., EncodedField]) -> None:
    field = make_field(10, (0, 0, 90, 90))
    evaluator = field.evaluator
    found = SimilarityField(field, Query.of(field, [(-100.0, -7.0)], centre=False, evaluator=evaluator)).read()
    lon, lat = np.deg2rad((-100.0, -7.0))
    query = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    np.testing.assert_allclose(found.ravel(), cosine(field.read().reshape(3, -1).T, query), atol=1e-6)


def test_an_encoder_with_other_weights_is_refused() -> None:
    evaluator = load("xyz", device="cpu")
    field = ArrayField(np.ones((3, 4, 4)), card=evaluator.card, provenance={"weights_sha256": "ab12"})
    with pytest.raises(WeightsError, match="made with weights_sha256 ab12, and the encoder has none"):
        Query.of(field, [(0.0, 0.0)], evaluator=evaluator)


def test_an_exact_polygon_is_refused(make_field: Callable[..., EncodedField]) -> None:
    field = make_field(10)
    box = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 30, 20)], crs="EPSG:4326")
    with pytest.raises(PlacesError, match="not all places are points"):
        Query.of(field, box, evaluator=field.evaluator)


def test_a_region_leaves_the_map_empty_outside(make_field: Callable[..., EncodedField]) -> None:
    region = Region.from_geometries([shapely.box(0.1, 0.1, 39.9, 39.9)], "EPSG:4326")
    field = EncodedField(make_field(10).evaluator, GLOBE, region=region)
    assert np.isnan(SimilarityField(field, Query.of(field, [(15.0, 15.0)])).read()).sum() == 648 - 16


def test_each_block_is_read_once_while_rows_are_written() -> None:
    class Counting(ArrayField):
        asked = 0

        def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
            self.asked += 1
            return super().read(window)

    field = Counting(bumpy(2, 40, 50))
    field.blocksize = 16
    query = Query.of(field, [(-7.0, 46.5)], centre=False)
    field.asked, mapped = 0, SimilarityField(field, query)
    rows = np.concatenate([mapped.read(row)[0] for row in field.grid.window.tiles(1, 50)])
    assert field.asked == 3 * 4
    np.testing.assert_array_equal(rows, mapped.read()[0])


def test_the_map_is_a_geotiff_on_the_fields_own_grid(tmp_path: Path) -> None:
    field = noise(grid=Grid.from_bounds(1000, (400_000, 5_200_000, 440_000, 5_230_000), "EPSG:32632"))
    field.values[:, 10, 10] = 1
    query = Query.of(field, field.grid.centres([10], [10]), centre=False)
    with write_similarity(field, query, tmp_path / "map.tif") as written:
        assert written.describe()["model"].startswith("array-similarity: Cosine similarity to longitude 7.8")
        assert written.provenance["similarity"]["of"] == "array"
    assert listing(tmp_path) == ["map.tif"]
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert (raster.count, raster.dtypes, raster.crs.to_string()) == (1, ("float32",), "EPSG:32632")
        assert raster.transform == field.grid.transform
        assert np.isnan(raster.nodata)
        expected = cosine(flat(field), field.values[:, 10, 10])
        np.testing.assert_allclose(raster.read(1).ravel(), expected, atol=1e-6)


def test_a_map_is_called_after_what_it_is_similar_to() -> None:
    box = geopandas.GeoDataFrame(geometry=[shapely.box(-30, -20, 30, 20)], crs="EPSG:4326")
    field = ArrayField(np.random.default_rng(1).normal(size=(3, 18, 36)), GLOBE, card(3))
    titles = [Query.of(field, places, centre=False).title for places in ([(5.0, 5.5)], [(5, 5), (9, 9)], box)]
    assert titles == [f"Cosine similarity to {what}" for what in ("longitude 5, latitude 5.5", "2 places", "a shape")]
    assert Query.of(field, box).title == "Cosine similarity to a shape, centred"


def test_a_stored_field_gives_the_same_in_several_threads(tmp_path: Path) -> None:
    grid = Grid.from_bounds(1, (0, 0, 150, 50))
    field = noise(grid=grid)
    query = valued(field)
    with write_field(field, tmp_path / "field.tif", dtype="float32") as stored:
        found = SimilarityField(stored, Query.of(stored, query, centre=False)).read()
    np.testing.assert_allclose(found.ravel(), cosine(flat(field), field.at(query)[0]), atol=1e-6)


def test_found_places_and_map_are_written_and_replaced_only_when_asked(tmp_path: Path) -> None:
    field, query = noise(), valued(noise())
    done = find_similar(field, query, tmp_path / "map.tif", count=7, min_km=1000)
    assert listing(tmp_path) == ["map.csv", "map.png", "map.tif"]
    assert (done.path, done.table) == (tmp_path / "map.tif", tmp_path / "map.csv")
    pd.testing.assert_frame_equal(
        pd.read_csv(done.table), similar_places(field, query, count=7, min_km=1000), check_dtype=False
    )
    before = (tmp_path / "map.tif").read_bytes()
    with pytest.raises(OutputExistsError, match=r"map\.tif exists\. Give --overwrite"):
        find_similar(field, query, tmp_path / "map.tif")
    with pytest.raises(OutputExistsError, match=r"map\.csv exists\. Give --overwrite"):
        find_similar(field, query, tmp_path / "other.tif", table=done.table)
    assert listing(tmp_path) == ["map.csv", "map.png", "map.tif"]
    # What GDAL noted of the old one.
    (tmp_path / "map.tif.aux.xml").write_text("<PAMDataset/>", "utf-8")
    find_similar(field, query, tmp_path / "map.tif", count=7, min_km=1000, overwrite=True)
    assert (tmp_path / "map.tif").read_bytes() == before
    assert listing(tmp_path) == ["map.csv", "map.png", "map.tif"]


@pytest.mark.parametrize("name", ["map.parquet", "map.gpkg"])
def test_a_table_has_points_and_says_where_it_comes_from(tmp_path: Path, name: str) -> None:
    find_similar(noise(), valued(noise()), tmp_path / "map.tif", table=tmp_path / name, count=5)
    if name.endswith("gpkg"):
        found = geopandas.read_file(tmp_path / name)
        np.testing.assert_allclose(found.geometry.x, found["lon"])
        assert found.crs == "EPSG:4326"
    else:
        import pyarrow.parquet as pq

        about = json.loads(pq.read_metadata(tmp_path / name).metadata[b"embedfield"])
        assert about["provenance"]["similarity"]["centred"]
        assert about["count"] == 5
        found = pd.read_parquet(tmp_path / name)
    assert [column for column in found.columns if column != "geometry"] == COLUMNS


@pytest.mark.usefixtures("real_picture")
def test_the_picture_is_a_map_with_a_colour_bar(tmp_path: Path) -> None:
    found = find_similar(noise(), valued(noise()), tmp_path / "map.tif", picture=tmp_path / "look.png")
    assert found.picture == tmp_path / "look.png"
    with Image.open(found.picture) as image:
        assert image.format == "PNG"
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 200
    with pytest.raises(OutputExistsError, match=r"look\.png exists"):
        find_similar(noise(), valued(noise()), tmp_path / "new.tif", picture=found.picture)
    with pytest.raises(FormatError, match=r"look\.jpg is no name of a \.png file"):
        find_similar(noise(), valued(noise()), tmp_path / "new.tif", picture=tmp_path / "look.jpg")


def test_a_large_map_becomes_tiles_that_an_old_file_does_not_outlive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = noise(grid=Grid.from_bounds(1, (0, -70, 150, 70)))
    query = valued(field)
    whole = find_similar(field, query, tmp_path / "map.tif", count=9)
    with open_field(whole.path) as mapped:
        expected = mapped.read()
    monkeypatch.setattr(cog, "BUDGET", 10_000)
    tiled = find_similar(field, query, tmp_path / "map.tif", count=9, overwrite=True)
    assert tiled.path == tmp_path / "map.vrt"
    assert not (tmp_path / "map.tif").exists()
    pd.testing.assert_frame_equal(tiled.places, whole.places)
    with open_field(tiled.path) as mapped:
        np.testing.assert_array_equal(mapped.read(), expected)
    with pytest.raises(OutputExistsError, match=r"map\.vrt exists"):
        find_similar(field, query, tmp_path / "map.tif", table=tmp_path / "new.csv")


@pytest.mark.parametrize(
    ("name", "message"),
    [("map.png", r"map\.png is no name of a \.tif file\. Give one that"), ("none/map.tif", "none is no folder")],
)
def test_a_map_that_cannot_be_written_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        find_similar(noise(), valued(noise()), tmp_path / name)
    assert listing(tmp_path) == []


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    field = Breaking(np.ones((3, 300, 40)), EmbedfieldError, 200)
    query = Query.of(noise(3), valued(noise(3)), centre=False)
    (tmp_path / "map.tif").write_bytes(b"old")
    with pytest.raises(EmbedfieldError, match="in the middle"):
        write_similarity(field, query, tmp_path / "map.tif", overwrite=True)
    assert listing(tmp_path) == ["map.tif"]
    assert (tmp_path / "map.tif").read_bytes() == b"old"


def test_the_raster_that_is_compared_is_not_replaced_by_its_map(tmp_path: Path) -> None:
    with write_field(noise(), tmp_path / "field.tif") as field:
        before = field.disk_path.read_bytes()
        with pytest.raises(OutputExistsError, match="is the raster that is read"):
            find_similar(field, valued(noise()), tmp_path / "." / "field.tif", overwrite=True)
        assert field.disk_path.read_bytes() == before
    assert listing(tmp_path) == ["field.tif"]


def test_an_island_in_an_ocean_of_nodata_has_a_mean_and_a_map() -> None:
    values = np.full((2, 180, 360), np.nan)
    values[:, 100:103, 200:203] = np.arange(18.0).reshape(2, 3, 3) ** 2
    field = ArrayField(values, Grid.from_bounds(1), card(2))
    found = similar_places(field, field.grid.centres([101], [201]), min_km=0)
    assert len(found) == 9
    assert found["distance_km"][0] == 0


@pytest.mark.parametrize(
    ("grid", "km"),
    [
        (Grid.from_bounds(0.1), 230),  # the sphere is as large as a square of 22,585 km
        (Grid.from_bounds(5), 1100),  # two pixels of 556 km
        (Grid.from_bounds(10, (400_000, 5_200_000, 500_000, 5_300_000), "EPSG:32632"), 1),
        (Grid.from_bounds(1000, (400_000, 5_200_000, 440_000, 5_230_000), "EPSG:32632"), 2),
    ],
)
def test_the_distance_between_places_goes_by_the_size_of_the_field(grid: Grid, km: float) -> None:
    assert spacing(grid) == km


def test_progress_reaches_the_end_of_each_step() -> None:
    told: list[tuple[int, int]] = []
    field = noise()
    query = Query.of(field, valued(field))
    mapped = SimilarityField(field, query)
    apart(mapped, Anchors(query.located, 1), 3, 100, lambda done, total: told.append((done, total)))
    assert told[-1] == (648, 648)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A runner of the command beside a stored field, field.tif."""
    monkeypatch.chdir(tmp_path)
    build_field("xyz", 10, dtype="float32", out=tmp_path / "built", verify=False).close()
    next((tmp_path / "built").rglob("*.tif")).rename("field.tif")
    app = typer.Typer()
    app.command(cls=SimilarCommand)(similar)
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))


def test_the_command_finds_the_other_end_of_the_world_last(command: Callable[..., Any]) -> None:
    done = command("field.tif", "--at", -75, -35, "--count", 1000, "--min-km", 0)
    assert done.exit_code == 0, done.output
    assert done.stdout == "similarity.tif\nsimilarity.png\nsimilarity.csv\n"
    assert done.stderr.endswith("648 places, 0 km apart at least\n")
    table = pd.read_csv("similarity.csv")
    # Vectors of xyz are places on the sphere: a cosine is that of the way between them.
    expected = np.cos(haversine(table[["lon", "lat"]].to_numpy(), np.array([[-75.0, -35.0]]))[:, 0] / 6371)
    np.testing.assert_allclose(table["similarity"], expected, atol=0.01)
    assert tuple(table.iloc[0][["lon", "lat"]]) == (-75, -35)
    assert tuple(table.iloc[-1][["lon", "lat"]]) == (105, 35)


def test_the_command_takes_several_places_and_exact_ones(command: Callable[..., Any]) -> None:
    words = ("field.tif", "--at", 0, 0, "--at", "90,0", "-o", "map.tif", "--no-centre", "--exact", "--device", "cpu")
    done = command(*words, "--table", "t.parquet", "--count", 3)
    assert done.exit_code == 0, done.output
    assert done.stdout == "map.tif\nmap.png\nt.parquet\n"
    # Half way between the two, as near to the equator as pixels are, are four.
    assert pd.read_parquet("t.parquet")["lon"].tolist()[0] in (45, 35, 55)


def test_the_command_reads_a_file_of_places(command: Callable[..., Any]) -> None:
    Path("places.csv").write_text("lon,lat\n5,5\n15,5\n", "utf-8")
    done = command("field.tif", "--places", "places.csv", "--match", "any", "--min-km", 0)
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv("similarity.csv")) == 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Give --at LON LAT, or --places FILE"),
        (("--at", "1", "2", "--places", "x.csv"), "Give --at LON LAT, or --places FILE"),
        (("--at", "1"), "are not two numbers"),
        (("--at", "east", "2"), "are not two numbers"),
        (("--at", "1", "-o", "x.tif"), "'1 -o' are not two numbers"),
        (("--at",), "'' are not two numbers"),
        (("--at", "1", "2", "--weights", "w.pt"), "asked with --exact"),
    ],
)
def test_the_command_refuses_what_it_cannot_be_asked(
    command: Callable[..., Any], words: tuple[str, ...], message: str
) -> None:
    done = command("field.tif", *words)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert not Path("similarity.tif").exists()
