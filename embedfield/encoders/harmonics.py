"""Real spherical harmonics: SatCLIP's published basis, bit for bit, and the orthonormal one.

Both leave the Condon-Shortley phase out and order their features by degree l,
then by order m from -l to l: (l, m) is feature l * l + l + m.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from embedfield.errors import CardError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PUBLISHED_DEGREES = 40
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


class _Basis(ABC):
    """What both bases share: L * L features, each a function of lat times one of lon, always in float64."""

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
        self.degrees = degrees
        self.dim = degrees * degrees
        self.features = torch.arange(self.dim)
        self.columns = torch.tensor([m if m >= 0 else degrees - 1 - m for _, m in _orders(degrees)])

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features of places.

        Args:
            lonlat: Degrees (lon, lat), (N, 2), float64.

        Returns:
            (N, dim), float64, without unit.
        """
        return self._in_blocks(*lonlat.double().unbind(-1))

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
        return self._in_blocks(None, lats.double())

    def _in_blocks(self, lons: Tensor | None, lats: Tensor) -> Tensor:
        """Return `_features`, places first, some places at a time: (N, dim)."""
        # On a CPU so few that their polynomials stay in its cache.
        size = 512 if lats.device.type == "cpu" else 16384
        features = lats.new_empty(len(lats), self.dim)
        for start in range(0, len(lats), size):
            block = slice(start, start + size)
            features[block] = self._features(None if lons is None else lons[block], lats[block]).T
        return features

    def _waves(self, lons: Tensor) -> Tensor:
        """Return the functions of longitude at degrees (N,): (2 L - 1, N)."""
        phi = torch.deg2rad(lons - self._first_meridian)
        angles = torch.arange(self.degrees, dtype=phi.dtype, device=phi.device)[:, None] * phi
        return torch.cat((angles.cos(), angles[1:].sin()))

    @abstractmethod
    def _features(self, lons: Tensor | None, lats: Tensor) -> Tensor:
        """Return the features at degrees (N,), without functions of longitude where that is None: (dim, N)."""


class PublishedHarmonics(_Basis):
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
        self._tables = _published_tables(degrees, zonal_pi=zonal_pi)

    def _features(self, lons: Tensor | None, lats: Tensor) -> Tensor:
        tables = self._tables
        x = torch.cos(torch.deg2rad(lats + 90))
        features = self._heads(x)[tables.rows.to(x.device)]
        if lons is not None:
            features *= self._waves(lons)[self.columns.to(x.device)]
        # The official product has a polynomial that is x alone after the function of longitude.
        features[tables.tailed.to(x.device)] *= x
        return features

    def _heads(self, x: Tensor) -> Tensor:
        """Return prefactor * sin^m * polynomial at x = cos(theta), (N,): (functions, N)."""
        tables = self._tables
        heads = _powers(1.0 - x**2, [m / 2 for m in range(self.degrees)])[tables.sine_powers.to(x.device)]
        heads *= tables.prefactors.to(x.device)[:, None]
        heads *= self._polynomials(x)
        return heads

    def _polynomials(self, x: Tensor) -> Tensor:
        """Return every polynomial at x (N,), summed from its highest power down: (functions, N)."""
        tables = self._tables
        powers = _powers(x, range(self.degrees))
        exponents, coefficients = tables.exponents.to(x.device), tables.coefficients.to(x.device)
        totals = x.new_zeros(len(tables.prefactors), len(x))
        for term, count in enumerate(tables.counts):
            # Two operations: fused, they would round once where the official code rounds twice.
            summands = powers[exponents[term, :count]]
            summands *= coefficients[term, :count, None]
            totals[:count] += summands
        return totals


class Harmonics(_Basis):
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

    def _features(self, lons: Tensor | None, lats: Tensor) -> Tensor:
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


class _Function(NamedTuple):
    """A published function of latitude: prefactor * (1 - x^2)^(sine_power / 2) * sum of c x^n * (x if tailed)."""

    prefactor: float
    sine_power: int
    terms: tuple[tuple[int, float], ...]
    """(n, c), highest n first."""
    tailed: bool


