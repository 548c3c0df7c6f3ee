"""The Encoder contract: places in, vectors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.card import Card
    from embedfield.encoders.positional import PositionalEncoding


class Encoder(nn.Module, ABC):
    """A location encoder: (N, 2) degrees, lon first, to (N, dim).

    Knows nothing of batches, devices or files. Positional encodings are
    computed in float64; the network runs in the dtype of its parameters.
    """

    weights_sha256: str | None = None
    """Digest of the file that the parameters came from; None where there are none."""
    database_sha256: str | None = None
    """Digest of the file that things are looked up in; None where there is none."""

    def __init__(self, card: Card) -> None:
        """Make an encoder that answers for a card."""
        super().__init__()
        self.card = card

    @classmethod
    @abstractmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder that a card describes, in evaluation mode.

        Args:
            card: The model; what was asked beside the place is among its options.
            weights: Its checkpoint; None where there is none, by the card or by the user.

        A model whose card has a database takes the file as ``database``.

        Raises:
            WeightsError: If the file is damaged, is not given, or holds another model.
        """

    def ready(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the encoder in evaluation mode, on a device, at a precision.

        An encoder of which a part must keep its precision overrides this.
        """
        return self.eval().to(device=device, dtype=dtype)

    @abstractmethod
    def encode(self, lonlat: Tensor) -> Tensor:
        """Return embeddings of any places.

        Args:
            lonlat: Degrees (lon, lat), (N, 2), float64; lon in [-180, 180],
                lat in [-90, 90].

        Returns:
            (N, dim) in the dtype of the parameters; NaN where there is no value.
        """

    def groups(self, lonlat: Tensor) -> Tensor | None:
        """Return a number for each of places (N, 2), (N,): those of one number cost less when encoded together.

        None, as here, where the order of places does not matter.
        """
        del lonlat
        return None

    def encode_lattice(self, lons: Tensor, lats: Tensor) -> Tensor:
        """Return embeddings of every pair of a longitude and a latitude.

        An encoder whose positional encoding separates into functions of
        longitude and of latitude overrides this; the answer is the same.

        Args:
            lons: Degrees, (width,), float64.
            lats: Degrees, (height,), float64.

        Returns:
            (height, width, dim) in the dtype of the parameters.
        """
        lat, lon = torch.meshgrid(lats, lons, indexing="ij")
        places = torch.stack((lon.ravel(), lat.ravel()), dim=-1)
        return self.encode(places).reshape(len(lats), len(lons), -1)


class Composed(Encoder):
    """A positional encoding in float64, then a network in its own precision: what most encoders are."""

    posenc: PositionalEncoding
    network: nn.Module

    def __init__(self, card: Card, posenc: PositionalEncoding, network: nn.Module) -> None:
        """Put the two together."""
        super().__init__(card)
        self.posenc = posenc
        self.network = network

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return embeddings (N, dim) of places (N, 2)."""
        result: Tensor = self.network(self.posenc.encode(lonlat).to(self.dtype))
        return result

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network."""
        return next(self.network.parameters()).dtype
