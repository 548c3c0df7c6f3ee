"""Shelves: the files of a catalogue that follow from its items, written together under its lock."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pystac
from filelock import FileLock

from embedfield.catalog.collection import GEOJSON, JSON, collection_of
from embedfield.catalog.documents import (
    CATALOG,
    COLLECTION,
    ITEMS,
    MODEL,
    check_within,
    hrefs_of,
    is_relative,
    linked,
    links_of,
    one_line,
    others,
    read_document,
    relative_href,
    write_document,
)
from embedfield.catalog.entry import BROKEN, read_item
from embedfield.catalog.items_table import MEDIA_TYPE, write_items
from embedfield.errors import FormatError
from embedfield.formats import OPENERS
from embedfield.formats.item import LAYOUT
from embedfield.integrity import absolute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from embedfield.card import Card

CATALOG_ID = "embedfield"
DESCRIPTION = "Location encoders evaluated on grids, made with embedfield."
LOCK = ".catalog.lock"
# Of a catalogue, said anew with every change.
OWN_LINKS = {"root", "self", "child", "items"}


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a catalogue, so that no other process changes it meanwhile."""
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / LOCK):
        yield


@contextmanager
def reading(path: Path, kind: str, remedy: str) -> Iterator[None]:
    """Turn the errors of a STAC file that is none into ours.

    Raises:
        FormatError: If there is one.
    """
    try:
        yield
    except (FormatError, *BROKEN) as error:
        reason = one_line(error).removeprefix(f"{path} ")
        raise FormatError(f"{path} is no STAC {kind}: {reason}. {remedy}") from error


def open_catalog(root: Path) -> dict[str, Any]:
    """Return the catalogue of a folder; a new one, not yet written, if there is none.

    Raises:
        FormatError: If something else has its name.
    """
    path = root / CATALOG
    if not path.exists():
        return new_catalog()
    with reading(path, "catalogue", "Give another folder with --out, or mend it with 'embedfield catalog rebuild'."):
        catalog = read_document(path)
        check_kind(catalog, "Catalog")
    return catalog


def new_catalog() -> dict[str, Any]:
    """Return a catalogue of nothing."""
    head = {"type": "Catalog", "id": CATALOG_ID, "stac_version": pystac.get_stac_version()}
    return {**head, "title": "Embeddings of places", "description": DESCRIPTION, "links": []}


def open_collection(root: Path, model: str, catalog: dict[str, Any]) -> dict[str, Any] | None:
    """Return the collection of a model; None if the catalogue has none.

    Raises:
        FormatError: If something else has its name.
    """
    path = root / model / COLLECTION
    if absolute(path) not in linked(root / CATALOG, catalog, "child") or not path.exists():
        return None
    with reading(path, "collection", "Mend or remove it, or have it made anew with 'embedfield catalog rebuild'."):
        collection = read_document(path)
        check_kind(collection, "Collection")
        return collection


def check_kind(content: dict[str, Any], kind: str) -> None:
    """Refuse an object that is no catalogue or collection, or where links cannot be entered.

    Args:
        content: What a document holds.
        kind: ``Catalog`` or ``Collection``.

    Raises:
        ValueError: If it is so.
    """
    if content.get("type") != kind:
        raise ValueError(f"its type is {content.get('type')!r}")
    missing = [name for name in ("id", "description", "stac_version") if not isinstance(content.get(name), str)]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    if len(links_of(content)) != len(content["links"]):
        raise ValueError("it has a link without rel or href")


def has_raster(folder: Path) -> bool:
    """Return whether a folder holds a raster, as that of a field does, and not that of a registered one."""
    return any(path.suffix in OPENERS for path in folder.glob("[!.]*"))


