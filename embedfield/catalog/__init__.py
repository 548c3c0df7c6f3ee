"""Catalogue: a folder of fields, one collection a model, that leads to all of them.

What is said of several fields follows from their items: with every change
collections, catalogue and the table of items are said anew, under a lock, each
file replaced as a whole. Two processes that finish at once are both entered.
"""

from __future__ import annotations

import math
import re
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedfield.catalog.change import changed
from embedfield.catalog.documents import CATALOG, COLLECTION, ITEMS, check_within, linked, read_document
from embedfield.catalog.entry import Entry, Fault, noting, read_item
from embedfield.catalog.home import add_to_catalog, check_catalog, is_entered, refresh
from embedfield.catalog.mirror import is_raster, mirrored_catalog
from embedfield.catalog.shelves import has_raster, leave, locked, open_catalog
from embedfield.errors import EmbedfieldWarning, FormatError, GridError
from embedfield.formats import open_field, raster_in
from embedfield.formats.address import Address
from embedfield.formats.bucket import Bucket, NetworkFolder
from embedfield.integrity import absolute

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.formats.stored import StoredField
    from embedfield.grid import Bounds

__all__ = ["Catalog", "Entry", "Fault", "add_to_catalog", "check_catalog", "is_entered", "refresh"]
# A path has one slash where an address has two.
ADDRESS = re.compile(r"([A-Za-z][\w+.-]+):/+")


class Catalog:
    """The catalogue in a folder, here or on a network; there need not be one yet."""

    root: Path | Address
    """The folder."""

    def __init__(self, root: str | Path | Address = "catalog") -> None:
        """Take the folder.

        Args:
            root: A folder of this disk or of a bucket (``s3://``, ``gs://``, ``az://``). One on the web
                (``https://``, ``http://``) can be read.

        Raises:
            FormatError: If it is an address that cannot be opened.
        """
        found = ADDRESS.match(str(root))
        if found and not isinstance(root, Address):
            root = Address.of_folder(f"{found[1]}://{str(root)[found.end() :]}")
        self.root = root if isinstance(root, Address) else Path(root)

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
            GridError: If bounds or resolutions are none.
        """
        _check_asked(bounds, res)
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
        if isinstance(self.root, Path):
            self.check_there()
            return _survey(self.root)
        with mirrored_catalog(NetworkFolder(self.root)) as mirror:
            entries, faults = _survey(mirror.folder)
            return [mirror.entry(entry) for entry in entries], faults

    def check_there(self) -> None:
        """Refuse a folder without a catalogue.

        Raises:
            FormatError: If it is so.
        """
        if isinstance(self.root, Address):
            with mirrored_catalog(NetworkFolder(self.root)):
                return
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

        if isinstance(self.root, Path):
            return rebuild(self.root)
        return changed(
            Bucket(self.root),
            lambda mirror: rebuild(mirror.folder, lambda folder: open_field(str(mirror.place(raster_in(folder))))),
            None,
        )

    def validate(self, *, checksums: bool = True, progress: Callable[[int, int], None] | None = None) -> list[Fault]:
        """Return what is wrong in the catalogue; nothing if it is whole.

        Args:
            checksums: False to leave out what reads every byte; of a catalogue
                in a bucket all of them come over the network.
            progress: Told (bytes read, bytes in all) as files are read.

        Raises:
            FormatError: If there is no catalogue.
        """
        from embedfield.catalog.validation import check_catalog_files

        if isinstance(self.root, Path):
            self.check_there()
            return check_catalog_files(self.root, checksums=checksums, progress=progress)
        with mirrored_catalog(NetworkFolder(self.root)) as mirror:
            mirror.look_into()
            mirror.fetch([ITEMS])
            return check_catalog_files(mirror.folder, checksums=checksums, progress=progress, mirror=mirror)

    def add(
        self,
        href: str | Path,
        *,
        kind: str | None = None,
        name: str | None = None,
        field_id: str | None = None,
        draw: Callable[[StoredField, Path], object] | None = None,
        **options: Any,
    ) -> Path | Address:
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

        root = self.root if isinstance(self.root, Path) else Bucket(self.root)
        return register(root, href, kind=kind, name=name, field_id=field_id, draw=draw, **options)

    def remove(self, field_id: str, *, delete: bool = False) -> Path | Address:
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
        if isinstance(self.root, Path):
            self.check_there()
            return _remove(self.root, field_id, delete=delete)
        name = "/".join(str(self.find(field_id)).split("/")[-2:])
        return changed(
            Bucket(self.root),
            lambda mirror: mirror.place(_remove(mirror.folder, name, delete=delete)),
            [name],
        )

    def find(self, field_id: str) -> Path | Address:
        """Return the folder of a field by its id, whether its item can be read or not.

        Args:
            field_id: As for `remove`.

        Raises:
            FormatError: If the catalogue has no such field, or several.
        """
        if isinstance(self.root, Path):
            return _find(self.root, field_id)
        with mirrored_catalog(NetworkFolder(self.root)) as mirror:
            return mirror.place(_find(mirror.folder, field_id))

    def is_registered(self, folder: Path | Address) -> bool:
        """Return whether a field's raster lies elsewhere, and the folder of its item holds none."""
        if isinstance(folder, Path):
            return not has_raster(folder)
        objects, folders = Bucket(folder).look()
        return not any(is_raster(name) for name in (*objects, *folders))


