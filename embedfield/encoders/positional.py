"""Positional encodings: places to features, in float64.

Repositories use one name for different mathematics. What they share stands
here; what they do not (whether degrees become radians, whether a frequency
stands twice, which scales) each family says for itself.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

RADIANS = math.pi / 180


class PositionalEncoding(Protocol):
    """Places to features, without parameters."""

    dim: int
    """Number of features."""
    periodic: bool
    """Whether the two sides of the antimeridian have the same features."""
    one_pole: bool
    """Whether a pole has the same features at every longitude."""

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features of places (N, 2), degrees, float64: (N, dim), float64."""


@runtime_checkable
class Separable(PositionalEncoding, Protocol):
    """A positional encoding whose every feature is a sum of terms f(lat) · g(lon).

    Many terms share one function of longitude; on a lattice that is what lets
    the first linear layer be folded (`Folding`).
    """

    features: Tensor
    """(terms,), int64: the feature that each term belongs to."""
    columns: Tensor
    """(terms,), int64: the function of longitude that each term uses."""

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return the functions of longitude, (n_lons, n_functions), float64; the first is 1 everywhere."""

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return each term's function of latitude: (n_lats, terms), float64."""


class Folding:
    """A linear layer over separable features, to be folded into one over the functions of longitude.

    weight @ features(lon, lat) + bias = at(lat).T @ along_lon(lon): columns of
    the weight are scaled by the functions of latitude, those that meet the same
    function of longitude are added, and the bias goes to the constant one.
    """

    def __init__(self, posenc: Separable, weight: Tensor, bias: Tensor) -> None:
        """Sort a layer's weight by the functions of longitude.

        Args:
            posenc: The positional encoding.
            weight: (out, dim), float64.
            bias: (out,), float64.
        """
        self._posenc = posenc
        self._bias = bias
        # Functions of as many terms make one batch of matrix products.
        count, batches = _batches(posenc.columns)
        self._shape = (count, len(weight))
        self._batches = [
            (functions.to(weight.device), terms.to(weight.device), weight.T[posenc.features[terms].to(weight.device)])
            for functions, terms in batches
        ]

    def at(self, lats: Tensor) -> Tensor:
        """Return the folded layer at latitudes (n_lats,): (n_lats, n_functions, out), float64."""
        along_lat = self._posenc.along_lat(lats)
        functions, out = self._shape
        folded = along_lat.new_zeros(functions, len(lats), out)
        for chosen, terms, weights in self._batches:
            folded[chosen] = along_lat[:, terms].transpose(0, 1) @ weights
        folded[0] += self._bias
        return folded.transpose(0, 1)


def _batches(columns: Tensor) -> tuple[int, list[tuple[Tensor, Tensor]]]:
    """Return how many functions of longitude there are, and count by count those (n,) of so many terms (n, count)."""
    members: dict[int, list[int]] = {}
    for term, column in enumerate(columns.tolist()):
        members.setdefault(column, []).append(term)
    batches = []
    for count in sorted({len(terms) for terms in members.values()}):
        functions = [column for column, terms in members.items() if len(terms) == count]
        batches.append((torch.tensor(functions), torch.tensor([members[column] for column in functions])))
    return 1 + max(members), batches


def spread(posenc: Separable, along_lon: Tensor, along_lat: Tensor) -> Tensor:
    """Return the features at every pair, of the functions along both axes.

    Args:
        posenc: The positional encoding.
        along_lon: Its functions of longitude, (n_lons, n_functions), float64.
        along_lat: Its terms' functions of latitude, (n_lats, terms), float64.

    Returns:
        (n_lats, n_lons, dim), float64.
    """
    columns, features = (part.to(along_lon.device) for part in (posenc.columns, posenc.features))
    terms = along_lat[:, None, :] * along_lon[None][:, :, columns]
    if len(features) == posenc.dim:  # one each, in order
        return terms
    return terms.new_zeros(*terms.shape[:2], posenc.dim).index_add_(2, features, terms)


def _table(*functions: Tensor) -> Tensor:
    """Return functions, (n,) or (n, m) each, side by side."""
    return torch.cat([function[:, None] if function.ndim == 1 else function for function in functions], dim=-1)