def items_of(root: Path, path: Path, content: dict[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """Return files and contents of the items that a collection leads to, but those outside, and those unreadable.

    Args:
        root: Folder of the catalogue.
        path: Of the collection.
        content: Of the collection.
    """
    found: list[tuple[Path, dict[str, Any]]] = []
    for item in linked(path, content, "item"):
        try:
            check_within(root, item)
            found.append((item, read_item(item)[0]))
        except FormatError:
            # Named by `Catalog.entries` and the validation; it must not stop what is entered beside it.
            continue
    return found


def enter(root: Path, card: Card, path: Path, item: pystac.Item) -> None:
    """Write an item, and say in collection, catalogue and table that it is there; for who holds the lock.

    Args:
        root: Folder of the catalogue.
        card: Of the field's model.
        path: Where the item goes: ``root/<model>/<id>/<id>.json``.
        item: Of the field.

    Raises:
        FormatError: If catalogue or collection is something else, or damaged.
    """
    model, catalog = path.parent.parent.name, open_catalog(root)
    shelf = root / model / COLLECTION
    old = open_collection(root, model, catalog) or {}
    # From the item up: a reader never follows a link to what is not there yet.
    write_item(path, item, model)
    write_collection(root, model, card, old, [*others(shelf, old, "item", path), relative_href(path, shelf.parent)])
    children = others(root / CATALOG, catalog, "child", shelf)
    write_catalog(root, catalog, [*children, relative_href(shelf, root)])


def leave(root: Path, path: Path) -> None:
    """Say in collection, catalogue and table that an item is not there any more; for who holds the lock.

    A collection without items goes: it would have no extent.

    Args:
        root: As for `enter`.
        path: The item's file, there or not.

    Raises:
        FormatError: If catalogue or collection is something else, or damaged.
    """
    model, catalog = path.parent.parent.name, open_catalog(root)
    shelf = root / model / COLLECTION
    old = open_collection(root, model, catalog) or {}
    hrefs = others(shelf, old, "item", path)
    if hrefs:
        write_collection(root, model, None, old, hrefs)
    write_catalog(
        root, catalog, hrefs_of(catalog, "child") if hrefs else others(root / CATALOG, catalog, "child", shelf)
    )
    if not hrefs:
        clear(root / model)


def clear(folder: Path) -> None:
    """Remove the collection of a model that has no fields."""
    for name in (COLLECTION, MODEL):
        (folder / name).unlink(missing_ok=True)


def write_item(path: Path, item: pystac.Item, model: str) -> None:
    """Write the item of a field, with links to its collection and catalogue."""
    said = item.to_dict(include_self_link=False, transform_hrefs=False)
    up = {"href": f"../{COLLECTION}", "type": JSON, "title": model}
    own = [
        {"rel": "root", "href": f"../../{CATALOG}", "type": JSON},
        {"rel": "parent", **up},
        {"rel": "collection", **up},
    ]
    write_document(path, said | {"links": own + _further(said), "collection": model})


def _further(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the links of an item that lead neither up nor to itself."""
    return [link for link in links_of(content) if link["rel"] not in {"root", "parent", "collection", "self"}]


def write_collection(root: Path, model: str, card: Card | None, old: dict[str, Any], hrefs: Iterable[str]) -> None:
    """Write the collection of a model, and the item of its encoder.

    Args:
        root: Folder of the catalogue.
        model: Name of the collection.
        card: Of the model; None if no field of it was opened.
        old: What the collection said until now.
        hrefs: Of all its items, readable or not.
    """
    path = root / model / COLLECTION
    listed = {"links": [{"rel": "item", "href": href} for href in hrefs]}
    items = [item for _, item in items_of(root, path, listed)]
    if not items:
        kept = [link for link in links_of(old) if link["rel"] != "item"]
        write_document(path, old | {"links": kept + [link | {"type": GEOJSON} for link in listed["links"]]})
        return
    own = [item for item in items if LAYOUT not in item["properties"]]
    if card and own:
        _write_model(root / model / MODEL, card, own)
    write_document(path, collection_of(card, items, hrefs_of(listed, "item"), old))


def _write_model(path: Path, card: Card, items: list[dict[str, Any]]) -> None:
    """Write the item of an encoder, which is as old as its oldest field."""
    from embedfield.stac.mlm import model_item

    instants = [item["properties"].get("created") or item["properties"]["datetime"] for item in items]
    item = model_item(card, min(map(pystac.utils.str_to_datetime, instants)))
    said = item.to_dict(include_self_link=False, transform_hrefs=False)
    # It is no item of the collection that it stands beside.
    root = {"rel": "root", "href": f"../{CATALOG}", "type": JSON}
    write_document(path, said | {"links": [root, *_further(said)]})


def write_catalog(root: Path, catalog: dict[str, Any], children: Iterable[str]) -> None:
    """Write the table of all items, and the catalogue.

    Args:
        root: Folder of the catalogue.
        catalog: What it said until now: all but its links to collections stays.
        children: Where its collections are; those of others keep their places, and ours follow by name.
    """
    hrefs = list(dict.fromkeys(children))
    own = sorted(href for href in hrefs if is_relative(href) and href.count("/") == 2 and href.endswith(COLLECTION))
    ordered = [*(href for href in hrefs if href not in own), *own]
    titles = {link["href"]: link for link in links_of(catalog, "child")}
    links = [
        {"rel": "root", "href": f"./{CATALOG}", "type": JSON},
        *(link for link in links_of(catalog) if link["rel"] not in OWN_LINKS),
        *(
            titles.get(href, {"rel": "child", "href": href, "type": JSON, "title": href.split("/")[1]})
            for href in ordered
        ),
        {"rel": "items", "href": f"./{ITEMS}", "type": MEDIA_TYPE, "title": "All items as stac-geoparquet"},
    ]
    changed = catalog | {"links": links}
    write_items(root, *items_and_collections(root, changed))
    write_document(root / CATALOG, changed)


def items_and_collections(
    root: Path, catalog: dict[str, Any]
) -> tuple[list[tuple[Path, dict[str, Any]]], dict[str, Any]]:
    """Return files and contents of all items that a table must have, and the collections by id."""
    items: list[tuple[Path, dict[str, Any]]] = []
    collections: dict[str, Any] = {}
    for path in linked(root / CATALOG, catalog, "child"):
        try:
            check_within(root, path)
            collection = read_document(path)
            check_kind(collection, "Collection")
        except (FormatError, *BROKEN):
            continue  # as in `items_of`
        found = items_of(root, path, collection)
        if found:
            items += found
            collections[path.parent.name] = collection
    return items, collections
