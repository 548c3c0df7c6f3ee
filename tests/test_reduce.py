"""A reduction is what a singular value decomposition says, and no more than the sample holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fields import ArrayField
from safetensors import safe_open

from embedfield.errors import FormatError, PackingError
from embedfield.formats import open_field, write_field
from embedfield.places import equal_area_places
from embedfield.reduce import ReducedField, Reduction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedfield.evaluate import EncodedField
    from embedfield.formats.packing import Dtype

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


def test_explained_shares_are_those_of_the_singular_values() -> None:
    sample = make_sample(dim=7)
    singular = np.linalg.svd(sample - sample.mean(axis=0), compute_uv=False)
    found = Reduction.fit(sample, 4).explained
    np.testing.assert_allclose(found, (singular**2 / (singular**2).sum())[:4], rtol=1e-9)
    assert Reduction.fit(np.ones((9, 3)), 2).explained.tolist() == [0, 0]


def test_all_components_restore_the_vectors() -> None:
    sample = make_sample(dim=5)
    reduction = Reduction.fit(sample, 5)
    np.testing.assert_allclose(reduction.restore(reduction.reduce(sample)), sample, rtol=0, atol=1e-12)


def test_some_components_restore_the_nearest_vectors_there_are() -> None:
    sample = make_sample(dim=8)
    reduction = Reduction.fit(sample, 3)
    left, singular, right = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)
    nearest = (left[:, :3] * singular[:3]) @ right[:3] + sample.mean(axis=0)
    np.testing.assert_allclose(reduction.restore(reduction.reduce(sample)), nearest, rtol=0, atol=1e-10)


def test_a_file_of_a_reduction_is_the_same_bytes_and_the_same_numbers(tmp_path: Path) -> None:
    reduction = Reduction.fit(make_sample(), 2)
    assert reduction.to_bytes() == Reduction.fit(make_sample(), 2).to_bytes()
    path = tmp_path / "reduction.safetensors"
    path.write_bytes(reduction.to_bytes())
    with safe_open(path, "np") as file:
        np.testing.assert_array_equal(file.get_tensor("components"), reduction.components)
    found = Reduction.read(path, reduction.to_dict()["sha256"])
    for name, value in vars(reduction).items():
        np.testing.assert_array_equal(getattr(found, name), value)


@pytest.mark.parametrize("damage", ["gone", "cut", "another"])
def test_another_file_in_its_place_is_refused(tmp_path: Path, damage: str) -> None:
    reduction, path = Reduction.fit(make_sample(), 2), tmp_path / "reduction.safetensors"
    if damage != "gone":
        other = Reduction.fit(make_sample(seed=9), 2)
        path.write_bytes(reduction.to_bytes()[:-1] if damage == "cut" else other.to_bytes())
    with pytest.raises(FormatError, match=r"reduction\.safetensors.*Put the field's own file there"):
        Reduction.read(path, reduction.to_dict()["sha256"])


@pytest.mark.parametrize("k", [0, -1, 5, 2.0, True])
def test_a_number_of_components_that_there_is_not_is_refused(k: Any) -> None:
    field = ArrayField(make_sample(600, 4).T.reshape(4, 20, 30))
    with pytest.raises(PackingError, match="is no number of components: array has 4 dimensions.*from 1 to 4"):
        Reduction.measure(field, k)


def test_fewer_values_than_components_are_refused() -> None:
    values = np.full((4, 20, 30), np.nan)
    with pytest.raises(PackingError, match=r"values at 0 of the places.*too few for pca=2"):
        Reduction.measure(ArrayField(values), 2)


def test_components_are_weighed_by_area(make_field: Callable[..., EncodedField]) -> None:
    # Over the whole sphere the three coordinates vary alike; over degrees of latitude the axis would stand out.
    reduction = Reduction.measure(make_field(res=10), 3)
    np.testing.assert_allclose(reduction.explained, 1 / 3, atol=1e-3)
    np.testing.assert_allclose(reduction.deviation, np.sqrt(1 / 3), atol=1e-3)


def test_components_are_computed_where_their_field_is(make_field: Callable[..., EncodedField]) -> None:
    whole = make_field(10)
    reduction = Reduction.measure(whole, 2)
    assert not ReducedField(whole, reduction).accelerated
    whole.accelerated = True
    assert ReducedField(whole, reduction).accelerated


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_stored_field_of_components_restores_its_vectors(
    tmp_path: Path, make_field: Callable[..., EncodedField], suffix: str, dtype: Dtype
) -> None:
    whole = make_field(res=5, model="sh-l10")
    reduced = ReducedField(whole, Reduction.measure(whole, 20))
    with write_field(reduced, tmp_path / f"field{suffix}", dtype=dtype) as field:
        assert (field.dim, field.components, field.card.dim) == (20, 20, 100)
        assert field.band_names[:2] == ["sh-l10_pc000", "sh-l10_pc001"]
        found = field.read().reshape(20, -1).T
        assert field.reduction
        wanted = reduced.reduction.reduce(whole.read().reshape(100, -1).T)
        atol = field.packing.max_error.max() if dtype == "uint8" else 1e-6
        np.testing.assert_allclose(found, wanted, rtol=0, atol=atol * 1.001)
        np.testing.assert_allclose(field.reduction.restore(wanted), reduced.reduction.restore(wanted), atol=1e-12)
        assert "20 of 100 dimensions" in field.describe()["components"]
        np.testing.assert_array_equal(
            reduced.pixels([3, 7], [0, 9]), reduced.read()[:, [3, 7], [0, 9]].T.astype(np.float32)
        )


def test_a_raster_without_its_way_back_is_still_a_field(
    tmp_path: Path, make_field: Callable[..., EncodedField]
) -> None:
    whole = make_field()
    path = write_field(ReducedField(whole, Reduction.measure(whole, 2)), tmp_path / "field.tif").path
    (tmp_path / "reduction.safetensors").unlink()
    with open_field(path) as field:
        assert field.read().shape == (2, 18, 36)
        with pytest.raises(FormatError, match=r"Cannot read .*reduction\.safetensors"):
            _ = field.reduction
