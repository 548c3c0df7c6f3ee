"""SatCLIP: spherical harmonics and a SIREN (Klemmer et al. 2023, arXiv 2311.17179)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from embedfield.encoders import Encoder
from embedfield.encoders.checkpoint import fill, read_checkpoint, require, tensors_below
from embedfield.encoders.harmonics import PublishedHarmonics
from embedfield.encoders.networks import Siren
from embedfield.encoders.positional import fold
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from embedfield.card import Card

FAMILY = "SatCLIP"
# The tower stands twice in the Lightning file, under this name and as 'model.nnet'.
TOWER = "model.location.nnet."


class SatCLIP(Encoder):
    """SatCLIP's location tower; the embedding is not normalised."""

    def __init__(self, card: Card, degrees: int, widths: list[int]) -> None:
        """Make an unfilled tower.

        Args:
            card: The model.
            degrees: L, the number of harmonic degrees (0 to L-1).
            widths: Widths of the hidden layers.
        """
        super().__init__(card)
        self.posenc = PublishedHarmonics(degrees)
        self.network = Siren([self.posenc.dim, *widths, card.dim], w0_first=30.0, w0=1.0)

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the tower of an official Lightning checkpoint.

        Raises:
            WeightsError: If there is no file, or it is no SatCLIP checkpoint,
                or one of another variant than the card's.
        """
        if weights is None:
            raise WeightsError(f"{card.name} needs weights. Give a checkpoint with --weights FILE.")
        checkpoint = read_checkpoint(weights)
        _check_variant(card, _mapping(checkpoint, "hyper_parameters") or {}, weights)
        # A safetensors file has the tensors alone.
        official = tensors_below(_mapping(checkpoint, "state_dict") or checkpoint, TOWER, weights, FAMILY)
        require(official, ("layers.0.weight", "layers.0.bias", "last_layer.weight", "last_layer.bias"), weights, FAMILY)
        state = _renamed(official)
        _check_degrees(card, state, weights)
        tower = cls(replace(card, dim=_size(state, "last.bias")), card.options["legendre_polys"], _widths(state))
        fill(tower.network, state, weights, FAMILY)
        return tower.eval()

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return embeddings (N, dim) of places (N, 2)."""
        return self.network.forward(self.posenc.encode(lonlat).to(self.network.first.weight.dtype))

    def encode_lattice(self, lons: Tensor, lats: Tensor) -> Tensor:
        """Return embeddings (height, width, dim); L² features fold into 2L - 1."""
        weight = self.network.first.weight
        along_lon = self.posenc.along_lon(lons)
        folded = fold(weight.double(), self.posenc, lats, along_lon.shape[1])
        return self.network.on_lattice(folded.to(weight.dtype), along_lon.to(weight.dtype))


def _mapping(checkpoint: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return a part of a checkpoint that is named values; None where it is not there or something else."""
    found = checkpoint.get(name)
    return found if isinstance(found, dict) else None


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tower's tensors under the names of our network.

    Official: ``layers.0``, the hidden layers ``layers.1``, …, and ``last_layer``.
    """
    renamed = {}
    for name, tensor in state.items():
        layer, _, part = name.rpartition(".")
        number = layer.removeprefix("layers.")
        if number.isdecimal():
            layer = f"hidden.{int(number) - 1}" if int(number) else "first"
        renamed[f"{'last' if layer == 'last_layer' else layer}.{part}"] = tensor
    return renamed


def _widths(state: Mapping[str, Tensor]) -> list[int]:
    """Return the widths of the layers between features and embedding."""
    hidden = sorted(int(name.split(".")[1]) for name in state if name.startswith("hidden.") and name.endswith("bias"))
    return [_size(state, "first.bias"), *(_size(state, f"hidden.{number}.bias") for number in hidden)]


def _size(state: Mapping[str, Tensor], name: str) -> int:
    return int(state[name].shape[0])


def _check_variant(card: Card, parameters: Mapping[str, object], path: Path) -> None:
    expected = {"vision_layers": card.options["vision_layers"], "harmonics_calculation": "analytic"}
    for name, value in expected.items():
        found = parameters.get(name, value)
        if found != value:
            raise WeightsError(
                f"{path} is not {card.name}: its {name} is {found!r}, and {card.name} has {value!r}. "
                "Use the model's own name; 'embedfield models' lists them."
            )


def _check_degrees(card: Card, state: Mapping[str, Tensor], path: Path) -> None:
    degrees, features = card.options["legendre_polys"], state["first.weight"].shape[-1]
    if features != degrees**2:
        raise WeightsError(
            f"{path} is not {card.name}: its first layer takes {features} features, "
            f"and {degrees} harmonic degrees make {degrees**2}. "
            "Use the model's own name; 'embedfield models' lists them."
        )
