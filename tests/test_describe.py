"""Describe: statistics against numbers known by area, fields of all kinds, regions, and the command."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import geopandas
import numpy as np
import pytest
import shapely
import typer
from fields import ArrayField, bumpy
from typer.testing import CliRunner

from embedfield.card import Card
from embedfield.commands.describe import describe as command
from embedfield.describe import describe_field
from embedfield.describe.drawn import Drawn
from embedfield.describe.summary import BandStatistics, Lengths, Spectrum
from embedfield.errors import PlacesError
from embedfield.evaluate import EncodedField, load
from embedfield.formats import open_field, write_field
from embedfield.grid import Grid
from embedfield.reduce import ReducedField, Reduction
from embedfield.region import Region

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    from typer.testing import Result

Box = tuple[float, float, float, float]


def region(*boxes: Box, name: str = "box") -> Region:
    return Region.from_geometries([shapely.box(*box) for box in boxes], "EPSG:4326", name)


def over(bounds: Box, res: float, *bands: Callable[..., npt.ArrayLike]) -> ArrayField:
    """Return a field of functions of longitude and latitude."""
    grid = Grid.from_bounds(res, bounds)
    lon, lat = np.meshgrid(grid.lons(), grid.lats())
    return ArrayField([np.broadcast_to(np.asarray(band(lon, lat)), lon.shape) for band in bands], grid)


def test_numbers_are_weighed_by_area_and_not_by_pixels() -> None:
    field = over((-180, -90, 180, 90), 1, lambda _, lat: abs(lat) > 60, lambda _, lat: np.sin(np.deg2rad(lat)))
    numbers = BandStatistics.of(field.band_names, Drawn.of(field, 20_000).values).numbers
    # Of the sphere 13.4 % lie beyond 60 degrees, where a third of the pixels are.
    assert numbers["mean"] == pytest.approx([1 - math.sin(math.radians(60)), 0.0], abs=0.01)
    assert numbers["std"][1] == pytest.approx(1 / math.sqrt(3), abs=0.01)
    assert numbers["p25"][1] == pytest.approx(-0.5, abs=0.02)


def test_band_statistics_are_numpys_of_each_band() -> None:
    values = np.random.default_rng(0).gamma(2, size=(501, 40)).astype(np.float32)
    found = BandStatistics.of([f"b{band}" for band in range(40)], values)
    assert found.numbers["mean"] == pytest.approx([math.fsum(band) / 501 for band in values.T.astype(float)])
    sorted_ = np.sort(values, axis=0)
    for name, row in (("min", 0), ("p05", 25), ("p25", 125), ("p50", 250), ("p75", 375), ("p95", 475), ("max", 500)):
        assert found.numbers[name] == pytest.approx(sorted_[row])
    assert found.by_variation() == sorted(range(40), key=lambda band: -values[:, band].astype(float).std())


def test_lengths_and_mean_cosine_are_those_of_all_pairs() -> None:
    vectors = np.random.default_rng(1).normal(0.5, size=(60, 7))
    vectors[5] = 0
    found = Lengths.of(vectors)
    lengths = [math.dist(vector, np.zeros(7)) for vector in vectors]
    assert found.numbers["mean"] == pytest.approx(math.fsum(lengths) / 60)
    assert found.numbers["min"] == 0
    units = [vector / length for vector, length in zip(vectors, lengths, strict=True) if length]
    pairs = [first @ second for number, first in enumerate(units) for second in units[:number]]
    assert found.cosine == pytest.approx(math.fsum(pairs) / len(pairs))
    assert found.common == pytest.approx(sum(vectors.mean(0) ** 2) / np.mean(np.square(lengths)))


def test_zeros_have_no_direction() -> None:
    found = Lengths.of(np.zeros((5, 3)))
    assert (found.cosine, found.common) == (None, None)


def test_the_spectrum_of_known_variances_is_found() -> None:
    corners = np.array([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0]])
    found = Spectrum.of(np.concatenate((corners, -corners)))
    assert found.explained == pytest.approx([4 / 9, 4 / 9, 1 / 9, 0])
    shares = np.array([2, 2, 1]) / 5
    assert found.effective_rank == pytest.approx(math.exp(-sum(shares * np.log(shares))))
    assert [found.components(share) for share in (0.4, 0.5, 0.88, 0.99)] == [1, 2, 2, 3]


def test_an_encoder_is_asked_at_the_places_themselves() -> None:
    field = EncodedField.everywhere(load("xyz"))
    found = describe_field(field, sample=3000)
    assert found.field == {"name": "xyz", "model": "xyz", "dim": 3, "components": None, "exact": True}
    assert (found.places, found.pixels, found.empty) == (3000, None, 0)
    assert found.lengths.numbers["mean"] == pytest.approx(1)
    assert found.dimension
    assert found.dimension.mle == pytest.approx(2, abs=0.1)
    # Vectors are the unit sphere itself: their product is the cosine of the angle between places.
    assert found.autocorrelation.length_km == pytest.approx(math.acos(math.exp(-1)) * 6371, rel=0.03)


def test_the_same_field_has_the_same_description(tmp_path: Path) -> None:
    field = ArrayField(bumpy(4, 60, 80))
    paths = [write_field(field, tmp_path / f"field{suffix}", dtype="float32").path for suffix in (".tif", ".zarr")]
    first, again, other = (describe_field(open_field(path), sample=900).to_dict() for path in (paths[0], *paths))
    assert first == again
    assert {**first, "field": None} == {**other, "field": None}
    json.dumps(first, allow_nan=False)


def test_places_without_a_value_are_counted_and_replaced() -> None:
    field = over((0, -30, 60, 30), 1, lambda lon, _: np.where(lon < 45, np.nan, lon), lambda _, lat: lat)
    found = describe_field(field, sample=2000)
    assert found.places == 2000
    assert found.empty == pytest.approx(6000, rel=0.1)
    assert found.bands.numbers["min"][0] == 45.5


def test_a_field_of_few_values_gives_what_it_has() -> None:
    values = np.full((2, 100, 100), np.nan)
    values[:, 50, 50] = 1, 2
    found = Drawn.of(ArrayField(values), 1000)
    assert 0 < len(found.values) < 10
    assert found.pixels == 1
    assert len(found.values) + found.empty == 16_000


def test_a_field_without_values_is_refused() -> None:
    with pytest.raises(PlacesError, match=r"array has no value at any of 160 random places\. There is nothing"):
        describe_field(ArrayField(np.full((2, 8, 8), np.nan)), sample=10)


@pytest.mark.parametrize("count", [0, -3])
def test_a_sample_of_nothing_is_refused(count: int) -> None:
    with pytest.raises(PlacesError, match=f"sample={count} describes nothing"):
        describe_field(ArrayField(np.zeros((2, 8, 8))), sample=count)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 1), (3, 7, 5), (1, 20, 20)], ids=str)
def test_constants_and_specks_have_neither_dimension_nor_correlation(shape: tuple[int, int, int]) -> None:
    found = describe_field(ArrayField(np.full(shape, 0.1)), sample=300)
    assert found.pixels == pytest.approx(min(300, shape[1] * shape[2]), rel=0.5)
    assert found.dimension is None
    assert found.spectrum.effective_rank == 0
    text = "\n".join(found.lines)
    assert f"{shape[0]}, {shape[0]} of them constant" in text
    assert "none: all vectors are the same" in text
    assert "not to be told" in text
    json.dumps(found.to_dict(), allow_nan=False)


def test_zeros_are_described() -> None:
    assert not any("directions" in line for line in describe_field(ArrayField(np.zeros((2, 5, 5))), sample=50).lines)


def test_a_projected_field_is_drawn_on_its_own_pixels() -> None:
    grid = Grid.from_bounds(1000, (500_000, 5_300_000, 540_000, 5_330_000), crs="EPSG:32633")
    rows, cols = np.mgrid[:30, :40].astype(float)
    found = Drawn.of(ArrayField([rows, cols], grid), 800)
    assert found.pixels is not None
    assert found.pixels > 500
    # Each value stands where its pixel does.
    assert grid.centres(*found.values.T.astype(int)) == pytest.approx(found.lonlat)
    assert np.bincount(found.values[:, 0].astype(int), minlength=30).min() > 5


def test_an_area_across_the_antimeridian_and_one_at_a_pole_are_drawn_whole() -> None:
    seam = Drawn.of(over((170, -10, 190, 10), 1, lambda lon, _: lon % 360), 1000)
    assert seam.values.min() == 170.5
    assert seam.values.max() == 189.5
    assert abs(seam.lonlat[:, 0]).max() <= 180
    pole = Drawn.of(over((-180, 80, 180, 90), 1, lambda _, lat: lat), 1000)
    assert np.mean(pole.values > 85) == pytest.approx(
        (1 - math.sin(math.radians(85))) / (1 - math.sin(math.radians(80))), abs=0.04
    )


def test_places_keep_within_the_latitudes_of_the_encoder() -> None:
    card = Card(
        name="belt", title="A belt", dim=1, code="none:None", homepage="https://example.org", latitudes=(-30, 40)
    )
    values = np.arange(18.0)[None, :, None].repeat(36, axis=2)
    found = Drawn.of(ArrayField(values, Grid.from_bounds(10), card), 500)
    assert set(found.values[:, 0]) == {5, 6, 7, 8, 9, 10, 11}


def test_a_region_confines_the_places() -> None:
    field = over((-180, -90, 180, 90), 1, lambda lon, _: lon, lambda _, lat: lat)
    boxes = region((10, 20, 30, 40), (-60, -20, -50, -10))
    found = describe_field(field, sample=2000, region=boxes)
    lon = found.bands.numbers
    assert (lon["min"][0], lon["max"][0], lon["min"][1], lon["max"][1]) == (-59.5, 29.5, -19.5, 39.5)
    assert found.region == "box"
    exact = Drawn.of(EncodedField.everywhere(load("xyz")), 500, boxes)
    assert len(exact.values) == 500
    assert shapely.intersects_xy(shapely.union_all(boxes.parts), *exact.lonlat.T).all()


def test_a_region_may_come_from_a_file_in_metres(tmp_path: Path) -> None:
    path = tmp_path / "austria.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.box(5e5, 5.2e6, 6e5, 5.3e6)], crs="EPSG:32633").to_file(path)
    found = Drawn.of(EncodedField.everywhere(load("xyz")), 300, Region.read(path))
    inside = geopandas.GeoSeries(geopandas.points_from_xy(*found.lonlat.T), crs=4326).to_crs(32633).total_bounds
    assert inside == pytest.approx([5e5, 5.2e6, 6e5, 5.3e6], abs=5000)
    assert describe_field(EncodedField.everywhere(load("xyz")), sample=200, region=str(path)).region == "austria"


@pytest.mark.parametrize(
    "elsewhere",
    [
        region((100, 50, 110, 60), name="elsewhere"),
        Region.from_geometries([shapely.LineString([(-10, 45), (-9, 50)])], "EPSG:4326", "elsewhere"),
    ],
    ids=["beside", "a line"],
)
def test_a_region_without_a_place_of_the_field_is_refused(elsewhere: Region) -> None:
    with pytest.raises(PlacesError, match="array has no place in elsewhere"):
        describe_field(ArrayField(np.ones((2, 9, 9))), sample=10, region=elsewhere)


def test_components_are_restored_to_vectors() -> None:
    field = ArrayField(bumpy(5, 50, 50)[:, 15:])
    reduced = ReducedField(field, Reduction.measure(field, 5))
    whole, found = describe_field(field, sample=600), describe_field(reduced, sample=600)
    assert found.bands.names[0] == "array_pc000"
    assert found.bands.numbers["std"] == pytest.approx(np.ones(5), abs=0.1)
    assert found.lengths.numbers == pytest.approx(whole.lengths.numbers, rel=1e-4)
    assert found.spectrum.explained == pytest.approx(whole.spectrum.explained, abs=1e-6)
    assert found.autocorrelation.length_km == pytest.approx(whole.autocorrelation.length_km, rel=1e-3)
    assert any(line.startswith("components ") for line in found.lines)


def test_progress_ends_with_all_places() -> None:
    told: list[tuple[int, int]] = []
    steps: list[str] = []
    field = over((0, 0, 30, 30), 1, lambda lon, _: np.where(lon < 10, np.nan, lon))
    describe_field(field, sample=1000, progress=lambda done, total: told.append((done, total)), step=steps.append)
    assert told[-1] == (1000, 1000)
    assert steps[0] == "reading random places"


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Return a runner of the command."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(command)
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))


def test_the_command_describes_a_stored_field(ask: Callable[..., Result]) -> None:
    write_field(ArrayField(bumpy(3, 40, 40)), "waves.tif", dtype="int16")
    done = ask("waves.tif", "--sample", 500, "--bands")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "field        waves"
    assert lines[1].startswith("places       500 at random, evenly by area, in ")
    assert [line.split()[0] for line in lines[-4:]] == ["band", "array_000", "array_001", "array_002"]
    assert "MLE" in done.stdout


def test_the_command_describes_a_model_as_json(ask: Callable[..., Result], tmp_path: Path) -> None:
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 20, 20)], crs=4326).to_file(tmp_path / "box.geojson")
    done = ask("--model", "xyz", "--region", "box.geojson", "--sample", 300, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["places"], found["region"], found["field"]["exact"]) == (300, "box", True)
    assert found["dimension"]["TLE"] == pytest.approx(2, abs=0.4)
    assert [band["name"] for band in found["bands"]] == ["xyz_000", "xyz_001", "xyz_002"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "Give FIELD, or --model NAME"),
        (("a.tif", "--model", "xyz"), "Give FIELD, or --model NAME"),
        (("a.tif", "--month", "7"), "A stored FIELD has been asked already"),
        (("a.tif", "--precision", "float64"), "A stored FIELD has been asked already"),
    ],
)
def test_what_contradicts_itself_is_refused(ask: Callable[..., Result], words: tuple[str, ...], what: str) -> None:
    done = ask(*words)
    assert done.exit_code == 2
    assert what in " ".join(done.stderr.replace("│", " ").split())
