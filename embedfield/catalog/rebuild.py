"""Rebuild: a catalogue anew from the fields and items on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from embedfield.card import Card
from embedfield.catalog.collection import additions
from embedfield.catalog.documents import (
    CATALOG,
    COLLECTION,
    hrefs_of,
    is_relative,
    read_document,
    relative_href,
    target_of,
)
from embedfield.catalog.entry import BROKEN, Fault, noting, read_item
from embedfield.catalog.receipt import Receipt
from embedfield.catalog.shelves import (
    check_kind,
    clear,
    has_raster,
    locked,
    new_catalog,
    reading,
    write_catalog,
    write_collection,
    write_item,
)
from embedfield.errors import FormatError
from embedfield.formats import open_field
from embedfield.formats.item import LAYOUT, check_version
from embedfield.integrity import absolute
from embedfield.stac import item_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedfield.formats.stored import StoredField


@dataclass
class _Shelf:
    """What is found of a model."""

    card: Card | None = None
    hrefs: list[str] = field(default_factory=list)


def rebuild(root: Path, opened: Callable[[Path], StoredField] = open_field) -> list[Fault]:
    """Make collections, catalogue and table anew; see `Catalog.rebuild`.

    Args:
        root: Folder of the catalogue.
        opened: Opens the field of a folder; of a mirror, where its rasters really lie.

    Raises:
        FormatError: If there is no such folder.
    """
    if not root.is_dir():
        raise FormatError(f"{root} is no folder. Give that of a catalogue with --catalog.")
    faults, shelves, root = list[Fault](), dict[str, _Shelf](), absolute(root)
    with locked(root):
        for folder in sorted(path for path in root.glob("[!.]*/[!.]*") if path.is_dir()):
            _renew(root, folder, shelves, faults, opened)
        for name, shelf in shelves.items():
            old = _stated(root, root / name / COLLECTION, "Collection", faults)
            write_collection(root, name, shelf.card, additions(old) if shelf.card else old, shelf.hrefs)
        catalog = _stated(root, root / CATALOG, "Catalog", faults) or new_catalog()
        theirs = [href for href in hrefs_of(catalog, "child") if _stays(root, href, shelves)]
        write_catalog(root, catalog, [*theirs, *(f"./{name}/{COLLECTION}" for name in shelves)])
        for path in root.glob(f"[!.]*/{COLLECTION}"):
            if path.parent.name not in shelves and _is_ours(path):
                clear(path.parent)
    return faults


def _renew(
    root: Path,
    folder: Path,
    shelves: dict[str, _Shelf],
    faults: list[Fault],
    opened: Callable[[Path], StoredField],
) -> None:
    """Put a folder that holds a field, or the item of a registered one, on the shelf of its model."""
    path, card = folder / f"{folder.name}.json", None
    with noting(root, path, faults):
        if not _stands(path) and not has_raster(folder):
            return
        item = _document(path, "Feature")
        check_version(item)
        own = has_raster(folder) and not _has_layout(item)
        card = _renew_own(folder, path, item, opened) if own else _registered_card(path)
    # An item stays even if this embedfield, or now, it or its field cannot be read.
    if _stands(path):
        shelf = shelves.setdefault(folder.parent.name, _Shelf())
        shelf.card = shelf.card or card
        shelf.hrefs.append(relative_href(path, folder.parent))


def _stands(path: Path) -> bool:
    """Return whether an item is there, be it in a folder that may not be looked into."""
    try:
        return path.exists()
    except OSError:
        return True


def _registered_card(path: Path) -> Card | None:
    """Return the card of a registered field by its item; None where the item has none, as of a field of ours.

    Raises:
        FormatError: If the item cannot be read.
    """
    item, _ = read_item(path)
    try:
        return Card.from_dict(item["properties"][LAYOUT]["card"])
    except BROKEN:
        return None


def _renew_own(folder: Path, path: Path, item: dict[str, Any], opened: Callable[[Path], StoredField]) -> Card:
    """Write the item of a field in its folder anew, and return the field's card.

    Raises:
        FormatError: If there is no such field.
    """
    with opened(folder) as found:
        if found.card.name != folder.parent.name:
            raise FormatError(
                f"its field is of {found.card.name}, and lies among those of {folder.parent.name}. Move its folder to "
                f"{found.card.name}/{folder.name}"
            )
        raster = folder / PurePath(found.path).name
        try:
            receipt = Receipt.of(item, raster)
        except BROKEN:  # there is no item, or it is damaged: the field is all that is known
            receipt = Receipt({}, datetime.fromtimestamp(raster.stat().st_mtime, UTC), {})
        write_item(path, item_of(found, *receipt, folder=folder, href=f"./{raster.name}"), found.card.name)
        return found.card


def _has_layout(item: dict[str, Any]) -> bool:
    properties = item.get("properties")
    return isinstance(properties, dict) and LAYOUT in properties


def _document(path: Path, kind: str) -> dict[str, Any]:
    """Return a STAC file of a kind; nothing if it is not there, or none."""
    try:
        found = read_document(path)
    except FormatError:
        return {}
    return found if found.get("type") == kind else {}


def _stated(root: Path, path: Path, kind: str, faults: list[Fault]) -> dict[str, Any]:
    """Return what a catalogue or collection says until now; nothing if there is none, or a damaged one."""
    if path.exists():
        with noting(root, path, faults), reading(path, kind, "It was made anew."):
            content = read_document(path)
            check_kind(content, kind)
            return content
    return {}


def _stays(root: Path, href: str, shelves: dict[str, _Shelf]) -> bool:
    """Return whether a collection of others is still linked to: it is elsewhere, or there."""
    if not is_relative(href):
        return True
    path = target_of(root / CATALOG, href)
    ours = path.name == COLLECTION and path.parent.parent == root and path.parent.name in shelves
    return path.exists() and not ours and not _is_ours(path)


def _is_ours(path: Path) -> bool:
    return "emb:type" in _document(path, "Collection")
