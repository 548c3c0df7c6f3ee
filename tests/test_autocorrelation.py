"""Autocorrelation: fields of known covariance, pairs written out, and places that tell nothing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from embedfield.describe.autocorrelation import Autocorrelation
from embedfield.places import equal_area_places

RADIUS = 6371.0
Places = npt.NDArray[np.float64]


def on_sphere(lonlat: Places) -> npt.NDArray[np.float64]:
    lon, lat = np.deg2rad(lonlat).T
    return np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def gaussian_field(lonlat: Places, scale: float, dim: int = 600) -> npt.NDArray[np.float32]:
    """Return random waves through space: their correlation is exp(-(chord / scale)^2 / 2)."""
    rng = np.random.default_rng(0)
    phases = on_sphere(lonlat) @ rng.normal(scale=1 / scale, size=(3, dim)) + rng.uniform(0, 2 * np.pi, dim)
    return np.cos(phases).astype(np.float32)


def random_places(count: int) -> Places:
    return np.random.default_rng(1).permutation(equal_area_places(count))


@pytest.mark.parametrize("scale", [0.05, 0.2])
def test_the_length_of_a_field_of_known_covariance_is_found(scale: float) -> None:
    places = random_places(3000)
    found = Autocorrelation.of(gaussian_field(places, scale), places)
    chord = scale * math.sqrt(2)
    assert found.length_km == pytest.approx(2 * math.asin(chord / 2) * RADIUS, rel=0.05)
    chords = 2 * np.sin(found.distances_km / RADIUS / 2)
    assert found.correlations == pytest.approx(np.exp(-((chords / scale) ** 2) / 2), abs=0.03)


def test_correlations_are_means_over_all_pairs() -> None:
    rng = np.random.default_rng(2)
    places = np.column_stack((rng.uniform(-180, 180, 60), rng.uniform(-90, 90, 60)))
    vectors = rng.normal(size=(60, 4)).cumsum(axis=0).astype(np.float32)
    found = Autocorrelation.of(vectors, places)
    centred = vectors - vectors.mean(axis=0)
    first, second = np.triu_indices(60, 1)
    xyz = on_sphere(places)
    distances = np.arccos((xyz[first] * xyz[second]).sum(axis=1)) * RADIUS
    products = (centred[first] * centred[second]).sum(axis=1)
    squares = (np.square(centred[first]) + np.square(centred[second])).sum(axis=1) / 2
    edges = np.geomspace(1e-3, math.pi * RADIUS, 75)
    bins = np.digitize(distances, edges)
    held = [bin_ for bin_ in range(75) if (bins == bin_).sum() >= 50]
    assert found.pairs.tolist() == [(bins == bin_).sum() for bin_ in held]
    expected = [products[bins == bin_].sum() / squares[bins == bin_].sum() for bin_ in held]
    assert found.correlations == pytest.approx(expected, rel=1e-5)
    assert found.distances_km == pytest.approx([distances[bins == bin_].mean() for bin_ in held], rel=0.02)


def test_near_pairs_of_a_part_that_varies_more_are_no_more_than_alike() -> None:
    # As of a coarse raster, whose pixels are near each other around the poles alone.
    rng = np.random.default_rng(6)
    near = np.column_stack((np.linspace(0, 0.1, 60), np.full(60, 80)))
    places = np.concatenate((near, random_places(400)))
    vectors = np.concatenate((np.full((60, 3), 9.0), rng.normal(size=(400, 3))))
    found = Autocorrelation.of(vectors, places)
    assert found.correlations[0] == pytest.approx(1, abs=1e-6)
    assert (np.abs(found.correlations) <= 1).all()


@pytest.mark.parametrize("unit", [1e-38, 1e37])
def test_the_unit_of_vectors_does_not_matter(unit: float) -> None:
    places = random_places(500)
    vectors = gaussian_field(places, 0.2).astype(np.float32)
    found = Autocorrelation.of(vectors * np.float32(unit), places)
    assert found.correlations == pytest.approx(Autocorrelation.of(vectors, places).correlations, abs=1e-3)


def test_distances_cross_antimeridian_and_poles() -> None:
    rng = np.random.default_rng(3)
    seam = np.column_stack((np.where(np.arange(40) % 2, 179.99, -179.99), rng.uniform(-0.01, 0.01, 40)))
    pole = np.column_stack((rng.uniform(-180, 180, 40), np.full(40, 89.99)))
    for places in (seam, pole):
        found = Autocorrelation.of(rng.normal(size=(40, 3)), places)
        assert found.pairs.sum() > 400
        assert found.distances_km.max() < 4


def test_the_same_place_and_its_copies_tell_nothing() -> None:
    places = np.tile([[12.3, 45.6], [12.4, 45.7]], (30, 1))
    vectors = np.random.default_rng(4).normal(size=(60, 5))
    found = Autocorrelation.of(vectors, places)
    assert found.pairs.tolist() == [900]
    assert found.distances_km[0] == pytest.approx(13.55, rel=0.01)


def test_a_metre_is_told_from_no_distance() -> None:
    step = 2 / 111_195  # degrees
    places = np.column_stack((step * np.arange(80), np.zeros(80)))
    found = Autocorrelation.of(np.arange(80.0)[:, None], places)
    assert found.distances_km[0] == pytest.approx(0.002, rel=0.05)
    assert found.pairs[0] == 79


def test_noise_is_shorter_than_can_be_told() -> None:
    places = random_places(800)
    found = Autocorrelation.of(np.random.default_rng(5).normal(size=(800, 30)), places)
    assert found.length_km is None
    assert found.shorter_than_km == found.distances_km[0]
    assert found.longer_than_km is None


def test_what_never_falls_is_longer_than_can_be_told() -> None:
    # Sixteen at two places, and seven that are others, each at a distance of its own with too few pairs to tell.
    lon = np.array([0.0] * 8 + [0.01] * 8 + [2.0**power for power in range(7)])
    vectors = np.repeat([[1.0], [-1.0]], (16, 7), axis=0)
    found = Autocorrelation.of(vectors, np.column_stack((lon, np.zeros(23))))
    assert found.correlations == pytest.approx([1])
    assert found.length_km is None
    assert found.longer_than_km == pytest.approx(1.112, rel=0.01)
    assert found.shorter_than_km is None


@pytest.mark.parametrize("count", [1, 2, 500])
def test_vectors_that_are_all_the_same_have_no_correlation(count: int) -> None:
    found = Autocorrelation.of(np.full((count, 3), 0.1, dtype=np.float32), random_places(count))
    assert len(found.pairs) == 0
    assert found.to_dict() == {
        "length_km": None, "shorter_than_km": None, "longer_than_km": None, "distances_km": [], "correlations": [],
        "pairs": [],
    }  # fmt: skip
