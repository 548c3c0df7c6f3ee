"""Packing: exact fractions, hand-worked codes and numpy's own arithmetic are the truth.

``python tests/test_packing.py`` writes docs/packing.json anew.
"""

from __future__ import annotations

import json
import math
import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from fields import ArrayField
from rasterio.transform import from_origin

from embedfield.errors import PackingError
from embedfield.formats.packing import DTYPES, Packing

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.formats.packing import Dtype

DOCS = Path(__file__).parent.parent / "docs"
# First and last code; the one below the first is nodata.
ENDS: dict[Dtype, tuple[int, int]] = {"uint8": (1, 255), "int16": (-32767, 32767)}
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
    "below the normal numbers": (-1e-41, 3e-41),
}
every_range = pytest.mark.parametrize(("low", "high"), RANGES.values(), ids=RANGES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_integer = pytest.mark.parametrize("dtype", ENDS)


def fit(low: float, high: float, dtype: Dtype = "uint8") -> Packing:
    """Return the packing of one band."""
    return Packing.fit(np.array([np.float32(low)]), np.array([np.float32(high)]), dtype)


def counting(dtype: Dtype = "uint8") -> Packing:
    """Return the packing whose codes are the values: the range of the codes has steps of 1."""
    return fit(*ENDS[dtype], dtype)


def codes_of(dtype: Dtype) -> npt.NDArray[Any]:
    """Return every code that stands for a value, as a row of one band."""
    first, last = ENDS[dtype]
    return np.arange(first, last + 1).astype(dtype).reshape(1, 1, -1)


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


def quantum(*numbers: float) -> float:
    """Return the largest power of two of which all numbers are whole multiples."""
    parts = [Fraction(number) for number in numbers if number]
    return float(min(Fraction(part.numerator & -part.numerator, part.denominator) for part in parts))


def assert_exact(packing: Packing) -> None:
    """Hold every code to exact arithmetic: whatever order and width a reader computes in, the bits are the same."""
    codes = codes_of(packing.dtype)
    scale, offset = float(packing.scale[0]), float(packing.offset[0])
    one = quantum(scale, offset)
    # In whole multiples of the quantum, where int64 rounds nothing; a power of two divides exactly.
    products = codes.astype(np.int64) * round(scale / one)
    truth = products + round(offset / one)
    narrow = codes.astype(np.float32) * np.float32(scale)
    wide = codes.astype(np.float64) * scale
    # An exact product is what makes a fused multiply-add, which rounds once, the same as two operations.
    for found, expected in (
        (narrow, products),
        (narrow + np.float32(offset), truth),
        (wide + offset, truth),
        (packing.unpack(codes), truth),
    ):
        np.testing.assert_array_equal(found.astype(np.float64) / one, expected)


@every_integer
@every_range
def test_decoding_is_exact_in_float32(low: float, high: float, dtype: Dtype) -> None:
    assert_exact(fit(low, high, dtype))


@every_integer
def test_decoding_is_exact_over_sixty_orders_of_magnitude(dtype: Dtype) -> None:
    for low, high in random_ranges(300):
        assert_exact(fit(low, high, dtype))


@every_integer
@every_range
def test_decoding_is_that_of_fractions(low: float, high: float, dtype: Dtype) -> None:
    packing = fit(low, high, dtype)
    first, last = ENDS[dtype]
    codes = np.unique(np.linspace(first, last, 255).astype(dtype)).reshape(1, 1, -1)
    scale, offset = Fraction(float(packing.scale[0])), Fraction(float(packing.offset[0]))
    truth = [int(code) * scale + offset for code in codes.ravel()]
    assert [Fraction(float(value)) for value in packing.unpack(codes).ravel()] == truth


@every_integer
@every_range
def test_codes_cover_the_range(low: float, high: float, dtype: Dtype) -> None:
    values = fit(low, high, dtype).unpack(codes_of(dtype)).ravel()
    assert values[0] <= np.float32(low)
    assert values[-1] >= np.float32(high)


@every_integer
def test_codes_do_not_waste_the_range(dtype: Dtype) -> None:
    first, last = ENDS[dtype]
    # A step is a whole number of quanta, so it may be one too many.
    quanta = {"uint8": 2.0**-21, "int16": 2.0**-22}[dtype]
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (-5.3, -3.1), (-1e30, 1e30), (0.0, 1e-30)):
        step = (high - low) / (last - first)
        spare = 1.01 * quanta * max(abs(low), abs(high))
        assert step * (1 - 1e-6) <= fit(low, high, dtype).scale[0] <= step + spare


