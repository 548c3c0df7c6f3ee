"""Item: from the STAC item of a field to its raster."""

from __future__ import annotations

import json
from os.path import normpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embedfield.errors import FormatError
from embedfield.formats.address import SCHEME, place_of

if TYPE_CHECKING:
    from embedfield.formats.address import Address

# The asset that is the raster, by the embeddings extension.
ASSET = "embeddings"
# Properties: how the item itself is written, and how a field made by others is read.
VERSION, LAYOUT = "embedfield:version", "embedfield:layout"
# Raised when a reader of an older item could misunderstand a newer one.
ITEM_VERSION = 1
GIVE = "Give the item of a field, as 'embedfield build' writes it."


class Described(NamedTuple):
    """What a STAC item says of a field."""

    raster: Path | Address
    """Where it is."""
    layout: dict[str, Any] | None
    """Of one made by others: how it is read."""


def described(item: Path | Address) -> Described:
    """Return what a STAC item says of a field.

    Args:
        item: A JSON file.

    Raises:
        FormatError: If it cannot be had, is no item of a field, or a newer embedfield wrote it.
    """
    document = _document(item)
    href = _href(document, item)
    check_version(document, str(item))
    layout = _properties(document).get(LAYOUT)
    if layout is not None and not isinstance(layout, dict):
        raise FormatError(f"{item} has a layout that cannot be read: {layout!r}. Enter the field anew.")
    return Described(beside(item, href), layout)


def check_version(document: dict[str, Any], name: str = "it") -> None:
    """Refuse an item that a newer embedfield wrote.

    Args:
        document: What its file holds.
        name: What it is called in the refusal.

    Raises:
        FormatError: If it is so.
    """
    version = _properties(document).get(VERSION, ITEM_VERSION)
    if not isinstance(version, int) or isinstance(version, bool) or version > ITEM_VERSION:
        raise FormatError(
            f"{name} was written by a newer embedfield: its {VERSION} is {version!r}, and this one reads "
            f"{ITEM_VERSION}. Update embedfield."
        )


def _properties(document: dict[str, Any]) -> dict[str, Any]:
    found = document.get("properties")
    return found if isinstance(found, dict) else {}


def beside(document: Path | Address, href: str) -> Path | Address:
    """Return where a file is that a document names: relative to itself, or whole.

    Where a folder between the two is a link, the disk would go up from what
    the link leads to; if nothing is there, it is gone up the path as it reads.

    Raises:
        FormatError: If it is an address that cannot be opened.
    """
    if not isinstance(document, Path):
        return document.beside(href)
    if SCHEME.match(href):
        return place_of(href)
    found = document.parent / href
    return found if found.exists() else Path(normpath(found))


def _document(item: Path | Address) -> Any:
    """Return what a JSON file says.

    Raises:
        FormatError: If it cannot be read.
    """
    try:
        data = item.read_bytes()
    except OSError as error:
        raise FormatError(f"{item} cannot be read: {error.strerror}. {GIVE}") from error
    try:
        return json.loads(data)
    except ValueError as error:
        raise FormatError(f"{item} is no STAC item: it is no JSON. {GIVE}") from error


def _href(document: Any, item: Path | Address) -> str:
    """Return what an item says of where its raster is.

    Raises:
        FormatError: If it does not say it.
    """
    kind = document.get("type") if isinstance(document, dict) else None
    if kind in {"Collection", "Catalog"}:
        raise FormatError(f"{item} is a STAC {kind}, and no item. Give one of the items that it links to.")
    try:
        href = document["assets"][ASSET]["href"]
    except (LookupError, TypeError) as error:
        raise FormatError(f"{item} is no STAC item with an asset '{ASSET}'. {GIVE}") from error
    if not isinstance(href, str) or not href:
        raise FormatError(f"{item} names no file as its asset '{ASSET}': its href is {href!r}. {GIVE}")
    return href
