"""Networks: features to embeddings, in the dtype of their parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedfield.encoders.between import averaged_sine_, normalised_, rectified_sum_, sine_
from embedfield.encoders.linear import RELU, Activation, Linear, linears, product

if TYPE_CHECKING:
    from collections.abc import Sequence


ACTIVATIONS: dict[str, Activation] = {
    "relu": RELU,
    "leakyrelu": Activation(partial(functional.leaky_relu_, negative_slope=0.2), ("leaky_relu", [0.2], "")),
    "gelu": Activation(functional.gelu, ("gelu", [], "none")),
    "sigmoid": Activation(torch.sigmoid_, ("sigmoid", [], "")),
    "tanh": Activation(torch.tanh_, ("tanh", [], "")),
}
"""What Space2Vec's code and its heirs call activations."""


class FirstLinear(nn.Module, ABC):
    """A network whose first layer is linear, so that on a lattice it can be folded."""

    @abstractmethod
    def first_layer(self) -> Linear | None:
        """Return the layer that takes the features; None where they are wanted a second time, further on."""

    @abstractmethod
    def after_first(self, sums: Tensor) -> Tensor:
        """Return embeddings (N, dim) of the first layer's output (N, width), which may be overwritten.

        They should lie in memory band by band, as rasters do.
        """


class Siren(FirstLinear):
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
        *layers, self.last_layer = linears(sizes)
        self.layers = nn.ModuleList(layers)
        self.w0_first = w0_first
        self.w0 = w0

    def first_layer(self) -> Linear:
        """Return the layer that takes the features."""
        layer: Linear = self.layers[0]  # type: ignore[assignment]
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (..., dim) of features (..., n)."""
        return _unturned(self.last_layer, self._hidden(_unturned(self.first_layer(), features)))

    def after_first(self, sums: Tensor) -> Tensor:
        """Return embeddings (N, dim), band by band, of the first layer's sums (N, width), which are overwritten."""
        return self.last_layer.bandwise(self._hidden(sums))

    def _hidden(self, sums: Tensor) -> Tensor:
        """Return the last hidden layer of the first one's sums, which are overwritten."""
        hidden = sine_(sums, self.w0_first)
        for layer in self.layers[1:]:
            sums = _unturned(layer, hidden)  # type: ignore[arg-type]  # they are all linear
            hidden = sine_(sums, self.w0)
        return hidden


def _unturned(layer: Linear, x: Tensor) -> Tensor:
    """Return a layer's output, lying in memory as its input does: band by band where that does, as harmonics do."""
    return layer.bandwise(x) if x.ndim == 2 and x.stride(0) == 1 else layer.forward(x)


class HalvingSiren(FirstLinear):
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
        *layers, self.last_layer = linears(sizes)
        self.layers = nn.ModuleList(layers)
        self.w0_first = w0_first

    def first_layer(self) -> Linear:
        """Return the layer that takes the features."""
        layer: Linear = self.layers[0]  # type: ignore[assignment]
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (..., dim) of features (..., n)."""
        return self.last_layer.forward(self._hidden(self.first_layer()(features)))

    def after_first(self, sums: Tensor) -> Tensor:
        """Return embeddings (N, dim), band by band, of the first layer's sums (N, width)."""
        return self.last_layer.bandwise(self._hidden(sums))

    def _hidden(self, sums: Tensor) -> Tensor:
        """Return the last hidden layer of the first one's sums, which are overwritten."""
        hidden = sine_(torch.sinh(2 * sums), self.w0_first)
        for layer in self.layers[1:]:
            hidden = averaged_sine_(layer(hidden), sums)
        return hidden


class AddingSiren(FirstLinear):
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
        self.first, *others = linears([features, *[width] * (blocks + 1)])
        *inner, self.last = others
        self.blocks = nn.ModuleList(inner)
        self.dim = dim
        self.w0_first = w0_first

    def forward(self, features: Tensor) -> Tensor:
        """Return the first `dim` numbers of the embeddings, (..., dim), of features (..., n)."""
        hidden = self._hidden(self.first(features))
        # The last block need not make what nobody asked for.
        added = product(hidden, self.last.weight[: self.dim], self.last.bias[: self.dim], self.last.products)
        return sine_(added).add_(hidden[..., : self.dim])

    def first_layer(self) -> Linear:
        """Return the layer that takes the features."""
        return self.first

    def after_first(self, sums: Tensor) -> Tensor:
        """Return embeddings (N, dim), band by band, of the first layer's sums (N, width), which are overwritten."""
        hidden = self._hidden(sums)
        added = product(self.last.weight[: self.dim], hidden, None, self.last.products)
        sine_(added.add_(self.last.bias[: self.dim, None]))
        return added.add_(hidden[:, : self.dim].T).T

    def _hidden(self, sums: Tensor) -> Tensor:
        """Return what the last block adds to, of the first layer's sums, which are overwritten."""
        hidden = sine_(sums, self.w0_first)
        for block in self.blocks:
            hidden = sine_(block(hidden)).add_(hidden)
        return hidden