@every_integer
@every_range
def test_a_round_trip_stays_within_its_stated_error(low: float, high: float, dtype: Dtype) -> None:
    packing = fit(low, high, dtype)
    values = np.linspace(np.float32(low), np.float32(high), 2001, dtype=np.float32).reshape(1, 1, -1)
    codes, saturated = packing.pack(values)
    assert saturated == 0
    assert codes.min() >= ENDS[dtype][0]
    errors = abs(packing.unpack(codes).astype(np.float64) - values)
    assert errors.max() <= packing.max_error[0]


@every_integer
def test_values_half_way_between_codes_stay_within_the_stated_error(dtype: Dtype) -> None:
    for low, high in random_ranges(300):
        packing = fit(low, high, dtype)
        decoded = codes_of(dtype).ravel() * packing.scale[0] + packing.offset[0]
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


def test_codes_of_int16_are_those_worked_out_by_hand() -> None:
    packing = counting("int16")
    assert (packing.scale.tolist(), packing.offset.tolist()) == ([1], [0])
    codes, saturated = packing.pack(block(-32767, 32767, -2.4, -2.6, np.nan, 0, 0.5, 1.5))
    assert codes.dtype == np.int16
    assert codes.tolist() == [[[-32767, 32767, -2, -3, -32768, 0, 0, 2]]]
    assert saturated == 0


def test_values_outside_take_the_outermost_codes_and_are_counted() -> None:
    # 0.2 would round to 0, which is nodata; 0.9 and 255.2 still round to a code.
    codes, saturated = counting().pack(block(-1000, 0.2, 0.9, 255.2, 256, 1e30, np.inf, -np.inf, np.nan))
    assert codes.tolist() == [[[1, 1, 1, 255, 255, 255, 255, 1, 0]]]
    assert saturated == 6


def test_values_outside_those_of_int16_take_the_outermost_codes_and_are_counted() -> None:
    # -32768 is nodata; -32767.4 and 32767.4 still round to a code.
    codes, saturated = counting("int16").pack(
        block(-32768, -32767.4, 32767.4, 32768, -1e30, 1e30, np.inf, -np.inf, np.nan)
    )
    assert codes.tolist() == [[[-32767, -32767, 32767, 32767, -32767, 32767, 32767, -32767, -32768]]]
    assert saturated == 6


@every_integer
def test_a_value_far_outside_the_range_of_a_zero_band_takes_the_last_code(dtype: Dtype) -> None:
    codes, saturated = fit(0, 0, dtype).pack(block(0, 1, -1))
    first, last = ENDS[dtype]
    assert codes.ravel().tolist()[1:] == [last, first]
    assert saturated == 2


@every_integer
def test_bands_have_their_own_ranges(dtype: Dtype) -> None:
    packing = Packing.fit(np.array([0.0, 1e6, -1.0]), np.array([1e-3, 2e6, -1.0]), dtype)
    values = np.array([[[0, 1e-3, np.nan]], [[1e6, 1.5e6, 2e6]], [[np.nan, -1, -1]]], dtype=np.float32)
    unpacked = packing.unpack(packing.pack(values)[0])
    assert unpacked.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(unpacked), np.isnan(values))
    assert (np.nanmax(abs(unpacked.astype(np.float64) - values), axis=(1, 2)) <= packing.max_error).all()
    assert packing.max_error[0] < 1e-5


@every_integer
def test_negative_zero_is_zero(dtype: Dtype) -> None:
    for packing in (fit(-0.0, -0.0, dtype), fit(-1, 1, dtype)):
        negative, positive = (packing.unpack(packing.pack(block(value))[0]) for value in (-0.0, 0.0))
        assert negative == positive
    nothing = fit(-0.0, -0.0, dtype)
    assert nothing.unpack(nothing.pack(block(-0.0))[0]) == 0


@pytest.mark.parametrize(("dtype", "bits"), [("uint8", 22), ("int16", 23)])
def test_a_constant_band_keeps_most_bits_of_its_value(dtype: Dtype, bits: int) -> None:
    for value in np.array([0.1, -3e5, 1e-30, -1e30, 1.0000001, 1.3333334, -1.7], dtype=np.float32).tolist():
        packing = fit(value, value, dtype)
        found = packing.unpack(packing.pack(block(value))[0]).item()
        assert abs(found - value) <= abs(value) * 2.0**-bits


