"""IntrinsicDimension: known surfaces, scikit-dimension called by itself, and what vectors are not distinct."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import skdim

from embedfield.describe.intrinsic import intrinsic_dimension, neighbours

if TYPE_CHECKING:
    import numpy.typing as npt


def turned_into(points: npt.NDArray[np.float64], dim: int) -> npt.NDArray[np.float32]:
    """Return points in a space of more dimensions, none of its axes along theirs."""
    axes, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(dim, points.shape[1])))
    return (points @ axes.T).astype(np.float32)


def sphere(count: int, dim: int) -> npt.NDArray[np.float64]:
    """Return random points on a sphere of so many dimensions."""
    points = np.random.default_rng(dim).normal(size=(count, dim + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.mark.parametrize("dim", [2, 4])
def test_a_sphere_has_its_dimension_wherever_it_lies(dim: int) -> None:
    found = intrinsic_dimension(turned_into(sphere(3000, dim), 12))
    assert found
    assert [found.mle, found.mom, found.tle] == pytest.approx([dim] * 3, rel=0.1)
    # It counts the dimensions of the space around a sphere.
    assert found.fisher_s == pytest.approx(dim + 1, rel=0.1)


def test_a_plane_has_its_dimension() -> None:
    found = intrinsic_dimension(turned_into(np.random.default_rng(2).uniform(size=(3000, 3)), 20))
    assert found
    assert [found.mle, found.mom, found.tle] == pytest.approx([3] * 3, rel=0.1)


def test_estimates_are_those_of_scikit_dimension_called_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # To compile it takes longer than to run it.
    monkeypatch.setattr(skdim.id.FisherS, "_histc", staticmethod(skdim.id.FisherS._histc.py_func))
    rng = np.random.default_rng(3)
    vectors = np.tanh(rng.normal(size=(700, 5)) @ rng.normal(size=(5, 24)) / 3).astype(np.float32)
    found = intrinsic_dimension(vectors)
    assert found
    with np.errstate(divide="ignore", invalid="ignore"):
        theirs = [float(one().fit(vectors).dimension_) for one in (skdim.id.MLE, skdim.id.MOM, skdim.id.TLE)]
    assert [found.mle, found.mom, found.tle] == pytest.approx(theirs, rel=1e-6)
    assert found.fisher_s == pytest.approx(float(skdim.id.FisherS().fit(vectors).dimension_), rel=1e-12)
    assert found.estimates == {"MLE": found.mle, "MOM": found.mom, "TLE": found.tle, "FisherS": found.fisher_s}


def test_neighbours_are_those_of_all_differences() -> None:
    vectors = np.random.default_rng(4).normal(size=(150, 17))
    apart = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    np.fill_diagonal(apart, np.inf)
    distances, numbers = neighbours(vectors, 20)
    assert np.array_equal(numbers, np.argsort(apart, axis=1)[:, :20])
    assert distances == pytest.approx(np.sort(apart, axis=1)[:, :20], rel=1e-14)


def test_vectors_that_are_the_same_count_once() -> None:
    vectors = turned_into(sphere(400, 2), 8)
    vectors[:, 0] = 0.0
    again = vectors[::3].copy()
    again[:, 0] = -0.0
    alone, together = intrinsic_dimension(vectors), intrinsic_dimension(np.concatenate((vectors, again, vectors[:7])))
    assert alone
    assert together
    assert together.estimates == alone.estimates
    assert (alone.repeated, together.repeated, together.distinct) == (0, len(again) + 7, 400)


def test_vectors_that_nearly_agree_are_kept_apart() -> None:
    vectors = 1000 + turned_into(sphere(300, 2), 40)
    found = intrinsic_dimension(np.concatenate((vectors, np.nextafter(vectors, np.float32(0)))))
    assert found
    assert found.distinct == 600
    assert min(found.estimates.values()) > 0


@pytest.mark.parametrize("shape", [(100, 5), (1, 5), (500, 1)], ids=str)
def test_too_few_vectors_or_one_band_have_none(shape: tuple[int, int]) -> None:
    assert intrinsic_dimension(np.random.default_rng(5).normal(size=shape)) is None


def test_a_hundred_and_one_vectors_are_enough() -> None:
    assert intrinsic_dimension(np.random.default_rng(6).normal(size=(101, 3)))


def test_vectors_of_which_none_is_like_another_have_no_fisher_separability(capfd: pytest.CaptureFixture[str]) -> None:
    found = intrinsic_dimension(np.random.default_rng(7).normal(size=(120, 119)))
    assert found
    assert np.isnan(found.fisher_s)
    assert capfd.readouterr() == ("", "")


def test_warnings_of_the_process_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    # scikit-dimension silences them all when it is imported.
    for name in [name for name in sys.modules if name.split(".")[0] == "skdim"]:
        monkeypatch.delitem(sys.modules, name)
    before = list(warnings.filters)
    intrinsic_dimension(np.random.default_rng(8).normal(size=(150, 3)))
    assert warnings.filters == before
    assert "skdim" in sys.modules
