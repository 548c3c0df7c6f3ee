"""A certificate says what one finds who compares by hand, everywhere on the field and at its edges."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import shapely
import torch
from matplotlib.figure import Figure
from PIL import Image
from references import REFERENCE
from scipy.interpolate import RegularGridInterpolator

from embedfield import verify
from embedfield.certificate import (
    Certificate,
    cosine_text,
    counted,
    draw,
    grade,
    loss_text,
    rmse_text,
    write_certificate,
)
from embedfield.encoders.analytic import Analytic
from embedfield.encoders.lattice import Lattice, Pointwise
from embedfield.encoders.positional import UnitVector
from embedfield.errors import OfflineError, PlacesError, WeightsError
from embedfield.evaluate import EncodedField, Evaluator, load
from embedfield.formats import write_field
from embedfield.grid import Grid
from embedfield.models import card
from embedfield.places import GLOBE, random_places
from embedfield.reduce import ReducedField, Reduction
from embedfield.region import Region
from embedfield.verify import SEED, Gathered, verify_field

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedfield.formats.packing import Dtype
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Bounds
    from embedfield.window import Window

Array = npt.NDArray[np.float64]
SWISS: Bounds = (0, 40, 20, 55)
FIJI: Bounds = (170, -30, -170, -10)
EUROPE: Bounds = (2_600_000, 1_400_000, 6_000_000, 5_000_000)
READINGS = ("nearest", "bilinear")


def xyz(lonlat: npt.ArrayLike) -> Array:
    """The unit vectors of places, (N, 3), by their definition."""
    lon, lat = np.deg2rad(np.asarray(lonlat, dtype=np.float64)).T
    return np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def cosines(one: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """The cosine of each pair of vectors."""
    one, other = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    found: Array = np.sum(one * other, axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return found


class Sheared(Analytic):
    """Two numbers: longitude and latitude in hundreds of degrees. It tears at the antimeridian."""

    def encode(self, lonlat: torch.Tensor) -> torch.Tensor:
        return lonlat / 100 + 3

    def lattice(self, lons: torch.Tensor, lats: torch.Tensor) -> Lattice:
        return Pointwise(self.encode, lons, lats)


class Halved(Sheared):
    """The same, with vectors east of a longitude only, whatever its pixel."""

    def encode(self, lonlat: torch.Tensor) -> torch.Tensor:
        found = super().encode(lonlat)
        return torch.where(lonlat[:, :1] > self.card.options["east_of"], found, torch.nan)


def sheared(kind: type[Analytic] = Sheared, **changes: Any) -> Evaluator:
    """An evaluator of an encoder that is a formula."""
    made = replace(card("xyz"), name="sheared", dim=2, periodic=False, **changes)
    return Evaluator(kind(made, UnitVector()), "cpu")


class Masked(EncodedField):
    """A computed field without values north of a diagonal."""

    def hidden(self, lonlat: Array) -> npt.NDArray[np.bool_]:
        """Which places have no value, by the centre of a pixel."""
        return lonlat[:, 1] > 45 + lonlat[:, 0] / 5

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        values = super().read(window)
        values[:, self.hidden(self.grid.lonlat(window)).reshape(values.shape[1:])] = np.nan
        return values


class Empty(EncodedField):
    """A computed field whose pixels have lost their values after its ranges were measured."""

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        values = super().read(window)
        return values if window is None else np.full_like(values, np.nan)


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., StoredField]:
    """A maker of fields on disk, each in a folder of its own."""

    def make(
        model: str | EncodedField | ReducedField = "xyz",
        res: float = 5.0,
        bounds: Bounds = GLOBE,
        dtype: Dtype = "uint8",
        suffix: str = ".tif",
    ) -> StoredField:
        if isinstance(model, str):
            model = EncodedField(load(model, device="cpu"), Grid.from_bounds(res, bounds))
        folder = tmp_path / f"field-{len(list(tmp_path.iterdir()))}"
        return write_field(model, folder / f"field{suffix}", dtype=dtype)

    return make


def total(certificate: Certificate, reading: str) -> Any:
    """The fidelity of a reading of the area."""
    return certificate.area.readings[reading]["total"]


# What is measured


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    "asked",
    [
        ("xyz", 5, GLOBE, "uint8", ".tif"),
        ("sh-l10", 5, SWISS, "uint8", ".zarr"),
        ("sh-l10", 5, FIJI, "float32", ".tif"),
        ("sh-l10", 5, GLOBE, "int16", ".zarr"),
    ],
)
def test_the_total_is_what_the_fields_own_reading_gives(
    store: Callable[..., StoredField], asked: tuple[Any, ...], reading: Any
) -> None:
    field = store(*asked)
    found = verify_field(field, places=400)
    exact = load(asked[0], device="cpu").encode(found.area.places)
    read = field.at(found.area.places, reading).astype(np.float64)
    by_hand = cosines(exact, read)
    measured = total(found, reading).to_dict()
    assert measured["cosine"]["mean"] == pytest.approx(by_hand.mean(), abs=1e-6)
    assert measured["cosine"]["p01"] == pytest.approx(np.percentile(by_hand, 1), abs=1e-6)
    rmse = np.sqrt(np.mean(np.sum((read - exact) ** 2, axis=1)) / exact.var(axis=0).sum())
    assert measured["relative_rmse"] == pytest.approx(rmse, rel=1e-5)
    dimensions = found.to_dict()["dimensions"][reading]["total"]
    expected = np.sqrt(np.mean((read - exact) ** 2, axis=0) / exact.var(axis=0))
    varying = exact.var(axis=0) > 1e-20
    np.testing.assert_allclose(np.array(dimensions, dtype=float)[varying], expected[varying], rtol=1e-3)


def test_nearest_of_the_sphere_loses_the_angle_to_the_centre_of_the_pixel(store: Callable[..., StoredField]) -> None:
    found = verify_field(store(dtype="float32"))
    lon, lat = found.area.places.T
    centres = np.column_stack((np.floor(lon / 5) * 5 + 2.5, np.floor(lat / 5) * 5 + 2.5))
    by_hand = 1 - np.sum(xyz(found.area.places) * xyz(centres), axis=1)
    np.testing.assert_allclose(total(found, "nearest").loss, by_hand, atol=1e-7)


def test_bilinear_of_the_sphere_is_scipys(store: Callable[..., StoredField]) -> None:
    field = store("xyz", 5, SWISS, "float32")
    found = verify_field(field, places=500)
    lon, lat = np.arange(2.5, 20, 5), np.arange(42.5, 55, 5)
    corners = xyz([(x, y) for y in lat for x in lon]).reshape(3, 4, 3)
    inside = found.area.places.clip((2.5, 42.5), (17.5, 52.5))  # beyond the outermost centres these hold
    read = RegularGridInterpolator((lat, lon), corners)(inside[:, ::-1])
    by_hand = np.linalg.norm(read - xyz(found.area.places), axis=1)
    np.testing.assert_allclose(np.sqrt(total(found, "bilinear").squares), by_hand, atol=1e-6)


def test_packing_costs_what_rounding_to_255_levels_costs(store: Callable[..., StoredField]) -> None:
    field = store("sh-l10", 5)
    found = verify_field(field, places=1000)
    lon, lat = found.area.places.T
    centres = np.column_stack((np.floor(lon / 5) * 5 + 2.5, np.floor(lat / 5) * 5 + 2.5))
    exact = load("sh-l10", device="cpu").encode(centres)
    rounded = np.rint((exact - field.packing.offset) / field.packing.scale) * field.packing.scale + field.packing.offset
    by_hand = np.sqrt(np.mean((rounded - exact) ** 2, axis=0))
    packing = found.area.readings["nearest"]["packing"]
    places = load("sh-l10", device="cpu").encode(found.area.places)
    varying = places.std(axis=0) > 1e-9
    expected = by_hand[varying] / places.std(axis=0)[varying]
    # A value half way between two levels may fall to either, in single precision.
    np.testing.assert_allclose(packing.dimensions[varying], expected, rtol=1e-2)
    assert packing.mean_loss == pytest.approx((1 - cosines(exact, rounded)).mean(), rel=1e-2)


def test_the_grid_costs_nothing_where_places_are_centres_of_pixels(
    store: Callable[..., StoredField], monkeypatch: pytest.MonkeyPatch
) -> None:
    field = store("sh-l10", 10)
    monkeypatch.setattr(verify, "random_places", lambda _, count, __: field.grid.lonlat()[:count])
    found = verify_field(field, places=648)
    for reading in READINGS:
        costs = found.area.readings[reading]
        assert costs["grid"].loss.max() < 1e-12
        assert costs["total"].mean_loss == pytest.approx(costs["packing"].mean_loss, rel=1e-3)


@pytest.mark.parametrize("reading", READINGS)
def test_float32_costs_nothing_and_the_grid_costs_all(store: Callable[..., StoredField], reading: str) -> None:
    found = verify_field(store("sh-l10", 5, dtype="float32"))
    costs = found.area.readings[reading]
    assert costs["packing"].loss.max() < 1e-12
    np.testing.assert_allclose(costs["grid"].loss, costs["total"].loss, atol=1e-7)


def test_finer_grids_lose_less_and_bilinear_less_than_nearest(store: Callable[..., StoredField]) -> None:
    found = [verify_field(store("sh-l10", res, dtype="float32"), places=1000) for res in (20, 10, 5)]
    for reading in READINGS:
        losses = [total(certificate, reading).mean_loss for certificate in found]
        assert losses == sorted(losses, reverse=True)
    for certificate in found:
        assert total(certificate, "bilinear").mean_loss < total(certificate, "nearest").mean_loss


@pytest.mark.parametrize("k", [2, 20, 100])
def test_a_reduction_costs_what_is_left_out_of_it(store: Callable[..., StoredField], k: int) -> None:
    whole = EncodedField(load("sh-l10", device="cpu"), Grid.from_bounds(10))
    reduction = Reduction.measure(whole, k)
    found = verify_field(store(ReducedField(whole, reduction), dtype="float32"), places=600)
    costs = found.area.readings["nearest"]
    assert list(costs) == ["total", "grid", "reduction", "packing"]
    lon, lat = found.area.places.T
    exact = whole.evaluator.encode(np.column_stack((np.floor(lon / 10) * 10 + 5, np.floor(lat / 10) * 10 + 5)))
    centred = exact - reduction.mean
    kept = centred @ reduction.components.T @ reduction.components
    by_hand = np.linalg.norm(centred - kept, axis=1)
    np.testing.assert_allclose(np.sqrt(costs["reduction"].squares), by_hand, atol=2e-5)
    assert costs["packing"].relative_rmse < 1e-6
    assert found.to_dict()["field"]["components"] == k
    assert len(found.to_dict()["dimensions"]["nearest"]["total"]) == 100


def test_a_reduced_field_is_read_before_it_is_restored_or_after_alike(store: Callable[..., StoredField]) -> None:
    whole = EncodedField(load("sh-l10", device="cpu"), Grid.from_bounds(10))
    reduction = Reduction.measure(whole, 30)
    field = store(ReducedField(whole, reduction), dtype="int16")
    found = verify_field(field, places=300)
    exact = whole.evaluator.encode(found.area.places)
    read = reduction.restore(field.at(found.area.places, "bilinear"))
    np.testing.assert_allclose(1 - total(found, "bilinear").loss, cosines(exact, read), atol=1e-6)


# Where it is measured


def test_random_places_are_even_by_area_and_stay_in_their_boxes() -> None:
    boxes: list[Bounds] = [(-180, -90, 180, 90), (170, 10, 190, 20)]
    lon, lat = random_places(np.random.default_rng(1), 100_000, boxes[:1]).T
    np.testing.assert_allclose(np.histogram(np.sin(np.deg2rad(lat)), 10, (-1, 1))[0], 10_000, rtol=0.04)
    np.testing.assert_allclose(np.histogram(lon, 10, (-180, 180))[0], 10_000, rtol=0.04)
    lon, lat = random_places(np.random.default_rng(1), 1000, boxes[1:]).T
    assert ((lon >= 170) | (lon <= -170)).all()
    assert (abs(lon) <= 180).all()
    assert lat.min() >= 10
    assert lat.max() <= 20


def test_of_two_boxes_the_larger_gets_more_places() -> None:
    rng = np.random.default_rng(2)
    _, lat = random_places(rng, 20_000, [(0, 80, 10, 90), (0, -10, 10, 0)]).T
    share = (1 - np.sin(np.deg2rad(80))) / (1 - np.sin(np.deg2rad(80)) + np.sin(np.deg2rad(10)))
    assert (lat > 0).mean() == pytest.approx(share, rel=0.1)


def test_places_are_spread_over_the_whole_field_and_lie_off_the_centres(store: Callable[..., StoredField]) -> None:
    field = store("xyz", 10)
    found = verify_field(field, places=4096)
    assert len(found.area.places) == 4096
    rows, cols = field.grid.positions(found.area.places)
    assert ((rows % 1 != 0.5) | (cols % 1 != 0.5)).all()
    # 36 columns of 10 degrees: 114 places each, more or less.
    assert np.histogram(cols, 36, (0, 36))[0].min() > 60
    up = np.sort(np.sin(np.deg2rad(found.area.places[:, 1])))
    np.testing.assert_allclose(up, np.linspace(-1, 1, 4096), atol=0.05)


def test_another_seed_takes_other_places_and_finds_much_the_same(store: Callable[..., StoredField]) -> None:
    field = store("sh-l10", 10)
    one, other = verify_field(field), verify_field(field, seed=1)
    assert not np.isin(one.area.places, other.area.places).any()
    assert total(one, "nearest").cosine == pytest.approx(total(other, "nearest").cosine, abs=0.01)


def test_a_globe_is_also_held_near_its_poles_and_on_both_sides_of_its_seam(store: Callable[..., StoredField]) -> None:
    found = verify_field(store("xyz", 1), places=800)
    assert {edge: len(group.places) for edge, group in found.edges.items()} == {"poles": 100, "seam": 100}
    lat = found.edges["poles"].places[:, 1]
    assert (abs(lat) >= 88).all()  # two pixels
    assert 0.3 < (lat > 0).mean() < 0.7
    lon = found.edges["seam"].places[:, 0]
    assert (abs(lon) >= 178).all()
    assert 0.3 < (lon > 0).mean() < 0.7


def test_a_cap_of_fine_pixels_is_one_degree(store: Callable[..., StoredField]) -> None:
    found = verify_field(store("xyz", 0.25, (0, 80, 20, 90)), places=400)
    assert list(found.edges) == ["poles"]
    lat = found.edges["poles"].places[:, 1]
    assert 89 <= lat.min() < 89.5
    lon = found.edges["poles"].places[:, 0]
    assert (lon.min() >= 0) & (lon.max() <= 20)


@pytest.mark.parametrize(
    ("bounds", "edges"),
    [
        (SWISS, []), (FIJI, ["seam"]), ((160, -10, 180, 10), ["seam"]), ((-180, -10, -160, 10), ["seam"]),
        ((0, -10, 360, 10), ["seam"]), ((0, -90, 20, -70), ["poles"]), ((-170, -80, 170, 80), []),
    ],
)  # fmt: skip
def test_edges_are_those_that_the_grid_reaches(
    store: Callable[..., StoredField], bounds: Bounds, edges: list[str]
) -> None:
    field = store("xyz", 2.5, bounds)
    found = verify_field(field, places=80)
    assert list(found.edges) == edges
    for group in (found.area, *found.edges.values()):
        assert field.grid.contains(group.places).all()
    if bounds == FIJI:
        assert {-1.0, 1.0} == set(np.sign(found.edges["seam"].places[:, 0]))


def test_errors_at_the_edges_are_held_against_the_spread_of_the_whole(store: Callable[..., StoredField]) -> None:
    found = verify_field(store("xyz", 5), places=2000)
    # Near a pole vectors hardly differ: by their own spread any error would look large.
    pole = found.edges["poles"].readings["nearest"]["total"]
    assert pole.relative_rmse == pytest.approx(np.sqrt(pole.squares.mean()), rel=0.02)  # the sphere's spread is 1


def test_a_torn_encoder_is_read_on_its_own_side_of_the_seam(store: Callable[..., StoredField]) -> None:
    evaluator = sheared()
    field = store(EncodedField(evaluator, Grid.from_bounds(2)), dtype="float32")
    found = verify_field(field, evaluator, places=800)
    # A plane is read exactly, but for the half pixel at the edges where the outermost centres hold.
    assert np.sqrt(total(found, "bilinear").squares).max() <= np.hypot(1, 1) / 100 + 1e-6
    assert total(found, "bilinear").relative_rmse < 0.01


def test_latitudes_are_cut_into_bands_of_thirty_degrees(store: Callable[..., StoredField]) -> None:
    found = verify_field(store("sh-l10", 10, (-180, -50, 180, 20)), places=900)
    bands = found.to_dict()["latitudes"]
    assert [(band["from"], band["to"]) for band in bands] == [(-60, -30), (-30, 0), (0, 30)]
    assert sum(band["places"] for band in bands) == 900
    lat = found.area.places[:, 1]
    middle = (lat >= -30) & (lat < 0)
    assert bands[1]["places"] == middle.sum()
    fidelity = total(found, "nearest")
    assert bands[1]["nearest"]["cosine"] == pytest.approx(1 - fidelity.loss[middle].mean(), abs=1e-6)
    rmse = np.sqrt(fidelity.squares[middle].mean() / fidelity.spread.variance)
    assert bands[1]["nearest"]["relative_rmse"] == pytest.approx(rmse, rel=1e-5)


# Where there is nothing to measure


def test_pixels_without_a_value_are_left_out_of_both(store: Callable[..., StoredField]) -> None:
    masked = Masked(load("sh-l10", device="cpu"), Grid.from_bounds(1, SWISS))
    field = store(masked, dtype="float32")
    found = verify_field(field, masked.evaluator, places=1000)
    places = found.area.places
    assert not masked.hidden(np.floor(places) + 0.5).any()
    assert found.area.no_value > 100
    assert len(places) == pytest.approx(1000, rel=0.1)
    # Along the mask some corners are missing: exact pixels are read without them too, and packing costs nothing.
    assert masked.hidden(np.floor(places) + np.array((0.5, 1.5))).any()
    for reading in READINGS:
        assert found.area.readings[reading]["packing"].loss.max() < 1e-12


def test_places_where_the_encoder_has_no_vector_are_counted(store: Callable[..., StoredField]) -> None:
    whole, half = sheared(), sheared(Halved, options={"east_of": 1.0})
    field = store(EncodedField(whole, Grid.from_bounds(10, (-20, 0, 20, 20))), dtype="float32")
    found = verify_field(field, half, places=400)
    assert (found.area.places[:, 0] > 1).all()
    assert found.area.no_vector == pytest.approx(len(found.area.places) * 21 / 19, rel=0.15)
    assert found.to_dict()["area"]["left_out"]["no vector of the encoder"] == found.area.no_vector


def test_an_encoder_of_some_latitudes_is_asked_only_there(store: Callable[..., StoredField]) -> None:
    evaluator = sheared(latitudes=(-20.0, 33.0))
    field = store(EncodedField(evaluator, Grid.from_bounds(5)))
    found = verify_field(field, evaluator, places=400)
    assert found.area.places[:, 1].min() >= -20
    assert found.area.places[:, 1].max() <= 33
    assert len(found.edges["poles"].places) == 0
    assert "poles" not in " ".join(found.verdict)


def test_a_field_of_one_pixel_has_a_certificate(store: Callable[..., StoredField], tmp_path: Path) -> None:
    found = verify_field(store("xyz", 1, (7, 47, 8, 48)), places=50)
    np.testing.assert_allclose(total(found, "bilinear").loss, total(found, "nearest").loss, rtol=1e-3)
    write_certificate(found, tmp_path)
    assert "NaN" not in (tmp_path / "certificate.json").read_text(encoding="utf-8")


def test_one_place_has_a_certificate_and_nulls_where_it_tells_nothing(
    store: Callable[..., StoredField], tmp_path: Path
) -> None:
    found = verify_field(store("xyz", 1, (7, 47, 8, 48)), places=1)
    write_certificate(found, tmp_path)
    said = json.loads((tmp_path / "certificate.json").read_text(encoding="utf-8"))
    assert said["area"]["places"] == 1
    assert found.lines[0] == "verified at 1 place"
    assert said["area"]["nearest"]["total"]["relative_rmse"] is None
    assert "unknown" in found.lines[1]


def test_a_field_without_any_value_is_certified_to_be_that(store: Callable[..., StoredField], tmp_path: Path) -> None:
    evaluator = load("xyz", device="cpu")
    field = store(Empty(evaluator, Grid.from_bounds(5)))
    found = verify_field(field, evaluator, places=20)
    assert len(found.area.places) == 0
    assert found.area.no_value == 20 + 20 * 16
    assert found.verdict == [
        "No place was found where both the raster and the encoder have a value: nothing can be said."
    ]
    write_certificate(found, tmp_path)
    said = json.loads((tmp_path / "certificate.json").read_text(encoding="utf-8"))
    assert said["area"]["nearest"]["total"]["cosine"]["mean"] is None
    assert said["latitudes"] == []


# Grids of other kinds


def test_a_projected_grid_is_held_against_the_encoder_in_degrees(store: Callable[..., StoredField]) -> None:
    whole = EncodedField(load("sh-l10", device="cpu"), Grid.from_bounds(200_000, EUROPE, "EPSG:3035"))
    field = store(whole, dtype="float32")
    found = verify_field(field, places=500)
    assert len(found.area.places) == 500
    assert found.edges == {}
    rows, cols = field.grid.positions(found.area.places)
    exact = whole.evaluator.encode(found.area.places)
    pixels = field.read()[:, rows.astype(int), cols.astype(int)].T
    np.testing.assert_allclose(total(found, "nearest").loss, 1 - cosines(exact, pixels), atol=1e-7)
    assert found.area.readings["bilinear"]["packing"].loss.max() < 1e-12


def test_a_map_of_the_world_with_empty_corners_is_held_where_the_world_is(
    store: Callable[..., StoredField], tmp_path: Path
) -> None:
    field = store(EncodedField(load("sh-l10", device="cpu"), Grid.from_bounds(1_000_000, None, "ESRI:54009")))
    found = verify_field(field, places=500)
    assert len(found.area.places) == pytest.approx(500, rel=0.1)
    assert list(found.edges) == ["poles", "seam"]
    assert found.area.readings["nearest"]["packing"].relative_rmse < 0.01
    write_certificate(found, tmp_path)
    assert (tmp_path / "certificate.png").exists()


def test_a_supersampled_field_is_compared_with_the_encoder_itself(store: Callable[..., StoredField]) -> None:
    evaluator = load("sh-l10", device="cpu")
    plainly = store(EncodedField(evaluator, Grid.from_bounds(10)), dtype="float32")
    smooth = store(EncodedField(evaluator, Grid.from_bounds(10), supersample=3), dtype="float32")
    found = verify_field(smooth, evaluator, places=500)
    assert found.to_dict()["field"]["supersample"] == 3
    # The exact pixels are means too: packing has nothing to do with them, and smoothing is the grid's.
    assert found.area.readings["nearest"]["packing"].loss.max() < 1e-12
    assert found.area.readings["nearest"]["grid"].mean_loss == pytest.approx(total(found, "nearest").mean_loss)
    assert total(found, "bilinear").relative_rmse > total(verify_field(plainly, places=500), "bilinear").relative_rmse


def test_a_region_is_held_within_itself(store: Callable[..., StoredField]) -> None:
    region = Region.from_geometries([shapely.Point(10, 47).buffer(3)], "EPSG:4326", "round")
    grid = Grid.from_bounds(0.5, SWISS)
    field = store(EncodedField(load("sh-l10", device="cpu"), grid, region=region), dtype="int16")
    found = verify_field(field, places=300)
    assert len(found.area.places) == pytest.approx(300, rel=0.2)
    rows, cols = (part.astype(int) for part in grid.positions(found.area.places))
    assert region.contains(grid, rows, cols).all()
    assert found.area.no_value > 0
    assert found.to_dict()["field"]["region"] == {"name": "round", "sha256": region.sha256}
    assert found.area.readings["bilinear"]["packing"].relative_rmse < 1e-3


# Which encoder it is held against


@pytest.fixture
def mind(store: Callable[..., StoredField]) -> StoredField:
    """A field of a small MIND's first eight dimensions."""
    evaluator = load("mind", REFERENCE / "mind_small.safetensors", "cpu", dims=8)
    return store(EncodedField(evaluator, Grid.from_bounds(10)))


