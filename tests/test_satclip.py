"""SatCLIP against the official code, on checkpoints in its official layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import embedfield as ef
from embedfield.errors import WeightsError

REFERENCE = Path(__file__).parent / "reference"
# Larger references, of the released models' real size, where they lie beside the project.
LARGE = Path(__file__).parent.parent.parent / "shared" / "golden"

SMALL = [("satclip-l10", "satclip_l10_small"), ("satclip-l40", "satclip_l40_small")]
REAL_SIZE = [("satclip-l10", "satclip_l10_random"), ("satclip-l40", "satclip_l40_random")]


def tolerance(name: str, lat: Any) -> Any:
    """Return how far outputs may be apart, as a share of their scale, at each latitude.

    The published polynomials of 40 degrees cancel near the poles, and `pow`
    differs between processors in its last bit. Of 10 degrees nothing cancels.
    """
    if "l10" in name:
        return np.full(len(lat), 1e-12)
    return np.select([abs(lat) < 30, abs(lat) < 60, abs(lat) < 75], [1e-9, 1e-4, 1e-3], 2e-3)


def assert_matches(name: str, weights: Path, lonlat: Any, official: Any) -> None:
    found = ef.load(name, weights, "cpu").encode(lonlat)
    assert found.dtype == np.float64
    apart = abs(found - official).max(axis=1) / abs(official).max()
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        # The processor that the references were made on: what differs there is a slip, not rounding.
        assert apart.max() < 1e-14
    assert (apart <= tolerance(name, lonlat[:, 1])).all()


@pytest.mark.parametrize(("name", "file"), SMALL)
def test_float64_matches_the_official_code_everywhere(name: str, file: str) -> None:
    reference = np.load(REFERENCE / f"{file}.npz")
    assert_matches(name, REFERENCE / f"{file}.ckpt", reference["lonlat"], reference["float64"])


@pytest.mark.parametrize(("name", "file"), REAL_SIZE)
def test_float64_matches_the_official_code_at_real_size(name: str, file: str) -> None:
    if not (LARGE / f"{file}.npz").exists():
        pytest.skip("the references of real size are not beside the project")
    reference = np.load(LARGE / f"{file}.npz")
    assert_matches(name, LARGE / f"{file}.ckpt", reference["lonlat"], reference["out"])


@pytest.mark.parametrize(("name", "file"), SMALL)
def test_float32_stays_near_although_the_official_float32_run_is_nan(name: str, file: str) -> None:
    reference = np.load(REFERENCE / f"{file}.npz")
    found = ef.load(name, REFERENCE / f"{file}.ckpt", "cpu", "float32").encode(reference["lonlat"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference["float64"], rtol=0, atol=5e-6 if "l10" in name else 5e-3)


@pytest.mark.parametrize(("name", "file"), SMALL)
@pytest.mark.parametrize(("precision", "near"), [("float64", 1e-12), ("float32", 5e-6)])
def test_the_folded_lattice_equals_the_places_that_it_is_made_of(
    name: str, file: str, precision: Any, near: float
) -> None:
    encoder = ef.load(name, REFERENCE / f"{file}.ckpt", "cpu", precision)
    lons, lats = np.array([-180.0, -179.95, -0.05, 12.5, 180.0]), np.array([90.0, 89.95, 45.0, 0.05, -60.0, -90.0])
    places = np.stack(np.broadcast_arrays(lons[None, :], lats[:, None]), axis=-1).reshape(-1, 2)
    lattice = encoder.encode_lattice(lons, lats)
    assert lattice.shape == (6, 5, 32)
    np.testing.assert_allclose(lattice.reshape(-1, 32), encoder.encode(places), rtol=0, atol=near)


@pytest.mark.parametrize(("name", "file"), SMALL)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_place_has_the_same_embedding_in_any_batch(name: str, file: str, precision: Any) -> None:
    reference = np.load(REFERENCE / f"{file}.npz")
    encoder = ef.load(name, REFERENCE / f"{file}.ckpt", "cpu", precision)
    many = encoder.encode(np.tile(reference["lonlat"], (60, 1))).reshape(60, -1, 32)
    near = {"float64": 1e-12, "float32": 2e-6}[precision]
    np.testing.assert_allclose(many - encoder.encode(reference["lonlat"]), 0, rtol=0, atol=near)
    np.testing.assert_allclose(many[0, :1], encoder.encode(reference["lonlat"][:1]), rtol=0, atol=near)


@pytest.mark.parametrize(("name", "file"), SMALL)
def test_seam_and_poles_have_one_value(name: str, file: str) -> None:
    encoder = ef.load(name, REFERENCE / f"{file}.ckpt", "cpu")
    seam, pole = encoder.encode([[180, 33], [-180, 33]]), encoder.encode([[0, 90], [57, 90], [-180, 90]])
    np.testing.assert_allclose(seam[0], seam[1], atol=1e-10)
    np.testing.assert_allclose(pole - pole[0], 0, atol=1e-10)


def test_the_checkpoint_says_the_length_of_an_embedding() -> None:
    assert ef.load("satclip-l10", REFERENCE / "satclip_l10_small.ckpt").dim == 32


@pytest.mark.parametrize(
    ("name", "file", "why"),
    [
        ("satclip-l40", "satclip_l10_small", "its first layer takes 100 features, and 40 harmonic degrees make 1600"),
        ("satclip-resnet18-l10", "satclip_l10_small", "its vision_layers is 'moco_vit16'.*has 'moco_resnet18'"),
    ],
)
def test_another_variants_checkpoint_is_refused(name: str, file: str, why: str) -> None:
    with pytest.raises(WeightsError, match=why):
        ef.load(name, REFERENCE / f"{file}.ckpt")


def changed(tmp_path: Path, change: Any) -> Path:
    """Return a checkpoint that differs from an official one."""
    checkpoint = torch.load(REFERENCE / "satclip_l10_small.ckpt", weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "changed.ckpt")
    return tmp_path / "changed.ckpt"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c.pop("state_dict"), "no tensor's name begins with 'model.location.nnet.'"),
        (lambda c: c.update(state_dict=3), "no tensor's name begins with 'model.location.nnet.'"),
        (lambda c: c.update(state_dict={1: torch.zeros(1)}), "no tensor's name begins with 'model.location.nnet.'"),
        (lambda c: c["state_dict"].pop("model.location.nnet.last_layer.bias"), "has no tensor 'last_layer.bias'"),
        (lambda c: c["state_dict"].pop("model.location.nnet.layers.1.bias"), "has no tensor 'layers.1.bias'"),
        (lambda c: c["state_dict"].update({"model.location.nnet.extra": torch.zeros(1)}), "does not fit SatCLIP"),
        (lambda c: c["hyper_parameters"].update(harmonics_calculation="closed-form"), "harmonics_calculation"),
    ],
)
def test_a_checkpoint_that_is_not_quite_one_is_refused(tmp_path: Path, change: Any, why: str) -> None:
    with pytest.raises(WeightsError, match=why):
        ef.load("satclip-l10", changed(tmp_path, change))


def test_tensors_alone_are_read_too(tmp_path: Path) -> None:
    official = REFERENCE / "satclip_l10_small.ckpt"
    state = torch.load(official, weights_only=True)["state_dict"]
    save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, tmp_path / "s.safetensors")
    torch.save(state, tmp_path / "s.pt")
    wanted = ef.load("satclip-l10", official).encode([[8.54, 47.37]])
    for name in ("s.safetensors", "s.pt"):
        np.testing.assert_array_equal(ef.load("satclip-l10", tmp_path / name).encode([[8.54, 47.37]]), wanted)
