"""Fidelity is what textbook formulas say, where they hold, and nothing where they do not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cosine as scipy_loss

from embedfield.fidelity import Fidelity, Spread, loss, plain

Array = np.ndarray[Any, np.dtype[np.float64]]


def make_pair(count: int = 200, dim: int = 7, seed: int = 0, noise: float = 0.3) -> tuple[Array, Array]:
    """Vectors about a mean that is not zero, and the same with noise."""
    rng = np.random.default_rng(seed)
    exact = rng.normal(size=(count, dim)) * rng.uniform(0.1, 5, dim) + rng.uniform(-2, 2, dim)
    return exact, exact + rng.normal(size=(count, dim)) * noise


def test_loss_is_scipys_cosine_distance() -> None:
    exact, got = make_pair()
    by_hand = [scipy_loss(one, other) for one, other in zip(exact, got, strict=True)]
    np.testing.assert_allclose(loss(exact, got), by_hand, rtol=1e-9)


@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-9, 1e-12])
def test_a_small_loss_keeps_its_digits(angle: float) -> None:
    # 1 - cos(1e-9) is 0 in float64; the loss is half the square of the angle.
    found = loss(np.array([(1.0, 0.0)]), np.array([(1.0, angle)]))
    np.testing.assert_allclose(found, angle**2 / 2, rtol=1e-6)


def test_directions_alone_decide_a_loss() -> None:
    exact, got = make_pair()
    np.testing.assert_allclose(loss(exact * 1e-30, got * 1e30), loss(exact, got), rtol=1e-12)


def test_opposite_vectors_lose_two_and_one_number_loses_nothing_or_two() -> None:
    exact = np.array([(3.0,), (3.0,), (-2.0,)])
    np.testing.assert_array_equal(loss(exact, np.array([(0.1,), (-7.0,), (-1.0,)])), (0, 2, 0))


def test_a_zero_is_at_right_angles_to_all_but_a_zero() -> None:
    exact = np.array([(0.0, 0), (0, 0), (1, 2)])
    np.testing.assert_array_equal(loss(exact, np.array([(0.0, 0), (1, 1), (0, 0)])), (0, 1, 1))


def test_numbers_are_those_of_formulas_written_out() -> None:
    exact, got = make_pair()
    found = Fidelity.compare(exact, got).to_dict()
    cosines = np.sum(exact * got, axis=1) / np.sqrt(np.sum(exact**2, axis=1) * np.sum(got**2, axis=1))
    lengths = np.sqrt(np.sum((got - exact) ** 2, axis=1))
    deviation = np.sqrt(np.mean(np.sum((exact - exact.mean(axis=0)) ** 2, axis=1)))
    by_hand = {
        "cosine": {
            "mean": cosines.mean(), "p50": np.median(cosines), "p01": np.percentile(cosines, 1), "min": cosines.min(),
        },
        "loss": {
            "mean": 1 - cosines.mean(), "p50": 1 - np.median(cosines), "p99": np.percentile(1 - cosines, 99),
            "max": 1 - cosines.min(),
        },
        "relative_error": {
            "p50": np.median(lengths) / deviation, "p99": np.percentile(lengths, 99) / deviation,
            "max": lengths.max() / deviation,
        },
    }  # fmt: skip
    assert found.keys() == {*by_hand, "relative_rmse"}
    for group, numbers in by_hand.items():
        assert found[group] == pytest.approx(numbers, rel=1e-5)
    assert found["relative_rmse"] == pytest.approx(np.sqrt(np.mean(lengths**2)) / deviation, rel=1e-5)


def test_the_standard_error_is_how_far_means_of_samples_stray() -> None:
    exact, got = make_pair(200_000, 4)
    whole = loss(exact, got)
    means = whole.reshape(1000, 200).mean(axis=1)
    errors = [Fidelity.compare(exact[i : i + 200], got[i : i + 200]).standard_error for i in range(0, 200_000, 200)]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(means.std(), rel=0.1)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_places_have_no_standard_error(count: int) -> None:
    assert np.isnan(Fidelity.compare(*make_pair(count)).standard_error)


def test_relative_rmse_is_the_root_of_what_r2_leaves_unexplained() -> None:
    exact, got = make_pair()
    unexplained = np.sum((exact - got) ** 2) / np.sum((exact - exact.mean(axis=0)) ** 2)
    assert Fidelity.compare(exact, got).relative_rmse == pytest.approx(np.sqrt(unexplained))


def test_the_mean_in_place_of_every_vector_has_a_relative_rmse_of_one() -> None:
    exact, _ = make_pair()
    found = Fidelity.compare(exact, np.tile(exact.mean(axis=0), (len(exact), 1)))
    assert found.relative_rmse == pytest.approx(1)
    np.testing.assert_allclose(found.dimensions, 1)


def test_each_dimension_is_held_against_its_own_deviation() -> None:
    exact, got = make_pair()
    by_hand = np.sqrt(np.mean((got - exact) ** 2, axis=0)) / exact.std(axis=0)
    np.testing.assert_allclose(Fidelity.compare(exact, got).dimensions, by_hand)


@pytest.mark.parametrize("cut", [0, 1, 77, 200])
def test_two_samples_add_up_to_that_of_both(cut: int) -> None:
    exact, got = make_pair()
    exact += 1000  # a mean far from zero loses digits where squares are summed plainly
    whole = Fidelity.compare(exact, got)
    parts = Fidelity.compare(exact[:cut], got[:cut]) + Fidelity.compare(exact[cut:], got[cut:])
    np.testing.assert_array_equal(parts.loss, whole.loss)
    np.testing.assert_allclose(parts.dimensions, whole.dimensions, rtol=1e-12)
    assert parts.relative_rmse == pytest.approx(whole.relative_rmse, rel=1e-12)
    assert (parts.spread.count, len(parts)) == (200, 200)


def test_a_part_is_held_against_the_spread_of_all() -> None:
    exact, got = make_pair()
    which = exact[:, 0] > 0
    whole = Fidelity.compare(exact, got)
    part = whole.part(which)
    np.testing.assert_array_equal(part.relative, whole.relative[which])
    np.testing.assert_array_equal(part.loss, whole.loss[which])
    assert part.relative_rmse == pytest.approx(np.sqrt(np.mean(whole.relative[which] ** 2)))
    assert np.isnan(part.dimensions).all()


def test_errors_can_be_held_against_the_spread_of_other_vectors() -> None:
    exact, got = make_pair()
    twice = Fidelity.compare(exact, got).against(Spread.of(exact * 2))
    assert twice.relative_rmse == pytest.approx(Fidelity.compare(exact, got).relative_rmse / 2)


def test_equal_vectors_lose_nothing() -> None:
    exact, _ = make_pair()
    found = Fidelity.compare(exact, exact.copy()).to_dict()
    assert found["cosine"] == dict.fromkeys(("mean", "p50", "p01", "min"), 1)
    assert set(found["loss"].values()) == set(found["relative_error"].values()) == {0}
    assert found["relative_rmse"] == 0


@pytest.mark.parametrize(
    ("exact", "got"),
    [
        (np.ones((1, 3)), np.ones((1, 3)) * 2),
        (np.ones((5, 3)), np.zeros((5, 3))),
        (np.zeros((4, 1)), np.zeros((4, 1))),
        (np.empty((0, 3)), np.empty((0, 3))),
        (np.eye(3), np.full((3, 3), np.inf)),
        (np.eye(3), np.full((3, 3), np.nan)),
    ],
    ids=["one place", "no variance", "zeros of one dimension", "no place", "infinite", "no number"],
)
def test_what_cannot_be_said_is_null_in_json_and_never_nan(exact: Array, got: Array) -> None:
    text = json.dumps(Fidelity.compare(exact, got).to_dict(), allow_nan=False)
    assert "null" in text


def test_one_place_has_a_cosine_and_no_relative_error() -> None:
    found = Fidelity.compare(np.array([(3.0, 4.0)]), np.array([(4.0, 3.0)])).to_dict()
    assert found["cosine"] == dict.fromkeys(("mean", "p50", "p01", "min"), 0.96)
    assert found["relative_error"] == {"p50": None, "p99": None, "max": None}
    assert found["relative_rmse"] is None


@pytest.mark.parametrize("jitter", [0, 1e-16, 1e-7])
def test_a_dimension_that_does_not_vary_but_by_rounding_has_no_relative_rmse(jitter: float) -> None:
    exact, got = make_pair()
    exact[:, 2] = 4.0 * (1 + jitter * np.sin(np.arange(len(exact))))
    dimensions = Fidelity.compare(exact, got).dimensions
    assert np.isnan(dimensions[2])
    assert np.isfinite(np.delete(dimensions, 2)).all()


def test_single_precision_is_compared_in_double() -> None:
    exact = np.full((3, 2), 16777216, dtype=np.float32)  # the next float32 is 2 farther
    found = Fidelity.compare(exact.astype(np.float64) + 1, exact)
    np.testing.assert_array_equal(found.squares, 2)


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [
        (0.123456789, 6, 0.123457),
        (1.23456e-9, 4, 1.235e-9),
        (0.99999961, 6, 1.0),
        (np.nan, 6, None),
        (-np.inf, 6, None),
    ],
)
def test_numbers_for_json_are_short_and_finite(value: float, digits: int, said: float | None) -> None:
    assert plain(value, digits) == said
