"""The encoders behind the cards; imported when one of them is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from embedfield.encoders import Composed, Encoder
from embedfield.encoders.checkpoint import fill, given, read_checkpoint, tensors_below
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "tide"
# The sun moves on by so much in an hour.
DEGREES_AN_HOUR = 15


class Day:
    """The positional encoding: the local time of day, and the latitude."""

    dim = 4
    periodic = True
    one_pole = False

    def __init__(self, hour: float) -> None:
        """Take the hour of the day at Greenwich."""
        self.hour = hour

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return cos and sin of the local time, sin and cos of the latitude: (N, 4), of places (N, 2) in degrees."""
        lon, lat = lonlat.unbind(-1)
        time, lat = torch.deg2rad(lon + DEGREES_AN_HOUR * self.hour), torch.deg2rad(lat)
        return torch.stack((time.cos(), time.sin(), lat.sin(), lat.cos()), dim=-1)


class TideDaily(Encoder):
    """An encoder without weights."""

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder at the hour that the card's options have.

        Raises:
            WeightsError: If weights are given: there is nothing to fill.
        """
        if weights is not None:
            raise WeightsError(f"{card.name} has no weights, and {weights} was given. Leave --weights out.")
        return cls(card).eval()

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return embeddings (N, 4) of places (N, 2), float64."""
        return Day(self.card.options["hour"]).encode(lonlat)


class TideLearned(Composed):
    """An encoder with weights: a positional encoding, then a network whose tensors lie below ``network.`` in a file."""

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder of a checkpoint.

        Raises:
            WeightsError: If there is no file, or its tensors are not the network's.
        """
        path = given(card, weights)
        network = nn.Linear(Day.dim, card.dim)
        fill(network, tensors_below(read_checkpoint(path), "network.", path, FAMILY), path, FAMILY)
        return cls(card, Day(card.options["hour"]), network).eval()