class UnitVector:
    """A place as a unit vector: x to (0°, 0°), y to (90°E, 0°), z to the north pole."""

    dim = 3
    periodic = one_pole = True
    features = torch.arange(3)
    columns = torch.tensor([1, 2, 0])

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return (cos lat cos lon, cos lat sin lon, sin lat), (N, 3), float64."""
        lon, lat = lonlat.unbind(-1)
        return self.along_lat(lat) * self.along_lon(lon)[:, self.columns.to(lon.device)]

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return (1, cos lon, sin lon), (n_lons, 3), float64."""
        lon = torch.deg2rad(lons)
        return _table(torch.ones_like(lon), lon.cos(), lon.sin())

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return (cos lat, cos lat, sin lat), (n_lats, 3), float64."""
        lat = torch.deg2rad(lats)
        return _table(lat.cos(), lat.cos(), lat.sin())


class Angles:
    """Two angles of a place as they are; a plane with edges."""

    dim = 2
    periodic = one_pole = False
    features = torch.arange(2)
    columns = torch.tensor([1, 0])

    def __init__(self, factors: tuple[float, float], offsets: tuple[float, float]) -> None:
        """Take degrees × factor + offset, of longitude and of latitude."""
        self.factors = torch.tensor(factors, dtype=torch.float64)
        self.offsets = torch.tensor(offsets, dtype=torch.float64)

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return (lon, lat), scaled and moved, (N, 2), float64."""
        return lonlat * self.factors.to(lonlat.device) + self.offsets.to(lonlat.device)

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return (1, lon), (n_lons, 2), float64."""
        return _table(torch.ones_like(lons), lons * self.factors[0] + self.offsets[0])

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return (1, lat), (n_lats, 2), float64."""
        return _table(torch.ones_like(lats), lats * self.factors[1] + self.offsets[1])


class Wrap:
    """Sines and cosines of two angles of a place; a torus, on which a pole is a circle."""

    dim = 4
    periodic = True
    one_pole = False
    features = torch.arange(4)

    def __init__(self, turns: tuple[float, float], *, sines_first: bool) -> None:
        """Choose the angles and their order.

        Args:
            turns: Degrees of longitude and of latitude that make a full turn.
            sines_first: (sin, sin, cos, cos), as SINR; else (cos, sin, cos, sin).
        """
        self.factors = 2 * math.pi / torch.tensor(turns, dtype=torch.float64)
        self.sines_first = sines_first
        self.columns = torch.tensor([2, 0, 1, 0] if sines_first else [1, 2, 0, 0])

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return sines and cosines of both angles, (N, 4), float64."""
        angles = lonlat * self.factors.to(lonlat.device)
        if self.sines_first:
            return torch.cat((angles.sin(), angles.cos()), dim=-1)
        return torch.stack((angles.cos(), angles.sin()), dim=-1).flatten(1)

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return (1, cos lon, sin lon), (n_lons, 3), float64."""
        lon = lons * self.factors[0]
        return _table(torch.ones_like(lon), lon.cos(), lon.sin())

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return 1 for the features of longitude, sine and cosine for those of latitude, (n_lats, 4), float64."""
        lat = lats * self.factors[1]
        one = torch.ones_like(lat)
        return _table(one, lat.sin(), one, lat.cos()) if self.sines_first else _table(one, one, lat.cos(), lat.sin())


def geometric(count: int, least: float, greatest: float) -> Tensor:
    """Return frequencies 1 / radius, the radii growing geometrically: (count,), float64.

    Args:
        count: How many, at least 2.
        least: Radius of the first.
        greatest: Radius of the last.
    """
    step = math.log(greatest / least) / (count - 1)
    return 1.0 / (least * torch.exp(torch.arange(count, dtype=torch.float64) * step))


def _waves(angles: Tensor) -> Tensor:
    """Return the sine and the cosine of each angle (n, F), one after the other: (n, 2 F)."""
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


class GridCells:
    """sin and cos of each coordinate at each frequency; degrees × frequency are taken as radians.

    Feature 2 c F + 2 k is the sine at frequency k, the next the cosine; c is 0 for longitude, 1 for latitude.

    Source: Mai et al. 2020, "Space2Vec" ("grid"), arXiv 2003.00824.
    """

    periodic = one_pole = False

    def __init__(self, frequencies: Tensor) -> None:
        """Take frequencies, per degree, (F,), float64."""
        self.frequencies = frequencies
        self.dim = 4 * len(frequencies)
        self.features = torch.arange(self.dim)
        self.columns = torch.where(self.features < self.dim // 2, self.features + 1, 0)

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features (N, 4 F), float64."""
        angles = lonlat[:, :, None] * self.frequencies.to(lonlat.device)  # (N, 2, F)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return 1, then sine and cosine at each frequency, (n_lons, 1 + 2 F), float64."""
        return _table(torch.ones_like(lons), _waves(lons[:, None] * self.frequencies.to(lons.device)))

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return 1 for the features of longitude, sines and cosines for those of latitude, (n_lats, 4 F), float64."""
        waves = _waves(lats[:, None] * self.frequencies.to(lats.device))
        return _table(torch.ones_like(waves), waves)


class TheoryCells:
    """Waves along three directions 120 degrees apart, at each frequency; degrees × frequency are taken as radians.

    Each angle stands twice, frequency by frequency and direction by direction,
    first for its sine, then for its cosine.

    Source: Mai et al. 2020, "Space2Vec" ("theory"), arXiv 2003.00824.
    """

    periodic = one_pole = False

    def __init__(self, frequencies: Tensor, *, halves: bool) -> None:
        """Choose the frequencies.

        Args:
            frequencies: Per degree, (F,), float64.
            halves: Sines and cosines begin anew in the second half of the
                features, so that for an odd F the halves differ.
        """
        self.frequencies = frequencies
        self.dim = 6 * len(frequencies)
        position = torch.arange(self.dim)
        self.sines = (position % (self.dim // 2) if halves else position) % 2 == 0
        turn = math.sqrt(3) / 2
        self.directions = torch.tensor([[1.0, -0.5, -0.5], [0.0, turn, -turn]], dtype=torch.float64)
        # Of an angle of two parts: sin(a + b) = sin a cos b + cos a sin b, cos(a + b) = cos a cos b - sin a sin b.
        # Both are a's own wave times cos b, and a's other wave times sin b or -sin b.
        self.features = position.repeat(2)
        angle = position // 2
        first = 1 + 2 * (2 * (angle // 3) + (angle % 3 > 0))  # column of the sine of a
        own, other = first + (~self.sines).long(), first + self.sines.long()
        self.columns = torch.cat((own, other))

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features (N, 6 F), float64."""
        along = lonlat @ self.directions.to(lonlat.device)  # (N, 3)
        angles = along[:, None, :] * self.frequencies.to(lonlat.device)[:, None]  # (N, F, 3)
        twice = angles.flatten(1).repeat_interleave(2, dim=1)
        return torch.where(self.sines.to(lonlat.device), twice.sin(), twice.cos())

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return 1, then by frequency sine and cosine of the angle and of minus its half, (n_lons, 1 + 4 F)."""
        parts = lons[:, None, None] * self.frequencies.to(lons.device)[:, None] * self.directions[0, :2].to(lons.device)
        return _table(torch.ones_like(lons), _waves(parts.flatten(1)))

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return the cosine of each feature's angle of latitude, then plus or minus its sine, (n_lats, 12 F)."""
        parts = lats[:, None, None] * self.frequencies.to(lats.device)[:, None] * self.directions[1].to(lats.device)
        twice = parts.flatten(1).repeat_interleave(2, dim=1)
        return _table(twice.cos(), torch.where(self.sines.to(lats.device), twice.sin(), -twice.sin()))


