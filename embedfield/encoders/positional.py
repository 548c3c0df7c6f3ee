"""Positional encodings: places to features, in float64."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Separable(Protocol):
    """A positional encoding whose every feature is f(lat) · g(lon).

    Several features share one function of longitude; on a lattice that is
    what lets the first linear layer be folded (`fold`).
    """

    dim: int
    """Number of features."""
    columns: Tensor
    """(dim,), int64: the function of longitude that each feature uses."""

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features of places (N, 2), degrees: (N, dim), float64."""

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