def test_the_encoder_is_loaded_as_it_was_asked(mind: StoredField) -> None:
    found = verify_field(mind, places=200, weights=REFERENCE / "mind_small.safetensors", device="cpu")
    assert found.to_dict()["asked"] == {"dims": 8}
    assert found.to_dict()["field"]["dim"] == 8
    assert total(found, "nearest").cosine > 0.5


@pytest.mark.parametrize("asked", [{}, {"month": 7}, {"month": 1.5}])
def test_a_month_is_asked_of_the_encoder_again(store: Callable[..., StoredField], asked: dict[str, Any]) -> None:
    weights = REFERENCE / "climplicit_small.safetensors"
    field = store(EncodedField(load("climplicit", weights, "cpu", **asked), Grid.from_bounds(10)))
    found = verify_field(field, places=200, weights=weights, device="cpu")
    assert found.to_dict().get("asked", {}) == asked
    costs = found.area.readings["nearest"]["packing"]
    assert costs.relative_rmse < 0.01  # another month's vectors would be far from the stored ones


def test_precision_is_the_fields_own(store: Callable[..., StoredField]) -> None:
    weights = REFERENCE / "mind_small.safetensors"
    field = store(EncodedField(load("mind", weights, "cpu", "float64"), Grid.from_bounds(20)))
    assert verify_field(field, weights=weights, device="cpu", places=20).to_dict()["precision"] == "float64"


