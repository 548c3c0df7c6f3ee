"""GeoCLIP: Equal Earth and three scales of random Fourier features.

Source: Vivanco Cepeda et al. 2023, "GeoCLIP: Clip-Inspired Alignment between
Locations and Images for Effective Worldwide Geo-localization", arXiv 2309.16020.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from embedfield.encoders import Encoder
from embedfield.encoders.between import cosine_and_sine
from embedfield.encoders.checkpoint import count, fill, given, read_checkpoint, sizes, tensors_below
from embedfield.encoders.lattice import Lattice, Tabled
from embedfield.encoders.linear import RELU, Linear
from embedfield.encoders.positional import EqualEarth
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "GeoCLIP"
# The official code rounds the square root of three to float32, in every precision.
ROOT3 = 1.7320507764816284


class Scale(nn.Module):
    """Random Fourier features of one frequency scale, and their network."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """Make an unfilled scale, to be filled from a checkpoint.

        Args:
            sizes: Features, widths of the layers, length of an embedding. Each
                frequency makes two features, a cosine and a sine.
        """
        super().__init__()
        self.dim = sizes[-1]
        *hidden, last = pairwise(sizes)
        # Activations have places of their own in the official code's numbering.
        layers = chain.from_iterable((Linear(*pair, then=RELU), nn.Identity()) for pair in hidden)
        self.capsule = nn.Sequential(_Frequencies(sizes[0] // 2), *layers)
        self.head = nn.Sequential(Linear(*last))

    def forward(self, plane: Tensor) -> Tensor:
        """Return this scale's share (N, dim) of the embedding of plane coordinates (N, 2)."""
        result: Tensor = self.head(self.capsule(plane))
        return result

    def bandwise(self, plane: Tensor) -> Tensor:
        """Return the same, lying in memory band by band, as rasters do."""
        last: Linear = self.head[0]  # type: ignore[assignment]
        return last.bandwise(self.capsule(plane))


class _Frequencies(nn.Module):
    """cos and sin of 2π·B·v; the angle in float64, whatever the network's dtype."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("b", torch.empty(count, 2, device="meta"))
        self.b: Tensor

    def forward(self, plane: Tensor) -> Tensor:
        turn = 2 * math.pi
        angle = (turn * plane) @ self.b.to(plane.device).double().T  # (N, count)
        if self.b.dtype != torch.float64:
            # Some angles are hundreds of turns: whole turns leave before the digits do.
            angle = angle.sub_((angle / turn).round_(), alpha=turn).to(self.b.dtype).to(self.b.device)
        return cosine_and_sine(angle)


class GeoCLIP(Encoder):
    """GeoCLIP's location encoder, and those that were trained on from it; the embedding is not normalised."""

    def __init__(self, card: Card, scales: Sequence[Scale]) -> None:
        """Put an encoder together from its scales."""
        super().__init__(card)
        self.posenc = EqualEarth(ROOT3)
        self.scales = nn.ModuleDict({f"LocEnc{number}": scale for number, scale in enumerate(scales)})

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder of an official checkpoint: of the location encoder, or of the whole GeoCLIP.

        Raises:
            WeightsError: If there is no file, or it is no GeoCLIP checkpoint.
        """
        path = given(card, weights)
        checkpoint = read_checkpoint(path)
        whole = count(checkpoint, r"location_encoder\..*")
        state = tensors_below(checkpoint, "location_encoder.LocEnc" if whole else "LocEnc", path, FAMILY)
        scales = [_scale(state, number, path) for number in range(max(1, count(state, r"\d+\.head\.0\.weight")))]
        dims = [scale.dim for scale in scales]
        if len(set(dims)) > 1:
            raise WeightsError(
                f"{path} does not fit {FAMILY}: its scales have {dims} dimensions. "
                f"Give the file that {FAMILY} released."
            )
        encoder = cls(replace(card, dim=dims[0]), scales)
        fill(encoder.scales, {f"LocEnc{name}": tensor for name, tensor in state.items()}, path, FAMILY)
        return encoder.eval()

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return embeddings (N, dim) of places (N, 2)."""
        return self._added(Scale.forward, self.posenc.encode(lonlat))

    def lattice(self, lons: Tensor, lats: Tensor) -> Lattice:
        """Return embeddings of every pair of a longitude and a latitude, to be computed block by block."""
        return Tabled(self.posenc, lons, lats, partial(self._added, Scale.bandwise))

    def _added(self, share: Callable[[Scale, Tensor], Tensor], plane: Tensor) -> Tensor:
        """Return the sum (N, dim) of what each scale makes of plane coordinates (N, 2)."""
        shares = (share(scale, plane) for scale in self.scales.values())  # type: ignore[arg-type]
        total = next(shares)
        for other in shares:
            total += other
        return total


def _scale(state: Mapping[str, Tensor], number: int, path: Path) -> Scale:
    """Return an unfilled scale of the shapes in a checkpoint."""
    # Numbers so long that Python would not read them are no layers, and found to be too many by `fill`.
    layer = re.compile(rf"{number}\.capsule\.(\d{{1,9}})\.weight")
    layers = sorted(int(match[1]) for name in state if (match := layer.fullmatch(name)))
    names = [*(f"{number}.capsule.{layer}" for layer in layers), f"{number}.head.0"]
    widths = sizes(state, names, path, FAMILY)
    if widths[0] % 2:
        raise WeightsError(
            f"{path} does not fit {FAMILY}: its '{names[0]}' takes {widths[0]} features, and they come in pairs of "
            f"cosine and sine. Give the file that {FAMILY} released."
        )
    return Scale(widths)
