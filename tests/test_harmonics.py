"""Tests of the spherical harmonic bases against the official code's output, scipy and the definition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from embedfield.encoders.harmonics import Harmonics
from embedfield.encoders.positional import Folding, Separable, spread
from embedfield.encoders.published import PublishedHarmonics, _powers
from embedfield.encoders.workers import Workers
from embedfield.errors import CardError

if TYPE_CHECKING:
    from collections.abc import Iterator

# lonlat (48, 2), degrees, with poles, date line and cities; l10 (48, 100) and l40
# (48, 1600), the official code's output there (microsoft/satclip, torch 2.13 on a CPU).
REFERENCE = Path(__file__).parent / "reference" / "satclip_posenc.npz"
BASES = [PublishedHarmonics, Harmonics]

type Basis = type[PublishedHarmonics | Harmonics]


def reference(name: str) -> Tensor:
    """Return one array of the reference file."""
    with np.load(REFERENCE) as arrays:
        return torch.from_numpy(arrays[name])


def places(count: int) -> Tensor:
    """Return places of uniform longitude and latitude, (count, 2), degrees, float64."""
    unit = torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return (unit - 0.5) * torch.tensor([360.0, 180.0])


def orders(degrees: int) -> list[tuple[int, int]]:
    """Return (l, m) of every feature."""
    return [(n, m) for n in range(degrees) for m in range(-n, n + 1)]


def scipy_harmonics(lonlat: Tensor, degrees: int) -> Tensor:
    """Return scipy's complex harmonics as real ones, their Condon-Shortley phase taken off: (N, dim)."""
    lon, lat = np.radians(lonlat.numpy()).T
    columns = []
    for n, m in orders(degrees):
        value = (-1) ** m * sph_harm_y(n, abs(m), np.pi / 2 - lat, lon)
        columns.append(value.real if m == 0 else np.sqrt(2) * (value.real if m > 0 else value.imag))
    return torch.from_numpy(np.stack(columns, axis=-1))


@pytest.mark.skipif(
    # torch has a `pow` and a `cos` for each instruction set, and they may round differently.
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="the reference was computed with AVX-512",
)
@pytest.mark.parametrize("degrees", [10, 40])
def test_published_basis_has_the_official_bits(degrees: int) -> None:
    """Every feature of every place, to the last bit."""
    assert torch.equal(PublishedHarmonics(degrees).encode(reference("lonlat")), reference(f"l{degrees}"))


# With another `pow`, powers of x differ in the last bit, by 1e-16 of themselves. At the
# poles the terms of l = 39, m = 0 reach 1e14 and cancel to 8; towards the equator they
# are small. Measured in the four bands of 40 degrees: 2e-9, 5e-4, 4e-3 and 0.016.
@pytest.mark.parametrize(
    ("degrees", "south", "north", "tolerance"),
    [(10, 0, 90, 1e-12), (40, 0, 30, 1e-8), (40, 30, 60, 2e-3), (40, 60, 75, 1e-2), (40, 75, 90, 4e-2)],
)
def test_published_basis_is_the_official_one_on_any_machine(
    degrees: int, south: float, north: float, tolerance: float
) -> None:
    """Within what cancellation makes of last bits, by distance from the equator."""
    lonlat = reference("lonlat")
    band = (lonlat[:, 1].abs() >= south) & (lonlat[:, 1].abs() <= north)
    features = PublishedHarmonics(degrees).encode(lonlat[band])
    torch.testing.assert_close(features, reference(f"l{degrees}")[band], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("degrees", "latitude", "tolerance"), [(10, 90.0, 1e-10), (25, 90.0, 1e-5), (40, 30.0, 1e-7)])
def test_published_basis_is_the_true_one_seen_from_the_south_but_for_pi(
    degrees: int, latitude: float, tolerance: float
) -> None:
    """Y(lon, lat) is the true Y(lon + 180, -lat), and pi times that for m = 0, to its 15 digits."""
    lonlat = places(200) * torch.tensor([1.0, latitude / 90])
    turned = lonlat * torch.tensor([1.0, -1.0]) + torch.tensor([180.0, 0.0])
    slip = torch.tensor([torch.pi if m == 0 else 1.0 for _, m in orders(degrees)], dtype=torch.float64)
    expected = scipy_harmonics(turned, degrees) * slip
    torch.testing.assert_close(PublishedHarmonics(degrees).encode(lonlat), expected, rtol=0, atol=tolerance)


def test_published_features_do_not_depend_on_the_batch() -> None:
    """A permutation, a part and a place alone have the bits of the whole."""
    basis, lonlat = PublishedHarmonics(40), places(1501)
    whole = basis.encode(lonlat)
    shuffle = torch.randperm(len(lonlat), generator=torch.Generator().manual_seed(6))
    assert torch.equal(basis.encode(lonlat[shuffle]), whole[shuffle])
    assert torch.equal(basis.encode(lonlat[13:790:3]), whole[13:790:3])
    for index in range(0, 1501, 50):
        assert torch.equal(basis.encode(lonlat[index : index + 1]), whole[index : index + 1])