class Sphere2Vec:
    """Products of sines and cosines of longitude and latitude, at each frequency and unscaled.

    Writing λ, φ for longitude and latitude times a frequency and λ₁, φ₁ for the
    unscaled ones, the features of one frequency are

        sphereC   sin φ, cos φ cos λ, cos φ sin λ
        sphereC+  sin φ, cos φ, sin λ, cos λ, cos φ cos λ, cos φ sin λ
        sphereM   sin φ, cos φ cos λ₁, cos φ₁ cos λ, cos φ sin λ₁, cos φ₁ sin λ
        sphereM+  sin φ, cos φ, sin λ, cos λ, then the last four of sphereM

    Source: Mai et al. 2023, "Sphere2Vec", arXiv 2306.17624, eqs. 4-11.
    """

    COUNTS: Mapping[str, int] = MappingProxyType({"sphereC": 3, "sphereC+": 6, "sphereM": 5, "sphereM+": 8})
    periodic = one_pole = False

    def __init__(self, kind: str, frequencies: Tensor, *, unit: float, repeats: int) -> None:
        """Choose the functions and their frequencies.

        Args:
            kind: One of `COUNTS`.
            frequencies: (F,), float64.
            unit: What a degree is multiplied by.
            repeats: How many times each feature stands.
        """
        self.kind = kind
        self.frequencies = frequencies
        self.unit = unit
        self.repeats = repeats
        self.dim = self.COUNTS[kind] * repeats * len(frequencies)
        self.features = torch.arange(self.dim)
        # Functions of longitude: 1, sin λ₁, cos λ₁, then sin λ and cos λ of each frequency.
        sine = 3 + 2 * torch.arange(len(frequencies))
        one, sine1, cosine1 = (torch.full_like(sine, column) for column in range(3))
        tail = [sine + 1, sine] if kind.startswith("sphereC") else [cosine1, sine + 1, sine1, sine]
        head = [one, one, sine, sine + 1] if kind.endswith("+") else [one]
        self.columns = self._in_order(*head, *tail)

    def _in_order(self, *functions: Tensor) -> Tensor:
        """Return functions (…, F) frequency by frequency, each as often as it stands: (…, dim)."""
        return torch.stack(functions, dim=-1).repeat_interleave(self.repeats, dim=-1).flatten(-2)

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features (N, F × functions × repeats), frequency by frequency, float64."""
        lon, lat = (lonlat[:, :, None] * self.frequencies.to(lonlat.device) * self.unit).unbind(1)  # (N, F) each
        lon1, lat1 = (lonlat[:, :, None] * self.unit).unbind(1)  # (N, 1) each
        if self.kind.startswith("sphereC"):
            tail = [lat.cos() * lon.cos(), lat.cos() * lon.sin()]
        else:
            tail = [lat.cos() * lon1.cos(), lat1.cos() * lon.cos(), lat.cos() * lon1.sin(), lat1.cos() * lon.sin()]
        waves = [lat.sin(), lat.cos(), lon.sin(), lon.cos()] if self.kind.endswith("+") else [lat.sin()]
        return self._in_order(*waves, *tail)

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return 1, sin λ₁, cos λ₁, then sin λ and cos λ of each frequency, (n_lons, 3 + 2 F), float64."""
        lon1 = lons[:, None] * self.unit
        return _table(
            torch.ones_like(lons), _waves(lon1), _waves(lons[:, None] * self.frequencies.to(lons.device) * self.unit)
        )

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return each feature's function of latitude, (n_lats, dim), float64."""
        lat = lats[:, None] * self.frequencies.to(lats.device) * self.unit
        sine, cosine, one = lat.sin(), lat.cos(), torch.ones_like(lat)
        cosine1 = (lats[:, None] * self.unit).cos().expand_as(lat)
        tail = [cosine, cosine] if self.kind.startswith("sphereC") else [cosine, cosine1, cosine, cosine1]
        head = [sine, cosine, one, one] if self.kind.endswith("+") else [sine]
        return self._in_order(*head, *tail)


