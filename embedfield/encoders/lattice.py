"""Lattices: every pair of a longitude and a latitude, where what pixels share is computed once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from embedfield.encoders.linear import product
from embedfield.encoders.positional import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedfield.encoders.linear import Activation
    from embedfield.encoders.positional import Separable


class Lattice(ABC):
    """An encoder over every pair of a longitude and a latitude."""

    @abstractmethod
    def block(self, rows: slice, cols: slice) -> Tensor:
        """Return embeddings of some latitudes (rows) and some longitudes (cols): (dim, height, width)."""


class Pointwise(Lattice):
    """A lattice whose places are encoded one by one."""

    def __init__(self, encode: Callable[[Tensor], Tensor], lons: Tensor, lats: Tensor) -> None:
        """Take the places.

        Args:
            encode: From places (N, 2) to embeddings (N, dim).
            lons: Degrees, (width,), float64.
            lats: Degrees, (height,), float64.
        """
        self.encode = encode
        self.lons, self.lats = lons, lats

    def block(self, rows: slice, cols: slice) -> Tensor:
        """Return embeddings (dim, height, width)."""
        lons, lats = self.lons[cols], self.lats[rows]
        values = self.encode(pairs(lons, lats))
        return values.T.reshape(-1, len(lats), len(lons))


class Tabled(Lattice):
    """A lattice whose features are products of tables along its two axes."""

    def __init__(self, posenc: Separable, lons: Tensor, lats: Tensor, network: Callable[[Tensor], Tensor]) -> None:
        """Make the tables.

        Args:
            posenc: The positional encoding.
            lons: Degrees, (width,), float64.
            lats: Degrees, (height,), float64.
            network: From features (N, n), float64, to embeddings (N, dim).
        """
        self.posenc = posenc
        self.network = network
        self.along_lon, self.along_lat = posenc.along_lon(lons), posenc.along_lat(lats)

    def block(self, rows: slice, cols: slice) -> Tensor:
        """Return embeddings (dim, height, width)."""
        features = spread(self.posenc, self.along_lon[cols], self.along_lat[rows])
        return self.network(features.flatten(0, 1)).T.reshape(-1, *features.shape[:2])


class Folded(Lattice):
    """A lattice of a network whose first layer was folded into one over functions of longitude, at each latitude."""

    def __init__(
        self,
        folded: Sequence[Tensor],
        along_lon: Tensor,
        then: Activation | None,
        after_first: Callable[[Tensor], Tensor],
    ) -> None:
        """Take what was made ready, in the network's precision.

        Args:
            folded: First layers, (height, n, width_1) each; their embeddings stand side by side.
            along_lon: Functions of longitude, (width, n).
            then: The first layer's activation.
            after_first: The network from the first layer's output (N, width_1), which it may
                overwrite, to embeddings (N, dim).
        """
        self.folded = folded
        self.along_lon = along_lon
        self.then = then
        self.after_first = after_first

    def block(self, rows: slice, cols: slice) -> Tensor:
        """Return embeddings (dim, height, width)."""
        along_lon = self.along_lon[cols]
        parts = [self.after_first(_first(along_lon, folded[rows], self.then)).T for folded in self.folded]
        values = parts[0] if len(parts) == 1 else torch.cat(parts)
        return values.reshape(len(values), -1, len(along_lon))


def pairs(lons: Tensor, lats: Tensor) -> Tensor:
    """Return every pair of a longitude and a latitude, row by row: (n_lats · n_lons, 2)."""
    lat, lon = torch.meshgrid(lats, lons, indexing="ij")
    return torch.stack((lon.ravel(), lat.ravel()), dim=-1)


def _first(along_lon: Tensor, folded: Tensor, then: Activation | None) -> Tensor:
    """Return the output of first layers (height, n, out) for longitudes (width, n): (height · width, out)."""
    if along_lon.device.type == "cpu":
        # One by one: batches of products are slow there.
        rows = [product(along_lon, layer.T, then=then) for layer in folded]
        return rows[0] if len(rows) == 1 else torch.cat(rows)
    sums = torch.bmm(along_lon.expand(len(folded), -1, -1), folded).flatten(0, 1)
    return then.apply(sums) if then else sums