def test_other_weights_than_the_fields_are_refused(mind: StoredField) -> None:
    with pytest.raises(WeightsError, match=r"was made with weights of sha256 \w{64}.*--weights FILE"):
        verify_field(mind, load("mind", REFERENCE / "mind_year_small.safetensors", "cpu", dims=8, year=2020))


def test_other_weights_are_refused_before_they_are_fetched(store: Callable[..., StoredField]) -> None:
    field = store()
    field.card = card("geoclip")
    with pytest.raises(WeightsError, match="was made with weights of sha256 none") as caught:
        verify_field(field, offline=True)
    assert not isinstance(caught.value, OfflineError)


def test_an_encoder_that_is_at_hand_need_not_be_the_released_one(store: Callable[..., StoredField]) -> None:
    field = store("xyz", 10)
    field.card = replace(field.card, weights=card("geoclip").weights)  # as of a field of one's own checkpoint
    assert total(verify_field(field, load("xyz", device="cpu"), places=50), "bilinear").cosine > 0.99


def test_another_database_is_refused_by_its_own_option(store: Callable[..., StoredField]) -> None:
    field = store()
    field.provenance = {**field.provenance, "database_sha256": "ab" * 32}
    evaluator = load("xyz", device="cpu")
    other = type(
        "Other", (), {"sha256": {"weights_sha256": None, "database_sha256": "cd" * 32}, "card": evaluator.card}
    )
    with pytest.raises(WeightsError, match="made with database of sha256 abab.*--database FILE"):
        verify_field(field, cast("Evaluator", other))


