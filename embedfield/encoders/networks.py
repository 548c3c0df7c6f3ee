"""Networks: features to embeddings, in the dtype of their parameters."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  of a variable that is there at run time
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leakyrelu": partial(functional.leaky_relu, negative_slope=0.2),
    "gelu": functional.gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
"""What Space2Vec's code and its heirs call activations."""


class Siren(nn.Module):
    """A network of sines: x → sin(w·(W x + b)), …, and a linear last layer.

    Source: Sitzmann et al. 2020, "Implicit Neural Representations with
    Periodic Activation Functions", arXiv 2006.09661.
    """

    def __init__(self, sizes: Sequence[int], *, w0_first: float, w0: float) -> None:
        """Make an uninitialised network, to be filled from a checkpoint.

        Args:
            sizes: Features, widths of the hidden layers, length of an embedding.
            w0_first: Factor w in the first layer.
            w0: Factor w in the other hidden layers.
        """
        super().__init__()
        *layers, self.last_layer = _linears(sizes)
        self.layers = nn.ModuleList(layers)
        self.w0_first = w0_first
        self.w0 = w0

    @property
    def first(self) -> nn.Linear:
        """The layer that takes the features."""
        layer: nn.Linear = self.layers[0]  # type: ignore[assignment]
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (..., dim) of features (..., n)."""
        return self._after_first(self.first(features))

    def on_lattice(self, folded: Tensor, along_lon: Tensor) -> Tensor:
        """Return embeddings where the first layer's weight varies with latitude.

        Args:
            folded: The first layer's weight at each latitude, (height, width_1, n).
            along_lon: Functions of longitude, (width, n).

        Returns:
            (height, width, dim).
        """
        sums = torch.matmul(along_lon, folded.transpose(1, 2))  # (height, width, width_1)
        return self._after_first(sums.add_(self.first.bias))

    def _after_first(self, sums: Tensor) -> Tensor:
        """Return embeddings from the first layer's sums, which are overwritten."""
        hidden = sums.mul_(self.w0_first).sin_()
        for layer in self.layers[1:]:
            hidden = layer(hidden).mul_(self.w0).sin_()
        result: Tensor = self.last_layer(hidden)
        return result


class HalvingSiren(nn.Module):
    """Climplicit's residual SIREN: what a layer adds up is averaged with what the layer before had added up.

    g0 = W0 x + b0, h0 = sin(w0·sinh(2 g0)); g = (W h + b + g') / 2, h = sin(g); at
    last W h + b. Widths of the hidden layers are the same.

    Source: Dollinger et al. 2025, "Climplicit", arXiv 2504.05089.
    """

    def __init__(self, sizes: Sequence[int], *, w0_first: float) -> None:
        """Make an uninitialised network, to be filled from a checkpoint.

        Args:
            sizes: Features, widths of the hidden layers, length of an embedding.
            w0_first: Factor w0 in the first layer.
        """
        super().__init__()
        *layers, self.last_layer = _linears(sizes)
        self.layers = nn.ModuleList(layers)
        self.w0_first = w0_first

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (..., dim) of features (..., n)."""
        first, *others = self.layers
        sums: Tensor = first(features)
        hidden = torch.sin(self.w0_first * torch.sinh(2 * sums))
        for layer in others:
            sums = (layer(hidden) + sums) / 2
            hidden = sums.sin()
        result: Tensor = self.last_layer(hidden)
        return result


class AddingSiren(nn.Module):
    """MIND's residual SIREN: h = sin(w0·(W x + b)), then h + sin(W h + b), block after block.

    Source: Corley et al. 2026, "MIND", arXiv 2609.25454.
    """

    def __init__(self, features: int, width: int, blocks: int, dim: int, *, w0_first: float) -> None:
        """Make an uninitialised network, to be filled from a checkpoint.

        Args:
            features: Length of the input.
            width: Length of every layer.
            blocks: Number of residual blocks, at least 1.
            dim: How many of the last block's numbers are wanted.
            w0_first: Factor w0 in the first layer.
        """
        super().__init__()
        self.first, *others = _linears([features, *[width] * (blocks + 1)])
        *inner, self.last = others
        self.blocks = nn.ModuleList(inner)
        self.dim = dim
        self.w0_first = w0_first

    def forward(self, features: Tensor) -> Tensor:
        """Return the first `dim` numbers of the embeddings, (..., dim), of features (..., n)."""
        hidden: Tensor = self.first(features).mul_(self.w0_first).sin_()
        for block in self.blocks:
            hidden = block(hidden).sin_().add_(hidden)
        # The last block need not make what nobody asked for.
        added = functional.linear(hidden, self.last.weight[: self.dim], self.last.bias[: self.dim])
        return added.sin_().add_(hidden[..., : self.dim])


class ResidualNet(nn.Module):
    """A ReLU layer, then residual pairs of ReLU layers: the net of SINR and of the geo-prior papers.

    Source: Mac Aodha et al. 2019, "Presence-Only Geographical Priors for
    Fine-Grained Image Classification", arXiv 1906.05272.
    """

    def __init__(self, features: int, width: int, depth: int) -> None:
        """Make an uninitialised network, to be filled from a checkpoint.

        Args:
            features: Length of the input.
            width: Length of an embedding, and of every layer.
            depth: Number of residual pairs.
        """
        super().__init__()
        # Numbered as in the official code, whose first activation is 1.
        pairs = {str(number): _Pair(width) for number in range(2, depth + 2)}
        self.feats = nn.ModuleDict({"0": nn.Linear(features, width, device="meta"), **pairs})

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (..., width) of features (..., n)."""
        first, *pairs = self.feats.values()
        hidden: Tensor = first(features).relu_()
        for pair in pairs:
            hidden = pair(hidden)
        return hidden


