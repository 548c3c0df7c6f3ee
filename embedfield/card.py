"""A Card: frozen data about a model; no code, no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from embedfield.errors import CardError

# The code of a card whose vectors others computed, by code that is not at hand.
NO_CODE = "none:None"


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

    def __post_init__(self) -> None:
        """Refuse a field of another type."""
        _check_types(self, f"The file {self.file!r}")

    @property
    def origin(self) -> str:
        """Where the file comes from, in words."""
        return f"{self.file} ({type(self).__name__})"

    def describe(self) -> str:
        """Return what a person would want to know of the file, in one line."""
        size = f", {self.size_bytes / 1e6:,.0f} MB" if self.size_bytes else ""
        digest = f"sha256 {self.sha256}" if self.sha256 else "sha256 not published, recorded at the first download"
        return f"{self.origin}{size}, licence {_stated(self.licence)}, {digest}"


@dataclass(frozen=True, kw_only=True)
class HubWeights(Weights):
    """A file of a Hugging Face repository."""

    repo: str
    """Repository, ``owner/name``."""
    revision: str | None = None
    """Commit, or None for the head of the default branch."""
    repo_type: Literal["model", "dataset", "space"] = "model"
    """What the hub calls the repository."""

    source: ClassVar[str] = "hub"

    @property
    def address(self) -> str:
        """Page of the repository."""
        return f"https://huggingface.co/{'' if self.repo_type == 'model' else f'{self.repo_type}s/'}{self.repo}"

    @property
    def origin(self) -> str:
        """Where the file comes from, in words."""
        return f"{self.file} in {self.address} at {self.revision or 'its head'}"


@dataclass(frozen=True, kw_only=True)
class PackageWeights(Weights):
    """A file inside a wheel of a Python package index."""

    package: str
    """Requirement with its version, ``name==version``."""
    member: str
    """Path of the file inside the wheel."""

    source: ClassVar[str] = "package"

    @property
    def origin(self) -> str:
        """Where the file comes from, in words."""
        return f"{self.member} in the wheel of {self.package}"


@dataclass(frozen=True, kw_only=True)
class UrlWeights(Weights):
    """A file at an http or https address, or inside a zip archive there."""

    url: str
    """Address of the file, or of the archive that it lies in."""
    member: str | None = None
    """Path of the file inside a zip archive at that address; None where the address is the file itself."""

    source: ClassVar[str] = "url"

    @property
    def origin(self) -> str:
        """Where the file comes from, in words."""
        return f"{self.member} in the archive {self.url}" if self.member else self.url


SOURCES: Mapping[str, type[Weights]] = {kind.source: kind for kind in (HubWeights, PackageWeights, UrlWeights)}


@dataclass(frozen=True, kw_only=True)
class Input:
    """A number that can be asked of an encoder beside a place, such as a month."""

    meaning: str
    """What it is, and what its absence means."""
    minimum: float
    """Least value."""
    maximum: float
    """Greatest value."""

    def __post_init__(self) -> None:
        """Refuse what is no range of numbers."""
        _check_types(self, f"The input {self.meaning!r}")
        if not self.minimum <= self.maximum:
            raise CardError(
                f"The input {self.meaning!r} goes from {self.minimum} to {self.maximum}. Write the lesser first."
            )


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
    inputs: Mapping[str, Input] = field(default_factory=dict, hash=False)
    """What can be asked of the encoder beside a place, such as a month, by name."""
    prefixes: tuple[int, ...] = ()
    """Lengths at which the first numbers of an embedding are an embedding of their own (Matryoshka)."""
    weights: Weights | None = None
    """Released weights; None for an encoder that has no parameters, or whose weights are the user's own."""
    database: Weights | None = None
    """Released vectors that the encoder looks things up in; None for most."""
    aliases: tuple[str, ...] = ()
    """Shorter names that mean this card."""

    order: Literal["lon,lat", "lat,lon"] = "lon,lat"
    """Coordinate order of the official code (embedfield's own is always lon, lat)."""
    units: str = "degrees"
    """What the official code turns coordinates into before its first function, as in "works in …"."""
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
    """Nominal size in degrees of the finest detail: half the shortest wave of the positional encoding, or the grid
    of the training data where it has no waves."""

    note: str | None = None
    """What a user should know that no other field says."""

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
        _check_types(self, f"Card {self.name!r}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9+-]*(?<!-)", self.name):
            raise CardError(
                f"Card name {self.name!r} is not 'family-variant' in lower case. Use letters, digits and '-'."
            )
        if self.dim < 1:
            raise CardError(f"Card {self.name!r} has dim={self.dim}. An embedding has at least one value.")
        if not re.fullmatch(r"[\w.]+:\w+", self.code):
            raise CardError(f"Card {self.name!r} has code={self.code!r}. Write it 'package.module:Class'.")
        if taken := sorted(RESERVED.intersection(self.inputs)):
            raise CardError(
                f"Card {self.name!r} has an input {taken[0]!r}. That is a word of embedfield's own: rename it."
            )
        if len(self.latitudes) != 2 or not -90 <= self.latitudes[0] < self.latitudes[1] <= 90:
            raise CardError(f"Card {self.name!r} has latitudes={self.latitudes}. Write (south, north) in [-90, 90].")

    @property
    def licence(self) -> str:
        """SPDX expression of the licences that embeddings inherit; ``none`` if a file states none or is the user's."""
        licences = {file.licence for file in (self.weights, self.database) if file}
        if not licences and self.training_data == "none":
            return self.code_licence
        return "none" if "none" in licences else " AND ".join(sorted(licences)) or "none"

    @property
    def licence_in_words(self) -> str:
        """The licence that embeddings inherit, for people."""
        return _stated(self.licence)

    def describe(self) -> dict[str, str]:
        """Return what a person would want to know of the model, in lines of text; absent ones are left out."""
        south, north = self.latitudes
        lines = {
            "vector": f"{self.dim:,} numbers, {'of length 1' if self.unit_norm else 'not normalised'}; "
            f"computed in {self.dtype}, as officially",
            "prefixes": f"{', '.join(f'{length:,}' for length in self.prefixes)} (--dims)" if self.prefixes else "",
            "asks also": "; ".join(
                f"{name}, {asked.minimum:g} to {asked.maximum:g}: {asked.meaning}"
                for name, asked in self.inputs.items()
            ),
            "coordinates": f"(lon, lat) in degrees here; the official code takes ({self.order.replace(',', ', ')}) "
            f"and works in {self.units}",
            "longitude": "runs on across the antimeridian" if self.periodic else "torn at the antimeridian",
            "poles": "one value each" if self.one_pole else "another value at each longitude",
            "latitudes": f"{south:g} to {north:g} degrees",
            "detail": f"about {self.detail:g} degrees" if self.detail else "",
            "note": self.note or "",
            "trained on": ", ".join(
                filter(None, ("nothing" if self.training_data == "none" else self.training_data, self.training_url))
            ),
            "weights": self.weights.describe() if self.weights else "none are released, or none are needed",
            "database": self.database.describe() if self.database else "",
            "code": f"{self.homepage}, licence {_stated(self.code_licence)}",
            "paper": f"{self.paper}{f', https://doi.org/{self.doi}' if self.doi else ''}" if self.paper else "",
        }
        return {name: line for name, line in lines.items() if line}

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain data for JSON."""
        data = asdict(self)
        for name in FILES:
            weights: Weights | None = getattr(self, name)
            if weights:
                data[name]["source"] = weights.source
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Card:
        """Return the card that `to_dict` described.

        Raises:
            CardError: If fields are missing, unknown or of another kind.
        """
        fields = dict(data)
        known = {field.name: field for field in dataclass_fields(cls)}
        if unknown := [name for name in fields if name not in known]:
            raise CardError(f"A card has no field {unknown[0]!r}. Correct it, or update embedfield.")
        needed = [name for name, field in known.items() if field.default is field.default_factory is MISSING]
        if missing := [name for name in needed if name not in fields]:
            raise CardError(f"A card needs the field {missing[0]!r}, and there is none.")
        for name in FILES:
            if fields.get(name) is not None:
                fields[name] = _weights_of(name, fields[name])
        fields["inputs"] = _inputs_of(fields.get("inputs", {}))
        for key in ("aliases", "latitudes", "prefixes"):
            if isinstance(fields.get(key), list):
                fields[key] = tuple(fields[key])
        return cls(**fields)


def _weights_of(name: str, data: Any) -> Weights:
    """Return the file that plain data describe.

    Raises:
        CardError: If they describe none.
    """
    told = dict(data) if isinstance(data, Mapping) else {}
    source = told.pop("source", None)
    if not isinstance(source, str) or source not in SOURCES:
        raise CardError(f"A card has {name}={data!r}. Write a table whose 'source' is one of: {', '.join(SOURCES)}.")
    try:
        return SOURCES[source](**told)
    except TypeError as error:
        reason = str(error).partition("() ")[2]
        raise CardError(f"A card has {name} with the source {source!r}, and it {reason}.") from error


def _inputs_of(data: Any) -> dict[str, Input]:
    """Return the inputs that plain data describe, by name.

    Raises:
        CardError: If they describe none.
    """
    try:
        return {name: Input(**told) for name, told in data.items()}
    except (AttributeError, TypeError) as error:
        raise CardError(
            f"A card has inputs={data!r}. Write a table for each, of meaning, minimum and maximum."
        ) from error


def _stated(licence: str) -> str:
    return "not stated" if licence == "none" else licence


# What is said of every model, and so cannot be the name of an input.
RESERVED = {
    *("model", "card", "weights", "database", "device", "precision", "dims", "offline", "report", "name"),
    *("res", "bounds", "format", "dtype", "out", "overwrite", "progress", "field", "places", "output", "method"),
    *("crs", "region", "layer", "mask", "supersample", "ss", "layout", "pca", "verify"),
    *("tolerance", "resolutions", "dtypes"),
}
# Fields of a card that are files somewhere.
FILES = ("weights", "database")


def _check_types(thing: object, what: str) -> None:
    """Refuse a field that is not of its type: data from a file may be anything.

    Raises:
        CardError: If there is one.
    """
    for name, hint in _hints(type(thing)).items():  # type: ignore[arg-type]  # a class can be hashed
        if not _fits(getattr(thing, name), hint):
            raise CardError(f"{what} has {name}={getattr(thing, name)!r}. It is {str(hint).replace('typing.', '')}.")


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return {name: hint for name, hint in get_type_hints(kind).items() if get_origin(hint) is not ClassVar}


def _fits(value: object, hint: Any) -> bool:
    """Return whether a value is of a field's type."""
    kind, choices = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return any(_fits(value, choice) for choice in choices)
    if kind is Literal:
        return value in choices
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return kind is Any or (isinstance(value, kind) and _parts_fit(value, choices))


def _parts_fit(value: object, choices: tuple[Any, ...]) -> bool:
    """Return whether what a mapping or a tuple holds is of the types that a hint names; others hold nothing."""
    if isinstance(value, Mapping):
        return all(_fits(key, choices[0]) and _fits(part, choices[1]) for key, part in value.items())
    return not isinstance(value, tuple) or all(_fits(part, choices[0]) for part in value)
