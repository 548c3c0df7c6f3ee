"""Catalogue: a folder of fields, one collection a model, that leads to all of them.

What is said of several fields follows from their items: with every change
collections, catalogue and the table of items are said anew, under a lock, each
file replaced as a whole. Two processes that finish at once are both entered.
"""

from __future__ import annotations

import shutil
import warnings
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedfield.catalog.documents import CATALOG, COLLECTION, links_of, read_document, target_of
from embedfield.catalog.entry import Entry, Fault, noting, read_item
from embedfield.catalog.receipt import Receipt
from embedfield.catalog.shelves import enter, has_raster, leave, linked, locked, open_catalog, open_collection, reading
from embedfield.errors import EmbedfieldWarning, FormatError
from embedfield.integrity import absolute
from embedfield.stac import item_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    import pystac

    from embedfield.formats.stored import StoredField
    from embedfield.grid import Bounds


class Catalog:
    """The catalogue in a folder; there need not be one yet."""

    def __init__(self, root: str | Path = "catalog") -> None:
        """Take the folder."""
        self.root = Path(root)

    def entries(
        self,
        model: str | None = None,
        bounds: Bounds | None = None,
        res: tuple[float, float] | None = None,
    ) -> list[Entry]:
        """Return the fields that the catalogue leads to, by model and id.

        What cannot be read is warned of by name, and left out.

        Args:
            model: Of this collection alone.
            bounds: Those that reach into west, south, east, north in degrees;
                west greater than east crosses the antimeridian.
            res: Those whose pixels are from so large to so large, in units of
                their own crs: degrees, or metres.

        Raises:
            FormatError: If there is no catalogue, or something else has its name.
        """
        entries, faults = self.survey()
        for fault in faults:
            warnings.warn(f"{fault}. It is left out.", EmbedfieldWarning, stacklevel=2)
        return [
            entry
            for entry in entries
            if (model is None or entry.model == model)
            and (bounds is None or entry.meets(bounds))
            and (res is None or res[0] <= entry.res <= res[1])
        ]

    def survey(self) -> tuple[list[Entry], list[Fault]]:
        """Return the fields that the catalogue leads to, and what on the way to others cannot be read.

        Raises:
            FormatError: If there is no catalogue, or something else has its name.
        """
        self.check_there()
        entries, faults = list[Entry](), list[Fault]()
        for path in linked(self.root / CATALOG, open_catalog(self.root), "child"):
            with noting(self.root, path, faults):
                for item in linked(path, read_document(path), "item"):
                    with noting(self.root, item, faults):
                        entries.append(read_item(item)[1])
        return sorted(entries, key=lambda entry: (entry.model, entry.id)), faults

    def check_there(self) -> None:
        """Refuse a folder without a catalogue.

        Raises:
            FormatError: If it is so.
        """
        if not (self.root / CATALOG).is_file():
            raise FormatError(
                f"{self.root} holds no catalogue: it has no {CATALOG}. Make a field with 'embedfield build --out "
                f"{self.root}', or enter those that are there with 'embedfield catalog rebuild --catalog {self.root}'."
            )

    def rebuild(self) -> list[Fault]:
        """Make collections, catalogue and table anew from the fields and items on the disk.

        A field without an item gets one; the items of all others are written
        anew, with what they say of their runs and of their files' digests.
        Items of registered fields, whose rasters are elsewhere, stay.

        Returns:
            What could not be entered, and why.

        Raises:
            FormatError: If there is no such folder.
        """
        from embedfield.catalog.rebuild import rebuild

        return rebuild(self.root)

    def add(
        self,
        href: str | Path,
        *,
        kind: str | None = None,
        name: str | None = None,
        field_id: str | None = None,
        draw: Callable[[StoredField, Path], object] | None = None,
        **options: Any,
    ) -> Path:
        """Register a field that lies elsewhere, or enter one that lies in the catalogue's folder.

        The field stays where it is and as it is: the catalogue gets an item
        that points to it.

        Args:
            href: A raster, the folder of a field or its item, here or at an
                address; a field of embedfield's or one made by others.
            kind: How one made by others is to be read: ``alphaearth``,
                ``tessera``, ``mind`` or ``plain``; None to find out.
            name: Of the collection of one made by others.
            field_id: Of the item; None for the name of the file.
            draw: Told the field and the folder of its item before it is
                entered, to put pictures there.
            options: What else must be known to read it, as
                `formats.foreign.recognise` takes it.

        Returns:
            The item.

        Raises:
            FormatError: If it is no field, or how to read it is not clear.
            OutputExistsError: If another field has that id.
        """
        from embedfield.catalog.register import register

        return register(self.root, href, kind=kind, name=name, field_id=field_id, draw=draw, **options)

    def remove(self, field_id: str, *, delete: bool = False) -> Path:
        """Take a field out of the catalogue.

        Its item goes, and what the catalogue says of it. The raster of a
        registered field is never touched.

        Args:
            field_id: The item's id, or ``model/id`` where several models have it.
            delete: Whether the files of a field in the catalogue's folder go too.

        Returns:
            The folder that the field has, or had.

        Raises:
            FormatError: If the catalogue has no such field, or several.
        """
        self.check_there()
        with locked(self.root):
            folder = self.find(field_id)
            path = folder / f"{folder.name}.json"
            leave(self.root, path)
            if delete or self.is_registered(folder):
                _remove_folder(folder)
            path.unlink(missing_ok=True)
            for empty in (folder, folder.parent):
                if empty.is_dir() and not any(empty.iterdir()):
                    empty.rmdir()
        return folder

    def find(self, field_id: str) -> Path:
        """Return the folder of a field by its id, whether its item can be read or not.

        Args:
            field_id: As for `remove`.

        Raises:
            FormatError: If the catalogue has no such field, or several.
        """
        names = {folder: f"{folder.parent.name}/{folder.name}" for folder in self._folders()}
        found = [folder for folder, name in names.items() if field_id in {folder.name, name}]
        if not found:
            raise FormatError(
                f"{self.root} has no field '{field_id}'. 'embedfield catalog list --catalog {self.root}' has their ids."
            )
        if len(found) > 1:
            several = " or ".join(names[folder] for folder in found)
            raise FormatError(f"{self.root} has several fields '{field_id}'. Say which: {several}.")
        return found[0]

    def is_registered(self, folder: Path) -> bool:
        """Return whether a field's raster lies elsewhere, and the folder of its item holds none."""
        return not has_raster(folder)

    def _folders(self) -> list[Path]:
        """Return the folders that an item is in, or that a collection says one is in."""
        root = absolute(self.root)
        found = {path.parent for path in root.glob("[!.]*/[!.]*/*.json") if path.stem == path.parent.name}
        for path in root.glob(f"[!.]*/{COLLECTION}"):
            with noting(root, path, []):
                found |= {item.parent for item in linked(path, read_document(path), "item")}
        return sorted(folder for folder in found if folder.parent.parent == root)


