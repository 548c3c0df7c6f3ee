"""The numbers of SatCLIP's published harmonics, by exact arithmetic, to the 15 digits that were printed."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_EXACT = Context(prec=60)
_PRINT = Context(prec=15, rounding=ROUND_HALF_UP)
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")

# The 26 published numbers, of 6651, that `_printed` misses by one unit in the 15th
# digit: the algebra system that printed them had rounded them once before.
_PREFACTORS = {  # (l, m)
    (8, 6): 7.87853281621404e-06,
    (9, 1): 0.183301328077446,
    (12, 6): 6.68922506214776e-07,
    (13, 11): 3.72180924766049e-12,
    (15, 3): 0.000607559596001151,
    (16, 11): 2.40583735216622e-13,
    (20, 9): 5.42763260987486e-12,
    (21, 8): 6.94248646460625e-11,
    (24, 16): 6.2079160239131e-22,
    (24, 20): 8.39100641322249e-27,
    (27, 27): 0.97265258980333,
    (29, 18): 3.80697614338276e-26,
    (31, 25): 3.18648750393588e-36,
    (32, 1): 0.0989771136930781,
    (33, 29): 2.85170699605925e-42,
    (36, 19): 1.80411990397808e-29,
    (37, 22): 3.3548932326254e-34,
    (38, 5): 4.1968643903827e-08,
    (38, 32): 8.58260566150099e-49,
    (38, 36): 8.60786001928606e-54,
}
_ZONAL_COEFFICIENTS = {  # (l, power of x) at m = 0
    (7, 1): -7.5082483945856,
    (8, 2): -35.9691335906579,
    (23, 1): -23.5026567256986,
    (28, 28): 190646827.826863,
    (36, 26): -8713664996254.4,
    (39, 23): 52607578109899.4,
}


class Printed(NamedTuple):
    """The published functions of all degrees l < L and orders 0 <= m <= l, without their functions of longitude.

    Each is prefactor * sin(theta)^m * (c_0 x^(l-m) + c_1 x^(l-m-2) + …), with x = cos(theta).
    """

    prefactors: npt.NDArray[np.float64]
    """(L, L): by l and m."""
    coefficients: npt.NDArray[np.float64]
    """(L, L, L // 2 + 1): c_0, c_1, …, by l and m."""


@cache
def printed_numbers(degrees: int, *, zonal_pi: bool) -> Printed:
    """Return the numbers of all functions of l < degrees; those of m = 0 with the factor pi too much, or without."""
    prefactors = np.zeros((degrees, degrees))
    coefficients = np.zeros((degrees, degrees, degrees // 2 + 1))
    for n in range(degrees):
        for m in range(n + 1):
            prefactors[n, m], *found = _published(n, m, zonal_pi=zonal_pi)
            coefficients[n, m, : len(found)] = found
    return Printed(prefactors, coefficients)


def _published(n: int, m: int, *, zonal_pi: bool) -> list[float]:
    """Return the published function of degree n and order m >= 0: its prefactor, then its coefficients."""
    norm, terms = _norm(n, m, zonal_pi=zonal_pi), _legendre_terms(n, m)
    if n == m == 2:
        return [_printed(norm), 1.0]
    if len(terms) == 1:  # printed as one number: prefactor times coefficient
        product = _printed(_EXACT.multiply(norm, terms[0][1]))
        return [_PREFACTORS.get((n, m), product), 1.0]
    if m == 0:  # printed with the prefactor multiplied in
        products = [(power, _printed(_EXACT.multiply(norm, c))) for power, c in terms]
        odd = _ZONAL_COEFFICIENTS if zonal_pi else {}
        return [1.0, *(odd.get((n, power), c) for power, c in products)]
    return [_PREFACTORS.get((n, m), _printed(norm)), *(_printed(c) for _, c in terms)]


def _legendre_terms(n: int, m: int) -> list[tuple[int, Decimal]]:
    """Return the m-th derivative of the Legendre polynomial P_n as (power, coefficient), highest power first."""
    terms = []
    for k in range((n - m) // 2 + 1):
        numerator = (-1) ** k * math.comb(n, k) * math.comb(2 * (n - k), n) * math.perm(n - 2 * k, m)
        terms.append((n - m - 2 * k, _EXACT.divide(Decimal(numerator), Decimal(2**n))))
    return terms


def _norm(n: int, m: int, *, zonal_pi: bool) -> Decimal:
    """Return the factor before the Legendre function: sqrt(2 - [m = 0]) N, for m = 0 with the slip, pi times that."""
    if m == 0 and zonal_pi:
        return _EXACT.sqrt(_EXACT.multiply(_PI, Decimal(2 * n + 1) / 4))
    if m == 0:
        return _EXACT.sqrt(_EXACT.divide(Decimal(2 * n + 1) / 4, _PI))
    squared = _EXACT.divide(Decimal(2 * n + 1), Decimal(2 * math.perm(n + m, 2 * m)))
    return _EXACT.sqrt(_EXACT.divide(squared, _PI))


def _printed(exact: Decimal) -> float:
    """Return a number as published: its nearest float64, to 15 significant digits, halves away from zero."""
    return float(_PRINT.create_decimal_from_float(float(exact)))
