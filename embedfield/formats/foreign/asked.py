"""Asked: what a user may say of a field made by others that its files do not."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from embedfield.card import NO_CODE, Card
from embedfield.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is said of a field; None where nothing is said."""

    name: str | None = None
    """What its model is called, as the name of a `Card`."""
    title: str | None = None
    """One line about it."""
    licence: str | None = None
    """SPDX identifier of the licence of its vectors."""
    homepage: str | None = None
    """Where it is described."""
    crs: str | None = None
    """Its reference system, where the file does not tell: authority and code."""
    array: str | None = None
    """Of a Zarr: path of the array, or of the group that it lies in, such as ``utm30``."""
    time: int | str | None = None
    """Of a Zarr with several times: which one, such as ``2024``."""
    dims: int | None = None
    """How many numbers of a vector are wanted, the first ones; None for all."""
    landmask: str | None = None
    """Of a TESSERA tile: the raster that tells where its pixels are."""

    def check(self, kind: str, known: Iterable[str]) -> None:
        """Refuse what cannot be said of a kind of field.

        Args:
            kind: What it is, in words.
            known: What can be said of it, beside its name, title, licence and homepage.

        Raises:
            FormatError: If something else is said.
        """
        allowed = {"name", "title", "licence", "homepage", *known}
        for field in fields(self):
            if getattr(self, field.name) is not None and field.name not in allowed:
                raise FormatError(f"{field.name}={getattr(self, field.name)!r} means nothing for {kind}. Leave it out.")

    def card(self, dim: int, **usual: Any) -> Card:
        """Return the card of a model by what is said of it, else by what is usual.

        Args:
            dim: Length of its vectors.
            **usual: Fields of the card; ``name`` among them may be any text.

        Raises:
            CardError: If the name that is asked for is none that a card can have.
        """
        said = {"name": self.name, "title": self.title, "homepage": self.homepage, "code_licence": self.licence}
        told = {"homepage": "not stated", "code_licence": "none", **usual}
        name = re.sub(r"[^a-z0-9+-]+", "-", str(told["name"]).lower()).strip("-+") or "field"
        told |= {"name": name, "title": told.get("title", told["name"])}
        return Card(dim=dim, code=NO_CODE, **(told | {key: value for key, value in said.items() if value}))
