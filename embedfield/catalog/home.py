"""Home: the fields in a catalogue's own folder, entered as they are built and as what stands beside them changes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from embedfield.catalog.documents import CATALOG, COLLECTION, links_of, read_document, target_of
from embedfield.catalog.entry import BROKEN
from embedfield.catalog.items_table import has_item
from embedfield.catalog.receipt import Receipt
from embedfield.catalog.shelves import enter, locked, open_catalog, open_collection, reading
from embedfield.errors import FormatError
from embedfield.integrity import absolute
from embedfield.stac import item_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    import pystac

    from embedfield.formats.stored import StoredField


def add_to_catalog(
    root: Path,
    field: StoredField,
    run: Mapping[str, Any] | None = None,
    created: datetime | None = None,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> pystac.Item:
    """Write the item of a field beside it, and enter it into collection and catalogue.

    An item that is there already is of this very field, for a build gives its
    field a folder without one: what it says of the run stays, if it is sound
    and nothing else is said of when that was.

    Args:
        root: Folder of the catalogue; made if it is not there.
        field: A field in the folder ``root/<model>/<field-id>``.
        run: As for `item_of`.
        created: As for `item_of`.
        known: As for `item_of`.

    Raises:
        FormatError: If catalogue or collection is something else, or damaged.
    """
    with locked(root):
        check_catalog(root, field.card.name)
        said = _receipt(field) if created is None else None
        item = item_of(field, *said) if said else item_of(field, run, created, known)
        enter(root, field.card, root / field.card.name / item.id / f"{item.id}.json", item)
    return item


def _receipt(field: StoredField) -> Receipt | None:
    """Return what the item in a field's folder says of its run; None if there is none, or a damaged one."""
    path = _item(field.disk_path.parent)
    try:
        return Receipt.of(read_document(path), field)
    except (FormatError, *BROKEN):
        return None


def _item(folder: Path) -> Path:
    return folder / f"{folder.name}.json"


def refresh(field: StoredField, written: Iterable[str]) -> None:
    """Write the item of a field anew, if a catalogue has one.

    Args:
        field: As it lies on disk, in its folder.
        written: Names of the files that were written, and entered into
            ``SHA256SUMS``. Sizes and digests of all others stay, or their
            damage would go unseen.

    Raises:
        FormatError: If the item is damaged.
    """
    folder = field.disk_path.parent
    root, path = folder.parent.parent, _item(folder)
    if not _is_linked(root, field):
        return
    with reading(path, "item", "Build the field again with --overwrite."):
        receipt = Receipt.of(read_document(path), field, written)
    add_to_catalog(root, field, *receipt)


def check_catalog(root: Path, model: str) -> None:
    """Refuse a folder where a model's fields could not be entered.

    Raises:
        FormatError: If catalogue or collection is something else, or damaged.
    """
    open_collection(root, model, open_catalog(root))


def is_entered(root: Path, field: StoredField) -> bool:
    """Return whether catalogue, collection, item and table have a stored field, and lead to one another.

    A field that lies outside of the catalogue's folder was opened by its item
    there: it is entered, and an item of the field at home would be another.
    """
    if isinstance(field.path, str) or absolute(root) not in absolute(field.path).parents:
        return True
    # The table is written after the collection: a build may have been stopped between them.
    return _is_linked(root, field) and has_item(root, read_document(_item(field.path.parent)))


def _is_linked(root: Path, field: StoredField) -> bool:
    """Return whether catalogue, collection and item of a field in its folder all stand, and lead to one another."""
    folder = field.disk_path.parent
    chain = (root / CATALOG, folder.parent / COLLECTION, _item(folder))
    return all(_links_to(above, below) for above, below in pairwise((*chain, chain[-2])))


def _links_to(path: Path, target: Path) -> bool:
    """Return whether a STAC file is there and has a link to another."""
    try:
        return any(target_of(path, link["href"]) == absolute(target) for link in links_of(read_document(path)))
    except FormatError:  # it is not there, or damaged
        return False
