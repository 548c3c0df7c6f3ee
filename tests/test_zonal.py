"""Statistics of shapes are exactextract's, and hold what statistics must, whatever the shape and the grid."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any, get_args

import geopandas
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import shapely
from exactextract import exact_extract
from exactextract.raster import RasterioRasterSource
from fields import ArrayField, bumpy
from geometries import objects
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LineString, MultiPoint, MultiPolygon, Point, box

from embedfield.errors import PlacesError
from embedfield.formats import open_field, write_field
from embedfield.grid import Grid
from embedfield.medians import weighted_medians
from embedfield.shapes import shapes_on
from embedfield.zonal import Stat, Zones, checked_stats, zones

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedfield.evaluate import EncodedField

STATS: tuple[Stat, ...] = get_args(Stat)
THEIRS = ("mean", "std", "min", "max", "median")
GRID = Grid(west=5.0, north=50.0, res=0.25, width=64, height=48)


def holed(dim: int = 3, grid: Grid = GRID) -> npt.NDArray[np.float32]:
    """Return values with holes, (dim, height, width)."""
    values = bumpy(dim, *grid.shape)
    values[:, 20:26, 30:40] = np.nan
    values[:, 40:, :3] = np.nan
    return values


def shapes_over(grid: Grid, seed: int = 1) -> npt.NDArray[Any]:
    """Return polygons of many kinds over a grid and its sides, the same at every call."""
    generator = np.random.default_rng(seed)
    west, south, east, north = grid.bounds
    pixel, centres = grid.res, generator.uniform((west, south), (east, north), (60, 2))
    circles = shapely.buffer(shapely.points(centres), generator.uniform(0.3, 8, 60) * pixel)
    rings = shapely.difference(circles[:20], shapely.buffer(circles[:20], -0.6 * pixel))
    pairs = [MultiPolygon([circles[k], circles[k + 1]]) for k in range(20, 40) if circles[k].disjoint(circles[k + 1])]
    specks = shapely.buffer(shapely.points(centres[:20]), generator.uniform(0.001, 0.3, 20) * pixel)
    slivers = [box(x, y, x + 9 * pixel, y + 1e-4 * pixel) for x, y in centres[20:30]]
    corners = grid.west + pixel * np.arange(0, 50, 7), grid.north - pixel * np.arange(0, 40, 5)
    aligned = [box(x, y - 3 * pixel, x + 4 * pixel, y) for x, y in zip(corners[0], corners[1], strict=True)]
    hole = box(*(west + 29.5 * pixel, north - 26.5 * pixel, west + 41 * pixel, north - 19 * pixel))
    inside = box(*(west + 31 * pixel, north - 25 * pixel, west + 39 * pixel, north - 21 * pixel))
    aside = [box(west - 9 * pixel, y, west + 3.3 * pixel, y + 5 * pixel) for y in centres[:9, 1]]
    whole = box(west - pixel, south - pixel, east + pixel, north + pixel)
    return objects([*circles, *rings, *pairs, *specks, *slivers, *aligned, hole, inside, *aside, whole])


def official(path: Path, shapes: npt.NDArray[Any], *, weighted: bool = True) -> dict[str, npt.NDArray[np.float64]]:
    """Return what exactextract finds in all bands of a file: (N, dim) by name, and "count", (N,)."""
    found: dict[str, list[Any]] = {name: [] for name in (*THEIRS, "count")}
    weight = "(coverage_weight=area_spherical_m2)" if weighted else ""
    asked = [f"mean{weight}", f"stdev{weight}", "min", "max", f"median{weight}", "count"]
    with rasterio.open(path) as raster:
        places = geopandas.GeoDataFrame(geometry=shapes, crs=raster.crs)
        for band in range(1, raster.count + 1):
            table = exact_extract(RasterioRasterSource(raster, band), places, asked, output="pandas")
            for name, column in zip(found, table.columns, strict=True):
                found[name].append(np.asarray(table[column], dtype=np.float64))
    count = found.pop("count")[0]
    return {name: np.stack(bands, axis=1) for name, bands in found.items()} | {"count": count}


def written(field: ArrayField, path: Path) -> Path:
    """Write a field with rasterio alone, as float32 with NaN."""
    return rastered(field.values, field.grid, path)


def decoded(packed: Path, grid: Grid, path: Path) -> Path:
    """Write what rasterio unpacks of a file: exactextract does too, but loses the mask of a window of one pixel."""
    with rasterio.open(packed) as raster:
        scale, offset = (np.array(part)[:, None, None] for part in (raster.scales, raster.offsets))
        return rastered((raster.read(masked=True).astype(np.float64) * scale + offset).filled(np.nan), grid, path)


def rastered(values: npt.NDArray[np.floating], grid: Grid, path: Path) -> Path:
    """Write values (dim, height, width) as a raster."""
    profile = {"driver": "GTiff", "dtype": "float32", "count": len(values), "crs": grid.crs, "nodata": np.nan}
    height, width = grid.shape
    with rasterio.open(path, "w", height=height, width=width, transform=grid.transform, **profile) as raster:
        raster.write(values)
    return path


def assert_official(found: Zones, wanted: dict[str, npt.NDArray[np.float64]], spread: npt.NDArray[np.float64]) -> None:
    """Compare statistics, within a millionth of each band's spread."""
    none = np.isnan(wanted["mean"]).any(axis=1)
    np.testing.assert_array_equal(found.status == "valid", ~none)
    for name in THEIRS:
        off = abs(found.stats[name][~none] - wanted[name][~none]) / spread  # type: ignore[index]  # a name of ours
        assert off.max() < 1e-6, name
        assert np.isnan(found.stats[name][none]).all()  # type: ignore[index]  # a name of ours
    np.testing.assert_allclose(found.stats["count"], wanted["count"], rtol=1e-6, atol=1e-6)