def _survey(root: Path) -> tuple[list[Entry], list[Fault]]:
    """Return the fields that the catalogue of a folder leads to, and what on the way to others cannot be read."""
    entries, faults = list[Entry](), list[Fault]()
    for path in linked(root / CATALOG, open_catalog(root), "child"):
        with noting(root, path, faults):
            check_within(root, path)
            for item in linked(path, read_document(path), "item"):
                with noting(root, item, faults):
                    check_within(root, item)
                    entries.append(read_item(item)[1])
    return sorted(entries, key=lambda entry: (entry.model, entry.id)), faults


def _remove(root: Path, field_id: str, *, delete: bool) -> Path:
    """Take a field out of the catalogue of a folder, and return its own; see `Catalog.remove`."""
    with locked(root):
        folder = _find(root, field_id)
        path = folder / f"{folder.name}.json"
        leave(root, path)
        if delete or not has_raster(folder):
            _remove_folder(folder)
        path.unlink(missing_ok=True)
        for empty in (folder, folder.parent):
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()
    return folder


def _find(root: Path, field_id: str) -> Path:
    """Return the folder of a field in the catalogue of a folder; see `Catalog.find`."""
    names = {folder: f"{folder.parent.name}/{folder.name}" for folder in _folders(root)}
    found = [folder for folder, name in names.items() if field_id in {folder.name, name}]
    if not found:
        raise FormatError(
            f"{root} has no field '{field_id}'. 'embedfield catalog list --catalog {root}' has their ids."
        )
    if len(found) > 1:
        several = " or ".join(names[folder] for folder in found)
        raise FormatError(f"{root} has several fields '{field_id}'. Say which: {several}.")
    return found[0]


def _folders(root: Path) -> list[Path]:
    """Return the folders that an item is in, or that a collection says one is in."""
    root = absolute(root)
    found = {path.parent for path in root.glob("[!.]*/[!.]*/*.json") if path.stem == path.parent.name}
    for path in root.glob(f"[!.]*/{COLLECTION}"):
        with noting(root, path, []):
            found |= {item.parent for item in linked(path, read_document(path), "item")}
    return sorted(folder for folder in found if folder.parent.parent == root)


def _check_asked(bounds: Bounds | None, res: tuple[float, float] | None) -> None:
    """Refuse bounds and resolutions that no field could be within.

    Raises:
        GridError: If they are such.
    """
    if bounds and not (all(map(math.isfinite, bounds)) and bounds[1] < bounds[3]):
        raise GridError(f"No field lies within bounds={bounds}. Give west south east north, with south below north.")
    if res and not res[0] <= res[1]:
        raise GridError(f"No pixels are from {res[0]} to {res[1]} large. Give the smaller number first.")


def _remove_folder(folder: Path) -> None:
    """Remove a folder, of a link to one the link; whoever looks for it meanwhile finds all of it, or nothing."""
    if folder.is_symlink():
        folder.unlink()
        return
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.is_dir():
        folder.rename(gone)
        shutil.rmtree(gone)
