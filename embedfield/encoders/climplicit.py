"""Climplicit: a residual SIREN over the plane map and the month (Dollinger et al. 2025, arXiv 2504.05089)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from embedfield.encoders import Composed
from embedfield.encoders.checkpoint import (
    brief,
    fill,
    given,
    read_checkpoint,
    siren_sizes,
    state_of,
    tensors_below,
)
from embedfield.encoders.networks import HalvingSiren
from embedfield.encoders.positional import Angles
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "Climplicit"
# Without a month the embedding is that of these, one after the other.
SEASONS = (3, 6, 9, 12)


class Climplicit(Composed):
    """Climplicit's embedding in one month, or in March, June, September and December; not normalised."""

    network: HalvingSiren

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder of an official checkpoint.

        Raises:
            WeightsError: If there is no file, or it is no Climplicit checkpoint.
        """
        path = given(card, weights)
        checkpoint = read_checkpoint(path)
        held = state_of(checkpoint)
        state = tensors_below(held, "location_encoder.", path, FAMILY)
        _, *widths = siren_sizes(state, path, FAMILY)
        if len(set(widths[:-1])) > 1:
            raise WeightsError(
                f"{path} does not fit {FAMILY}: its hidden layers are {brief(widths[:-1])} wide, and should be of one "
                f"width. Give the file that {FAMILY} released."
            )
        network = HalvingSiren([4, *widths], w0_first=30.0)
        fill(network, state, path, FAMILY)
        months = [card.options["month"]] if "month" in card.options else SEASONS
        posenc = Angles((1 / 180, 1 / 90), (0.0, 0.0))
        return cls(replace(card, dim=widths[-1] * len(months)), posenc, network, _circle(months)).eval()


def _circle(months: Sequence[float]) -> Tensor:
    """Return sine and cosine of the angle of each month, (months, 2), float64."""
    angles = [month / 12 * 2 * math.pi for month in months]
    return torch.tensor([[math.sin(angle), math.cos(angle)] for angle in angles], dtype=torch.float64)
