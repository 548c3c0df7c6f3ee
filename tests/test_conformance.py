"""Every known model holds to the contract, and does what its card says of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from references import REFERENCES, small_files
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import embedfield as ef
from embedfield import models
from embedfield.encoders import positional
from embedfield.encoders.published import PublishedHarmonics
from embedfield.errors import InputsError, PlacesError
from embedfield.grid import Grid
from embedfield.places import equal_area_places, turned

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.card import Card

# Where GPS2Vec's small archives have networks: Singapore's zone, Norway's and Svalbard's.
SEEN = np.array([[103.8, 1.3], [104.9, 6.2], [10.7, 59.9], [5.3, 60.4], [15.6, 78.2]])
SPDX = re.compile(r"none|[A-Za-z0-9.+-]+( AND [A-Za-z0-9.+-]+)*")

each = pytest.mark.parametrize("model", ef.cards(), ids=lambda card: card.name)


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """A maker of small encoders of any known model."""

    def make(model: Card, precision: Any = "float64", **asked: Any) -> ef.Evaluator:
        return ef.load(model, device="cpu", precision=precision, **small_files(model, tmp_path), **asked)

    return make


def places_of(model: Card) -> Any:
    """Places all over the globe where a model has values."""
    south, north = model.latitudes
    return SEEN if "gps2vec" in model.name else equal_area_places(40, (-180, south, 180, north))


def near(one: Any, other: Any) -> bool:
    """Whether outputs are the same but for rounding."""
    return bool(abs(one - other).max() <= 1e-9 * abs(one).max())


@each
def test_a_card_says_what_a_user_must_know(model: Card) -> None:
    assert model.title
    assert model.units
    assert model.detail is not None
    assert 0 < model.detail <= 180
    assert model.homepage.startswith("https://")
    assert SPDX.fullmatch(model.licence)
    assert SPDX.fullmatch(model.code_licence)
    if model.training_data != "none":
        assert model.paper
        assert re.search(r"\(\d{4}\), ", model.paper)
        assert str(model.training_url).startswith("https://")
        # GPS2Vec's papers have no DOI that could be verified.
        assert model.doi or model.name.startswith("gps2vec")


@each
def test_a_card_reads_as_lines_and_as_json(model: Card) -> None:
    lines = model.describe()
    assert {"vector", "coordinates", "longitude", "poles", "latitudes", "detail", "weights", "code"} <= set(lines)
    assert all("\n" not in line for line in lines.values())
    assert ef.Card.from_dict(json.loads(json.dumps(model.to_dict()))) == model


@each
def test_an_encoder_answers_at_every_place_alone_as_among_others(model: Card, load: Any) -> None:
    encoder, places = load(model), places_of(model)
    found = encoder.encode(places)
    assert found.shape == (len(places), encoder.dim)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert near(found, np.concatenate([encoder.encode(places[row : row + 1]) for row in range(len(places))]))
    assert np.ptp(found, axis=0).max() > 0  # it tells places apart


@each
def test_the_official_precision_is_the_default(model: Card, load: Any) -> None:
    encoder, places = load(model, precision=None), places_of(model)
    assert encoder.precision == model.dtype
    assert encoder.encode(places).dtype == model.dtype
    exact = load(model).encode(places)
    assert abs(load(model, "float32").encode(places) - exact).max() <= 2e-3 * abs(exact).max()


@each
def test_the_lattice_is_the_places_that_it_is_made_of(model: Card, load: Any) -> None:
    encoder = load(model)
    lons, lats = np.array([-180.0, -12.5, 5.3, 103.8, 180.0]), np.array([78.2, 60.4, 1.3, -60.0])
    lat, lon = np.meshgrid(lats, lons, indexing="ij")
    places = encoder.encode(np.column_stack((lon.ravel(), lat.ravel())))
    np.testing.assert_allclose(
        encoder.encode_lattice(lons, lats).reshape(places.shape), places, rtol=0, atol=1e-9 * np.nanmax(abs(places))
    )
    assert encoder.encode_lattice(lons[:1], lats[:1]).shape == (1, 1, encoder.dim)


@each
def test_no_places_make_no_rows(model: Card, load: Any) -> None:
    encoder = load(model)
    assert encoder.encode(np.empty((0, 2))).shape == (0, encoder.dim)


@each
def test_longitudes_beyond_180_are_the_same_places_further_west(model: Card, load: Any) -> None:
    encoder, places = load(model), places_of(model)
    # At -180 itself such an encoder may have another value than at 180.
    west = (places[:, 0] < 0) & (places[:, 0] > -180)
    beyond = places + np.where(west, 360.0, 0.0)[:, None] * [1.0, 0.0]
    # 360 less the fraction that float64 loses by the turn.
    np.testing.assert_allclose(encoder.encode(beyond), encoder.encode(places), rtol=0, atol=1e-6)
    with pytest.raises(PlacesError, match=r"longitude outside \[-180, 360\)"):
        encoder.encode([[360.0, 0.0]])


@each
def test_the_seam_is_as_the_card_says(model: Card, load: Any) -> None:
    lats = np.array([-71.0, -33.0, 0.4, 12.0, 66.0])
    east, west = (load(model).encode(np.column_stack((np.full(5, lon), lats))) for lon in (180.0, -180.0))
    if "gps2vec" in model.name:
        assert np.isnan(east).all()  # no network there
    else:
        assert near(east, west) == model.periodic


@each
def test_a_pole_is_as_the_card_says(model: Card, load: Any) -> None:
    encoder = load(model)
    for pole in (90.0, -90.0):
        if model.latitudes[0] <= pole <= model.latitudes[1]:
            found = encoder.encode([[lon, pole] for lon in (-170.0, 0.0, 57.25, 121.0)])
            assert near(found, found[:1]) == model.one_pole


@each
def test_beyond_its_latitudes_places_are_refused_and_pixels_are_empty(model: Card, load: Any) -> None:
    encoder, (south, north) = load(model), model.latitudes
    with pytest.raises(PlacesError, match="Place 1, .* has a latitude outside"):
        encoder.encode([[8.5, 47.4], [8.5, north + 0.5]])
    with pytest.raises(PlacesError, match="has a latitude outside"):
        encoder.encode([[8.5, south - 0.5]])
    if (south, north) != (-90, 90):
        lattice = encoder.encode_lattice([5.3], [89.0, north + 0.1, 60.4, south - 0.1])
        assert np.isnan(lattice).all(axis=(1, 2)).tolist() == [True, True, False, True]


@each
def test_a_length_of_one_is_what_the_card_says(model: Card, load: Any) -> None:
    lengths = np.linalg.norm(load(model).encode(places_of(model)), axis=1)
    assert bool(abs(lengths - 1).max() < 1e-9) == model.unit_norm


@each
def test_other_inputs_are_refused_before_anything_is_fetched(model: Card) -> None:
    with pytest.raises(InputsError, match=f"{model.name} takes no input 'colour'"):
        ef.load(model, colour=3)
    for name, allowed in model.inputs.items():
        for value in (allowed.minimum - 1, allowed.maximum + 1, float("nan"), "x", True, None):
            asked: dict[str, Any] = {name: value}
            with pytest.raises(InputsError, match=f"{name}=.* is nothing that {model.name} takes"):
                ef.load(model, **asked)
    if not model.prefixes:
        with pytest.raises(InputsError, match=f"{model.name} has no prefixes"):
            ef.load(model, dims=8)


def test_an_input_changes_the_vectors(load: Any) -> None:
    climplicit, mix = (next(card for card in ef.cards() if card.name == name) for name in ("climplicit", "range-plus"))
    july, year = load(climplicit, month=7), load(climplicit)
    assert (july.dim, year.dim) == (16, 64)
    june = load(climplicit, month=6).encode(places_of(climplicit))
    assert np.array_equal(year.encode(places_of(climplicit))[:, 16:32], june)
    likeness, nearness = (load(mix, beta=beta).encode(places_of(mix))[:, :20] for beta in (1, 0))
    assert near(load(mix).encode(places_of(mix))[:, :20], (likeness + nearness) / 2)


@pytest.mark.parametrize("name", ["satclip-vit16-l10", "csp-fmow"])
def test_longitudes_of_one_lattice_are_not_anothers(load: Any, name: str) -> None:
    model = next(card for card in ef.cards() if card.name == name)
    evaluator, lats = load(model), np.array([-41.0, 7.0])
    for lons in (np.arange(-20.0, 20.0), np.arange(-20.0, 20.0) + 0.25, np.arange(-20.0, 5.0), np.arange(-20.0, 20.0)):
        assert np.array_equal(evaluator.encode_lattice(lons, lats), load(model).encode_lattice(lons, lats))


def test_a_prefix_is_the_beginning_of_the_whole(load: Any) -> None:
    mind = next(card for card in ef.cards() if card.name == "mind")
    whole, prefix = load(mind).encode(places_of(mind)), load(mind, dims=8)
    assert prefix.dim == 8
    np.testing.assert_allclose(prefix.encode(places_of(mind)), whole[:, :8], rtol=1e-12)


@pytest.fixture
def _no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """SatCLIP's basis is computed by processors, from numbers; where there are none it goes along as any tensor."""

    def features(basis: PublishedHarmonics, _: object, lats: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return lats.new_empty(basis.dim, len(lats), dtype=dtype)

    monkeypatch.setattr(PublishedHarmonics, "_features", features)


@pytest.mark.usefixtures("_no_numbers")
@pytest.mark.parametrize(
    "model", [card for card in ef.cards() if "gps2vec" not in card.name], ids=lambda card: card.name
)
def test_every_tensor_of_an_encoder_goes_with_it_to_another_device(model: Card, tmp_path: Path) -> None:
    # Torch's device without memory stands for a GPU: it does not mix with the CPU's tensors either.
    device = torch.device("meta")
    held = small_files(model, tmp_path)
    encoder = models.load(model, held.get("weights"), database=held.get("database")).ready(device, torch.float32)
    places, lons, lats = (torch.empty(*shape, dtype=torch.float64, device=device) for shape in ((7, 2), (3,), (2,)))
    with torch.inference_mode():
        found, lattice = encoder.encode(places), encoder.encode_lattice(lons, lats)
    assert (found.device, lattice.device) == (device, device)
    assert (found.shape, lattice.shape) == ((7, encoder.card.dim), (2, 3, encoder.card.dim))


HOSTED = [card for card in ef.cards() if "range" not in card.name and "gps2vec" not in card.name]


@pytest.mark.usefixtures("_no_numbers")
@pytest.mark.parametrize("model", HOSTED, ids=lambda card: card.name)
def test_a_device_without_float64_is_never_given_any(
    model: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = models.load(model, small_files(model, tmp_path).get("weights"))
    posenc: Any = getattr(encoder, "posenc", None)
    batches = positional._batches(posenc.columns) if isinstance(posenc, positional.Separable) else None
    monkeypatch.setattr(positional, "_batches", lambda _: batches)  # it looks at numbers
    # Tensors that have a device and no numbers; positions are on the processor, as for a Mac's GPU.
    with FakeTensorMode(allow_non_fake_inputs=True), _NoFloat64("cuda"), torch.inference_mode():
        for module in encoder.modules():
            for held in (module._parameters, module._buffers):
                held |= {name: _elsewhere(tensor) for name, tensor in held.items() if tensor is not None}
        lonlat, lons, lats = (torch.zeros(*shape, dtype=torch.float64) for shape in ((7, 2), (3,), (2,)))
        found, lattice = encoder.encode(lonlat), encoder.encode_lattice(lons, lats)
    assert found.device.type == lattice.device.type == ("cuda" if list(encoder.parameters()) else "cpu")
    assert (found.shape, lattice.shape) == ((7, encoder.card.dim), (2, 3, encoder.card.dim))


def _elsewhere(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.empty(tensor.shape, dtype=torch.float32, device="cuda"), requires_grad=False)


class _NoFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses float64 on a kind of device."""

    def __init__(self, kind: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind = kind

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == self.kind:
            assert result.dtype != torch.float64, func
        return result


# As builds ask: around the globe, in a region, at a pole, and past the antimeridian.
LATTICES = {
    "globe": Grid.from_bounds(9),
    "region": Grid.from_bounds(0.5, (5, 45, 12, 48)),
    "pole": Grid.from_bounds(1, (-30, 80, 30, 90)),
    "south pole": Grid.from_bounds(1, (100, -90, 150, -80)),
    "antimeridian": Grid.from_bounds(2, (160, -30, -150, 20)),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_on_every_grid_the_lattice_is_the_encoder(name: str) -> None:
    model = REFERENCES[name]
    exact, rounded = model.load("float64"), model.load("float32")
    for grid in LATTICES.values():
        lons, lats = turned(grid.lons()), grid.lats()
        lats = lats[(lats >= exact.card.latitudes[0]) & (lats <= exact.card.latitudes[1])]
        if not len(lats):
            continue
        lat, lon = np.meshgrid(lats, lons, indexing="ij")
        places = np.column_stack((lon.ravel(), lat.ravel()))
        official = exact.encode(places)
        scale = np.nanmax(abs(official), initial=0)
        lattice = exact.encode_lattice(lons, lats).reshape(official.shape)
        np.testing.assert_allclose(lattice, official, rtol=0, atol=1e-8 * scale)
        single, pixels = rounded.encode(places), rounded.encode_lattice(lons, lats).reshape(official.shape)
        if np.isfinite(official).any():
            assert np.nanmax(abs(pixels - official)) <= 2 * np.nanmax(abs(single - official))
