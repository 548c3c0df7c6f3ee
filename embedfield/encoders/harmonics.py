"""Real spherical harmonics: what their bases have in common, and the orthonormal one.

They leave the Condon-Shortley phase out and order their features by degree l,
then by order m from -l to l: (l, m) is feature l * l + l + m.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from embedfield.errors import CardError


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
        return self._features(lons, lats, dtype).T

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
        return self._features(None, lats.double(), torch.float64).T

    def _waves(self, lons: Tensor) -> Tensor:
        """Return the functions of longitude at degrees (N,): (2 L - 1, N)."""
        phi = torch.deg2rad(lons - self._first_meridian)
        angles = torch.arange(self.degrees, dtype=phi.dtype, device=phi.device)[:, None] * phi
        return torch.cat((angles.cos(), angles[1:].sin()))

    @abstractmethod
    def _features(self, lons: Tensor | None, lats: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the features at degrees (N,), without functions of longitude where those are None: (dim, N)."""


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

    def _features(self, lons: Tensor | None, lats: Tensor, dtype: torch.dtype) -> Tensor:
        # On a CPU so few at once that what is computed of them meanwhile stays in its cache.
        size = 1024 if lats.device.type == "cpu" else 16384
        features = lats.new_empty(self.dim, len(lats), dtype=dtype)
        for start in range(0, len(lats), size):
            block = slice(start, start + size)
            features[:, block] = self._block(None if lons is None else lons[block], lats[block])
        return features

    def _block(self, lons: Tensor | None, lats: Tensor) -> Tensor:
        """Return the features of a block of places, float64."""
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


def _orders(degrees: int) -> list[tuple[int, int]]:
    """Return (l, m) of every feature."""
    return [(n, m) for n in range(degrees) for m in range(-n, n + 1)]


def _triangle(n: int) -> int:
    """Return the number of pairs (l, m) with 0 <= m <= l < n."""
    return n * (n + 1) // 2
