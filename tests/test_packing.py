"""Packing: exact fractions, hand-worked codes and numpy's own means are the truth."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from fields import ArrayField

from embedfield.errors import PackingError
from embedfield.formats.packing import Packing

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.formats.packing import Dtype

CODES = np.arange(1, 256, dtype=np.uint8).reshape(1, 1, 255)
BELOW_TWO = float(np.nextafter(np.float32(2), np.float32(0)))
RANGES = {
    "unit": (0.0, 1.0),
    "signed": (-1.0, 1.0),
    "negative": (-5.3, -3.1),
    "tiny": (1e-30, 3e-30),
    "tiny signed": (-7e-30, 2e-30),
    "huge": (-1e30, 1e30),
    "huge, narrow": (1e30, 1.0001e30),
    "from huge to tiny": (-1e30, 1e-30),
    "far from zero": (1e6, 1e6 + 0.5),
    "one float wide": (2.0**24 - 1, 2.0**24),
    "far below zero": (-(2.0**24), -(2.0**24) + 1),
    "constant": (0.1, 0.1),
    "constant negative": (-1e-30, -1e-30),
    "zero": (0.0, 0.0),
    "negative zero": (-0.0, 0.0),
    "just below a power of two": (0.0, BELOW_TWO),
    "as wide as its power of two allows": (-BELOW_TWO, BELOW_TWO),
}
every_range = pytest.mark.parametrize(("low", "high"), RANGES.values(), ids=RANGES)


def fit(low: float, high: float) -> Packing:
    """Return the uint8 packing of one band."""
    return Packing.fit(np.array([np.float32(low)]), np.array([np.float32(high)]), "uint8")


def counting() -> Packing:
    """Return the packing whose codes are the values: the range 1 to 255 has steps of 1."""
    return fit(1, 255)


def block(*values: float) -> npt.NDArray[np.float32]:
    """Return one row of one band."""
    return np.array([[values]], dtype=np.float32)


def random_ranges(count: int) -> list[tuple[float, float]]:
    """Return ranges of 60 orders of magnitude, some far from zero and narrow, some across zero."""
    rng = np.random.default_rng(7)
    size = 10.0 ** rng.uniform(-30, 30, count)
    middle = size * rng.choice([0, 0.5, -1, 30, -1e4], count)
    edges = np.sort(middle[:, None] + size[:, None] * rng.uniform(-1, 1, (count, 2)), axis=1).astype(np.float32)
    return [(float(low), float(high)) for low, high in edges if np.isfinite([low, high]).all()]


def assert_exact(packing: Packing) -> None:
    """Hold every code to exact arithmetic: whatever order and width a reader computes in, the bits are the same."""
    scale, offset = float(packing.scale[0]), float(packing.offset[0])
    products = [Fraction(code) * Fraction(scale) for code in range(1, 256)]
    truth = [product + Fraction(offset) for product in products]
    narrow = CODES.astype(np.float32) * np.float32(scale)
    wide = CODES.astype(np.float64) * scale
    # An exact product is what makes a fused multiply-add, which rounds once, the same as two operations.
    assert [Fraction(float(value)) for value in narrow.ravel()] == products
    assert [Fraction(float(value)) for value in (narrow + np.float32(offset)).ravel()] == truth
    assert [Fraction(float(value)) for value in (wide + offset).ravel()] == truth
    assert [Fraction(float(value)) for value in packing.unpack(CODES).ravel()] == truth


@every_range
def test_decoding_is_exact_in_float32(low: float, high: float) -> None:
    assert_exact(fit(low, high))


def test_decoding_is_exact_over_sixty_orders_of_magnitude() -> None:
    for low, high in random_ranges(300):
        assert_exact(fit(low, high))


@every_range
def test_codes_cover_the_range(low: float, high: float) -> None:
    values = fit(low, high).unpack(CODES).ravel()
    assert values[0] <= np.float32(low)
    assert values[-1] >= np.float32(high)


def test_codes_do_not_waste_the_range() -> None:
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (-5.3, -3.1), (-1e30, 1e30), (0.0, 1e-30)):
        step = (high - low) / 254
        assert step * (1 - 1e-6) <= fit(low, high).scale[0] <= step * 1.001


@every_range
def test_a_round_trip_stays_within_its_stated_error(low: float, high: float) -> None:
    packing = fit(low, high)
    values = np.linspace(np.float32(low), np.float32(high), 2001, dtype=np.float32).reshape(1, 1, -1)
    codes, saturated = packing.pack(values)
    assert saturated == 0
    assert codes.min() >= 1
    errors = abs(packing.unpack(codes).astype(np.float64) - values)
    assert errors.max() <= packing.max_error[0]


def test_values_half_way_between_codes_stay_within_the_stated_error() -> None:
    for low, high in random_ranges(300):
        packing = fit(low, high)
        decoded = CODES.ravel() * packing.scale[0] + packing.offset[0]
        halfway = np.float32((decoded[1:] + decoded[:-1]) / 2)
        around = [np.nextafter(halfway, np.float32(side)) for side in (-np.inf, np.inf)]
        values = np.concatenate([halfway, *around]).reshape(1, 1, -1)
        errors = abs(packing.unpack(packing.pack(values)[0]).astype(np.float64) - values)
        assert errors.max() <= packing.max_error[0]


def test_codes_are_those_worked_out_by_hand() -> None:
    codes, saturated = counting().pack(block(1, 255, 2.4, 2.6, np.nan, 128))
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[[1, 255, 2, 3, 0, 128]]]
    assert saturated == 0


def test_values_outside_take_the_outermost_codes_and_are_counted() -> None:
    # 0.2 would round to 0, which is nodata; 0.9 and 255.2 still round to a code.
    codes, saturated = counting().pack(block(-1000, 0.2, 0.9, 255.2, 256, 1e30, np.inf, -np.inf, np.nan))
    assert codes.tolist() == [[[1, 1, 1, 255, 255, 255, 255, 1, 0]]]
    assert saturated == 6


def test_a_value_far_outside_the_range_of_a_zero_band_takes_the_last_code() -> None:
    codes, saturated = fit(0, 0).pack(block(0, 1, -1))
    assert codes.ravel().tolist()[1:] == [255, 1]
    assert saturated == 2


def test_bands_have_their_own_ranges() -> None:
    packing = Packing.fit(np.array([0.0, 1e6, -1.0]), np.array([1e-3, 2e6, -1.0]), "uint8")
    values = np.array([[[0, 1e-3, np.nan]], [[1e6, 1.5e6, 2e6]], [[np.nan, -1, -1]]], dtype=np.float32)
    unpacked = packing.unpack(packing.pack(values)[0])
    assert unpacked.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(unpacked), np.isnan(values))
    assert (np.nanmax(abs(unpacked.astype(np.float64) - values), axis=(1, 2)) <= packing.max_error).all()
    assert packing.max_error[0] < 1e-5


def test_negative_zero_is_zero() -> None:
    for packing in (fit(-0.0, -0.0), fit(-1, 1)):
        negative, positive = (packing.unpack(packing.pack(block(value))[0]) for value in (-0.0, 0.0))
        assert negative == positive
    assert fit(-0.0, -0.0).unpack(fit(-0.0, -0.0).pack(block(-0.0))[0]) == 0


def test_a_constant_band_keeps_22_bits_of_its_value() -> None:
    for value in np.array([0.1, -3e5, 1e-30, -1e30, 1.0000001, 1.3333334, -1.7], dtype=np.float32).tolist():
        packing = fit(value, value)
        found = packing.unpack(packing.pack(block(value))[0]).item()
        assert abs(found - value) <= abs(value) * 2.0**-22


def test_float32_is_stored_bit_for_bit() -> None:
    packing = Packing.fit(np.array([-1.0]), np.array([1.0]), "float32")
    values = block(-0.0, 1e-45, 3.4e38, np.pi, np.nan)
    codes, saturated = packing.pack(values)
    assert codes.view(np.uint32).tolist() == values.view(np.uint32).tolist()
    assert packing.unpack(codes).view(np.uint32).tolist() == values.view(np.uint32).tolist()
    assert saturated == 0
    assert packing.max_error.tolist() == [0]
    assert np.isnan(packing.nodata)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("edge", [np.inf, -np.inf, np.nan])
def test_a_range_that_is_not_finite_is_refused(dtype: Dtype, edge: float) -> None:
    with pytest.raises(PackingError, match="not finite"):
        Packing.fit(np.array([0.0, edge]), np.array([1.0, 1.0]), dtype)
    with pytest.raises(PackingError, match="not finite"):
        Packing.fit(np.array([0.0, 0.0]), np.array([1.0, edge]), dtype)


def test_a_range_wider_than_float32_is_refused() -> None:
    with pytest.raises(PackingError):
        fit(-3e38, 3e38)


def test_an_unknown_dtype_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(PackingError, match=r"'int8'.*uint8, float32"):
        Packing.fit(np.zeros(1), np.ones(1), cast("Dtype", "int8"))


def test_nothing_saturates_in_a_field_of_few_pixels() -> None:
    # Heavy tails: the outermost values stand alone, where no sample of places would find them.
    values = np.random.default_rng(1).standard_cauchy((4, 90, 91)).astype(np.float32)
    packing = Packing.measure(ArrayField(values), "uint8")
    codes, saturated = packing.pack(values)
    assert saturated == 0
    assert codes.min() == 1
    assert codes.max() == 255


def test_a_pixel_without_a_value_in_one_band_counts_in_the_others() -> None:
    values = np.ones((2, 1, 3), dtype=np.float32)
    values[:, 0, 0] = np.nan, 1000
    assert Packing.measure(ArrayField(values), "uint8").pack(values)[1] == 0


def test_the_range_of_a_large_field_is_a_little_wider_than_that_of_its_sample() -> None:
    class Sampled(ArrayField):
        def at(self, lonlat: npt.ArrayLike, *_: object) -> npt.NDArray[np.float32]:
            """Miss the outermost values, narrowly."""
            return super().at(lonlat) * np.float32(0.98)

    values = np.broadcast_to(np.linspace(-1, 1, 300, dtype=np.float32), (1, 200, 300))
    packing = Packing.measure(Sampled(values), "uint8")
    assert packing.pack(values)[1] == 0
    assert 2 / 254 <= packing.scale[0] <= 2.1 / 254


def test_a_spike_that_no_sample_finds_saturates_and_is_counted() -> None:
    values = np.random.default_rng(2).uniform(size=(2, 400, 500)).astype(np.float32)
    values[1, 100, 50] = 1e6
    packing = Packing.measure(ArrayField(values), "uint8")
    codes, saturated = packing.pack(values)
    assert saturated == 1
    assert codes[1, 100, 50] == 255


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 200, 300)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_field_without_any_value_is_refused(shape: tuple[int, int, int], dtype: Dtype) -> None:
    with pytest.raises(PackingError, match=r"array has no value anywhere in bounds=\(-10"):
        Packing.measure(ArrayField(np.full(shape, np.nan)), dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_infinite_value_of_the_encoder_is_refused(dtype: Dtype) -> None:
    values = np.ones((2, 5, 6), dtype=np.float32)
    values[1, 2, 3] = np.inf
    with pytest.raises(PackingError, match="not finite"):
        Packing.measure(ArrayField(values), dtype)


def test_the_mean_of_codes_is_that_worked_out_by_hand() -> None:
    quads = np.array([[1, 3, 255, 0, 1], [2, 0, 255, 0, 2], [3, 0, 255, 0, 2], [0, 0, 255, 0, 2]], dtype=np.uint8)
    means = counting().mean(quads, axis=0)
    assert means.dtype == np.uint8
    assert means.tolist() == [2, 3, 255, 0, 2]


@every_range
def test_the_mean_of_codes_decodes_to_the_mean_of_values_within_half_a_step(low: float, high: float) -> None:
    packing = fit(low, high)
    quads = np.random.default_rng(3).integers(0, 256, (4, 30, 40), dtype=np.uint8)
    quads[:, np.random.default_rng(4).random((30, 40)) < 0.3] = 0
    quads[0, 0, 0] = 9
    decoded = np.where(quads == 0, np.nan, quads * packing.scale[0] + packing.offset[0])
    found = packing.mean(quads, axis=0)
    empty = (quads == 0).all(axis=0)
    assert (found[empty] == 0).all()
    assert (found[~empty] > 0).all()
    errors = abs(found * packing.scale[0] + packing.offset[0] - np.nanmean(np.where(empty, 0, decoded), axis=0))
    # The truth is a sum in float64 of numbers as large as the offset.
    rounding = 1e-14 * max(abs(low), abs(high))
    assert errors[~empty].max() <= packing.scale[0] / 2 + rounding


def test_the_mean_of_floats_leaves_out_nan() -> None:
    packing = Packing.fit(np.zeros(1), np.ones(1), "float32")
    values = np.array([[1, np.nan, np.nan], [2, np.nan, -4], [6, np.nan, np.nan]], dtype=np.float32)
    means = packing.mean(values, axis=0)
    assert means.dtype == np.float32
    np.testing.assert_array_equal(means, np.array([3, np.nan, -4], dtype=np.float32))
