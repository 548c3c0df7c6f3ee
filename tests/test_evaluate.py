"""Evaluator and EncodedField: devices, precisions and batches change nothing but speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from references import REFERENCE

import embedfield as ef
from embedfield.encoders import gps2vec
from embedfield.errors import DeviceError, PlacesError
from embedfield.evaluate import BATCH
from embedfield.grid import Grid, Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.evaluate import EncodedField

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
    with pytest.raises(DeviceError, match="precision='half'. Choose from: float32, float64"):
        ef.load("xyz", device="cpu", precision="half")  # type: ignore[arg-type]


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
