"""Loops over numbers, compiled for this processor.

Without leave the compiler makes no two operations one, and keeps their order:
numbers are rounded after each. So a loop has the bits of torch's operations one
by one, without their ways through memory. Python's lock is free meanwhile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from embedfield.encoders.printed import Printed

    type Numbers = npt.NDArray[np.float64]

# Numbers at a time: they stay in a processor's first cache.
_FEW = 256
# Pi in three parts, of which whole multiples up to 2^15 times the first two are exact in float32.
_PI = tuple(np.float32(part) for part in (3.140625, 9.67502593994140625e-4, 1.50995799097837643e-7))
_TIMES_A_PI = np.float32(1 / np.pi)
# Beyond, multiples of pi are no longer exact.
_FAR = np.float32(1e5)
# sin(r) = r + r^3 (a + b r^2 + c r^4 + d r^6) on [-pi/2, pi/2], to 6e-9 of itself: least greatest error.
_A, _B, _C, _D = (np.float32(c) for c in (-1.66666595e-1, 8.33306543e-3, -1.98095386e-4, 2.60563044e-6))
_TWO, _ONE, _HALF, _ZERO = (np.float32(number) for number in (2, 1, 0.5, 0))


def _compiled[**P, R](*leave: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a loop compiled at its first call, and kept for processes to come.

    Args:
        leave: What the compiler may do that changes last bits, by LLVM's names.
    """
    how: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(leave)}

    def compiled(loop: Callable[P, R]) -> Callable[P, R]:
        try:
            made: Callable[P, R] = njit(cache=True, **how)(loop)
        except RuntimeError:  # there is no folder to keep it in
            made = njit(**how)(loop)
        return made

    return compiled


class Tables(NamedTuple):
    """What the published harmonics of a block of N places are made of."""

    waves: Numbers
    """cos(m phi) for m = 0 .. L-1, then sin(m phi) for m = 1 .. L-1, (2 L - 1, N)."""
    sines: Numbers
    """sin(theta) to the power of 0 .. L-1, (L, N) or some columns more."""
    powers: Numbers
    """x = cos(theta) likewise."""