def spread_of(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the range of each band, (dim,)."""
    return np.asarray(np.nanmax(values, axis=(1, 2)) - np.nanmin(values, axis=(1, 2)), dtype=np.float64)


# Against exactextract. ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_statistics_are_those_of_exactextract(tmp_path: Path, seed: int) -> None:
    field, shapes = ArrayField(holed(), GRID), shapes_over(GRID, seed)
    wanted = official(written(field, tmp_path / "plain.tif"), shapes)
    assert_official(zones(field, shapes, STATS), wanted, spread_of(field.values))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_statistics_of_a_stored_field_are_those_that_exactextract_finds_in_its_file(tmp_path: Path, dtype: Any) -> None:
    shapes = shapes_over(GRID, 7)
    with write_field(ArrayField(holed(), GRID), tmp_path / "field.tif", dtype=dtype) as field:
        wanted = official(decoded(tmp_path / "field.tif", GRID, tmp_path / "plain.tif"), shapes)
        assert_official(zones(field, shapes, STATS), wanted, spread_of(field.read()))


def test_statistics_on_a_projected_grid_are_weighed_by_coverage_alone(tmp_path: Path) -> None:
    grid = Grid(west=4_000_000, north=3_000_000, res=10_000, width=60, height=50, crs="EPSG:3035")
    field, shapes = ArrayField(holed(2, grid), grid), shapes_over(grid)
    wanted = official(written(field, tmp_path / "plain.tif"), shapes, weighted=False)
    assert_official(zones(field, shapes, STATS), wanted, spread_of(field.values))


def test_pixels_at_a_pole_weigh_little(tmp_path: Path) -> None:
    grid = Grid(west=-180.0, north=90.0, res=5.0, width=72, height=36)
    field = ArrayField(holed(2, grid), grid)
    shapes = objects([box(-180, 60, 180, 90), box(-180, -90, 180, 90), box(-33, -90, 41, -71.2), box(-180, -2, -90, 3)])
    wanted = official(written(field, tmp_path / "plain.tif"), shapes)
    assert_official(zones(field, shapes, STATS), wanted, spread_of(field.values))


@pytest.mark.parametrize("seed", range(4))
def test_medians_are_those_of_exactextract_where_values_are_alike(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    field = ArrayField(generator.integers(0, 2 + 3 * seed, (2, *GRID.shape)), GRID)
    shapes = shapes_over(GRID, seed)
    wanted = official(written(field, tmp_path / "plain.tif"), shapes)
    assert_official(zones(field, shapes, STATS), wanted, spread_of(field.values))


# What statistics must hold. -----------------------------------------------------------------------------------------

# Not finer than 0.1 mm: of what is nearly on a line GEOS says now this, now that.
LON, LAT = (st.floats(-bound, bound).map(lambda degrees: round(degrees, 9)) for bound in (180, 90))


@st.composite
def fields(draw: st.DrawFn) -> ArrayField:
    """Small fields over the world or parts of it, some with holes."""
    west, res = draw(st.sampled_from([(-180.0, 10.0), (-170.0, 10.0), (160.0, 4.0), (-7.3, 2.5), (179.0, 30.0)]))
    width = draw(st.integers(1, int(360 / res)))
    height = draw(st.integers(1, int(180 / res)))
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    values = generator.normal(loc=5, size=(2, height, width))
    values[:, generator.random((height, width)) < draw(st.sampled_from([0.0, 0.3]))] = np.nan
    return ArrayField(values, Grid(west=west, north=90.0, res=res, width=width, height=height))


@st.composite
def areas(draw: st.DrawFn) -> Any:
    """Hulls of a few places, not too small."""
    hulls = st.lists(st.tuples(LON, LAT), min_size=3, max_size=7).map(lambda places: MultiPoint(places).convex_hull)
    return draw(hulls.filter(lambda hull: hull.area > 1e-3))


@given(fields(), st.lists(areas(), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_statistics_keep_their_order(field: ArrayField, shapes: list[Any]) -> None:
    found = zones(field, objects(shapes), STATS)
    valid = found.status == "valid"
    stats = {name: values[valid] for name, values in found.stats.items()}
    for name in ("mean", "median"):
        assert (stats[name] >= stats["min"] - 1e-6).all()
        assert (stats[name] <= stats["max"] + 1e-6).all()
    assert (stats["std"] >= 0).all()
    assert (stats["std"] <= (stats["max"] - stats["min"]) / 2 + 1e-6).all()
    assert (stats["count"] > 0).all()
    assert ((stats["coverage"] > 0) & (stats["coverage"] <= 1)).all()
    assert (found.stats["coverage"][~valid] == 0).all()
    assert (found.stats["count"][~valid] == 0).all()


@given(fields(), areas(), st.floats(0, 1), st.booleans())
@settings(max_examples=200, deadline=None)
def test_the_mean_of_a_polygon_is_that_of_its_halves(
    field: ArrayField, shape: Any, share: float, upright: bool
) -> None:
    west, south, east, north = shape.bounds
    x, y = west + share * (east - west), south + share * (north - south)
    first = box(west - 1, south - 1, x, north + 1) if upright else box(west - 1, south - 1, east + 1, y)
    halves = [shape.intersection(first), shape.difference(first)]
    if any(not half.geom_type.endswith("Polygon") or half.area < 1e-4 for half in halves):
        return
    found = zones(field, objects([shape, *halves]), ("mean", "count", "coverage"))
    counts = found.stats["count"]
    assert counts[0] == pytest.approx(counts[1:].sum(), abs=1e-9)
    # A grid in one row weighs pixels alike; in more, counts are no weights: take them by rows.
    if field.grid.height == 1 and counts[0] > 1e-6:
        means = np.nan_to_num(found.stats["mean"])
        np.testing.assert_allclose(means[0], counts[1:] @ means[1:] / counts[0], rtol=1e-6, atol=1e-6)


def test_the_mean_of_a_polygon_is_that_of_its_halves_weighed_by_area() -> None:
    field = ArrayField(np.nan_to_num(holed()), GRID)
    whole, west, east = box(6, 40, 20, 49), box(6, 40, 11.1, 49), box(11.1, 40, 20, 49)
    means = zones(field, objects([whole, west, east])).stats["mean"]
    np.testing.assert_allclose(means[0], (means[1] * 5.1 + means[2] * 8.9) / 14, rtol=1e-9)
    south = zones(field, objects([whole, box(6, 40, 20, 44.5), box(6, 44.5, 20, 49)])).stats["mean"]
    sine = np.sin(np.deg2rad([40, 44.5, 49]))
    np.testing.assert_allclose(south[0], np.diff(sine) @ south[1:] / (sine[2] - sine[0]), rtol=1e-9)


@given(fields(), st.lists(areas(), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_the_size_of_blocks_changes_nothing(field: ArrayField, shapes: list[Any]) -> None:
    whole = zones(field, objects(shapes), STATS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedfield.zonal.HELD", 1)
        patch.setattr("embedfield.zonal.CELLS", 5)
        patch.setattr("embedfield.zonal.SPREAD", 40)
        patch.setattr("embedfield.medians.MOST", 4)
        patch.setattr("embedfield.medians.RANKED", 16)
        patch.setattr("embedfield.medians.SAMPLE", 3)
        field.blocksize = 3
        parts = zones(field, objects(shapes), STATS)
    assert parts.status.tolist() == whole.status.tolist()
    for name in STATS:
        np.testing.assert_allclose(parts.stats[name], whole.stats[name], rtol=1e-6, atol=1e-6)


def test_what_lies_wholly_on_pixels_with_a_value_is_covered_wholly() -> None:
    field = ArrayField(bumpy(1, *GRID.shape)[:, 12:, :], Grid(west=5.0, north=50.0, res=0.25, width=64, height=36))
    shapes = shapely.buffer(shapely.points(np.random.default_rng(0).uniform((6, 42), (20, 49), (300, 2))), 0.9)
    assert (zones(field, shapes, ("coverage",)).stats["coverage"] == 1).all()


def test_coverage_is_the_part_on_pixels_with_a_value() -> None:
    field = ArrayField(np.ones((1, 4, 4)), Grid(west=0.0, north=2.0, res=1.0, width=4, height=4))
    field.values[:, :, 0] = np.nan
    shapes = objects([
        box(0, -2, 4, 2), box(0, 0, 1, 1), box(3, -1, 5, 1), LineString([(0.5, 0.5), (2.5, 0.5)]),
        LineString([(3, 1), (5, 1)]), MultiPoint([(0.5, 0.5), (1.5, 0.5), (9, 9), (1.5, 0.5)]), box(9, 9, 10, 10),
    ])  # fmt: skip
    found = zones(field, shapes, ("count", "coverage"))
    np.testing.assert_allclose(found.stats["coverage"], [0.75, 0, 0.5, 0.75, 0.5, 0.5, 0], atol=1e-4)
    np.testing.assert_allclose(found.stats["count"], [12, 0, 2, 2, 1, 2, 0], atol=1e-12)
    assert found.status.tolist() == ["valid", "nodata", "valid", "valid", "valid", "valid", "outside"]


# Lines and points. --------------------------------------------------------------------------------------------------


def test_the_mean_under_a_line_weighs_pixels_by_its_length_in_them() -> None:
    field = ArrayField(np.arange(16).reshape(1, 4, 4), Grid(west=0.0, north=2.0, res=1.0, width=4, height=4))
    lines = objects([LineString([(0.5, 0), (3, 0)]), LineString([(1, 2), (1, 0.5)]), LineString([(0.2, 1.5)] * 2)])
    found = zones(field, lines, STATS)
    np.testing.assert_allclose(found.stats["mean"][:, 0], [(8 * 0.5 + 9 + 10) / 2.5, (1 + 5 * 0.5) / 1.5, 0], rtol=1e-3)
    assert found.stats["min"][:, 0].tolist() == [8, 1, 0]
    assert found.stats["max"][:, 0].tolist() == [10, 5, 0]
    assert found.status.tolist() == ["valid"] * 3


def test_several_points_are_a_mean_of_pixels() -> None:
    field = ArrayField(holed(), GRID)
    places = np.random.default_rng(3).uniform((5, 38), (21, 50), (40, 2))
    values = field.at(places, "nearest")
    found = zones(field, objects([MultiPoint(places), *shapely.points(places)]), STATS)
    there = ~np.isnan(values).any(axis=1)
    np.testing.assert_allclose(found.stats["mean"][0], values[there].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.stats["std"][0], values[there].std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.stats["mean"][1:], values, rtol=1e-7)
    np.testing.assert_allclose(found.stats["median"][1:], values, rtol=1e-7)
    assert (found.stats["count"][0], found.status[1:].tolist()) == (
        there.sum(),
        np.where(there, "valid", "nodata").tolist(),
    )


# Edges of the world, specks and nothing. ----------------------------------------------------------------------------


def test_a_polygon_across_the_antimeridian_has_the_mean_of_both_sides() -> None:
    (shape,) = shapes_on(objects([box(178, -3, 184, 5)]), "EPSG:4326").geometries
    for grid in (
        Grid(west=-180.0, north=90.0, res=1.0, width=360, height=180),
        Grid(west=-30.0, north=90.0, res=1.0, width=360, height=180),
        Grid(west=170.0, north=20.0, res=1.0, width=20, height=40),
    ):
        lon = (grid.lons() + 180) % 360
        field = ArrayField(np.broadcast_to(np.where(lon > 180, lon - 360, lon), (1, *grid.shape)), grid)
        # Longitudes from the antimeridian: 2 degrees before it, 4 beyond.
        found = zones(field, objects([shape]), STATS)
        assert found.stats["mean"][0, 0] == pytest.approx(1.0)
        assert (found.stats["min"][0, 0], found.stats["max"][0, 0]) == (-1.5, 3.5)
        assert found.stats["count"][0] == pytest.approx(48)
        assert found.stats["coverage"][0] == 1


@pytest.mark.parametrize("pole", [90, -90])
def test_a_circle_around_a_pole_has_the_mean_of_its_cap(pole: int) -> None:
    grid = Grid(west=-180.0, north=90.0, res=0.5, width=720, height=360)
    field = ArrayField(np.broadcast_to(np.sin(np.deg2rad(grid.lats()))[:, None], (1, *grid.shape)), grid)
    shapes = shapes_on(objects([Point(30, pole)]), "EPSG:4326", buffer=2_000_000.0).geometries
    found = zones(field, shapes, STATS)
    edge = np.cos(2_000_000 / 6_371_008.8)
    # The mean height of a cap is halfway between its rim and the pole.
    assert found.stats["mean"][0, 0] == pytest.approx(np.sign(pole) * (1 + edge) / 2, abs=1e-4)
    assert found.stats["coverage"][0] == 1


def test_a_speck_has_the_value_of_its_pixel() -> None:
    field = ArrayField(bumpy(2, 30, 40), Grid(west=100.0, north=10.0, res=0.5, width=40, height=30))
    places = np.random.default_rng(2).uniform((100, -5), (120, 10), (50, 2))
    places[:10] = np.rint(places[:10])
    specks = np.array([box(x, y, x + 1e-12, y + 1e-12) for x, y in places], dtype=object)
    found = zones(field, specks, STATS)
    values = field.at(places + 5e-13, "nearest")
    there = ~np.isnan(values[:, 0])
    for name in ("mean", "median", "min", "max"):
        np.testing.assert_array_equal(found.stats[name], values)
    assert (found.stats["std"][there] == 0).all()
    assert (found.stats["coverage"] == there).all()
    assert (found.stats["count"] < 1e-9).all()
    assert found.status.tolist() == np.where(there, "valid", "nodata").tolist()


def test_what_lies_nowhere_has_no_value_and_no_status_of_its_own() -> None:
    found = zones(ArrayField(bumpy(2, 30, 40)), objects([None, box(-9, 48, -8, 49), None, box(50, 50, 60, 60)]), STATS)
    for name in ("mean", "std", "min", "max", "median"):
        assert np.isnan(found.stats[name]).any(axis=1).tolist() == [True, False, True, True]
    assert found.stats["count"][[0, 2, 3]].tolist() == [0, 0, 0]
    assert found.stats["coverage"][[0, 2, 3]].tolist() == [0, 0, 0]
    assert found.status[[1, 3]].tolist() == ["valid", "outside"]


@pytest.mark.parametrize("stat", STATS)
def test_no_shapes_have_no_statistics(stat: Stat) -> None:
    found = zones(ArrayField(bumpy(2, 30, 40)), np.empty(0, dtype=object), (stat,))
    assert found.stats[stat].shape == ((0,) if stat in ("count", "coverage") else (0, 2))
    assert found.status.shape == (0,)


@pytest.mark.parametrize("stat", STATS)
def test_a_field_without_values_has_none_under_shapes(stat: Stat) -> None:
    field = ArrayField(np.full((2, 30, 40), np.nan))
    found = zones(field, objects([box(-9, 48, -8, 49), Point(-9, 48), box(-9, 48, -9 + 1e-12, 48 + 1e-12)]), (stat,))
    assert found.status.tolist() == ["nodata"] * 3
    assert np.isnan(found.stats[stat]).all() if found.stats[stat].ndim == 2 else not found.stats[stat].any()


def test_statistics_of_a_computed_field_are_those_of_its_stored_values(
    make_field: Callable[..., EncodedField], tmp_path: Path
) -> None:
    computed = make_field(res=2.0)
    shapes = shapes_on(
        np.array([*shapely.buffer(shapely.points([(0, 0), (170, 60), (30, -80)]), 9), LineString([(1, 1), (60, 40)])]),
        "EPSG:4326",
    ).geometries
    write_field(computed, tmp_path / "field.tif", dtype="float32").close()
    with open_field(tmp_path / "field.tif") as field:
        stored = zones(field, shapes, STATS)
    for name, values in zones(computed, shapes, STATS).stats.items():
        np.testing.assert_allclose(values, stored.stats[name], rtol=0, atol=1e-6)


def test_one_statistic_is_the_same_alone_as_among_others() -> None:
    field, shapes = ArrayField(holed(), GRID), shapes_over(GRID)
    together = zones(field, shapes, STATS)
    for stat in STATS:
        np.testing.assert_array_equal(zones(field, shapes, (stat,)).stats[stat], together.stats[stat])


# Names, medians and memory. -----------------------------------------------------------------------------------------


def test_statistics_are_named_once_each() -> None:
    assert checked_stats("mean") == ("mean",)
    assert checked_stats(["median", "mean"]) == ("mean", "median")
    for wrong in ("mode", [], ["mean", "mean"], ["mean", "sum"]):
        with pytest.raises(PlacesError, match="give one or more, each once, of: mean, std, min"):
            checked_stats(wrong)


def test_a_median_of_equal_weights_is_the_middle() -> None:
    values = np.random.default_rng(4).normal(size=(51, 3))
    np.testing.assert_allclose(weighted_medians(values, np.full(51, 0.3)), np.median(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(weighted_medians(values[:50], np.ones(50)), np.median(values[:50], axis=0), rtol=1e-12)


MEMORY = """
import numpy as np, shapely, sys
from embedfield.card import Card
from embedfield.field import Field
from embedfield.grid import Grid
from embedfield.zonal import zones

class Waves(Field):
    card = Card(name="waves", title="Waves", dim=8, code="none:None", homepage="https://example.org")
    grid = Grid(west=-20.0, north=40.0, res=0.01, width=int(sys.argv[3]), height=int(sys.argv[3]))

    def read(self, window=None):
        row, col = (np.arange(part.start, part.stop, dtype=np.float32) for part in (window.rows, window.cols))
        return np.sin(np.arange(8, dtype=np.float32)[:, None, None] + row[:, None] * col / 3000)

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))

shapes = np.array(eval(sys.argv[2]), dtype=object)
zones(Waves(), shapely.buffer(shapely.points([(0.0, 0.0)]), 0.1), sys.argv[1].split(","))
before = peak()
found = zones(Waves(), shapes, sys.argv[1].split(","))
assert (found.status == "valid").all()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("stats", "shapes", "side", "most"),
    [
        # Of 1,150 MB.
        ("mean,std,min,max,count,coverage", "[shapely.box(-30, -99, 99, 99)]", 6000, 500),
        # Of 512 MB, which stand on the disk, and 40 bytes a value where they are ranked.
        ("median", "[shapely.box(-30, -99, 99, 99)]", 4000, 500),
        # 51 million pixels, of 3 million.
        ("mean,max", "[shapely.Point(0, 20).buffer(9 + number / 99) for number in range(20)]", 4000, 500),
    ],
)
def test_memory_does_not_grow_with_what_shapes_cover(stats: str, shapes: str, side: int, most: int) -> None:
    command = [sys.executable, "-c", MEMORY, stats, shapes, str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < most