class Nerf:
    """sin and cos of the unit vector times π 2^k: all sines, then all cosines, each axis by axis.

    Source: Mildenhall et al. 2020, "NeRF", arXiv 2003.08934, eq. 4, on the sphere.
    """

    periodic = one_pole = True

    def __init__(self, count: int) -> None:
        """Take `count` frequencies, k from 0."""
        self.frequencies = math.pi * 2.0 ** torch.arange(count, dtype=torch.float64)
        self.dim = 6 * count

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features (N, 6 × count), float64."""
        angles = (UnitVector().encode(lonlat)[:, :, None] * self.frequencies.to(lonlat.device)).flatten(1)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class EqualEarth:
    """The Equal Earth map, as GeoCLIP scales it; torn at the antimeridian, and its poles are lines.

    Source: Šavrič et al. 2018, "The Equal Earth map projection", eqs. 8-10.
    """

    A1, A2, A3, A4 = 1.340264, -0.081106, 0.000893, 0.003796
    SCALE = 66.50336 / 180.0
    dim = 2
    periodic = one_pole = False
    features = torch.arange(2)
    columns = torch.tensor([1, 0])

    def __init__(self, root3: float) -> None:
        """Take the square root of three as the official code has it."""
        self.root3 = root3

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return plane coordinates (x, y), (N, 2), float64."""
        lon, lat = torch.deg2rad(lonlat).unbind(-1)
        theta = self._theta(lat)
        x = 2 * self.root3 * lon * torch.cos(theta) / self._stretch(theta)
        return torch.stack((x, self._northing(theta)), dim=-1) * self.SCALE

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return (1, lon), (n_lons, 2), float64."""
        return _table(torch.ones_like(lons), torch.deg2rad(lons))

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return x at one radian of longitude, and y, (n_lats, 2), float64."""
        theta = self._theta(torch.deg2rad(lats))
        return _table(2 * self.root3 * torch.cos(theta) / self._stretch(theta), self._northing(theta)) * self.SCALE

    def _theta(self, lat: Tensor) -> Tensor:
        return torch.asin(self.root3 / 2 * torch.sin(lat))

    def _stretch(self, theta: Tensor) -> Tensor:
        return 3 * (9 * self.A4 * theta**8 + 7 * self.A3 * theta**6 + 3 * self.A2 * theta**2 + self.A1)

    def _northing(self, theta: Tensor) -> Tensor:
        return self.A4 * theta**9 + self.A3 * theta**7 + self.A2 * theta**3 + self.A1 * theta
