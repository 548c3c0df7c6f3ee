"""Item: from the STAC item of a field to its raster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedfield.errors import FormatError
from embedfield.formats.address import SCHEME, place_of

if TYPE_CHECKING:
    from embedfield.formats.address import Address

# The asset that is the raster, by the embeddings extension.
ASSET = "embeddings"
GIVE = "Give the item of a field, as 'embedfield build' writes it."


def raster_of(item: Path | Address) -> Path | Address:
    """Return where the raster is that a STAC item describes.

    Args:
        item: A JSON file.

    Raises:
        FormatError: If it cannot be had, or is no item of a field.
    """
    href = _href(_document(item), item)
    if not isinstance(item, Path):
        return item.beside(href)
    return place_of(href) if SCHEME.match(href) else item.parent / href


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
