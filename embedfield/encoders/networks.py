"""Networks: features to embeddings, in the dtype of their parameters."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class Siren(nn.Module):
    """A network of sines: x → sin(w·(W x + b)), …, and a linear last layer.

    Source: Sitzmann et al. 2020, "Implicit Neural Representations with
    Periodic Activation Functions", arXiv 2006.09661.
    """

    def __init__(self, sizes: list[int], *, w0_first: float, w0: float) -> None:
        """Make an uninitialised network, to be filled from a checkpoint.

        Args:
            sizes: Features, widths of the hidden layers, length of an embedding.
            w0_first: Factor w in the first layer.
            w0: Factor w in the other hidden layers.
        """
        super().__init__()
        first, *hidden, last = (nn.Linear(*pair, device="meta") for pair in pairwise(sizes))
        self.first: nn.Linear = first
        self.hidden = nn.ModuleList(hidden)
        self.last: nn.Linear = last
        self.w0_first = w0_first
        self.w0 = w0

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
        for layer in self.hidden:
            hidden = layer(hidden).mul_(self.w0).sin_()
        result: Tensor = self.last(hidden)
        return result