def test_no_place_is_none_to_compare_at(store: Callable[..., StoredField]) -> None:
    with pytest.raises(PlacesError, match="places=0 compares nothing"):
        verify_field(store(), places=0)


# How it is done


def test_pixels_that_were_gathered_are_read_as_the_field_is(store: Callable[..., StoredField]) -> None:
    field = store("sh-l10", 5, FIJI)
    places = random_places(np.random.default_rng(0), 200, [field.grid.lonlat_bounds])
    gathered = Gathered.of(field, places)
    for reading in ("nearest", "bilinear"):
        np.testing.assert_array_equal(gathered.at(places, reading), field.at(places, reading))
    few = Gathered.of(field, places[:1])
    window = field.grid.window
    there = ~np.isnan(few.read(window)).any(axis=0)
    assert 1 <= there.sum() <= 4
    np.testing.assert_array_equal(few.read(window)[:, there], field.read(window)[:, there])


def test_each_block_is_read_once_and_each_pixel_encoded_once(
    store: Callable[..., StoredField], monkeypatch: pytest.MonkeyPatch
) -> None:
    field = store("xyz", 1)
    evaluator = load("xyz", device="cpu")
    reads: list[Window] = []
    asked: list[int] = []
    read, encode = type(field)._codes, evaluator.encode

    def counted_read(self: StoredField, window: Window, *level: int) -> Any:
        reads.append(window)
        return read(self, window, *level)

    def counted_encode(lonlat: npt.NDArray[np.float64]) -> Any:
        asked.append(len(lonlat))
        return encode(lonlat)

    monkeypatch.setattr(type(field), "_codes", counted_read)
    monkeypatch.setattr(evaluator, "encode", counted_encode)
    found = verify_field(field, evaluator, places=1000)
    # Of area, poles and seam together: two rows of three blocks.
    assert sorted((read.row_off, read.col_off, read.height, read.width) for read in reads) == [
        (0, 0, 128, 360),
        (128, 0, 52, 360),
    ]
    places = np.concatenate([group.places for group in (found.area, *found.edges.values())])
    rows, cols = field.grid.positions(places)
    corners = {
        (min(max(row, 0), 179), col % 360)
        for r, c in zip(rows - 0.5, cols - 0.5, strict=True)
        for row in (int(np.floor(r)), int(np.ceil(r)))
        for col in (int(np.floor(c)), int(np.ceil(c)))
    }
    assert asked == [len(places), len(corners)]


