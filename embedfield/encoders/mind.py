"""MIND: Equal Earth and a residual SIREN (Corley et al. 2026, arXiv 2609.25454)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from embedfield.encoders import Composed
from embedfield.encoders.checkpoint import (
    check_tensors,
    count,
    fill,
    given,
    read_checkpoint,
    sizes,
    state_of,
    tensors_below,
)
from embedfield.encoders.networks import AddingSiren
from embedfield.encoders.positional import EqualEarth
from embedfield.errors import InputsError, WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "MIND"
# A year enters as the angle (year - 2021) / 4, at each of the checkpoint's frequencies.
YEAR, YEARS = 2021.0, 4.0
ROOT3 = math.sqrt(3.0)


class MIND(Composed):
    """MIND's features, cut to the card's length; not normalised."""

    network: AddingSiren

    def __init__(self, card: Card, network: AddingSiren, year: Tensor) -> None:
        """Put the encoder together.

        Args:
            card: The model.
            network: Over plane coordinates and the features of the year.
            year: Those features, (n,), float64; n is 0 for weights that take none.
        """
        super().__init__(card, EqualEarth(ROOT3), network, year[None])

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder of an official checkpoint, its architecture read off the shapes.

        Raises:
            WeightsError: If there is no file, it is no MIND checkpoint, or it
                has fewer dimensions than are asked.
            InputsError: If a year is missing or too many for these weights.
        """
        path = given(card, weights)
        checkpoint = read_checkpoint(path)
        held = state_of(checkpoint)
        tensors_below(held, "first.linear.", path, FAMILY)
        state = tensors_below(held, "", path, FAMILY)
        features, width, _ = sizes(state, ["first.linear", "blocks.0.linear"], path, FAMILY)
        blocks = count(state, r"blocks\.\d+\.linear\.weight")
        network = AddingSiren(features, width, blocks, _dim(card, width, path), w0_first=30.0)
        fill(network, _renamed(state, blocks), path, FAMILY)
        return cls(replace(card, dim=network.dim), network, _year_features(card, state, features, path)).eval()


def _dim(card: Card, width: int, path: Path) -> int:
    """Return the length of the prefix: what was asked, else the card's, where the weights are as wide."""
    asked: int | None = card.options.get("dims")
    if asked is not None and asked > width:
        raise WeightsError(f"{path} has {width} dimensions, and {asked} are asked. Ask for {width} or fewer.")
    return asked or min(card.dim, width)


def _renamed(state: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Return the trunk's tensors under the names of our network, whose last block stands apart."""
    ours = {"first": "first", f"blocks.{blocks - 1}": "last"} | {
        f"blocks.{n}": f"blocks.{n}" for n in range(blocks - 1)
    }
    parts = [(name, *name.rsplit(".linear.", 1)) for name in state if ".linear." in name]
    # A layer that is not ours keeps its name, and is found to be too many by `fill`.
    return {f"{ours.get(layer, name)}.{part}": state[name] for name, layer, part in parts}


def _year_features(card: Card, state: dict[str, Tensor], features: int, path: Path) -> Tensor:
    """Return sines and cosines of the year's angles, (n,), float64; n = 0 for weights without a year."""
    frequencies = state.get("year_freqs", torch.empty(0))
    check_tensors({"year_freqs": frequencies}, path, FAMILY)
    if frequencies.ndim != 1:
        raise WeightsError(
            f"{path} does not fit {FAMILY}: its 'year_freqs' has the shape {tuple(frequencies.shape)}, and should be "
            f"a list of frequencies. Give the file that {FAMILY} released."
        )
    frequencies = frequencies.double()
    takes, year = features == 2 + 2 * len(frequencies), card.options.get("year")
    if features != 2 and not takes:
        raise WeightsError(
            f"{path} does not fit {FAMILY}: its first layer takes {features} numbers, and a place makes 2, "
            f"a place and a year {2 + 2 * len(frequencies)}. Give the file that {FAMILY} released."
        )
    if features != 2 and year is None:
        raise InputsError(f"{path} wants a year beside the place. Give one with --year.")
    if features == 2 and year is not None:
        raise InputsError(f"{path} takes no year: it was trained on places alone. Leave the year out.")
    if year is None:
        return torch.empty(0, dtype=torch.float64)
    angles = (year - YEAR) / YEARS * frequencies
    return torch.cat((angles.sin(), angles.cos()))
