"""Encoders without weights: for first steps, for baselines, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from embedfield.encoders import Encoder
from embedfield.encoders.harmonics import Harmonics
from embedfield.encoders.lattice import Lattice, Tabled
from embedfield.encoders.positional import Separable, UnitVector
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from embedfield.card import Card


class Analytic(Encoder):
    """A positional encoding by itself; always float64."""

    def __init__(self, card: Card, posenc: Separable) -> None:
        """Make an encoder of a positional encoding."""
        super().__init__(card)
        self.posenc = posenc

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder: ``legendre_polys`` harmonic degrees, or the unit vector.

        Raises:
            WeightsError: If weights are given: there is nothing to fill.
        """
        if weights is not None:
            raise WeightsError(f"{card.name} has no weights, and {weights} was given. Leave --weights out.")
        degrees = card.options.get("legendre_polys")
        return cls(card, Harmonics(degrees) if degrees else UnitVector()).eval()

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features (N, dim) of places (N, 2), float64."""
        return self.posenc.encode(lonlat)

    def lattice(self, lons: Tensor, lats: Tensor) -> Lattice:
        """Return the features of every pair of a longitude and a latitude, to be computed block by block."""
        return Tabled(self.posenc, lons, lats, _itself)


def _itself(features: Tensor) -> Tensor:
    return features
