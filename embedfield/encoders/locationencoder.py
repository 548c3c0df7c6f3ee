"""The encoders of Rußwurm et al. 2024: any of ten positional encodings under any of three networks.

Source: "Geographic Location Encoding with Spherical Harmonics and Sinusoidal
Representation Networks", ICLR 2024, arXiv 2310.06743. Its authors release the
code and no weights: these are the encoders that users train themselves.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from embedfield.encoders import Composed
from embedfield.encoders.checkpoint import (
    check_variant,
    count,
    fill,
    given,
    mapping,
    read_checkpoint,
    siren_sizes,
    sizes,
    state_of,
    tensors_below,
)
from embedfield.encoders.harmonics import Harmonics
from embedfield.encoders.linear import Linear
from embedfield.encoders.networks import OneLayer, ResidualNet, Siren
from embedfield.encoders.positional import (
    RADIANS,
    Angles,
    GridCells,
    PositionalEncoding,
    Sphere2Vec,
    TheoryCells,
    UnitVector,
    Wrap,
    geometric,
)
from embedfield.encoders.published import PublishedHarmonics
from embedfield.errors import CardError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "locationencoder"
SPHERES = {"spherec": "sphereC", "spherecplus": "sphereC+", "spherem": "sphereM", "spheremplus": "sphereM+"}
POSENCS = ("direct", "cartesian3d", "wrap", "grid", "theory", *SPHERES, "sphericalharmonics")
NETWORKS = ("linear", "fcnet", "siren")
SCALED = ("frequency_num", "min_radius", "max_radius")
HARMONIC = ("legendre_polys", "harmonics_calculation", "zonal_pi")


class LocationEncoder(Composed):
    """A positional encoding and a network, by the names of the official code, in the card's options.

    ``posenc`` is one of `POSENCS`, ``network`` one of `NETWORKS`. grid, theory
    and the spheres take ``frequency_num``, ``min_radius`` and ``max_radius``;
    sphericalharmonics ``legendre_polys``, ``harmonics_calculation`` (analytic
    or closed-form) and ``zonal_pi`` (true for weights trained before
    2024-01-31, when the m = 0 harmonics were π times too large).
    """

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder of a Lightning checkpoint, or of the network's own tensors.

        Raises:
            CardError: If the options name no encoder of this family.
            WeightsError: If there is no file, or it holds another encoder.
        """
        posenc = _posenc(card)
        _option(card, "network", NETWORKS)
        _check_options(card)
        path = given(card, weights)
        checkpoint = read_checkpoint(path)
        told = mapping(checkpoint, "hyper_parameters")
        _check_told(card, told, path)
        held = state_of(checkpoint)
        prefix = "neural_network." if count(held, r"neural_network\..*") else ""
        state = tensors_below(held, prefix, path, FAMILY)
        network, dim = _network(card, posenc.dim, state, path)
        fill(network, state, path, FAMILY)
        if dim != card.dim:
            raise WeightsError(f"{path} makes {dim} dimensions, and the card says dim = {card.dim}. Correct the card.")
        return cls(replace(card, periodic=posenc.periodic, one_pole=posenc.one_pole), posenc, network).eval()


def _check_told(card: Card, told: Mapping[str, Any], path: Path) -> None:
    """Hold a card against the hyperparameters that a Lightning checkpoint keeps.

    Raises:
        WeightsError: If they differ.
    """
    names = {"posenc": "positional_encoding_name", "network": "neural_network_name"}
    check_variant(card, told, {names[name]: card.options[name] for name in names}, path)
    stated = {name: card.options[name] for name in (*SCALED, *HARMONIC[:2]) if name in card.options}
    check_variant(card, mapping(told, "hparams"), stated, path)


def _check_options(card: Card) -> None:
    """Refuse an option that means nothing: a slip in its name would change the numbers, and nobody would know.

    Raises:
        CardError: If there is one.
    """
    known = ("posenc", "network", *SCALED, *HARMONIC)
    if unknown := [name for name in card.options if name not in known]:
        raise CardError(
            f"Card {card.name!r} has {unknown[0]!r} in its options or inputs, which {FAMILY} does not have. "
            f"It has: {', '.join(known)}. Correct or remove it."
        )


def _option(card: Card, name: str, choices: tuple[str, ...]) -> str:
    """Return a word of a card's options.

    Raises:
        CardError: If it is none of the choices.
    """
    found = card.options.get(name)
    if found not in choices:
        raise CardError(f"Card {card.name!r} has {name}={found!r} in its options. Choose from: {', '.join(choices)}.")
    return str(found)


def _number(card: Card, name: str, least: float) -> float:
    """Return a number of a card's options.

    Raises:
        CardError: If it is not there, or less than it can be.
    """
    found = card.options.get(name)
    if not isinstance(found, int | float) or isinstance(found, bool) or not least <= found < math.inf:
        raise CardError(f"Card {card.name!r} has {name}={found!r} in its options. Give a number, at least {least:g}.")
    return found


