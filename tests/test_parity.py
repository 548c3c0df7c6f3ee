"""Every family against its official code: at poles, antimeridian, cities and random places.

GeoCLIP and SatCLIP have tests of their own. Coordinates enter in full: the
official code of some families rounds them to float32 first, so its float32 run
is farther from its float64 run than the network's own rounding.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from references import LARGE, REFERENCE, REFERENCES, SCALES, Reference, users_card, with_options

import embedfield as ef
from embedfield.encoders.gps2vec import nearness
from embedfield.encoders.locationencoder import _posenc

each = pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
RELEASED = [
    *("fmow_NeRF", "yfcc_rff", "yfcc_Space2Vec-grid", "fmow_Space2Vec-theory", "yfcc_Sphere2Vec-sphereC"),
    *("fmow_Sphere2Vec-sphereC+", "fmow_Sphere2Vec-sphereM", "fmow_wrap_ffn", "fmow_xyz"),
]
beside = pytest.mark.skipif(not LARGE.exists(), reason="the references of real size are not beside the project")


def apart(found: Any, official: Any) -> float:
    """How far outputs are apart at most, as a share of their scale."""
    return float(abs(found - official).max() / abs(official).max())


@each
def test_float64_matches_the_official_code_everywhere(reference: Reference) -> None:
    found = reference.load("float64").encode(reference.lonlat)
    assert found.dtype == np.float64
    assert apart(found, reference.official("float64")) < 1e-11


@each
def test_float32_is_no_farther_off_than_twice_the_official_run(reference: Reference) -> None:
    found, exact = reference.load("float32").encode(reference.lonlat), reference.official("float64")
    assert found.dtype == np.float32
    assert apart(found, exact) <= 2 * apart(reference.official("float32"), exact)
    assert apart(found, exact) < 3e-6


POSENCS = {
    **{name: {} for name in ("direct", "cartesian3d", "wrap")},
    **dict.fromkeys(("grid", "theory", "spherec", "spherecplus", "spherem", "spheremplus"), SCALES),
    "theory3": {**SCALES, "frequency_num": 3},
    "sphericalharmonics": {"legendre_polys": 8},
}


@pytest.mark.parametrize(("name", "options"), POSENCS.items(), ids=POSENCS)
def test_the_positional_encodings_of_locationencoder_match(name: str, options: dict[str, Any]) -> None:
    reference = np.load(REFERENCE / "locationencoder_small.npz")
    posenc = _posenc(users_card(name.removesuffix("3") if name == "theory3" else name, "linear", **options))
    official = reference[f"pe_{name}_float64"]
    assert posenc.dim == official.shape[1]
    np.testing.assert_allclose(posenc.encode(torch.from_numpy(reference["lonlat"])).numpy(), official, atol=1e-11)


def test_one_name_is_other_mathematics_in_other_repositories() -> None:
    place = torch.tensor([[8.54, 47.37]], dtype=torch.float64)
    theirs = _posenc(users_card("spherec", "linear", **SCALES)).encode(place)
    told = torch.load(REFERENCE / "torchspatial_Sphere2Vec-sphereC.pth.tar", weights_only=True)["params"]
    model = with_options("torchspatial-fmow-xyz", spa_enc_type="Sphere2Vec-sphereC", dataset=told["dataset"])
    encoder = Reference(model, "torchspatial_Sphere2Vec-sphereC.pth.tar", "").load("float64")._encoder
    ours: Any = encoder.posenc
    assert theirs.shape[1] / SCALES["frequency_num"] == 2 * ours.dim / told["frequency_num"]  # it repeats each
    assert torch.equal(theirs[:, 0], theirs[:, 1])
    degrees = np.deg2rad(47.37) * float(ours.frequencies[0])
    assert float(ours.encode(place)[0, 0]) == pytest.approx(np.sin(degrees), abs=1e-12)  # it takes degrees as radians
    assert float(theirs[0, 0]) == pytest.approx(np.sin(47.37), abs=1e-12)


def test_gps2vecs_kernel_matches_in_every_kind_of_zone() -> None:
    reference = np.load(REFERENCE / "gps2vec_small.npz")
    for place, zone, official in zip(reference["lonlat"], reference["zone"], reference["loc2mat"], strict=True):
        number, letter = zone.split()
        found = nearness(torch.from_numpy(place[None]), int(number), letter)
        np.testing.assert_allclose(found.numpy().reshape(20, 20), official, rtol=0, atol=1e-12)


@beside
@pytest.mark.parametrize(
    "tag", json.loads((LARGE / "golden/torchspatial_points.json").read_text()) if LARGE.exists() else []
)
def test_the_released_torchspatial_models_match(tag: str) -> None:
    told = json.loads((LARGE / "golden/torchspatial_points.json").read_text())[tag]
    official = np.load(LARGE / "golden/torchspatial_points.npz")
    dataset, kind = tag.split("_", 1)
    (model,) = [
        card for card in ef.cards() if card.options.get("spa_enc_type") == kind and card.options["dataset"] == dataset
    ]
    assert model.weights
    assert (model.weights.file, model.weights.sha256) == (told["file"], told["sha256"])
    encoder = ef.load(model, LARGE / "checkpoints" / told["file"], "cpu")
    # The official run rounds places to float32: so must these be, to be the same places.
    assert apart(encoder.encode(official["lonlat"].astype(np.float32)), official[tag]) < 2e-5


GOLDEN = {
    "climplicit month 4": (
        "climplicit",
        "climplicit_random_state_dict.pt",
        "climplicit_random",
        "month4",
        {"month": 4},
    ),
    "climplicit": ("climplicit", "climplicit_random_state_dict.pt", "climplicit_random", "all4", {}),
    "sinr": ("sinr", "sinr_random.pt", "sinr_random", "out_float64", {}),
    "csp-fmow": ("csp-fmow", "csp_fmow_random.pth.tar", "csp_fmow_random", "out", {}),
    "csp-inat": ("csp-inat", "csp_inat_random.pth.tar", "csp_inat_random", "out", {}),
    "mind": ("mind", "mind_small_random.safetensors", "mind_small_random", "pooled_float64", {"dims": 96}),
}


@beside
@pytest.mark.parametrize("golden", GOLDEN.values(), ids=GOLDEN)
def test_models_of_real_size_match(golden: Any) -> None:
    model, weights, numbers, output, asked = golden
    reference = np.load(LARGE / "golden" / f"{numbers}.npz")
    official, lonlat = reference[output], reference["lonlat"]
    # CSP's official run rounds places to float32.
    places = lonlat.astype(np.float32) if model.startswith("csp") else lonlat
    found = ef.load(model, LARGE / "golden" / weights, "cpu", "float64", **asked).encode(places)
    assert found.shape == official.shape
    assert apart(found, official) < (1e-12 if official.dtype == np.float64 else 3e-6)


@beside
def test_locationencoder_of_larger_size_matches() -> None:
    golden = np.load(LARGE / "golden/locationencoder_pe.npz")
    place = torch.from_numpy(golden["lonlat"])
    for name in ("grid", "theory", "spherec", "spherecplus", "spherem", "spheremplus"):
        options = {**SCALES, "frequency_num": 32 if name == "theory" else 16}
        found = _posenc(users_card(name, "linear", **options)).encode(place).numpy()
        np.testing.assert_allclose(found, golden[f"pe_{name}_f64"], rtol=0, atol=1e-10)
    for calculation, key in (("analytic", ""), ("closed-form", "_closed")):
        model = users_card("sphericalharmonics", "linear", legendre_polys=20, harmonics_calculation=calculation)
        found = _posenc(model).encode(place).numpy()
        assert apart(found, golden[f"pe_sphericalharmonics{key}_L20_f64"]) < 1e-10


@beside
@pytest.mark.parametrize("network", ["linear", "fcnet", "siren"])
def test_the_networks_of_locationencoder_match(network: str, tmp_path: Any) -> None:
    golden, weights = np.load(LARGE / "golden/locationencoder_pe.npz"), LARGE / "golden/locationencoder_random.pt"
    torch.save(torch.load(weights, weights_only=True)[network], tmp_path / "network.pt")
    model = users_card("sphericalharmonics", network, dim=7, legendre_polys=20)
    found = ef.load(model, tmp_path / "network.pt", "cpu", "float64").encode(golden["lonlat"])
    assert apart(found, golden[f"nn_{network}_f64"]) < 1e-9
