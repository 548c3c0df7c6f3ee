"""Real spherical harmonics: SatCLIP's published basis, bit for bit, and the orthonormal one.

Both leave the Condon-Shortley phase out and order their features by degree l,
then by order m from -l to l: (l, m) is feature l * l + l + m.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from embedfield.errors import CardError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PUBLISHED_DEGREES = 40
# Differences l - m in one bundle of functions.
_DIFFERENCES = 8
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


class Basis(ABC):
    """What both bases share: L * L features, each a function of lat times one of lon, always computed in float64."""

    periodic = one_pole = True
    degrees: int
    """L: the degrees are l = 0 .. L-1."""
    dim: int
    """Number of features, L * L."""
    features: Tensor
    """(dim,), int64: 0, 1, …; each feature is one term."""
    columns: Tensor
    """(dim,), int64: the column of `along_lon` that each feature uses."""
    _first_meridian: float
    """Where phi is 0, degrees."""

    def __init__(self, degrees: int) -> None:
        """Take the functions of degree l = 0 .. degrees - 1."""
        self.degrees = degrees
        self.dim = degrees * degrees
        self.features = torch.arange(self.dim)
        self.columns = torch.tensor([m if m >= 0 else degrees - 1 - m for _, m in _orders(degrees)])

    def encode(self, lonlat: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return the features of places.

        Args:
            lonlat: Degrees (lon, lat), (N, 2), float64.
            dtype: What they are rounded to once they are computed.

        Returns:
            (N, dim), without unit; in memory feature by feature.
        """
        lons, lats = lonlat.double().unbind(-1)
        return self._in_blocks(lons, lats, dtype)

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return cos(m phi) for m = 0 .. L-1, then sin(m phi) for m = 1 .. L-1.

        Args:
            lons: Degrees, (n_lons,), float64.

        Returns:
            (n_lons, 2 L - 1), float64.
        """
        return self._waves(lons.double()).T

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return the features without their functions of longitude.

        Args:
            lats: Degrees, (n_lats,), float64.

        Returns:
            (n_lats, dim), float64; times `along_lon`, the features but for rounding.
        """
        return self._in_blocks(None, lats.double(), torch.float64)

    def _in_blocks(self, lons: Tensor | None, lats: Tensor, dtype: torch.dtype) -> Tensor:
        """Return features at degrees (N,), without functions of longitude where those are None: (N, dim)."""
        # On a CPU so few that what is computed of them meanwhile stays in its cache.
        size = 1024 if lats.device.type == "cpu" else 16384
        features = lats.new_empty(self.dim, len(lats), dtype=dtype)
        for start in range(0, len(lats), size):
            block = slice(start, start + size)
            self._fill(features[:, block], None if lons is None else lons[block], lats[block])
        return features.T

    def _waves(self, lons: Tensor) -> Tensor:
        """Return the functions of longitude at degrees (N,): (2 L - 1, N)."""
        phi = torch.deg2rad(lons - self._first_meridian)
        angles = torch.arange(self.degrees, dtype=phi.dtype, device=phi.device)[:, None] * phi
        return torch.cat((angles.cos(), angles[1:].sin()))

    @abstractmethod
    def _fill(self, features: Tensor, lons: Tensor | None, lats: Tensor) -> None:
        """Write the features (dim, N) at degrees (N,), without functions of longitude where those are None."""