@pytest.mark.parametrize("held", [2**20, 100 * 7])
def test_places_are_the_same_whether_groups_are_compared_together_or_one_by_one(
    store: Callable[..., StoredField], monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    masked = Masked(load("sh-l10", device="cpu"), Grid.from_bounds(4))
    field = store(masked)  # each group lacks places, and draws more
    monkeypatch.setattr(verify, "HELD", held)
    found = verify_field(field, masked.evaluator, places=300)
    # One by one, by hand.
    comparison = verify._Comparison(field, masked.evaluator, np.random.default_rng(SEED), verify._Meter(0, None))
    for name, group in (("area", found.area), *found.edges.items()):
        boxes = {"area": [GLOBE], **verify._edges(field.grid)}
        alone = comparison.groups({name: boxes[name]}, {"area": 300, "poles": 38, "seam": 38})[name]
        np.testing.assert_array_equal(group.places, alone.places)
        assert group.no_value == alone.no_value > 0


def test_many_dimensions_are_compared_in_parts_to_the_same_end(
    store: Callable[..., StoredField], monkeypatch: pytest.MonkeyPatch
) -> None:
    field = store("sh-l10", 10)
    whole = verify_field(field, places=300).to_dict()
    monkeypatch.setattr(verify, "HELD", 100 * 7)
    assert verify_field(field, places=300).to_dict() == whole


def test_progress_is_told_and_ends_at_the_whole(
    store: Callable[..., StoredField], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(verify, "HELD", 40 * 3)
    verify_field(store("xyz", 10), places=80, progress=lambda done, total: told.append((done, total)))
    assert told == [(40, 100), (80, 100), (100, 100)]


# What is written


def test_the_same_field_gives_the_same_bytes(store: Callable[..., StoredField], tmp_path: Path) -> None:
    field = store("sh-l10", 10)
    files = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_certificate(verify_field(field, places=500), tmp_path / name)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["certificate.json", "certificate.png"]
        files.append([(tmp_path / name / file).read_bytes() for file in ("certificate.json", "certificate.png")])
    assert files[0] == files[1]


def test_a_certificate_is_json_that_a_person_can_read(store: Callable[..., StoredField], tmp_path: Path) -> None:
    field = store("sh-l10", 10)
    write_certificate(verify_field(field, places=500), tmp_path)
    text = (tmp_path / "certificate.json").read_text(encoding="utf-8")
    said = json.loads(text)
    assert list(said) == [
        "embedfield", "model", "weights_sha256", "precision", "field", "seed", "summary", "area", "poles", "seam",
        "latitudes", "dimensions", "terms",
    ]  # fmt: skip
    assert said["summary"]["verdict"][0].startswith("Read as bilinear, vectors have a mean cosine of ")
    assert said["field"]["grid"] == field.grid.to_dict()
    assert said["field"]["dtype"] == "uint8"
    assert len(said["dimensions"]["bilinear"]["packing"]) == 100
    assert text.count("\n") < 250
    assert text.endswith("}\n")


def test_the_picture_is_one_of_the_size_of_a_screen(store: Callable[..., StoredField], tmp_path: Path) -> None:
    write_certificate(verify_field(store("xyz", 10, FIJI), places=100), tmp_path)
    with Image.open(tmp_path / "certificate.png") as picture:
        assert picture.size == (1200, 700)
        assert not {"Software", "Creation Time", "date"} & set(picture.info)
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 50


def test_a_certificate_that_cannot_be_written_leaves_nothing(store: Callable[..., StoredField], tmp_path: Path) -> None:
    (tmp_path / "certificate.json").mkdir()
    with pytest.raises(OSError, match="certificate"):
        write_certificate(verify_field(store("xyz", 10), places=20), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


# What is said


def test_a_good_raster_is_called_good(store: Callable[..., StoredField]) -> None:
    found = verify_field(store("xyz", 2), places=500)
    assert found.verdict[0].endswith("good (cosine at least 0.99, relative RMSE at most 0.15).")
    assert found.lines[1].endswith(": good")
    assert "too coarse" not in " ".join(found.verdict)
    assert found.lines[0] == "verified at 500 places, 63 more near the poles, 63 more near the seam"
    assert found.lines[1].startswith("bilinear  cosine 0.99999")
    assert len(found.lines) == 4


def test_a_coarse_grid_is_called_poor_and_what_to_do_is_said(store: Callable[..., StoredField]) -> None:
    found = verify_field(store("sh-l10", 30), places=500)
    assert "poor (cosine below 0.97, relative RMSE of " in found.verdict[0]
    assert found.lines[1].endswith(": poor")
    assert "this grid is too coarse for sh-l10. Choose a finer --res" in found.verdict[2]
    assert "embedfield sample --model sh-l10" in found.lines[-1]


def test_few_components_are_blamed_where_they_cost_most(store: Callable[..., StoredField]) -> None:
    whole = EncodedField(load("sh-l10", device="cpu"), Grid.from_bounds(2))
    found = verify_field(store(ReducedField(whole, Reduction.measure(whole, 5))), places=300)
    assert "too few components are kept. Choose a greater --pca" in found.verdict[2]


def test_the_summary_has_the_numbers_of_the_certificate(store: Callable[..., StoredField]) -> None:
    found = verify_field(store("sh-l10", 10), places=500)
    said, whole = found.summary, found.to_dict()["area"]
    assert said["places"] == 500
    for reading in READINGS:
        assert said[reading]["cosine"] == whole[reading]["total"]["cosine"]["mean"]
        assert said[reading]["cosine_p01"] == whole[reading]["total"]["cosine"]["p01"]
        assert said[reading]["relative_rmse"] == whole[reading]["total"]["relative_rmse"]
        assert said[reading]["loss"] == {cost: whole[reading][cost]["loss"]["mean"] for cost in ("grid", "packing")}
    assert said["verdict"] == found.verdict
    json.dumps(said, allow_nan=False)


def test_geoclip_at_a_tenth_of_a_degree_is_certified_to_be_poor(
    store: Callable[..., StoredField], released: Path
) -> None:
    field = EncodedField(load("geoclip", released, "cpu"), Grid.from_bounds(0.1, (5, 45, 10, 48)))
    found = verify_field(store(field), weights=released, device="cpu", places=500)
    assert 0.9 < total(found, "bilinear").cosine < 0.965
    assert "poor (cosine below 0.97" in found.verdict[0]
    assert "this grid is too coarse for geoclip" in found.verdict[2]
    assert found.area.readings["bilinear"]["packing"].mean_loss < 1e-4


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (0.2867, "0.713"),
        (0.5, "0.500"),
        (0.01, "0.990"),
        (0.0101, "0.989"),
        (0.010001, "0.989"),
        (0.0023, "0.9977"),
        (3.9e-6, "0.999996"),
        (4.1e-6, "0.999995"),
        (0.0, "1.000000"),
        (1e-12, "1.000000"),
        (2.0, "-1.000"),
        (float("nan"), "unknown"),
    ],
)
def test_cosines_are_never_rounded_up(loss: float, said: str) -> None:
    assert cosine_text(loss) == said


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (0.2867, "0.29"),
        (0.000024, "0.000024"),
        (1e-7, "less than 0.000001"),
        (0.0, "less than 0.000001"),
        (2.0, "2.00"),
    ],
)
def test_losses_are_told_with_two_digits(loss: float, said: str) -> None:
    assert loss_text(loss) == said