class OneLayer(Linear, FirstLinear):
    """A network of a single linear layer."""

    def __init__(self, features: int, dim: int) -> None:
        """Make an uninitialised network, to be filled from a checkpoint."""
        super().__init__(features, dim, exact=True)

    def first_layer(self) -> Linear:
        """Return the layer itself."""
        return self

    def after_first(self, sums: Tensor) -> Tensor:
        """Return the sums."""
        return sums


class ResidualNet(FirstLinear):
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
        self.feats = nn.ModuleDict({"0": Linear(features, width, then=RELU, exact=True), **pairs})

    def first_layer(self) -> Linear:
        """Return the layer that takes the features."""
        layer: Linear = self.feats["0"]  # type: ignore[assignment]
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (..., width) of features (..., n)."""
        return self.after_first(self.first_layer()(features))

    def after_first(self, sums: Tensor) -> Tensor:
        """Return embeddings (..., width) of the first layer's output, which is overwritten."""
        hidden = sums
        _, *pairs = self.feats.values()
        for pair in pairs:
            hidden = pair(hidden)
        return hidden


class _Pair(nn.Module):
    """x + relu(w2 relu(w1 x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1, self.w2 = Linear(width, width, then=RELU), Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        return rectified_sum_(self.w2(self.w1(hidden)), hidden)


class FeedForward(FirstLinear):
    """Space2Vec's net: linear, activation, skip and layer norm; in the last layer linear and activation alone.

    Source: Mai et al. 2020, "Multi-Scale Representation Learning for Spatial
    Feature Distributions using Grid Cells", arXiv 2003.00824.
    """

    def __init__(self, sizes: Sequence[int], activation: Activation, *, norm: bool, skip: bool) -> None:
        """Make an uninitialised network, to be filled from a checkpoint.

        Args:
            sizes: Features, widths of the hidden layers, length of an embedding.
            activation: Of every layer, the last included.
            norm: Whether hidden layers end in a layer norm.
            skip: Whether hidden layers add their input where its length is that of their output.
        """
        super().__init__()
        self.dim = sizes[-1]
        *hidden, last = linears(sizes, activation)
        layers = [_Layer(linear, norm=norm, skip=skip) for linear in hidden]
        self.layers = nn.Sequential(*layers, _Layer(last, norm=False, skip=False))

    def first_layer(self) -> Linear | None:
        """Return the layer that takes the features; None where they are added to its output."""
        return None if self._stack[0].skip else self._stack[0].linear

    @property
    def _stack(self) -> list[_Layer]:
        return list(self.layers)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (..., dim) of features (..., n)."""
        result: Tensor = self.layers(features)
        return result

    def after_first(self, sums: Tensor) -> Tensor:
        """Return embeddings (N, dim), band by band, of the first layer's output (N, width)."""
        first, *others = self._stack
        hidden = first.after_linear(sums)
        for layer in others[:-1]:
            hidden = layer(hidden)
        return others[-1].linear.bandwise(hidden) if others else hidden


class _Layer(nn.Module):
    """A layer of `FeedForward`."""

    def __init__(self, linear: Linear, *, norm: bool, skip: bool) -> None:
        super().__init__()
        self.linear = linear
        self.layernorm = nn.LayerNorm(linear.out_features, device="meta") if norm else None
        self.skip = skip and linear.in_features == linear.out_features

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.linear(features)
        return self.after_linear(hidden + features if self.skip else hidden)

    def after_linear(self, hidden: Tensor) -> Tensor:
        """Return the output, of what the linear layer gave, which may be overwritten."""
        return hidden if self.layernorm is None else normalised_(hidden, self.layernorm)