class PublishedHarmonics(Basis):
    """The basis that SatCLIP was trained on, with its printed coefficients; with its slip, or without.

    Y_lm = prefactor * sin(theta)^m * polynomial(cos theta) * cos or sin(|m| phi),
    with phi = lon + 180 deg and theta = lat + 90 deg, from the SOUTH pole. Every
    Y_l0 is pi times the orthonormal one: that slip is part of SatCLIP, and was
    later mended in the repository that the code came from. The coefficients have 15 digits and the
    polynomials are expanded in powers, which cancel near the poles: there the
    published Y_39,0 is off by 0.6, and that is part of the trained model.

    On a CPU with AVX-512 the features have the bits of the official code's
    output, wherever a place stands in its batch. Elsewhere `pow` and `cos` may
    differ in the last bit, which cancellation raises to about 0.02 at the poles.
    A latitude beyond a pole is not refused: the caller checks its places.

    Source: Klemmer et al. 2023, "SatCLIP", arXiv 2311.17179 (its "analytic" variant).
    """

    _first_meridian = -180.0

    def __init__(self, degrees: int, *, zonal_pi: bool = True) -> None:
        """Take the functions of degree l = 0 .. degrees - 1.

        Args:
            degrees: Number of degrees L, 1 to 40.
            zonal_pi: Whether Y_l0 has the factor pi too much.

        Raises:
            CardError: If `degrees` is out of that range.
        """
        if not 1 <= degrees <= _PUBLISHED_DEGREES:
            message = (
                f"SatCLIP's published harmonics cannot have {degrees} degrees: their printed coefficients are "
                f"known here for 1 to {_PUBLISHED_DEGREES}. Choose a number in that range, or the orthonormal basis."
            )
            raise CardError(message)
        super().__init__(degrees)
        self._bundles = _bundles(degrees, zonal_pi=zonal_pi)
        self._rows = _rows(self._bundles, degrees)

    def _fill(self, features: Tensor, lons: Tensor | None, lats: Tensor) -> None:
        x = torch.cos(torch.deg2rad(lats + 90))
        sines = _powers(1.0 - x**2, [m / 2 for m in range(self.degrees)])
        powers = _powers(x, range(self.degrees))
        waves = x.new_ones(2 * self.degrees - 1, 1) if lons is None else self._waves(lons)
        # Of order 0 there is no sine, and what stands for it is not taken.
        halves = (waves[: self.degrees], waves[self.degrees - 1 :])
        most, total = max(bundle.size for bundle in self._bundles), sum(bundle.size for bundle in self._bundles)
        # In one piece: of several, the system takes memory back after each block and clears it for the next.
        room = x.new_empty(2 * most + 2 * total * features.itemsize // x.itemsize, len(x))
        table = room[2 * most :].view(features.dtype).view(2, total, -1)
        heads = self._heads(sines, powers, room[: 2 * most].view(2, most, -1))
        for bundle, functions in zip(self._bundles, heads, strict=True):
            for half, rows in zip(halves, table[:, bundle.start : bundle.start + bundle.size], strict=True):
                along_lon, products = half[: functions.shape[1]], rows.view_as(functions)
                torch.mul(functions, along_lon, out=products)
                # The official product has a polynomial that is x alone after the function of longitude.
                if bundle.first == 0:
                    torch.mul(functions[1:2] * along_lon, x, out=products[1:2])
        torch.index_select(table.flatten(0, 1), 0, self._rows.to(x.device), out=features)

    def _heads(self, sines: Tensor, powers: Tensor, room: Tensor) -> Iterator[Tensor]:
        """Yield prefactor * sin^m * polynomial, bundle by bundle: (differences, orders, N), overwritten by the next.

        Args:
            sines: sin(theta) to the power of 0, 1, …, (L, N).
            powers: x = cos(theta) likewise, (L, N).
            room: For the largest bundle twice, (2, functions, N).
        """
        for bundle in self._bundles:
            prefactors = bundle.prefactors.to(powers.device)
            heads, spare = room[:, : bundle.size].view(2, *prefactors.shape[:2], -1)
            _write_polynomials(heads, spare, bundle, powers)
            heads *= torch.mul(sines[: heads.shape[1]], prefactors, out=spare)
            if bundle.first == 0 and self.degrees > 2:  # printed with the squared sine multiplied out: 3 - 3 x^2
                heads[0, 2] = (powers[2] * -3.0 + 3.0) * prefactors[0, 2]
            yield heads


class Harmonics(Basis):
    """Orthonormal real spherical harmonics of geographic longitude and latitude.

    Y_lm = sqrt(2) N P_lm(sin lat) cos(m lon) for m > 0, N P_l(sin lat) for m = 0 and
    sqrt(2) N P_l|m|(sin lat) sin(|m| lon) for m < 0, where
    N^2 = (2 l + 1) / (4 pi) * (l - |m|)! / (l + |m|)!; the integral of each square
    over the unit sphere is 1.

    Source: Holmes & Featherstone 2002, J. Geodesy 76, 279-299, eqs. 11-13 ("standard
    forward column" recurrence, here for all orders at once).
    """

    _first_meridian = 0.0

    def __init__(self, degrees: int) -> None:
        """Take the functions of degree l = 0 .. degrees - 1.

        Args:
            degrees: Number of degrees L, at least 1.

        Raises:
            CardError: If `degrees` is less than 1.
        """
        if degrees < 1:
            message = f"Spherical harmonics cannot have {degrees} degrees: degree 0 is the first. Choose 1 or more."
            raise CardError(message)
        super().__init__(degrees)
        self._rows = torch.tensor([_triangle(degree) + abs(m) for degree, m in _orders(degrees)])

    def _fill(self, features: Tensor, lons: Tensor | None, lats: Tensor) -> None:
        features.copy_(self._features(lons, lats))

    def _features(self, lons: Tensor | None, lats: Tensor) -> Tensor:
        """Return the features at degrees (N,), without functions of longitude where those are None: (dim, N)."""
        features = self._legendre(torch.deg2rad(lats))[self._rows.to(lats.device)]
        if lons is not None:
            features *= self._waves(lons)[self.columns.to(lats.device)]
        return features

    def _legendre(self, lat: Tensor) -> Tensor:
        """Return sqrt(2 - [m = 0]) N P_lm(sin lat) at radians (N,): (functions, N), (l, m) at l (l + 1) / 2 + m."""
        up, out = lat.sin(), lat.cos()
        table = lat.new_empty(_triangle(self.degrees), len(lat))
        table[0] = math.sqrt(1 / (4 * math.pi))
        for n in range(1, self.degrees):
            here, last, before = _triangle(n), _triangle(n - 1), _triangle(n - 2)
            m = torch.arange(n, dtype=lat.dtype, device=lat.device)[:, None]
            scale = ((2 * n + 1) / ((n - m) * (n + m))).sqrt()
            table[here : here + n] = scale * math.sqrt(2 * n - 1) * up * table[last:here]
            if n > 1:
                back = scale * ((n + m - 1) * (n - m - 1) / (2 * n - 3)).sqrt()
                table[here : here + n - 1] -= back[:-1] * table[before:last]
            table[here + n] = math.sqrt((2 * n + 1) / (2 * n) if n > 1 else 3) * out * table[here - 1]
        return table


class _Bundle(NamedTuple):
    """The published functions of some successive differences l - m, of orders m = 0, 1, …; 0 where l is too large.

    Functions of one difference have the same powers of x. So a term of all of
    them is one product: few operations, which threads can do side by side.
    """

    first: int
    """The least difference."""
    start: int
    """How many functions the bundles before have."""
    prefactors: Tensor
    """(differences, orders, 1), float64."""
    coefficients: list[Tensor]
    """(differences, orders, 1) each, float64: of x^(l - m), x^(l - m - 2), …; the last differences, that have them."""

    @property
    def size(self) -> int:
        """Number of functions."""
        return self.prefactors.numel()


@cache
def _bundles(degrees: int, *, zonal_pi: bool) -> list[_Bundle]:
    """Return all published functions of l < degrees."""
    bundles: list[_Bundle] = []
    for first in range(0, degrees, _DIFFERENCES):
        differences, orders = range(first, min(first + _DIFFERENCES, degrees)), degrees - first
        numbers = torch.zeros(1 + differences[-1] // 2 + 1, len(differences), orders, 1, dtype=torch.float64)
        for difference in differences:
            for m in range(degrees - difference):
                found = torch.tensor(_published(m + difference, m, zonal_pi=zonal_pi), dtype=torch.float64)
                numbers[: len(found), difference - first, m, 0] = found
        terms = [part[max(0, 2 * term - first) :] for term, part in enumerate(numbers[1:])]
        start = bundles[-1].start + bundles[-1].size if bundles else 0
        bundles.append(_Bundle(first, start, numbers[0], terms))
    return bundles


def _rows(bundles: Sequence[_Bundle], degrees: int) -> Tensor:
    """Return which function of the bundles each feature is, cosines before sines: (dim,), int64."""
    rows, total = [], sum(bundle.size for bundle in bundles)
    for n, m in _orders(degrees):
        bundle = bundles[(n - abs(m)) // _DIFFERENCES]
        row = (n - abs(m) - bundle.first) * bundle.prefactors.shape[1] + abs(m)
        rows.append(bundle.start + row + (total if m < 0 else 0))
    return torch.tensor(rows)


def _write_polynomials(totals: Tensor, spare: Tensor, bundle: _Bundle, powers: Tensor) -> None:
    """Write a bundle's polynomials, summed from their highest power down.

    Args:
        totals: Where to, (differences, orders, N).
        spare: As much room.
        bundle: The functions.
        powers: x to the power of 0, 1, …, (degrees, N).
    """
    for term, part in enumerate(bundle.coefficients):
        coefficients, skipped = part.to(powers.device), len(totals) - len(part)
        lowest = bundle.first + skipped - 2 * term
        of_x = powers[lowest : lowest + len(part), None]
        if term == 0:
            torch.mul(of_x, coefficients, out=totals)
        else:
            # Two operations: fused, they would round once where the official code rounds twice.
            totals[skipped:] += torch.mul(of_x, coefficients, out=spare[skipped:])
    if bundle.first == 0:  # These are x alone, by which products are multiplied at last.
        totals[1:2] = 1.0


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


def _powers(base: Tensor, exponents: Sequence[float]) -> Tensor:
    """Return base (N,) to each exponent: (exponents, N)."""
    # On a CPU, torch raises what does not fill a vector register, at the end of each
    # thread's share, with another routine, whose last bits differ. Padded, nothing is
    # left over, and up to 32768 numbers are one thread's; so the features of a place
    # do not depend on where it stands in its batch.
    padded = pad(base, (0, -len(base) % 64))
    powers = padded.new_empty(len(exponents), len(padded))
    for row, exponent in zip(powers.unbind(), exponents, strict=True):
        for part, result in zip(torch.split(padded, 32768), torch.split(row, 32768), strict=True):
            torch.pow(part, exponent, out=result)
    return powers[:, : len(base)]


def _orders(degrees: int) -> list[tuple[int, int]]:
    """Return (l, m) of every feature."""
    return [(n, m) for n in range(degrees) for m in range(-n, n + 1)]


def _triangle(n: int) -> int:
    """Return the number of pairs (l, m) with 0 <= m <= l < n."""
    return n * (n + 1) // 2
