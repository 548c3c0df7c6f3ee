"""CSP: grid cells over degrees and a small network (Mai et al. 2023, arXiv 2305.01118)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from embedfield.encoders import Composed
from embedfield.encoders.checkpoint import check_variant, given, mapping, option, read_checkpoint, tensors_below
from embedfield.encoders.positional import GridCells
from embedfield.encoders.space2vec import feed_forward, frequencies

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "CSP"
# The encoder stands twice in the file, under this name and as 'spa_enc.'.
NETWORK = "loc_enc.spa_enc.ffn."


class CSP(Composed):
    """CSP's location encoder, up to its classes; the embedding is not normalised.

    It takes degrees. A notebook of SatCLIP's authors feeds it fractions of 180
    and 90 degrees, on which it was not trained.
    """

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder of an official checkpoint, with the checkpoint's own parameters.

        Raises:
            WeightsError: If there is no file, or it is no CSP checkpoint, or
                one of another data set than the card's.
        """
        path = given(card, weights)
        checkpoint = read_checkpoint(path)
        parameters = mapping(checkpoint, "params")
        state = tensors_below(mapping(checkpoint, "state_dict"), NETWORK, path, FAMILY)
        check_variant(card, parameters, {"spa_enc_type": "gridcell", "dataset": option(card, "dataset", str)}, path)
        posenc = GridCells(frequencies(parameters, path, FAMILY))
        network = feed_forward(state, parameters, posenc.dim, path, FAMILY)
        return cls(replace(card, dim=network.dim), posenc, network).eval()