def test_float32_is_stored_bit_for_bit() -> None:
    packing = Packing.fit(np.array([-1.0]), np.array([1.0]), "float32")
    values = block(-0.0, 1e-45, 3.4e38, np.pi, np.nan)
    codes, saturated = packing.pack(values)
    assert codes.view(np.uint32).tolist() == values.view(np.uint32).tolist()
    assert packing.unpack(codes).view(np.uint32).tolist() == values.view(np.uint32).tolist()
    assert saturated == 0
    assert packing.max_error.tolist() == [0]
    assert np.isnan(packing.nodata)


def test_float16_is_the_nearest_half_the_even_one_of_two() -> None:
    # 1 + 2**-11 is half way between 1 and 1 + 2**-10; 3 times that between 1 + 2**-10 and 1 + 2**-9.
    packing = fit(-1, 1, "float16")
    values = block(1 + 2**-11, 1 + 3 * 2**-11, np.nextafter(np.float32(1 + 2**-11), np.float32(2)), -0.0, 2**-25, 1e-7)
    codes, saturated = packing.pack(values)
    assert codes.dtype == np.float16
    assert codes.ravel().tolist() == [1, 1 + 2**-9, 1 + 2**-10, 0, 0, 2 * 2**-24]
    assert np.signbit(codes.ravel()[3])
    assert saturated == 0


def test_float16_is_that_of_numpy_for_every_half_and_what_lies_between() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = np.sort(halves[np.isfinite(halves)]).astype(np.float32)
    halfway = (halves[1:] + halves[:-1]) / 2
    around = [np.nextafter(halfway, np.float32(side)) for side in (-np.inf, np.inf)]
    values = np.concatenate([halves, halfway, *around]).reshape(1, 1, -1)
    packing = fit(-1, 1, "float16")
    codes, saturated = packing.pack(values)
    np.testing.assert_array_equal(codes, values.astype(np.float16))
    np.testing.assert_array_equal(packing.unpack(codes), codes.astype(np.float32))
    assert packing.unpack(codes).dtype == np.float32
    assert saturated == 0


def test_float16_keeps_what_its_stated_error_says() -> None:
    packing = fit(-7, 7, "float16")
    values = np.geomspace(6.2e-5, 65504, 5001, dtype=np.float32).reshape(1, 1, -1)
    found = packing.unpack(packing.pack(values)[0]).astype(np.float64)
    assert (abs(found - values) / values).max() <= packing.max_error[0] == 2**-11


def test_float16_saturates_beyond_65504_and_counts() -> None:
    # 65519.9 still rounds to 65504; 65520, half way to the next power of two, would be infinite.
    packing = fit(-1, 1, "float16")
    codes, saturated = packing.pack(block(65504, 65519, 65520, -65520, 1e30, np.inf, -np.inf, np.nan, -1))
    assert codes.ravel()[:7].tolist() == [65504, 65504, 65504, -65504, 65504, 65504, -65504]
    assert np.isnan(codes[0, 0, 7])
    assert saturated == 5
    assert np.isnan(packing.nodata)


@pytest.mark.parametrize("reach", [6e-5, 1e-6, 65505.0, -7e4])
def test_float16_refuses_a_band_that_it_has_no_exponents_for(reach: float) -> None:
    low, high = np.array([-1.0, 0.0, min(reach, 0)]), np.array([1.0, 0.0, max(reach, 0)])
    with pytest.raises(PackingError, match=r"float16 cannot hold band 2, .*6e-05 to 65504\. Choose int16 or float32"):
        Packing.fit(low, high, "float16")


def test_float16_takes_bands_from_its_least_normal_number_to_its_last_and_those_of_zeros() -> None:
    # The last band is zero but for what float32 rounds beside values of 7.
    reach = np.array([6.2e-5, 65504.0, 0.0]), np.array([7.0, 0.0, 8e-7])
    for values in reach:
        packing = Packing.fit(-values, values, "float16")
        assert (packing.scale.tolist(), packing.offset.tolist()) == ([1, 1, 1], [0, 0, 0])


@every_dtype
@pytest.mark.parametrize("edge", [np.inf, -np.inf, np.nan])
def test_a_range_that_is_not_finite_is_refused(dtype: Dtype, edge: float) -> None:
    with pytest.raises(PackingError, match="not finite"):
        Packing.fit(np.array([0.0, edge]), np.array([1.0, 1.0]), dtype)
    with pytest.raises(PackingError, match="not finite"):
        Packing.fit(np.array([0.0, 0.0]), np.array([1.0, edge]), dtype)


