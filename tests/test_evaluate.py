"""Evaluator and EncodedField: devices, precisions and batches change nothing but speed."""

from __future__ import annotations

import dataclasses
import pickle
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest
import shapely
import torch
from references import REFERENCE, small_files

import embedfield as ef
from embedfield import models
from embedfield.encoders import gps2vec
from embedfield.errors import DeviceError, GridError, PlacesError
from embedfield.evaluate import BATCH
from embedfield.grid import Grid
from embedfield.region import Region
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedfield.evaluate import EncodedField

THREADS = torch.get_num_threads()
PLACES = np.random.default_rng(0).uniform((-180, -90), (180, 90), (5000, 2))


def test_the_official_precision_is_the_default() -> None:
    assert ef.load("xyz", device="cpu").precision == "float64"
    assert ef.load("xyz", device="cpu").encode([[0, 0]]).dtype == np.float64
    assert ef.load("xyz", device="cpu", precision="float32").encode([[0, 0]]).dtype == np.float32


def test_batches_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ef.load("sh-l10", device="cpu").encode(PLACES)
    monkeypatch.setitem(BATCH, "cpu", 7)
    batched = ef.load("sh-l10", device="cpu")
    np.testing.assert_array_equal(batched.encode(PLACES), whole)
    lattice = batched.encode_lattice(np.arange(20.0), np.arange(11.0))
    np.testing.assert_allclose(lattice[3, 13], batched.encode([[13, 3]])[0], atol=1e-14)


def test_places_of_one_zone_are_encoded_together_and_stay_in_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BATCH, "cpu", 8)
    monkeypatch.setattr(gps2vec, "KEPT", 1)
    read = Mock(wraps=gps2vec._read_network)
    encoder = ef.load("gps2vec-tag", REFERENCE / "gps2vec_tag_small.zip", "cpu")
    singapore, norway, sea = [103.8, 1.3], [10.7, 59.9], [-150.0, 0.0]
    monkeypatch.setattr(gps2vec, "_read_network", read)
    found = encoder.encode([singapore, norway, sea] * 16)
    assert read.call_count == 2
    assert np.isnan(found[2::3]).all()
    np.testing.assert_allclose(found[0::3], np.repeat(encoder.encode([singapore]), 16, axis=0), rtol=1e-6)
    np.testing.assert_allclose(found[1::3], np.repeat(encoder.encode([norway]), 16, axis=0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 2), (1, 2)])
def test_no_place_and_one_place_are_places_too(shape: tuple[int, int]) -> None:
    assert ef.load("xyz", device="cpu").encode(np.zeros(shape)).shape == (shape[0], 3)


def test_an_empty_lattice_is_empty() -> None:
    assert ef.load("xyz", device="cpu").encode_lattice([], [1.0]).shape == (1, 0, 3)
    assert ef.load("xyz", device="cpu").encode_lattice([1.0], []).shape == (0, 1, 3)


def test_longitudes_past_180_are_turned_once() -> None:
    encoder = ef.load("xyz", device="cpu")
    np.testing.assert_array_equal(encoder.encode([[190, 5]]), encoder.encode([[-170, 5]]))
    np.testing.assert_array_equal(encoder.encode_lattice([190.0], [5.0])[0], encoder.encode([[-170, 5]]))


@pytest.mark.parametrize(("lonlat", "why"), [([[0, 91]], "latitude outside"), ([[np.nan, 0]], "not a pair of finite")])
def test_places_off_the_globe_are_refused(lonlat: Any, why: str) -> None:
    with pytest.raises(PlacesError, match=why):
        ef.load("xyz", device="cpu").encode(lonlat)


def test_a_lattice_of_places_is_refused() -> None:
    with pytest.raises(PlacesError, match="Give 1-D longitudes and 1-D latitudes"):
        ef.load("xyz", device="cpu").encode_lattice(PLACES, PLACES)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps", "meta"])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(DeviceError, match=f"device='{device}'.*(auto|cpu)"):
        ef.load("xyz", device=device)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(DeviceError, match="precision='half'. Choose from: float64, float32, tf32, bf16"):
        ef.load("xyz", device="cpu", precision="half")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "precision", "why"),
    [
        ("xyz", "bf16", "xyz has no products of matrices that may be rounded"),
        ("gps2vec-tag", "bf16", "gps2vec-tag has no products"),
        ("range", "bf16", "range has no products"),
        ("sinr", "tf32", "cpu has none; NVIDIA's GPUs have it since Ampere"),
    ],
)
def test_a_precision_that_cannot_be_had_is_refused(model: str, precision: Any, why: str, tmp_path: Path) -> None:
    files = small_files(models.card(model), tmp_path)
    with pytest.raises(DeviceError, match=f"precision='{precision}' cannot be had: {why}.*Choose another"):
        ef.load(model, device="cpu", precision=precision, **files)


