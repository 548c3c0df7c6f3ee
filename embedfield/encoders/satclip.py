"""SatCLIP: spherical harmonics and a SIREN (Klemmer et al. 2023, arXiv 2311.17179)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from embedfield.encoders import Composed
from embedfield.encoders.checkpoint import (
    check_variant,
    count,
    fill,
    given,
    mapping,
    option,
    read_checkpoint,
    siren_sizes,
    state_of,
    tensors_below,
)
from embedfield.encoders.networks import Siren
from embedfield.encoders.published import PublishedHarmonics
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "SatCLIP"
# The tower stands twice in the Lightning file, under this name and as 'model.nnet'.
TOWER = "model.location.nnet."
# Its redistribution has the tower alone.
ALONE = "location.nnet."


class SatCLIP(Composed):
    """SatCLIP's location tower; the embedding is not normalised."""

    posenc: PublishedHarmonics
    network: Siren

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the tower of an official Lightning checkpoint, or of a safetensors file of the tower.

        Raises:
            WeightsError: If there is no file, or it is no SatCLIP checkpoint,
                or one of another variant than the card's.
        """
        path = given(card, weights)
        checkpoint = read_checkpoint(path)
        variant = {"vision_layers": option(card, "vision_layers", str), "harmonics_calculation": "analytic"}
        check_variant(card, mapping(checkpoint, "hyper_parameters"), variant, path)
        held = state_of(checkpoint)
        state = tensors_below(held, ALONE if count(held, rf"{ALONE}.*") else TOWER, path, FAMILY)
        features, *widths = siren_sizes(state, path, FAMILY)
        posenc = PublishedHarmonics(option(card, "legendre_polys", int))
        _check_degrees(card, features, posenc, path)
        network = Siren([features, *widths], w0_first=30.0, w0=1.0)
        fill(network, state, path, FAMILY)
        return cls(replace(card, dim=widths[-1]), posenc, network).eval()


def _check_degrees(card: Card, features: int, posenc: PublishedHarmonics, path: Path) -> None:
    if features != posenc.dim:
        raise WeightsError(
            f"{path} is not {card.name}: its first layer takes {features} features, "
            f"and {posenc.degrees} harmonic degrees make {posenc.dim}. "
            "Use the model's own name; 'embedfield models' lists them."
        )