@every_integer
def test_a_range_wider_than_float32_is_refused(dtype: Dtype) -> None:
    with pytest.raises(PackingError):
        fit(-3e38, 3e38, dtype)


def test_an_unknown_dtype_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(PackingError, match=r"'int8'.*uint8, int16, float16, float32"):
        Packing.fit(np.zeros(1), np.ones(1), cast("Dtype", "int8"))


@every_dtype
def test_a_packing_comes_back_from_json_as_it_was(dtype: Dtype) -> None:
    low, high = np.array([edges for edges in random_ranges(50) if abs(edges[0]) < 60000]).T
    packing = Packing.fit(low + (dtype == "float16"), high + (dtype == "float16"), dtype)
    again = Packing.from_dict(json.loads(json.dumps(packing.to_dict())))
    assert again.dtype == dtype
    assert again.scale.tobytes() == packing.scale.tobytes()
    assert again.offset.tobytes() == packing.offset.tobytes()


# Values at a time: less than a row, some rows of a band, some bands, all.
every_piece = pytest.mark.parametrize("piece", [7, 53 * 3, 53 * 41 * 5, 2**20])


@every_piece
@every_integer
def test_packing_piece_by_piece_is_numpy_s_own_arithmetic(
    monkeypatch: pytest.MonkeyPatch, dtype: Dtype, piece: int
) -> None:
    monkeypatch.setattr("embedfield.formats.packing.PIECE", piece)
    values = many_bands()
    packing = Packing.fit(np.linspace(-4, -2, 67), np.linspace(2, 3, 67), dtype)
    first, last = ENDS[dtype]
    kind = {"uint8": np.float32, "int16": np.float64}[dtype]
    scale, offset = (found[:, None, None].astype(kind) for found in (packing.scale, packing.offset))
    wide = np.rint((values - offset) / scale)
    codes, saturated = packing.pack(values)
    assert saturated == np.sum((wide < first) | (wide > last)) > 0
    np.testing.assert_array_equal(codes, np.where(np.isnan(wide), first - 1, wide.clip(first, last)))


@every_piece
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_packing_floats_piece_by_piece_is_numpy_s_own_cast(
    monkeypatch: pytest.MonkeyPatch, dtype: Dtype, piece: int
) -> None:
    monkeypatch.setattr("embedfield.formats.packing.PIECE", piece)
    values = many_bands()
    codes, saturated = Packing.fit(np.full(67, -4), np.full(67, 4), dtype).pack(values)
    assert saturated == 0
    assert codes.tobytes() == values.astype(dtype).tobytes()


@every_dtype
def test_codes_can_go_into_a_part_of_an_array(dtype: Dtype) -> None:
    values = many_bands()
    packing = Packing.fit(np.full(67, -9), np.full(67, 9), dtype)
    codes, _ = packing.pack(values)
    # As a GeoTIFF holds them.
    whole = np.zeros((67, 60, 70), dtype="float32" if dtype == "float16" else dtype)
    part, saturated = packing.pack(values[:, :, ::-1], whole[:, 9:50, 17:70])
    assert saturated == 0
    assert np.shares_memory(part, whole)
    np.testing.assert_array_equal(whole[:, 9:50, 17:70], codes[:, :, ::-1])
    small = np.zeros((67, 30, 40), dtype=whole.dtype)
    packing.halved(whole[:, 9:50, 17:70], small[:, 4:25, 5:32])
    np.testing.assert_array_equal(small[:, 4:25, 5:32], packing.halved(codes[:, :, ::-1]))


def many_bands() -> npt.NDArray[np.float32]:
    """Return more bands than there are processors, with holes and an empty one."""
    values = np.random.default_rng(5).normal(size=(67, 41, 53)).astype(np.float32)
    values[:, 5:9, 7] = np.nan
    values[13] = np.nan
    return values


@every_integer
def test_nothing_saturates_in_a_field_of_few_pixels(dtype: Dtype) -> None:
    # Heavy tails: the outermost values stand alone, where no sample of places would find them.
    values = np.random.default_rng(1).standard_cauchy((4, 90, 91)).astype(np.float32)
    packing = Packing.measure(ArrayField(values), dtype)
    codes, saturated = packing.pack(values)
    assert saturated == 0
    first, last = ENDS[dtype]
    assert codes.min() == first
    assert codes.max() > 0.96 * last


