"""Positional encodings: places to features, in float64.

Repositories use one name for different mathematics. What they share stands
here; what they do not (whether degrees become radians, whether a frequency
stands twice, which scales) each family says for itself.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

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


class Separable(PositionalEncoding, Protocol):
    """A positional encoding whose every feature is f(lat) · g(lon).

    Several features share one function of longitude; on a lattice that is
    what lets the first linear layer be folded (`fold`).
    """

    columns: Tensor
    """(dim,), int64: the function of longitude that each feature uses."""

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return the functions of longitude: (n_lons, n_functions), float64."""

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return each feature's function of latitude: (n_lats, dim), float64."""


def fold(weight: Tensor, posenc: Separable, lats: Tensor, n_functions: int) -> Tensor:
    """Fold a linear layer over the features into one over the functions of longitude.

    weight @ features(lon, lat) = fold(weight, ..., lat) @ posenc.along_lon(lon):
    the columns of `weight` are scaled by the functions of latitude, and those
    that meet the same function of longitude are added.

    Args:
        weight: (out, dim), float64.
        posenc: The positional encoding.
        lats: Degrees, (n_lats,), float64.
        n_functions: Number of functions of longitude.

    Returns:
        (n_lats, out, n_functions), float64.
    """
    scaled = weight[None] * posenc.along_lat(lats)[:, None, :]  # (n_lats, out, dim)
    folded = scaled.new_zeros(len(lats), len(weight), n_functions)
    return folded.index_add_(2, posenc.columns.to(weight.device), scaled)


def lattice_features(posenc: Separable, lons: Tensor, lats: Tensor) -> Tensor:
    """Return the features at every pair: (n_lats, n_lons, dim), float64."""
    columns = posenc.columns.to(lons.device)
    return posenc.along_lat(lats)[:, None, :] * posenc.along_lon(lons)[None][:, :, columns]


class UnitVector:
    """A place as a unit vector: x to (0°, 0°), y to (90°E, 0°), z to the north pole."""

    dim = 3
    periodic = one_pole = True
    columns = torch.arange(3)

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return (cos lat cos lon, cos lat sin lon, sin lat), (N, 3), float64."""
        lon, lat = lonlat.unbind(-1)
        return self.along_lat(lat) * self.along_lon(lon)

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return (cos lon, sin lon, 1), (n_lons, 3), float64."""
        lon = torch.deg2rad(lons)
        return torch.stack((lon.cos(), lon.sin(), torch.ones_like(lon)), dim=-1)

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return (cos lat, cos lat, sin lat), (n_lats, 3), float64."""
        lat = torch.deg2rad(lats)
        return torch.stack((lat.cos(), lat.cos(), lat.sin()), dim=-1)


class Angles:
    """Two angles of a place as they are; a plane with edges."""

    dim = 2
    periodic = one_pole = False

    def __init__(self, factors: tuple[float, float], offsets: tuple[float, float]) -> None:
        """Take degrees × factor + offset, of longitude and of latitude."""
        self.factors = torch.tensor(factors, dtype=torch.float64)
        self.offsets = torch.tensor(offsets, dtype=torch.float64)

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return (lon, lat), scaled and moved, (N, 2), float64."""
        return lonlat * self.factors.to(lonlat.device) + self.offsets.to(lonlat.device)


class Wrap:
    """Sines and cosines of two angles of a place; a torus, on which a pole is a circle."""

    dim = 4
    periodic = True
    one_pole = False

    def __init__(self, turns: tuple[float, float], *, sines_first: bool) -> None:
        """Choose the angles and their order.

        Args:
            turns: Degrees of longitude and of latitude that make a full turn.
            sines_first: (sin, sin, cos, cos), as SINR; else (cos, sin, cos, sin).
        """
        self.factors = 2 * math.pi / torch.tensor(turns, dtype=torch.float64)
        self.sines_first = sines_first

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return sines and cosines of both angles, (N, 4), float64."""
        angles = lonlat * self.factors.to(lonlat.device)
        if self.sines_first:
            return torch.cat((angles.sin(), angles.cos()), dim=-1)
        return torch.stack((angles.cos(), angles.sin()), dim=-1).flatten(1)


def geometric(count: int, least: float, greatest: float) -> Tensor:
    """Return frequencies 1 / radius, the radii growing geometrically: (count,), float64.

    Args:
        count: How many, at least 2.
        least: Radius of the first.
        greatest: Radius of the last.
    """
    step = math.log(greatest / least) / (count - 1)
    return 1.0 / (least * torch.exp(torch.arange(count, dtype=torch.float64) * step))


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

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features (N, 4 F), float64."""
        angles = lonlat[:, :, None] * self.frequencies.to(lonlat.device)  # (N, 2, F)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


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

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features (N, 6 F), float64."""
        along = lonlat @ self.directions.to(lonlat.device)  # (N, 3)
        angles = along[:, None, :] * self.frequencies.to(lonlat.device)[:, None]  # (N, F, 3)
        twice = angles.flatten(1).repeat_interleave(2, dim=1)
        return torch.where(self.sines.to(lonlat.device), twice.sin(), twice.cos())


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

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features (N, F × functions × repeats), frequency by frequency, float64."""
        lon, lat = (lonlat[:, :, None] * self.frequencies.to(lonlat.device) * self.unit).unbind(1)  # (N, F) each
        lon1, lat1 = (lonlat[:, :, None] * self.unit).unbind(1)  # (N, 1) each
        if self.kind.startswith("sphereC"):
            tail = [lat.cos() * lon.cos(), lat.cos() * lon.sin()]
        else:
            tail = [lat.cos() * lon1.cos(), lat1.cos() * lon.cos(), lat.cos() * lon1.sin(), lat1.cos() * lon.sin()]
        waves = [lat.sin(), lat.cos(), lon.sin(), lon.cos()] if self.kind.endswith("+") else [lat.sin()]
        return torch.stack((*waves, *tail), dim=-1).repeat_interleave(self.repeats, dim=-1).flatten(1)


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

    def __init__(self, root3: float) -> None:
        """Take the square root of three as the official code has it."""
        self.root3 = root3

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return plane coordinates (x, y), (N, 2), float64."""
        lon, lat = torch.deg2rad(lonlat).unbind(-1)
        theta = torch.asin(self.root3 / 2 * torch.sin(lat))
        x = (
            2 * self.root3 * lon * torch.cos(theta)
            / (3 * (9 * self.A4 * theta**8 + 7 * self.A3 * theta**6 + 3 * self.A2 * theta**2 + self.A1))
        )  # fmt: skip
        y = self.A4 * theta**9 + self.A3 * theta**7 + self.A2 * theta**3 + self.A1 * theta
        return torch.stack((x, y), dim=-1) * self.SCALE