def _remove_folder(folder: Path) -> None:
    """Remove a folder; whoever looks for it meanwhile finds all of it, or nothing."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.is_dir():
        folder.rename(gone)
        shutil.rmtree(gone)


def add_to_catalog(
    root: Path,
    field: StoredField,
    run: Mapping[str, Any] | None = None,
    created: datetime | None = None,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> pystac.Item:
    """Write the item of a field beside it, and enter it into collection and catalogue.

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
        item = item_of(field, run, created, known)
        enter(root, field.card, root / field.card.name / item.id / f"{item.id}.json", item)
    return item


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
    root, path = folder.parent.parent, folder / f"{folder.name}.json"
    if not is_entered(root, field):
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
    """Return whether catalogue, collection and item of a stored field all stand, and lead to one another."""
    folder = field.disk_path.parent
    chain = (root / CATALOG, folder.parent / COLLECTION, folder / f"{folder.name}.json")
    return all(_links_to(above, below) for above, below in pairwise((*chain, chain[-2])))


def _links_to(path: Path, target: Path) -> bool:
    """Return whether a STAC file is there and has a link to another."""
    try:
        return any(target_of(path, link["href"]) == absolute(target) for link in links_of(read_document(path)))
    except FormatError:  # it is not there, or damaged
        return False