@every_integer
def test_a_pixel_without_a_value_in_one_band_counts_in_the_others(dtype: Dtype) -> None:
    values = np.ones((2, 1, 3), dtype=np.float32)
    values[:, 0, 0] = np.nan, 1000
    assert Packing.measure(ArrayField(values), dtype).pack(values)[1] == 0


def test_the_range_of_a_large_field_is_a_little_wider_than_that_of_its_sample() -> None:
    class Sampled(ArrayField):
        def at(self, lonlat: npt.ArrayLike, *_: object) -> npt.NDArray[np.float32]:
            """Miss the outermost values, narrowly."""
            return super().at(lonlat) * np.float32(0.98)

    values = np.broadcast_to(np.linspace(-1, 1, 300, dtype=np.float32), (1, 200, 300))
    packing = Packing.measure(Sampled(values), "uint8")
    assert packing.pack(values)[1] == 0
    assert 2 / 254 <= packing.scale[0] <= 2.1 / 254


@every_integer
def test_a_spike_that_no_sample_finds_saturates_and_is_counted(dtype: Dtype) -> None:
    values = np.random.default_rng(2).uniform(size=(2, 400, 500)).astype(np.float32)
    values[1, 100, 50] = 1e6
    packing = Packing.measure(ArrayField(values), dtype)
    codes, saturated = packing.pack(values)
    assert saturated == 1
    assert codes[1, 100, 50] == ENDS[dtype][1]


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 200, 300)])
@every_dtype
def test_a_field_without_any_value_is_refused(shape: tuple[int, int, int], dtype: Dtype) -> None:
    with pytest.raises(PackingError, match=r"array has no value anywhere in bounds=\(-10"):
        Packing.measure(ArrayField(np.full(shape, np.nan)), dtype)


@every_dtype
def test_an_infinite_value_of_the_encoder_is_refused(dtype: Dtype) -> None:
    values = np.ones((2, 5, 6), dtype=np.float32)
    values[1, 2, 3] = np.inf
    with pytest.raises(PackingError, match="not finite"):
        Packing.measure(ArrayField(values), dtype)


def test_means_of_codes_are_those_worked_out_by_hand() -> None:
    # Halves are rounded up; nodata, 0, is left out, and so is what lies past an odd edge.
    codes = np.array([[1, 2, 3, 0, 9], [3, 0, 0, 0, 10], [1, 1, 0, 0, 7]], dtype=np.uint8)[None]
    means = counting().halved(codes)
    assert means.dtype == np.uint8
    assert means.tolist() == [[[2, 3, 10], [1, 0, 7]]]
    assert counting().halved(np.array([[[1, 2, 2, 2], [2, 2, 1, 1]]], dtype=np.uint8)).tolist() == [[[2, 2]]]


def test_means_of_int16_codes_are_those_worked_out_by_hand() -> None:
    none, last = -32768, 32767
    codes = np.array([[[-1, -2, last, last, none, none], [-2, none, last, last, none, -last]]], dtype=np.int16)
    means = counting("int16").halved(codes)
    assert means.dtype == np.int16
    # -5 / 3; the largest; one alone. Halves go up: -1.5 to -1.
    assert means.tolist() == [[[-2, last, -last]]]
    assert counting("int16").halved(np.array([[[-1, -1], [-2, -2]]], dtype=np.int16)).tolist() == [[[-1]]]


def quads_of(codes: npt.NDArray[Any], nodata: float) -> npt.NDArray[np.float64]:
    """Return the codes of each 2 x 2 pixels, (4, dim, height, width); NaN for nodata and past the edge."""
    known = np.where(codes == nodata, np.nan, codes.astype(np.float64))
    dim, height, width = codes.shape
    even = np.full((dim, height + height % 2, width + width % 2), np.nan)
    even[:, :height, :width] = known
    return np.stack([even[:, row::2, col::2] for row in (0, 1) for col in (0, 1)])