@pytest.mark.parametrize("model", ["sinr", "climplicit", "mind", "csp-fmow", "taxabind", "satclip-l10"])
def test_rounded_products_cost_some_digits_and_no_more(model: str, tmp_path: Path) -> None:
    files = small_files(models.card(model), tmp_path)
    exact, rounded = (ef.load(model, device="cpu", precision=name, **files) for name in ("float64", "bf16"))
    official, found = (encoder.encode(PLACES[:500]) for encoder in (exact, rounded))
    assert found.dtype == np.float32
    error = float(np.sqrt(((found - official) ** 2).mean(axis=0)).mean() / official.std(axis=0).mean())
    assert 1e-4 < error < 0.05  # 8 binary digits: 0.2 % a product
    lattice = rounded.encode_lattice(PLACES[:9, 0], PLACES[:8, 1])
    np.testing.assert_allclose(lattice, exact.encode_lattice(PLACES[:9, 0], PLACES[:8, 1]), atol=0.2 * official.std())


def test_rounded_products_leave_pixels_empty_where_there_is_no_value(tmp_path: Path) -> None:
    evaluator = ef.load("sinr", device="cpu", precision="bf16", **small_files(models.card("sinr"), tmp_path))
    oval = ef.EncodedField(evaluator, GRIDS["oval"]).read()
    assert oval.dtype == np.float32
    assert np.isnan(oval[:, 0, 0]).all()
    assert np.isfinite(oval).any()
    evaluator._encoder.card = dataclasses.replace(evaluator.card, latitudes=(-40.0, 60.0))
    lattice = evaluator.encode_lattice([5.0, 6.0], [70.0, 50.0])
    assert np.isnan(lattice).all(axis=(1, 2)).tolist() == [True, False]


def test_a_copy_at_another_precision_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    exact = ef.load("sinr", device="cpu", precision="float64", **small_files(models.card("sinr"), tmp_path))
    before = exact.encode(PLACES)
    other = exact.at("bf16")
    assert (other.precision, exact.precision) == ("bf16", "float64")
    assert abs(other.encode(PLACES) - before).max() > 1e-5
    np.testing.assert_array_equal(exact.encode(PLACES), before)


def test_threads_change_no_bit(tmp_path: Path) -> None:
    files = small_files(models.card("satclip-l10"), tmp_path)
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            encoder = ef.load("satclip-l10", device="cpu", precision="float32", **files)
            found.append((encoder.encode(PLACES), encoder.encode_lattice(PLACES[:1500, 0], PLACES[:70, 1])))
        finally:
            torch.set_num_threads(THREADS)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert torch.get_num_threads() == THREADS  # what a user has set is left alone


def test_a_copy_of_a_process_and_a_pickle_have_threads_of_their_own() -> None:
    encoder = ef.load("sh-l10", device="cpu")
    whole = encoder.encode(PLACES)
    copied = pickle.loads(pickle.dumps(encoder))  # noqa: S301  of our own making
    np.testing.assert_array_equal(copied.encode(PLACES), whole)
    encoder._workers._process = -1  # as after a fork
    before = encoder._workers._pool
    np.testing.assert_array_equal(encoder.encode(PLACES), whole)
    assert before is None or encoder._workers._pool is not before