def test_published_features_do_not_depend_on_the_size_of_the_batch() -> None:
    """50,000 places at once, and in uneven parts."""
    basis, lonlat = PublishedHarmonics(10), places(50_000)
    parts = torch.cat([basis.encode(part) for part in torch.split(lonlat, 1237)])
    assert torch.equal(basis.encode(lonlat), parts)


def test_published_latitudes_do_not_depend_on_the_batch() -> None:
    """`along_lat` of one latitude has the bits of `along_lat` of many."""
    basis, lats = PublishedHarmonics(40), places(131)[:, 1]
    assert torch.equal(torch.cat([basis.along_lat(lat[None]) for lat in lats]), basis.along_lat(lats))


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Let torch use three threads: their shares do not end where a vector register does."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("step", [0.5, 1.0])
def test_powers_do_not_depend_on_position(step: float) -> None:
    """Nor on the number of threads, where there are enough numbers for several."""
    base, exponents = places(1001)[:, 1].abs() / 90, torch.arange(40, dtype=torch.float64) * step
    parts = [_powers(part, exponents)[:, : len(part)] for part in torch.split(base, 29)]
    assert torch.equal(_powers(base, exponents)[:, :1001], torch.cat(parts, dim=1))


@pytest.mark.parametrize("step", [0.5, 1.0])
def test_powers_are_those_of_each_exponent_alone(step: float) -> None:
    """The official code raises to one exponent at a time, for some of which torch has a routine of its own."""
    base, exponents = places(1024)[:, 1].abs() / 90, torch.arange(40, dtype=torch.float64) * step
    alone = torch.stack([base**exponent for exponent in exponents.tolist()])
    assert torch.equal(_powers(base, exponents), alone)


def test_published_features_do_not_depend_on_who_computes_them() -> None:
    """Several threads, each a block at a time, as for places on a GPU."""
    basis, (lons, lats) = PublishedHarmonics(40), places(5000).unbind(-1)
    shared = basis._computed(lons, lats, torch.float32, Workers(3))
    assert torch.equal(shared.T, basis.encode(places(5000), torch.float32))


@pytest.mark.parametrize("degrees", [1, 2, 3, 40])
def test_harmonics_agree_with_scipy(degrees: int) -> None:
    """At random places, poles, equator and date line, to 1e-12."""
    special = torch.tensor([[0.0, 90], [77, 90], [0, -90], [-133, -90], [180, 12], [-180, 12], [0, 0]])
    lonlat = torch.cat((places(300), special.double()))
    torch.testing.assert_close(Harmonics(degrees).encode(lonlat), scipy_harmonics(lonlat, degrees), rtol=0, atol=1e-12)


def test_harmonics_are_orthonormal() -> None:
    """Their products integrate to the identity; the quadrature is exact for them."""
    degrees = 24
    sines, weights = np.polynomial.legendre.leggauss(degrees)
    lats, lons = np.degrees(np.arcsin(sines)), np.arange(2 * degrees) * (180 / degrees)
    lonlat = torch.from_numpy(np.stack(np.meshgrid(lons, lats), axis=-1).reshape(-1, 2))
    area = torch.from_numpy(np.repeat(weights, 2 * degrees) * np.pi / degrees)[:, None]
    features = Harmonics(degrees).encode(lonlat)
    identity = torch.eye(degrees**2, dtype=torch.float64)
    torch.testing.assert_close(features.T @ (features * area), identity, rtol=0, atol=1e-12)


def test_harmonics_stay_finite_and_normalised_at_high_degree() -> None:
    """The squares at a place sum to (degrees)^2 / 4 pi (the addition theorem)."""
    squares = Harmonics(180).encode(places(20)).square().sum(dim=1)
    torch.testing.assert_close(squares, torch.full_like(squares, 180**2 / (4 * np.pi)), rtol=1e-11, atol=0)


@pytest.mark.parametrize("basis", BASES)
def test_features_are_the_product_of_both_functions(basis: Basis) -> None:
    """A lattice put together from `along_lat` and `along_lon` is `encode`, to rounding."""
    harmonics: Separable = basis(40)
    lons, lats = torch.linspace(-180, 180, 19).double(), torch.linspace(-90, 90, 15).double()
    lonlat = torch.stack((lons.repeat(15), lats.repeat_interleave(19)), dim=-1)
    lattice = spread(harmonics, harmonics.along_lon(lons), harmonics.along_lat(lats)).reshape(-1, harmonics.dim)
    torch.testing.assert_close(lattice, harmonics.encode(lonlat), rtol=1e-15, atol=1e-300)