class _Tables(NamedTuple):
    """The published functions of m >= 0, those of most terms first; tensors on the CPU."""

    prefactors: Tensor
    """(functions,), float64."""
    sine_powers: Tensor
    """(functions,), int64."""
    exponents: Tensor
    """(terms, functions), int64; 0 where a function has no such term."""
    coefficients: Tensor
    """(terms, functions), float64; likewise."""
    counts: tuple[int, ...]
    """How many functions have a first, a second, ... term."""
    rows: Tensor
    """(dim,), int64: the function of each feature."""
    tailed: Tensor
    """The features that end in the factor x, int64."""


@cache
def _published_tables(degrees: int, *, zonal_pi: bool) -> _Tables:
    """Return all published functions of l < degrees."""
    orders = _orders(degrees)
    functions = {(n, m): _published(n, m, zonal_pi=zonal_pi) for n, m in orders if m >= 0}
    ranked = sorted(functions, key=lambda order: -len(functions[order].terms))
    rank = {order: row for row, order in enumerate(ranked)}
    steps = list(zip_longest(*(functions[order].terms for order in ranked)))
    return _Tables(
        prefactors=torch.tensor([functions[order].prefactor for order in ranked], dtype=torch.float64),
        sine_powers=torch.tensor([functions[order].sine_power for order in ranked]),
        exponents=torch.tensor([[term[0] if term else 0 for term in step] for step in steps]),
        coefficients=torch.tensor([[term[1] if term else 0.0 for term in step] for step in steps], dtype=torch.float64),
        counts=tuple(sum(term is not None for term in step) for step in steps),
        rows=torch.tensor([rank[n, abs(m)] for n, m in orders]),
        tailed=torch.tensor([i for i, (n, m) in enumerate(orders) if functions[n, abs(m)].tailed], dtype=torch.int64),
    )


def _published(n: int, m: int, *, zonal_pi: bool) -> _Function:
    """Return the published function of degree n and order m >= 0."""
    norm, terms = _norm(n, m, zonal_pi=zonal_pi), _legendre_terms(n, m)
    if n == m == 2:  # printed with the squared sine multiplied out: 3 - 3 x^2
        return _Function(_printed(norm), 0, ((2, -3.0), (0, 3.0)), tailed=False)
    if len(terms) == 1:  # printed as one number: prefactor times coefficient
        product = _printed(_EXACT.multiply(norm, terms[0][1]))
        return _Function(_PREFACTORS.get((n, m), product), m, ((0, 1.0),), tailed=n > m)
    if m == 0:  # printed with the prefactor multiplied in
        products = [(power, _printed(_EXACT.multiply(norm, c))) for power, c in terms]
        odd = _ZONAL_COEFFICIENTS if zonal_pi else {}
        zonal = tuple((power, odd.get((n, power), c)) for power, c in products)
        return _Function(1.0, 0, zonal, tailed=False)
    printed = tuple((power, _printed(c)) for power, c in terms)
    return _Function(_PREFACTORS.get((n, m), _printed(norm)), m, printed, tailed=False)


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


def _powers(base: Tensor, exponents: Iterable[float]) -> Tensor:
    """Return base (N,) to each exponent: (exponents, N)."""
    # On a CPU, torch raises what does not fill a vector register, at the end of each
    # thread's share, with another routine, whose last bits differ. Padded, nothing is
    # left over, and up to 32768 numbers are one thread's; so the features of a place
    # do not depend on where it stands in its batch.
    parts = torch.split(pad(base, (0, -len(base) % 64)), 32768)
    return torch.stack([torch.cat([part**exponent for part in parts]) for exponent in exponents])[:, : len(base)]


def _orders(degrees: int) -> list[tuple[int, int]]:
    """Return (l, m) of every feature."""
    return [(n, m) for n in range(degrees) for m in range(-n, n + 1)]


def _triangle(n: int) -> int:
    """Return the number of pairs (l, m) with 0 <= m <= l < n."""
    return n * (n + 1) // 2
