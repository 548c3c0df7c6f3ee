"""A reduction is what a singular value decomposition says, and no more than the sample holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embedfield.places import equal_area_places
from embedfield.reduce import Reduction

Array = np.ndarray[Any, np.dtype[np.float64]]


def make_sample(count: int = 500, dim: int = 6, seed: int = 0) -> Array:
    """Correlated values about a mean far from zero."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + rng.uniform(-50, 50, dim)


def test_two_points_reduce_to_plus_and_minus_one() -> None:
    # About (1, 1), along (0.6, -0.8), 5 to each side; the largest entry of an axis is positive.
    reduction = Reduction.fit(np.array([(4.0, -3.0), (-2.0, 5.0)]), 1)
    np.testing.assert_allclose(reduction.mean, (1, 1))
    np.testing.assert_allclose(reduction.components, [(-0.6, 0.8)])
    np.testing.assert_allclose(reduction.deviation, [5])
    np.testing.assert_allclose(reduction.reduce(np.array([(4.0, -3.0), (-2, 5), (1, 1), (7, -7)])).T, [(-1, 1, 0, -2)])


@pytest.mark.parametrize("k", [1, 3, 6])
def test_components_are_those_of_a_singular_value_decomposition(k: int) -> None:
    sample = make_sample()
    reduction = Reduction.fit(sample, k)
    _, singular, axes = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(reduction.deviation, singular[:k] / np.sqrt(500))
    np.testing.assert_allclose(abs(np.sum(reduction.components * axes[:k], axis=1)), 1)


def test_reduced_samples_have_no_mean_unit_variance_and_no_correlation() -> None:
    sample = make_sample()
    reduced = Reduction.fit(sample, 4).reduce(sample)
    np.testing.assert_allclose(reduced.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(reduced.T @ reduced / len(reduced), np.eye(4), atol=1e-9)


def test_signs_do_not_depend_on_the_order_of_the_sample() -> None:
    sample = make_sample()
    reduction, again = Reduction.fit(sample, 6), Reduction.fit(sample[::-1], 6)
    np.testing.assert_allclose(again.components, reduction.components, atol=1e-9)
    largest = np.take_along_axis(reduction.components, abs(reduction.components).argmax(axis=1)[:, None], axis=1)
    assert (largest > 0).all()


def test_single_precision_far_from_zero_keeps_its_small_variance() -> None:
    sample = (1000 + make_sample(dim=2) / 100).astype(np.float32)
    _, singular, _ = np.linalg.svd(sample.astype(np.float64) - sample.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(Reduction.fit(sample, 2).deviation, singular / np.sqrt(500), rtol=1e-6)


def test_a_constant_band_has_no_part_in_the_components() -> None:
    sample = make_sample(dim=4)
    sample[:, 1] = 0.1
    reduction = Reduction.fit(sample, 3)
    np.testing.assert_allclose(reduction.components[:, 1], 0, atol=1e-9)
    reference = Reduction.fit(np.delete(sample, 1, axis=1), 3)
    np.testing.assert_allclose(reduction.reduce(sample), reference.reduce(np.delete(sample, 1, axis=1)), atol=1e-9)


def rank_one(seed: int) -> Array:
    """Four bands that are multiples of one."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(500, 1)) @ rng.normal(size=(1, 4)) + rng.normal(size=4)


@pytest.mark.parametrize("seed", range(5))
def test_components_past_the_rank_are_zero_and_not_rounding_made_large(seed: int) -> None:
    reduced = Reduction.fit(sample := rank_one(seed), 4).reduce(sample)
    np.testing.assert_allclose(reduced[:, 0].std(), 1)
    np.testing.assert_allclose(reduced[:, 1:], 0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_vector_often_reduces_to_zero(dtype: type[np.floating[Any]]) -> None:
    sample = np.tile(np.array([0.1, 0.7, -12.3], dtype=dtype), (8192, 1))
    np.testing.assert_allclose(Reduction.fit(sample, 3).reduce(sample), 0, atol=1e-6)


def test_a_sample_over_the_sphere_has_three_equal_axes() -> None:
    lon, lat = np.deg2rad(equal_area_places(8192).T)
    xyz = np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
    np.testing.assert_allclose(Reduction.fit(xyz, 3).deviation, np.sqrt(1 / 3), rtol=1e-3)