def _posenc(card: Card) -> PositionalEncoding:
    """Return the positional encoding that a card names.

    Raises:
        CardError: If there is none such.
    """
    match _option(card, "posenc", POSENCS):
        case "direct":
            # Radians less π, of latitude too: that is how the official code has it.
            return Angles((RADIANS, RADIANS), (-math.pi, -math.pi))
        case "cartesian3d":
            return UnitVector()
        case "wrap":
            return Wrap((360.0, 360.0), sines_first=False)
        case "sphericalharmonics":
            return _harmonics(card)
        case name:
            return _scaled(card, name)


def _scaled(card: Card, name: str) -> PositionalEncoding:
    """Return a positional encoding of several frequencies; degrees are taken as radians."""
    least, greatest = (_number(card, side, math.ulp(0.0)) for side in ("min_radius", "max_radius"))
    number = _number(card, "frequency_num", 2)
    if greatest <= least or number != int(number) or number > 10_000:
        raise CardError(
            f"Card {card.name!r} has {number:g} frequencies between the radii {least:g} and {greatest:g}, "
            "which make no scale. Give a whole number, and radii of which max_radius is the greater."
        )
    scales = geometric(int(number), least, greatest)
    if name == "grid":
        return GridCells(scales)
    if name == "theory":
        return TheoryCells(scales, halves=True)
    return Sphere2Vec(SPHERES[name], scales, unit=1.0, repeats=2)


def _harmonics(card: Card) -> PositionalEncoding:
    """Return the spherical harmonics that a card names."""
    degrees = _number(card, "legendre_polys", 1)
    if degrees != int(degrees):
        raise CardError(f"Card {card.name!r} has legendre_polys={degrees!r} in its options. Give a whole number.")
    options = {"harmonics_calculation": "analytic", **card.options}
    calculation = _option(replace(card, options=options), "harmonics_calculation", ("analytic", "closed-form"))
    if calculation == "closed-form":
        return ClosedForm(int(degrees))
    zonal_pi = card.options.get("zonal_pi", False)
    if not isinstance(zonal_pi, bool):
        raise CardError(f"Card {card.name!r} has zonal_pi={zonal_pi!r} in its options. Write true or false.")
    return PublishedHarmonics(int(degrees), zonal_pi=zonal_pi)


class ClosedForm(Harmonics):
    """Orthonormal harmonics with the Condon-Shortley phase, phi from 180° W and theta from the south pole.

    Source: Green 2003, "Spherical Harmonic Lighting: The Gritty Details".
    """

    def __init__(self, degrees: int) -> None:
        """Take the functions of degree l = 0 .. degrees - 1."""
        super().__init__(degrees)
        orders = [(degree, abs(m)) for degree in range(degrees) for m in range(-degree, degree + 1)]
        # (-1)^m of the phase, (-1)^m of the first meridian, (-1)^(l+m) of the pole.
        self._signs = torch.tensor([(-1.0) ** (degree + m) for degree, m in orders], dtype=torch.float64)

    def _block(self, lons: Tensor | None, lats: Tensor) -> Tensor:
        return super()._block(lons, lats) * self._signs.to(lats.device)[:, None]


def _network(card: Card, features: int, state: Mapping[str, Tensor], path: Path) -> tuple[nn.Module, int]:
    """Return the unfilled network that a card names, of the shapes in a checkpoint, and the length of its output."""
    network: nn.Module
    match _option(card, "network", NETWORKS):
        case "linear":
            _, dim = sizes(state, [""], path, FAMILY)
            network = OneLayer(features, dim)
        case "fcnet":
            _, width = sizes(state, ["feats.0"], path, FAMILY)
            _, dim = sizes(state, ["class_emb"], path, FAMILY)
            network = FCNet(features, width, dim, depth=count(state, r"feats\.\d+\.w1\.weight"))
        case _:
            _, *widths, dim = siren_sizes(state, path, FAMILY)
            network = Siren([features, *widths, dim], w0_first=30.0, w0=1.0)
    return network, dim


class FCNet(ResidualNet):
    """A residual network and a linear layer without bias."""

    def __init__(self, features: int, width: int, dim: int, depth: int) -> None:
        """Make an uninitialised network, to be filled from a checkpoint.

        Args:
            features: Length of the input.
            width: Length of every layer.
            dim: Length of the output.
            depth: Number of residual pairs.
        """
        super().__init__(features, width, depth)
        self.class_emb = Linear(width, dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return outputs (..., dim) of features (..., n)."""
        return self.class_emb.forward(super().after_first(self.first_layer()(features)))

    def after_first(self, sums: Tensor) -> Tensor:
        """Return outputs (N, dim), band by band, of the first layer's sums (N, width), which are overwritten."""
        return self.class_emb.bandwise(super().after_first(sums))
