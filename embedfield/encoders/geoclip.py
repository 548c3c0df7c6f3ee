"""GeoCLIP: Equal Earth and three scales of random Fourier features.

Source: Vivanco Cepeda et al. 2023, "GeoCLIP: Clip-Inspired Alignment between
Locations and Images for Effective Worldwide Geo-localization", arXiv 2309.16020.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from embedfield.encoders import Encoder
from embedfield.encoders.checkpoint import fill, read_checkpoint, tensors_below
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "GeoCLIP"
# Coefficients of the Equal Earth projection (Šavrič et al. 2018).
A1, A2, A3, A4 = 1.340264, -0.081106, 0.000893, 0.003796
# The official code rounds the square root of three to float32, in every precision.
SQRT3 = 1.7320507764816284
SCALE = 66.50336 / 180.0


def equal_earth(lonlat: Tensor) -> Tensor:
    """Return GeoCLIP's plane coordinates (x, y) of places, (N, 2), float64.

    The plane is torn at the antimeridian, and its poles are lines.
    """
    lon, lat = torch.deg2rad(lonlat).unbind(-1)
    theta = torch.asin(SQRT3 / 2 * torch.sin(lat))
    x = (
        2 * SQRT3 * lon * torch.cos(theta)
        / (3 * (9 * A4 * theta**8 + 7 * A3 * theta**6 + 3 * A2 * theta**2 + A1))
    )  # fmt: skip
    y = A4 * theta**9 + A3 * theta**7 + A2 * theta**3 + A1 * theta
    return torch.stack((x, y), dim=-1) * SCALE


class Scale(nn.Module):
    """Random Fourier features of one frequency scale, and their network."""

    def __init__(self, dim: int) -> None:
        """Make an unfilled scale, to be filled from a checkpoint."""
        super().__init__()
        self.capsule = nn.Sequential(
            _Frequencies(256),
            *(nn.Linear(512, 1024, device="meta"), nn.ReLU(inplace=True)),
            *(nn.Linear(1024, 1024, device="meta"), nn.ReLU(inplace=True)),
            *(nn.Linear(1024, 1024, device="meta"), nn.ReLU(inplace=True)),
        )
        self.head = nn.Sequential(nn.Linear(1024, dim, device="meta"))

    def forward(self, plane: Tensor) -> Tensor:
        """Return this scale's share (N, dim) of the embedding of plane coordinates (N, 2)."""
        result: Tensor = self.head(self.capsule(plane))
        return result


class _Frequencies(nn.Module):
    """cos and sin of 2π·B·v; the angle in float64, whatever the network's dtype."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("b", torch.empty(count, 2, device="meta"))
        self.b: Tensor

    def forward(self, plane: Tensor) -> Tensor:
        angle = (2 * math.pi * plane) @ self.b.double().T  # (N, count)
        if self.b.dtype != torch.float64:
            # Some angles are hundreds of turns: whole turns leave before the digits do.
            angle = torch.remainder(angle, 2 * math.pi).to(self.b.dtype)
        return torch.cat((angle.cos(), angle.sin()), dim=-1)


class GeoCLIP(Encoder):
    """GeoCLIP's location encoder; the embedding is not normalised."""

    def __init__(self, card: Card) -> None:
        """Make an unfilled encoder."""
        super().__init__(card)
        scales = card.options["scales"]
        self.scales = nn.ModuleDict({f"LocEnc{i}": Scale(card.dim) for i in range(len(scales))})

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder of an official checkpoint.

        Raises:
            WeightsError: If there is no file, or it is no GeoCLIP checkpoint.
        """
        if weights is None:
            raise WeightsError(f"{card.name} needs weights. Give a checkpoint with --weights FILE.")
        state = read_checkpoint(weights)
        tensors_below(state, "LocEnc0.capsule.", weights, FAMILY)
        encoder = cls(card)
        fill(encoder.scales, state, weights, FAMILY)
        return encoder.eval()

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return embeddings (N, dim) of places (N, 2)."""
        plane = equal_earth(lonlat)
        total: Tensor
        total, *others = (scale(plane) for scale in self.scales.values())
        for share in others:
            total += share
        return total
