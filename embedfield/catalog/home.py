"""Home: the fields in a catalogue's own folder, entered as they are built and as what stands beside them changes.

The folder is one of this disk, or of a bucket.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedfield.catalog.change import changed
from embedfield.catalog.documents import CATALOG, COLLECTION, ITEMS, links_of, read_document, target_of
from embedfield.catalog.entry import BROKEN
from embedfield.catalog.items_table import has_item
from embedfield.catalog.mirror import mirrored
from embedfield.catalog.receipt import Receipt
from embedfield.catalog.shelves import enter, locked, open_catalog, open_collection, reading
from embedfield.errors import FormatError
from embedfield.integrity import absolute
from embedfield.stac import item_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    import pystac

    from embedfield.formats.bucket import Bucket
    from embedfield.formats.stored import StoredField


def add_to_catalog(
    root: Path | Bucket,
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
        root: Folder of the catalogue, here or in a bucket; made if it is not there.
        field: A field in the folder ``root/<model>/<field-id>``.
        run: As for `item_of`.
        created: As for `item_of`.
        known: As for `item_of`.

    Raises:
        FormatError: If catalogue or collection is something else, or damaged.
        StorageError: If the bucket may not or cannot be written.
        BusyError: If others change the catalogue in the bucket all the time.
    """
    receipt = Receipt(dict(run or {}), created, {href: dict(told) for href, told in (known or {}).items()})
    if isinstance(root, Path):
        return _added(root, field, field.disk_path, receipt)
    name = name_in(root, field)
    return changed(
        root, lambda mirror: _added(mirror.folder, field, mirror.folder / name, receipt), [name.rpartition("/")[0]]
    )


def _added(root: Path, field: StoredField, raster: Path, receipt: Receipt) -> pystac.Item:
    """Enter a field that lies in a catalogue's folder, or for which something stands in there."""
    folder = raster.parent
    with locked(root):
        check_catalog(root, field.card.name)
        said = _receipt(raster) if receipt.created is None else None
        item = item_of(field, *(said or receipt), folder=folder, href=f"./{raster.name}")
        enter(root, field.card, root / field.card.name / item.id / f"{item.id}.json", item)
    return item


def name_in(bucket: Bucket, field: StoredField) -> str:
    """Return the name of a field's raster in the bucket of its catalogue: ``model/id/…``.

    Raises:
        FormatError: If it does not lie there.
    """
    above, _, name = str(field.path).partition(f"{bucket}/")
    if above or name.count("/") != 2:
        raise FormatError(f"{field.path} lies in no folder of a field of {bucket}. Build it there with --out {bucket}.")
    return name


def _receipt(raster: Path) -> Receipt | None:
    """Return what the item beside a raster says of its run; None if there is none, or a damaged one."""
    try:
        return Receipt.of(read_document(_item(raster.parent)), raster)
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
    if not _is_linked(root, folder):
        return
    with reading(path, "item", "Build the field again with --overwrite."):
        receipt = Receipt.of(read_document(path), field.disk_path, written)
    add_to_catalog(root, field, *receipt)


def check_catalog(root: Path | Bucket, model: str) -> None:
    """Refuse a folder where a model's fields could not be entered.

    Raises:
        FormatError: If catalogue or collection is something else, or damaged; or the bucket cannot be read.
    """
    if isinstance(root, Path):
        open_collection(root, model, open_catalog(root))
        return
    with mirrored(root, [CATALOG, f"{model}/{COLLECTION}"]) as mirror:
        check_catalog(mirror.folder, model)


def is_entered(root: Path | Bucket, field: StoredField) -> bool:
    """Return whether catalogue, collection, item and table have a stored field, and lead to one another.

    A field that lies outside of the catalogue's folder was opened by its item
    there: it is entered, and an item of the field at home would be another.
    """
    if not isinstance(root, Path):
        folder = name_in(root, field).rpartition("/")[0]
        item = f"{folder}/{folder.rpartition('/')[2]}.json"
        with mirrored(root, [CATALOG, ITEMS, f"{folder.partition('/')[0]}/{COLLECTION}", item]) as mirror:
            return _is_entered(mirror.folder, mirror.folder / folder)
    if isinstance(field.path, str) or absolute(root) not in absolute(field.path).parents:
        return True
    return _is_entered(root, field.path.parent)


def _is_entered(root: Path, folder: Path) -> bool:
    # The table is written after the collection: a build may have been stopped between them.
    return _is_linked(root, folder) and has_item(root, read_document(_item(folder)))


def _is_linked(root: Path, folder: Path) -> bool:
    """Return whether catalogue, collection and item of a field's folder all stand, and lead to one another."""
    chain = (root / CATALOG, folder.parent / COLLECTION, _item(folder))
    return all(_links_to(above, below) for above, below in pairwise((*chain, chain[-2])))


def _links_to(path: Path, target: Path) -> bool:
    """Return whether a STAC file is there and has a link to another."""
    try:
        return any(target_of(path, link["href"]) == absolute(target) for link in links_of(read_document(path)))
    except FormatError:  # it is not there, or damaged
        return False
