"""The Encoder contract: places in, vectors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from embedfield.encoders.harmonics import Basis
from embedfield.encoders.lattice import Folded, Lattice, Pointwise, Tabled
from embedfield.encoders.networks import FirstLinear
from embedfield.encoders.positional import Folding, Separable

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.card import Card
    from embedfield.encoders.linear import Linear
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
    concurrent: bool = True
    """Whether several threads may encode at once."""
    local: bool = False
    """Whether each part of the world has a network of its own, so that asking everywhere means to read them all."""
    wants_float64: bool = False
    """Whether a part of it is computed in float64 at every precision, where it is evaluated."""
    roundable: bool = True
    """Whether its layers are so much of its work that rounding what they multiply makes it faster."""

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

    def lattice(self, lons: Tensor, lats: Tensor) -> Lattice:
        """Return embeddings of every pair of a longitude and a latitude, to be computed block by block.

        An encoder whose pixels share work overrides this; the answer is the same.

        Args:
            lons: Degrees, (width,), float64.
            lats: Degrees, (height,), float64.
        """
        return Pointwise(self.encode, lons, lats)

    def encode_lattice(self, lons: Tensor, lats: Tensor) -> Tensor:
        """Return embeddings of every pair of a longitude and a latitude.

        Args:
            lons: Degrees, (width,), float64.
            lats: Degrees, (height,), float64.

        Returns:
            (height, width, dim) in the dtype of the parameters.
        """
        return self.lattice(lons, lats).block(slice(None), slice(None)).permute(1, 2, 0)


class Composed(Encoder):
    """A positional encoding in float64, then a network in its own precision: what most encoders are.

    The network is any that takes features (N, n). If it is a `FirstLinear` and
    the encoding is `Separable`, lattices are folded.
    """

    posenc: PositionalEncoding
    network: nn.Module

    def __init__(
        self, card: Card, posenc: PositionalEncoding, network: nn.Module, beside: Tensor | None = None
    ) -> None:
        """Put the two together.

        Args:
            card: The model.
            posenc: From places to features.
            network: From features to embeddings.
            beside: Further features that are the same everywhere, (k, n), float64:
                the embeddings for each of k rows of them stand side by side.
                None for one row of none.
        """
        super().__init__(card)
        self.posenc = posenc
        self.network = network
        self._beside = torch.empty(1, 0, dtype=torch.float64) if beside is None else beside
        self._foldings: tuple[tuple[torch.dtype, torch.device], list[Folding]] | None = None
        self._along: tuple[Tensor, Tensor] | None = None

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return embeddings (N, dim) of places (N, 2)."""
        posenc = self.posenc
        # Harmonics are many, and are rounded while they are at hand.
        features = posenc.encode(lonlat, self.dtype) if isinstance(posenc, Basis) else posenc.encode(lonlat)
        return self._after_posenc(features)

    def lattice(self, lons: Tensor, lats: Tensor) -> Lattice:
        """Return embeddings of every pair of a longitude and a latitude, to be computed block by block."""
        if not isinstance(self.posenc, Separable):
            return super().lattice(lons, lats)
        network = self.network
        first = network.first_layer() if isinstance(network, FirstLinear) else None
        if not isinstance(network, FirstLinear) or first is None:
            return Tabled(self.posenc, lons, lats, self._after_posenc)
        foldings = self._folded_for(self.posenc, first, lons.device)
        folded = [self._cast(folding.at(lats)).contiguous() for folding in foldings]
        return Folded(folded, self._along_lon(self.posenc, lons), first.then, network.after_first)

    def _along_lon(self, posenc: Separable, lons: Tensor) -> Tensor:
        """Return the functions of longitude as the network takes them; of the last longitudes they are kept."""
        along = self._along
        if along is None or not torch.equal(along[0], lons):
            self._along = along = (lons, self._cast(posenc.along_lon(lons)))
        return along[1]

    def _after_posenc(self, features: Tensor) -> Tensor:
        """Return embeddings (N, dim) of features (N, m), in float64 or as the network takes them."""
        parts = [self.network(self._cast(self._with(row, features))) for row in self._beside]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _with(self, row: Tensor, features: Tensor) -> Tensor:
        """Return features (N, m) with those of a row (n,) beside them: (N, m + n)."""
        if not len(row):
            return features  # whose copy would cost as much as a layer
        return torch.cat((features, row.to(features).expand(len(features), -1)), dim=-1)

    def _cast(self, values: Tensor) -> Tensor:
        """Return numbers as the network takes them; cast first, for not every device has float64."""
        weight = next(self.network.parameters())
        return values.to(weight.dtype).to(weight.device)

    def _folded_for(self, posenc: Separable, first: Linear, device: torch.device) -> list[Folding]:
        """Return the first layer made ready to be folded on a device, setting by setting; once for all lattices."""
        made_for = (first.weight.dtype, device)
        if self._foldings is None or self._foldings[0] != made_for:
            weight, bias = (part.to(device).double() for part in (first.weight, first.bias))
            near, far = weight[:, : posenc.dim], weight[:, posenc.dim :]
            foldings = [Folding(posenc, near, bias + far @ row.to(device)) for row in self._beside]
            self._foldings = (made_for, foldings)
        return self._foldings[1]

    def ready(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the encoder in evaluation mode, on a device, at a precision."""
        self._foldings = self._along = None
        return super().ready(device, dtype)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network."""
        return next(self.network.parameters()).dtype