def means_of(quads: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return means over the first axis without NaN; NaN where there is none."""
    there = ~np.isnan(quads)
    total, count = np.where(there, quads, 0).sum(axis=0), there.sum(axis=0)
    result: npt.NDArray[np.float64] = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return result


@every_integer
@pytest.mark.parametrize("shape", [(30, 40), (31, 40), (30, 41), (31, 41), (1, 1), (1, 8), (9, 1)])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_halving_a_few_bands_at_a_time_is_numpy_s_own_mean(shape: tuple[int, int], share: float, dtype: Dtype) -> None:
    packing = counting(dtype)
    rng = np.random.default_rng(3)
    first, last = ENDS[dtype]
    codes = rng.integers(first, last, (37, *shape), endpoint=True).astype(dtype)
    codes[rng.random(codes.shape) < share] = packing.nodata
    # Exact quarters, thirds and halves: nothing lies so near a half that float64 could miss it.
    truth = np.floor(means_of(quads_of(codes, packing.nodata)) + 0.5)
    np.testing.assert_array_equal(packing.halved(codes), np.where(np.isnan(truth), packing.nodata, truth))
    # A part of a larger array, as a writer may have it.
    np.testing.assert_array_equal(packing.halved(codes[::2, :, ::-1]), packing.halved(codes[::2, :, ::-1].copy()))


@every_integer
@every_range
def test_the_mean_of_codes_decodes_to_the_mean_of_values_within_half_a_step(
    low: float, high: float, dtype: Dtype
) -> None:
    packing = fit(low, high, dtype)
    rng = np.random.default_rng(3)
    first, last = ENDS[dtype]
    codes = rng.integers(first, last, (1, 60, 80), endpoint=True).astype(dtype)
    codes[rng.random(codes.shape) < 0.4] = packing.nodata
    found = packing.halved(codes)
    truth = means_of(quads_of(codes, packing.nodata)[:, 0] * packing.scale[0] + packing.offset[0])
    np.testing.assert_array_equal(found[0] == packing.nodata, np.isnan(truth))
    errors = abs(packing.unpack(found)[0].astype(np.float64) - truth)
    # The truth is a sum in float64 of numbers as large as the offset.
    rounding = 1e-14 * max(abs(low), abs(high))
    assert np.nanmax(errors) <= packing.scale[0] / 2 + rounding


@pytest.mark.parametrize(("dtype", "stored"), [("float32", "float32"), ("float16", "float16"), ("float16", "float32")])
def test_the_mean_of_floats_leaves_out_nan(dtype: Dtype, stored: str) -> None:
    # float16 is stored as float32 in GeoTIFF, and remains of float16's digits.
    packing = fit(0, 1, dtype)
    nan = np.nan
    values = np.array([[[1, 2, nan, nan, -4], [6, nan, nan, nan, -5], [1, 1, 1, 2, nan]]], dtype=stored)
    means = packing.halved(values)
    assert means.dtype == stored
    np.testing.assert_array_equal(means, np.array([[[3, nan, -4.5], [1, 1.5, nan]]], dtype=stored))
    thirds = packing.halved(np.array([[[1, 0], [0, nan]]], dtype=stored))
    assert thirds.item() == np.array(1 / 3, dtype=dtype)


# The vector in the documentation. -----------------------------------------------------------------------------------

BANDS = {
    "ordinary": (-0.71, 1.3),
    "far from zero": (1000.0, 1000.5),
    "narrow": (0.001, 0.0010001),
    "constant": (0.1, 0.1),
}
ABOUT = (
    "Values and codes to test a reader of embedfield's rasters with; packing.md explains them. "
    "value = code * scale + offset, exact in float32; code = round((value - offset) / scale), halves to even, "
    "kept within first and last; null is NaN. "
    "Every number is a float32 (scale and offset too), written so that parsing as a double gives it exactly."
)


def float32(number: float) -> float:
    """Return the nearest float32."""
    return float(np.float32(number))


def vector() -> dict[str, Any]:
    """Return what docs/packing.json holds; codes and decoded values by fractions, not by `Packing`."""
    return {"about": ABOUT, "cases": [case(dtype) for dtype in DTYPES]}


def case(dtype: Dtype) -> dict[str, Any]:
    """Return a dtype's part of the vector."""
    if dtype not in ENDS:
        return {"dtype": dtype, "nodata": None, "bands": [floats(name, edges, dtype) for name, edges in BANDS.items()]}
    first, last = ENDS[dtype]
    bands = [integers(name, edges, dtype) for name, edges in BANDS.items()]
    return {"dtype": dtype, "nodata": first - 1, "first": first, "last": last, "bands": bands}


def integers(name: str, edges: tuple[float, float], dtype: Dtype) -> dict[str, Any]:
    """Return a band of integer codes."""
    low, high = map(float32, edges)
    packing = fit(low, high, dtype)
    scale, offset = packing.scale.item(), packing.offset.item()
    first, last = ENDS[dtype]
    middle = (first + last) // 2
    inside = [low, high, float32((low + high) / 2), float32(low + (high - low) / 3)]
    # Half way to the next code, from an even and from an odd one: exact in float32.
    halves = [(code + 0.5) * scale + offset for code in (middle - 1, middle, middle + 1)]
    outside = [float32((first - 0.75) * scale + offset), (last + 1) * scale + offset, float32(-1e30), float32(1e30)]
    values: list[float | None] = [*inside, *halves, *outside, None]
    codes = [first - 1 if value is None else code_of(value, scale, offset, dtype) for value in values]
    decoded = [None if code < first else float(code * Fraction(scale) + Fraction(offset)) for code in codes]
    return {
        "name": name, "range": [low, high], "scale": scale, "offset": offset,
        "values": values, "codes": codes, "decoded": decoded,
    }  # fmt: skip


def code_of(value: float, scale: float, offset: float, dtype: Dtype) -> int:
    """Return a value's code; Python's round of a fraction takes halves to even."""
    first, last = ENDS[dtype]
    return min(max(round((Fraction(value) - Fraction(offset)) / Fraction(scale)), first), last)


def floats(name: str, edges: tuple[float, float], dtype: Dtype) -> dict[str, Any]:
    """Return a band of floating-point codes."""
    low, high = map(float32, edges)
    inside = [low, high, float32((low + high) / 2), float32(low + (high - low) / 3)]
    # Half way between two float16, to either side; and just below the number from which float16 has none.
    halves = [1 + 2**-11, 1 + 3 * 2**-11, 65519.0]
    outside = [-65520.0, 65520.0, float32(-1e30), float32(1e30)]
    values: list[float | None] = [*inside, *halves, *outside, None]
    codes = [half(value) if dtype == "float16" and value is not None else value for value in values]
    return {
        "name": name, "range": [low, high], "scale": 1.0, "offset": 0.0,
        "values": values, "codes": codes, "decoded": codes,
    }  # fmt: skip


def half(value: float) -> float:
    """Return the nearest float16, by Python's own rounding; the last one beyond it."""
    try:
        return float(struct.unpack("<e", struct.pack("<e", value))[0])
    except OverflowError:
        return math.copysign(65504.0, value)


def written(dtype: Dtype) -> dict[str, Any]:
    """Return a dtype's part of docs/packing.json."""
    (found,) = [case for case in json.loads((DOCS / "packing.json").read_text())["cases"] if case["dtype"] == dtype]
    return cast("dict[str, Any]", found)


def of_bands(told: dict[str, Any], name: str, dtype: str) -> npt.NDArray[Any]:
    """Return a list of each band as one row of pixels, (dim, 1, width); NaN for null."""
    rows = [[np.nan if number is None else number for number in band[name]] for band in told["bands"]]
    return np.array(rows, dtype=np.float64)[:, None].astype(dtype)


def numbers(told: dict[str, Any], name: str) -> npt.NDArray[np.float64]:
    """Return a number of each band, (dim, 1, 1)."""
    return np.array([band[name] for band in told["bands"]])[:, None, None]


def test_the_vector_in_the_documentation_is_what_the_rule_gives() -> None:
    assert json.loads((DOCS / "packing.json").read_text()) == vector()


@every_dtype
def test_every_float_of_the_vector_is_a_float32(dtype: Dtype) -> None:
    told = written(dtype)
    for name in ("values", "decoded", "range"):
        wide = of_bands(told, name, "float64")
        np.testing.assert_array_equal(wide, wide.astype(np.float32))
    for name in ("scale", "offset"):
        np.testing.assert_array_equal(numbers(told, name), numbers(told, name).astype(np.float32))


@every_dtype
def test_our_packing_gives_the_codes_and_values_of_the_vector(dtype: Dtype) -> None:
    told = written(dtype)
    low, high = of_bands(told, "range", "float64")[:, 0].T
    packing = Packing.fit(low, high, dtype)
    assert packing.scale.tolist() == numbers(told, "scale").ravel().tolist()
    assert packing.offset.tolist() == numbers(told, "offset").ravel().tolist()
    codes, saturated = packing.pack(of_bands(told, "values", "float32"))
    np.testing.assert_array_equal(codes, of_bands(told, "codes", dtype))
    np.testing.assert_array_equal(packing.unpack(codes), of_bands(told, "decoded", "float32"))
    # Four of each band lie outside.
    assert saturated == {"uint8": 16, "int16": 16, "float16": 16, "float32": 0}[dtype]


@every_dtype
def test_one_line_of_numpy_gives_the_values_of_the_vector(dtype: Dtype) -> None:
    told = written(dtype)
    codes, scale, offset = of_bands(told, "codes", dtype), numbers(told, "scale"), numbers(told, "offset")
    nodata = np.nan if told["nodata"] is None else told["nodata"]
    for width in (np.float32, np.float64):
        decoded = np.where(codes == nodata, np.nan, codes * scale.astype(width) + offset.astype(width))
        np.testing.assert_array_equal(decoded, of_bands(told, "decoded", "float64"))


@pytest.fixture
def tiff(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a GeoTIFF of the codes of a dtype, written by rasterio alone."""
    told = written(request.param)
    codes = of_bands(told, "codes", "float32" if request.param == "float16" else request.param)
    dim, height, width = codes.shape
    nodata = np.nan if told["nodata"] is None else told["nodata"]
    with rasterio.open(
        tmp_path / "codes.tif", "w", driver="GTiff", width=width, height=height, count=dim, dtype=codes.dtype,
        nodata=nodata, crs="EPSG:4326", transform=from_origin(0, 1, 0.1, 0.1), photometric="MINISBLACK", alpha="NO",
    ) as dataset:  # fmt: skip
        dataset.write(codes)
        dataset.scales, dataset.offsets = numbers(told, "scale").ravel(), numbers(told, "offset").ravel()
    return tmp_path / "codes.tif"


every_tiff = pytest.mark.parametrize(("tiff", "dtype"), [(dtype, dtype) for dtype in DTYPES], indirect=["tiff"])


@every_tiff
def test_rasterio_reads_the_values_of_the_vector(tiff: Path, dtype: Dtype) -> None:
    with rasterio.open(tiff) as dataset:
        scale, offset = (np.array(found)[:, None, None] for found in (dataset.scales, dataset.offsets))
        found = dataset.read(masked=True) * scale + offset
    np.testing.assert_array_equal(found.filled(np.nan), of_bands(written(dtype), "decoded", "float64"))


# rioxarray has one attribute for the scale of all bands and says so; and affine means to retire its `*`.
@pytest.mark.filterwarnings("ignore:(Scales|Offsets) differ across bands", "ignore:Use .@. matmul")
@every_tiff
def test_rioxarray_reads_the_values_of_the_vector(tiff: Path, dtype: Dtype) -> None:
    found = rioxarray.open_rasterio(tiff, mask_and_scale=True)
    assert isinstance(found, xr.DataArray)
    with found:
        np.testing.assert_array_equal(found, of_bands(written(dtype), "decoded", "float64"))


@every_tiff
def test_gdal_unscales_to_the_values_of_the_vector(tiff: Path, dtype: Dtype, tmp_path: Path) -> None:
    # What `gdal_translate -unscale -ot Float32` asks for, in a VRT: GDAL itself does the arithmetic.
    told = written(dtype)
    scale, offset = (numbers(told, name).ravel().tolist() for name in ("scale", "offset"))
    nodata = "nan" if told["nodata"] is None else told["nodata"]
    bands = "".join(
        f'<VRTRasterBand dataType="Float32" band="{band}"><NoDataValue>nan</NoDataValue><ComplexSource>'
        f"<SourceFilename>{tiff}</SourceFilename><SourceBand>{band}</SourceBand><NODATA>{nodata}</NODATA>"
        f"<ScaleOffset>{offset[band - 1]!r}</ScaleOffset><ScaleRatio>{scale[band - 1]!r}</ScaleRatio>"
        "</ComplexSource></VRTRasterBand>"
        for band in range(1, len(BANDS) + 1)
    )
    width = len(told["bands"][0]["codes"])
    text = f'<VRTDataset rasterXSize="{width}" rasterYSize="1"><GeoTransform>0, 0.1, 0, 1, 0, -0.1</GeoTransform>'
    (tmp_path / "unscaled.vrt").write_text(f"{text}{bands}</VRTDataset>")
    with rasterio.open(tmp_path / "unscaled.vrt") as dataset:
        found = dataset.read()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, of_bands(told, "decoded", "float32"))


if __name__ == "__main__":
    # A list of numbers on a line.
    text = re.sub(r"\[[^][{}]+\]", lambda found: " ".join(found[0].split()), json.dumps(vector(), indent=1))
    (DOCS / "packing.json").write_text(text.replace("[ ", "[").replace(" ]", "]") + "\n")
