"""SINR: a wrapped place and a residual network (Cole et al. 2023, arXiv 2306.02564)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from embedfield.encoders import Composed
from embedfield.encoders.checkpoint import (
    count,
    fill,
    given,
    read_checkpoint,
    sizes,
    state_of,
    tensors_below,
)
from embedfield.encoders.networks import ResidualNet
from embedfield.encoders.positional import Wrap
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "SINR"
# A turn of longitude is 360 degrees; of latitude 180, so both poles have the same sine and cosine.
TURNS = (360.0, 180.0)


class SINR(Composed):
    """SINR's network up to its species; the embedding is not normalised."""

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder of an official checkpoint, or of its safetensors redistribution.

        FS-SINR's checkpoints, which keep the same network under
        ``headless_model.``, are read too.

        Raises:
            WeightsError: If there is no file, or it is no SINR checkpoint, or
                one that wants environmental rasters beside the place.
        """
        path = given(card, weights)
        checkpoint = read_checkpoint(path)
        held = state_of(checkpoint)
        prefix = "headless_model.feats." if count(held, r"headless_model\.feats\..*") else "feats."
        state = tensors_below(held, prefix, path, FAMILY)
        posenc = Wrap(TURNS, sines_first=True)
        features, width = sizes(state, ["0"], path, FAMILY)
        if features != posenc.dim:
            raise WeightsError(
                f"{path} takes {features} numbers a place, and a place alone makes {posenc.dim}: it wants "
                "environmental rasters too. Give a checkpoint whose name says 'input_enc_sin_cos'."
            )
        network = ResidualNet(features, width, count(state, r"\d+\.w1\.weight"))
        fill(network.feats, state, path, FAMILY)
        return cls(replace(card, dim=width), posenc, network).eval()