@_compiled()
def _write_polynomial(totals: Numbers, powers: Numbers, highest: int, coefficients: Numbers) -> None:
    """Write c_0 x^highest + c_1 x^(highest - 2) + …, summed in this order."""
    power, coefficient = powers[highest], coefficients[0]
    for i in range(len(totals)):
        totals[i] = power[i] * coefficient
    for term in range(1, highest // 2 + 1):
        power, coefficient = powers[highest - 2 * term], coefficients[term]
        for i in range(len(totals)):
            totals[i] += power[i] * coefficient


@_compiled()
def _write_head(head: Numbers, n: int, m: int, tables: Tables, printed: Printed) -> None:
    """Write prefactor * sin^m * polynomial; without a polynomial that is x alone."""
    prefactor, sine = printed.prefactors[n, m], tables.sines[m]
    if n == m == 2:  # printed with the squared sine multiplied out: 3 - 3 x^2
        square = tables.powers[2]
        for i in range(len(head)):
            head[i] = (square[i] * -3.0 + 3.0) * prefactor
    elif n - m < 2:
        for i in range(len(head)):
            head[i] = sine[i] * prefactor
    else:
        _write_polynomial(head, tables.powers, n - m, printed.coefficients[n, m])
        for i in range(len(head)):
            head[i] *= sine[i] * prefactor


@_compiled()
def _write_product(feature: npt.NDArray[np.floating], head: Numbers, wave: Numbers) -> None:
    """Write head * wave, rounded to the feature's dtype."""
    for i in range(len(head)):
        feature[i] = head[i] * wave[i]


@_compiled()
def _write_products(feature: npt.NDArray[np.floating], head: Numbers, wave: Numbers, x: Numbers) -> None:
    """Write head * wave * x, multiplied in this order."""
    for i in range(len(head)):
        feature[i] = head[i] * wave[i] * x[i]


@_compiled()
def write_published(features: npt.NDArray[np.floating], start: int, tables: Tables, printed: Printed) -> None:
    """Write SatCLIP's published harmonics at a block of places, each by the official code's operations in their order.

    Args:
        features: Where to, (L * L, all places), float64 or float32.
        start: The first place of the block.
        tables: Of the block, which is so small that they stay in a processor's own cache.
        printed: The numbers of all functions.
    """
    degrees, places = tables.powers.shape[0], tables.waves.shape[1]
    head = np.empty(places)
    for m in range(degrees):
        for n in range(m, degrees):
            _write_head(head, n, m, tables, printed)
            for sign in range(1, -2 if m else 0, -2):
                feature = features[n * n + n + sign * m][start : start + places]
                wave = tables.waves[m if sign > 0 else degrees - 1 + m]
                if n - m == 1:  # A polynomial that is x alone the official code multiplies by at last.
                    _write_products(feature, head, wave, tables.powers[1])
                else:
                    _write_product(feature, head, wave)


@_compiled("reassoc", "contract", "nsz")
def normalise(rows: npt.NDArray[Any], gain: npt.NDArray[Any], shift: npt.NDArray[Any], epsilon: Any) -> None:
    """Take its mean off each row, divide it by its standard deviation, then scale and move the columns: a layer norm.

    Args:
        rows: (N, n), overwritten.
        gain: What columns are multiplied by, (n,), of the rows' dtype, as are all that follow.
        shift: What is added to them, (n,).
        epsilon: What is added to variances.
    """
    one, none = gain.dtype.type(1), gain.dtype.type(0)
    share = one / gain.dtype.type(rows.shape[1])
    for number in range(rows.shape[0]):
        row = rows[number]
        total = none
        for i in range(len(row)):
            total += row[i]
        mean = total * share
        total = none
        for i in range(len(row)):
            total += (row[i] - mean) * (row[i] - mean)
        factor = one / np.sqrt(total * share + epsilon)
        for i in range(len(row)):
            row[i] = (row[i] - mean) * factor * gain[i] + shift[i]


@_compiled("contract")
def write_sines(numbers: npt.NDArray[np.float32], factor: np.float32) -> None:
    """Replace numbers (N,) by the sines of so many times them, to 1.3e-7, two units in the last place of 1."""
    for first in range(0, len(numbers), _FEW):
        few = numbers[first : first + _FEW]
        if _count_far(few, factor) > 0:
            for i in range(len(few)):
                few[i] = math.sin(np.float64(few[i] * factor))
        else:
            _write_near_sines(few, factor)


@_compiled("reassoc")
def _count_far(numbers: npt.NDArray[np.float32], factor: np.float32) -> np.float32:
    count = np.float32(0)
    for i in range(len(numbers)):
        count += np.float32(abs(numbers[i] * factor) > _FAR)
    return count


@_compiled("contract")
def _write_near_sines(numbers: npt.NDArray[np.float32], factor: np.float32) -> None:
    """Replace numbers by the sines of so many times them: sin(n pi + r) = sin(r), or -sin(r) where n is odd."""
    for i in range(len(numbers)):
        angle = numbers[i] * factor
        turns = np.rint(angle * _TIMES_A_PI)
        r = ((angle - turns * _PI[0]) - turns * _PI[1]) - turns * _PI[2]
        square = r * r
        sine = r + (r * square) * (((_D * square + _C) * square + _B) * square + _A)
        odd = turns - _TWO * np.floor(turns * _HALF)
        numbers[i] = sine - _TWO * odd * sine


@_compiled("contract")
def write_averaged_sines(numbers: npt.NDArray[np.float32], last: npt.NDArray[np.float32]) -> None:
    """Replace what was there last, (N,), by its means with numbers (N,), and those by the sines of the means."""
    for first in range(0, len(numbers), _FEW):
        few, before = numbers[first : first + _FEW], last[first : first + _FEW]
        for i in range(len(few)):
            mean = (few[i] + before[i]) * _HALF
            few[i] = mean
            before[i] = mean
        write_sines(few, _ONE)


@_compiled()
def write_rectified_sums(numbers: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> None:
    """Replace numbers (N,) by 0 where they are negative, and add others (N,); what is no number stays none."""
    for i in range(len(numbers)):
        numbers[i] = others[i] + (_ZERO if numbers[i] < 0 else numbers[i])