def test_an_error_in_one_thread_is_raised_and_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ef.load("xyz", device="cpu")
    monkeypatch.setattr(encoder._encoder, "encode", Mock(side_effect=RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        encoder.encode(PLACES)
    monkeypatch.undo()
    assert encoder.encode(PLACES).shape == (5000, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    np.testing.assert_allclose(
        ef.load("sh-l10", device="cuda").encode(PLACES), ef.load("sh-l10", device="cpu").encode(PLACES), atol=1e-12
    )


def test_a_pixel_is_the_encoder_at_its_centre(make_field: Callable[..., EncodedField]) -> None:
    field = make_field(10.0, model="sh-l10")
    window = Window(col_off=3, row_off=2, width=4, height=5)
    expected = field.evaluator.encode(field.grid.lonlat(window)).T.reshape(100, 5, 4)
    np.testing.assert_allclose(field.read(window), expected, atol=1e-6)
    assert field.read(window).dtype == np.float32


def test_pixels_past_the_antimeridian_are_those_behind_it(make_field: Callable[..., EncodedField]) -> None:
    across = make_field(10.0, bounds=(170, 0, -170, 10)).read()
    np.testing.assert_allclose(across[:, 0, 1], ef.load("xyz", device="cpu").encode([[-175, 5]])[0], atol=1e-7)


def test_provenance_tells_weights_from_none(make_field: Callable[..., EncodedField]) -> None:
    assert make_field().provenance["weights_sha256"] is None
    assert (
        ef.EncodedField(ef.load("xyz", precision="float32"), Grid.from_bounds(90)).provenance["precision"] == "float32"
    )


def test_places_that_may_not_be_written_to_are_encoded() -> None:
    places = np.array([[8.54, 47.37], [0.0, 0.0]])
    places.flags.writeable = False
    assert ef.load("xyz", device="cpu").encode(places).shape == (2, 3)


# Projected, supersampled and masked fields.

EUROPE = (2_500_000, 1_400_000, 7_400_000, 5_500_000)
# What the fields below lie on: degrees, past 180, metres, and a map of the world with nothing in its corners.
GRIDS = {
    "globe": Grid.from_bounds(5),
    "pacific": Grid.from_bounds(2, (160, -30, -150, 20)),
    "europe": Grid.from_bounds(100_000, EUROPE, "EPSG:3035"),
    "oval": Grid.from_bounds(500_000, None, "EPSG:8857"),
    "pole": Grid.from_bounds(500_000, None, "EPSG:3413"),
}
on_all_grids = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())


def unit_vectors(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Places as vectors, by the formula of any textbook."""
    lon, lat = np.deg2rad(lonlat).T
    return np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def lands(*shapes: shapely.Geometry) -> Region:
    return Region.from_geometries(
        shapes or [shapely.Point(10, 50).buffer(9), shapely.box(172, -20, 188, -4)], "EPSG:4326"
    )


def field_on(grid: Grid, model: str = "xyz", **options: Any) -> EncodedField:
    return ef.EncodedField(ef.load(model, device="cpu"), grid, **options)


@on_all_grids
def test_a_pixel_on_the_globe_is_the_encoder_at_its_centre_and_others_are_empty(grid: Grid) -> None:
    found = field_on(grid).read().reshape(3, -1).T
    np.testing.assert_allclose(found, unit_vectors(grid.lonlat()), atol=1e-6)
    assert np.isnan(found).any() == (grid is GRIDS["oval"])


@on_all_grids
def test_a_projected_field_has_no_value_beyond_the_latitudes_of_its_encoder(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = field_on(grid)
    card = dataclasses.replace(field.card, latitudes=(-40.0, 60.0))
    field.card = field.evaluator._encoder.card = card
    lat = grid.lonlat()[:, 1].reshape(grid.shape)
    np.testing.assert_array_equal(np.isnan(field.read()[0]), ~((lat >= -40) & (lat <= 60)))


@on_all_grids
@pytest.mark.parametrize(
    "options", [{}, {"supersample": 3}, {"region": lands()}, {"supersample": 2, "region": lands()}]
)
def test_a_pixel_is_the_same_in_every_window_and_alone(grid: Grid, options: dict[str, Any]) -> None:
    field = field_on(grid, "sh-l10", **options)
    whole = field.read()
    for window in grid.window.tiles(9, 14):
        np.testing.assert_allclose(field.read(window), whole[:, window.rows, window.cols], atol=1e-5)
    rows, cols = np.divmod(np.random.default_rng(4).integers(0, grid.width * grid.height, 300), grid.width)
    np.testing.assert_allclose(field.pixels(rows, cols), whole[:, rows, cols].T, atol=1e-5)


@pytest.mark.parametrize("side", [2, 3, 5])
def test_a_supersampled_pixel_is_the_mean_of_its_parts_by_their_area(side: int) -> None:
    grid = Grid.from_bounds(30, (-30, 30, 60, 90))
    parts = Grid.from_bounds(30 / side, (-30, 30, 60, 90))
    vectors = unit_vectors(parts.lonlat()).reshape(2, side, 3, side, 3)
    weight = np.broadcast_to(np.cos(np.deg2rad(parts.lats())).reshape(2, side, 1, 1, 1), (2, side, 3, side, 1))
    expected = (vectors * weight).sum(axis=(1, 3)) / weight.sum(axis=(1, 3))
    np.testing.assert_allclose(field_on(grid, supersample=side).read().transpose(1, 2, 0), expected, atol=1e-6)


def test_a_supersampled_pixel_comes_near_to_the_mean_over_its_area() -> None:
    # From the equator to the pole: the mean of sin(lat) by area is 1/2, that of x over a turn is 0.
    values = field_on(Grid.from_bounds(90, (-180, -90, 180, 90)), supersample=16).read()
    np.testing.assert_allclose(values[2], np.repeat([[0.5], [-0.5]], 4, axis=1), atol=1e-3)
    # Between 0 and 90 degrees east the mean of x is (2/pi) times that of cos(lat) by area, pi/4.
    assert values[0, 0, 2] == pytest.approx(0.5, abs=1e-3)


def test_a_projected_supersampled_pixel_is_the_plain_mean_of_its_parts() -> None:
    coarse, fine = (Grid.from_bounds(res, EUROPE, "EPSG:3035") for res in (100_000, 25_000))
    expected = field_on(fine).read().reshape(3, 41, 4, 49, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(field_on(coarse, supersample=4).read(), expected, atol=1e-6)


def test_one_centre_is_the_field_bit_for_bit() -> None:
    for grid in GRIDS.values():
        np.testing.assert_array_equal(field_on(grid, supersample=1).read(), field_on(grid).read())
    once, globe = field_on(GRIDS["globe"]), GRIDS["globe"]
    expected = once.evaluator.encode_lattice(globe.lons(), globe.lats()).astype(np.float32)
    np.testing.assert_array_equal(once.read(), expected.transpose(2, 0, 1))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_supersampling_keeps_the_precision_of_the_encoder(precision: Any) -> None:
    grid = Grid.from_bounds(10)
    field = ef.EncodedField(ef.load("sh-l10", device="cpu", precision=precision), grid, supersample=4)
    exact = ef.EncodedField(ef.load("sh-l10", device="cpu", precision="float64"), grid, supersample=4).read()
    assert field.read().dtype == np.float32
    np.testing.assert_allclose(field.read(), exact, atol=2e-5 if precision == "float32" else 0)


def test_parts_without_a_value_are_left_out_of_the_mean() -> None:
    field = field_on(Grid.from_bounds(10, (0, 40, 10, 50)), supersample=2)
    field.card = field.evaluator._encoder.card = dataclasses.replace(field.card, latitudes=(45.0, 90.0))
    parts = unit_vectors(np.array([(2.5, 47.5), (7.5, 47.5)]))
    np.testing.assert_allclose(field.read()[:, 0, 0], parts.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(field.pixels([0], [0])[0], parts.mean(axis=0), atol=1e-6)
    field.card = field.evaluator._encoder.card = dataclasses.replace(field.card, latitudes=(49.0, 90.0))
    assert np.isnan(field.read()).all()


@pytest.mark.parametrize("side", [0, -1, 17, 2.0, "2", True, None])
def test_a_number_of_centres_that_cannot_be_is_refused(side: Any) -> None:
    with pytest.raises(GridError, match="no number of centres along a side of a pixel. Give a whole number from 1 to"):
        field_on(GRIDS["globe"], supersample=side)


@on_all_grids
def test_a_masked_field_has_values_where_its_region_is_and_nowhere_else(grid: Grid) -> None:
    area = lands()
    plain, masked = field_on(grid).read(), field_on(grid, region=area).read()
    mask = area.mask(grid)
    assert mask.any()
    np.testing.assert_allclose(masked, np.where(mask, plain, np.nan), atol=1e-6)


@on_all_grids
def test_windows_away_from_the_region_are_not_computed(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    field = field_on(grid, region=lands())
    mask = field.region.mask(grid) if field.region else np.zeros(grid.shape)
    asked: list[int] = []
    for name in ("encode", "encode_lattice"):
        original = getattr(field.evaluator, name)

        def count(*places: Any, original: Any = original) -> Any:
            found = original(*places)
            asked.append(found.size // 3)
            return found

        monkeypatch.setattr(field.evaluator, name, count)
    for window in grid.window.tiles(6, 6):
        asked.clear()
        field.read(window)
        rows, cols = np.nonzero(mask[window.rows, window.cols])
        # On degrees the box around the pixels, else the pixels alone.
        most = (np.ptp(rows) + 1) * (np.ptp(cols) + 1) if len(rows) and grid.geographic else len(rows)
        assert sum(asked) <= most


def test_exact_values_heed_neither_mask_nor_supersampling() -> None:
    field = field_on(GRIDS["europe"], supersample=4, region=lands())
    places = np.array([(10.0, 50.0), (-120.0, -33.0)])
    np.testing.assert_allclose(field.at(places), unit_vectors(places), atol=1e-6)
    near = field.at(places, "nearest")
    assert np.isnan(near).any(axis=1).tolist() == [False, True]
    assert abs(near[0] - unit_vectors(places)[0]).max() > 1e-4


def test_bilinear_in_a_masked_field_leaves_out_what_lies_outside() -> None:
    area = lands(shapely.box(0, 40, 10, 50))
    field = field_on(Grid.from_bounds(10, (0, 40, 20, 50)), region=area)
    np.testing.assert_allclose(field.at([(9.9, 45)], "bilinear"), unit_vectors(np.array([(5.0, 45.0)])), atol=1e-6)
    assert np.isnan(field.at([(15, 45)], "bilinear")).all()


def test_provenance_tells_what_was_averaged_and_left_out() -> None:
    area = lands()
    plain, both = field_on(GRIDS["globe"]), field_on(GRIDS["globe"], supersample=3, region=area)
    assert not {"supersample", "region"} & set(plain.provenance)
    assert both.provenance["supersample"] == 3
    assert both.provenance["region"] == {"name": "region", "sha256": area.sha256}