class _Pair(nn.Module):
    """x + relu(w2 relu(w1 x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1, self.w2 = _linears([width, width, width])

    def forward(self, hidden: Tensor) -> Tensor:
        added: Tensor = self.w2(self.w1(hidden).relu_()).relu_()
        return added.add_(hidden)


class FeedForward(nn.Module):
    """Space2Vec's net: linear, activation, skip and layer norm; in the last layer linear and activation alone.

    Source: Mai et al. 2020, "Multi-Scale Representation Learning for Spatial
    Feature Distributions using Grid Cells", arXiv 2003.00824.
    """

    def __init__(self, sizes: Sequence[int], activation: Callable[[Tensor], Tensor], *, norm: bool, skip: bool) -> None:
        """Make an uninitialised network, to be filled from a checkpoint.

        Args:
            sizes: Features, widths of the hidden layers, length of an embedding.
            activation: Of every layer, the last included.
            norm: Whether hidden layers end in a layer norm.
            skip: Whether hidden layers add their input where its length is that of their output.
        """
        super().__init__()
        self.dim = sizes[-1]
        *hidden, last = _linears(sizes)
        layers = [_Layer(linear, activation, norm=norm, skip=skip) for linear in hidden]
        self.layers = nn.Sequential(*layers, _Layer(last, activation, norm=False, skip=False))

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (..., dim) of features (..., n)."""
        result: Tensor = self.layers(features)
        return result


class _Layer(nn.Module):
    """A layer of `FeedForward`."""

    def __init__(self, linear: nn.Linear, activation: Callable[[Tensor], Tensor], *, norm: bool, skip: bool) -> None:
        super().__init__()
        self.linear = linear
        self.activation = activation
        self.layernorm = nn.LayerNorm(linear.out_features, device="meta") if norm else None
        self.skip = skip and linear.in_features == linear.out_features

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.activation(self.linear(features))
        if self.skip:
            hidden = hidden + features
        if self.layernorm is not None:
            hidden = self.layernorm(hidden)
        return hidden


def _linears(sizes: Sequence[int]) -> list[nn.Linear]:
    """Return unfilled linear layers from each size to the next."""
    return [nn.Linear(*pair, device="meta") for pair in pairwise(sizes)]