@pytest.mark.parametrize("basis", BASES)
def test_a_linear_layer_folds_into_the_functions_of_longitude(basis: Basis) -> None:
    """`columns` names the functions by which `Folding` may add weights up."""
    harmonics = basis(7)
    lons, lats = places(9)[:, 0], places(5)[:, 1]
    weight = torch.randn(3, 49, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    waves = harmonics.along_lon(lons)
    bias = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    folded = waves @ Folding(harmonics, weight, bias).at(lats)
    features = spread(harmonics, waves, harmonics.along_lat(lats))
    expected = torch.einsum("of,yxf->yxo", weight, features) + bias
    torch.testing.assert_close(folded, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("basis", BASES)
def test_functions_of_longitude_are_the_cosines_then_the_sines(basis: Basis) -> None:
    """2 L - 1 of them, the first constant; phi starts at 0 or, for the published basis, at the date line."""
    waves = basis(4).along_lon(places(5)[:, 0])
    phi = torch.deg2rad(places(5)[:, 0] + (180 if basis is PublishedHarmonics else 0))
    expected = [torch.cos(m * phi) for m in range(4)] + [torch.sin(m * phi) for m in (1, 2, 3)]
    assert torch.equal(waves, torch.stack(expected, dim=-1))


@pytest.mark.parametrize("basis", BASES)
def test_both_sides_of_the_date_line_agree(basis: Basis) -> None:
    """180 and -180 degrees are one meridian."""
    lats = torch.linspace(-90, 90, 37, dtype=torch.float64)
    east, west = (basis(40).encode(torch.stack((torch.full_like(lats, lon), lats), dim=-1)) for lon in (180, -180))
    torch.testing.assert_close(east, west, rtol=0, atol=1e-13)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("pole", [-90.0, 90.0])
def test_a_pole_has_one_value_whatever_the_longitude(basis: Basis, pole: float) -> None:
    """Only features of m = 0 are left, and none is NaN."""
    lons = places(30)[:, 0]
    features = basis(40).encode(torch.stack((lons, torch.full_like(lons, pole)), dim=-1))
    assert features.isfinite().all()
    torch.testing.assert_close(features, features[:1].expand_as(features), rtol=0, atol=1e-13)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("degrees", [1, 2, 3])
def test_small_bases_begin_the_large_one(basis: Basis, degrees: int) -> None:
    """The features of the first degrees, float64, also of no places at all."""
    small, large = basis(degrees), basis(5)
    assert small.dim == len(small.columns) == degrees**2
    torch.testing.assert_close(small.encode(places(9)), large.encode(places(9))[:, : degrees**2], rtol=0, atol=0)
    assert small.encode(places(0)).shape == (0, degrees**2)


@pytest.mark.parametrize("basis", BASES)
def test_float32_places_are_computed_in_float64(basis: Basis) -> None:
    """In float32 the published basis would overflow."""
    lonlat = places(9).float()
    assert torch.equal(basis(40).encode(lonlat), basis(40).encode(lonlat.double()))
    assert basis(40).along_lat(lonlat[:, 1]).dtype == basis(40).along_lon(lonlat[:, 0]).dtype == torch.float64


@pytest.mark.parametrize("basis", BASES)
def test_features_in_float32_are_those_in_float64_rounded_once(basis: Basis) -> None:
    """At poles and everywhere, in one block and in several."""
    lonlat = torch.cat((places(1501), torch.tensor([[12.0, 90.0], [-180.0, -90.0]], dtype=torch.float64)))
    assert torch.equal(basis(40).encode(lonlat, torch.float32), basis(40).encode(lonlat).float())


def test_the_published_basis_comes_back_to_where_its_places_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed by processors for any device; here for tensors that have one and no numbers."""
    seen: list[str] = []

    def computed(
        basis: PublishedHarmonics, lons: Tensor | None, lats: Tensor, dtype: torch.dtype, _: Workers
    ) -> Tensor:
        seen.extend(places.device.type for places in (lons, lats) if places is not None)
        return lats.new_empty(basis.dim, len(lats), dtype=dtype)

    monkeypatch.setattr(PublishedHarmonics, "_computed", computed)
    with FakeTensorMode():
        lonlat = torch.empty(3, 2, dtype=torch.float64, device="cuda")
        features, along_lat = PublishedHarmonics(12).encode(lonlat), PublishedHarmonics(12).along_lat(lonlat[:, 1])
    assert features.device.type == along_lat.device.type == "cuda"
    assert features.shape == along_lat.shape == (3, 144)
    assert seen == ["cpu"] * 3


def test_the_orthonormal_basis_works_where_its_places_are() -> None:
    """Its tables follow the places to their device."""
    lonlat = places(3).to("meta")
    assert Harmonics(12).encode(lonlat).device.type == "meta"
    assert Harmonics(12).along_lat(lonlat[:, 1]).shape == (3, 144)
    assert Harmonics(12).along_lon(lonlat[:, 0]).shape == (3, 23)


@pytest.mark.parametrize(("basis", "degrees"), [(PublishedHarmonics, 0), (PublishedHarmonics, 41), (Harmonics, 0)])
def test_degrees_that_cannot_be_are_refused(basis: Basis, degrees: int) -> None:
    """The message names the number and what to choose."""
    with pytest.raises(CardError, match=f"{degrees} degrees: .* Choose"):
        basis(degrees)
