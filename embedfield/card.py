"""A Card: frozen data about a model; no code, no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003  dataclasses look annotations up
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from embedfield.errors import CardError


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where a model's released weights are, and how to know them again."""

    file: str
    """Name of the file as it is kept in the cache."""
    licence: str
    """SPDX identifier of the licence of the weights."""
    sha256: str | None = None
    """Hexadecimal digest of the file, or None where none is known."""
    size_bytes: int | None = None
    """Size of the file in bytes, or None where it is not known."""

    source: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class HubWeights(Weights):
    """A file of a Hugging Face repository."""

    repo: str
    """Repository, ``owner/name``."""
    revision: str | None = None
    """Commit, or None for the head of the default branch."""

    source: ClassVar[str] = "hub"


@dataclass(frozen=True, kw_only=True)
class PackageWeights(Weights):
    """A file inside a wheel of a Python package index."""

    package: str
    """Requirement with its version, ``name==version``."""
    member: str
    """Path of the file inside the wheel."""

    source: ClassVar[str] = "package"


@dataclass(frozen=True, kw_only=True)
class UrlWeights(Weights):
    """A file at an http or https address."""

    url: str
    """Address of the file."""

    source: ClassVar[str] = "url"


SOURCES: Mapping[str, type[Weights]] = {kind.source: kind for kind in (HubWeights, PackageWeights, UrlWeights)}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known about a location encoder before any of it is loaded."""

    name: str
    """``family-variant``, lower case, never renamed; prefixes the columns of tables."""
    title: str
    """One line for a list."""
    dim: int
    """Length of an embedding."""
    code: str
    """Dotted path of the encoder, ``package.module:Class``."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What the encoder's code needs to know beside the weights."""
    inputs: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What can be asked of the encoder beside a place, such as a month: name → meaning."""
    weights: Weights | None = None
    """Released weights; None for an encoder that has no parameters."""
    aliases: tuple[str, ...] = ()
    """Shorter names that mean this card."""

    order: Literal["lon,lat", "lat,lon"] = "lon,lat"
    """Coordinate order of the official code (embedfield's own is always lon, lat)."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the official inference."""
    periodic: bool = True
    """Whether the two sides of the antimeridian have one value."""
    one_pole: bool = True
    """Whether a pole has one value, whatever the longitude."""
    latitudes: tuple[float, float] = (-90.0, 90.0)
    """Latitudes, closed, in which the encoder is defined."""
    unit_norm: bool = False
    """Whether an embedding has length 1."""
    detail: float | None = None
    """Nominal size in degrees of the finest detail the encoder can draw."""

    training_data: str = "none"
    """What the encoder was trained on."""
    training_url: str | None = None
    """Where that data is described."""
    paper: str | None = None
    """Citation."""
    doi: str | None = None
    """DOI of the paper, without the resolver."""
    homepage: str
    """Where the official code is."""
    code_licence: str = "MIT"
    """SPDX identifier of the licence of the official code; ``none`` where it states none."""

    def __post_init__(self) -> None:
        """Refuse a card that cannot be true."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9+-]*(?<!-)", self.name):
            raise CardError(
                f"Card name {self.name!r} is not 'family-variant' in lower case. Use letters, digits and '-'."
            )
        if self.dim < 1:
            raise CardError(f"Card {self.name!r} has dim={self.dim}. An embedding has at least one value.")
        if not re.fullmatch(r"[\w.]+:\w+", self.code):
            raise CardError(f"Card {self.name!r} has code={self.code!r}. Write it 'package.module:Class'.")

    @property
    def licence(self) -> str:
        """SPDX identifier of the licence that embeddings inherit."""
        return self.weights.licence if self.weights else self.code_licence

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain data for JSON."""
        data = asdict(self)
        if self.weights:
            data["weights"]["source"] = self.weights.source
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Card:
        """Return the card that `to_dict` described.

        Raises:
            CardError: If the data names fields or a source that no card has.
        """
        fields = dict(data)
        weights = fields.pop("weights", None)
        try:
            if weights is not None:
                weights = dict(weights)
                weights = SOURCES[weights.pop("source")](**weights)
            for key in ("aliases", "latitudes"):
                if key in fields:
                    fields[key] = tuple(fields[key])
            return cls(weights=weights, **fields)
        except CardError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CardError(f"Not a card of this version of embedfield: {error}. Update embedfield.") from error