@pytest.mark.parametrize(
    ("cosine", "rmse", "said"),
    [
        (1, 0, "good"),
        (0.99, 0.15, "good"),
        (0.98999, 0, "fair"),
        (0.97, 0.25, "fair"),
        (1, 0.1501, "fair"),
        (0.96999, 0, "poor"),
        (1, 0.2501, "poor"),
        (-1, 2, "poor"),
        (1, float("nan"), "good"),
        (float("nan"), float("nan"), "poor"),
    ],
)
def test_grades_begin_where_they_are_said_to(cosine: float, rmse: float, said: str) -> None:
    assert grade(cosine, rmse) == said


def test_vectors_that_point_the_same_way_do_not_make_a_raster_good(store: Callable[..., StoredField]) -> None:
    found = verify_field(store("sh-l10", 2, (6, 46, 10, 48)), places=500)
    assert total(found, "bilinear").cosine > 0.998
    assert re.search(r": poor \(relative RMSE of 0\.\d+ above 0\.25\)\.$", found.verdict[0])
    assert re.search(r"relative RMSE 0\.\d+: poor \(RMSE above 0\.25\)$", found.lines[1])
    assert "this grid is too coarse for sh-l10" in found.lines[-1]


@pytest.mark.parametrize(("rmse", "said"), [(0.152, "0.152"), (0.15, "0.15"), (0.148, "0.15"), (0.2531, "0.253")])
def test_an_rmse_above_a_bound_is_not_rounded_to_it(rmse: float, said: str) -> None:
    assert rmse_text(rmse) == said


@pytest.mark.parametrize(("count", "said"), [(0, "0 places"), (1, "1 place"), (4096, "4,096 places")])
def test_one_place_is_not_places(count: int, said: str) -> None:
    assert counted(count, "place") == said


def drawn(certificate: Certificate, path: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure that is written as a picture."""
    figures: list[Figure] = []
    save = Figure.savefig

    def saved(self: Figure, *args: Any, **options: Any) -> None:
        figures.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    draw(certificate, path / "picture.png")
    return figures[0]


def test_a_picture_says_how_a_field_was_made_and_its_legend_leaves_the_heading_free(
    store: Callable[..., StoredField], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = Region.from_geometries([shapely.Point(10, 47).buffer(4)], "EPSG:4326", "round")
    whole = EncodedField(load("sh-l10", device="cpu"), Grid.from_bounds(1, SWISS), supersample=2, region=region)
    found = verify_field(store(ReducedField(whole, Reduction.measure(whole, 5))), places=200)
    figure = drawn(found, tmp_path, monkeypatch)
    heading = figure.texts[0].get_text()
    assert heading.startswith("sh-l10 at 1° as uint8, 5 components, 2 × 2 samples a pixel, round: ")
    assert figure.texts[0].get_window_extent().x1 < 1200
    losses = figure.axes[2]
    assert losses.get_title(loc="left") == "How much, and to what"
    legend = losses.get_legend()
    assert legend
    assert len(legend.get_texts()) == 5
    # The left one of the three titles that axes have.
    title = next(text for text in losses.texts + losses.get_children() if "How much" in str(text))
    assert legend.get_window_extent().y1 <= title.get_window_extent().y0
    assert title.get_window_extent().y1 < figure.texts[1].get_window_extent().y0


def test_a_picture_names_powers_of_ten(
    store: Callable[..., StoredField], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = drawn(verify_field(store("sh-l10", 2), places=200), tmp_path, monkeypatch).axes[2]
    low, high = losses.get_xlim()
    shown = {
        label.get_text(): place
        for label, place in zip(losses.get_xticklabels(), losses.get_xticks(), strict=True)
        if low <= place <= high
    }
    assert shown["10⁻²"] == pytest.approx(0.01)
    assert shown["10⁻³"] == pytest.approx(0.001)


def test_a_single_band_of_latitude_is_drawn_within_its_frame(
    store: Callable[..., StoredField], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latitudes = drawn(verify_field(store("sh-l10", 2, (0, 40, 10, 50)), places=200), tmp_path, monkeypatch).axes[1]
    low, high = latitudes.get_ylim()
    assert low == 0
    assert high >= 1.15 * latitudes.dataLim.ymax > 0
