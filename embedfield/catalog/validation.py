"""Validation: what is wrong in a catalogue, found without a network; each fault is named, and the rest is checked."""

from __future__ import annotations

import os
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pystac

from embedfield.catalog.documents import (
    CATALOG,
    COLLECTION,
    ITEMS,
    hrefs_of,
    is_address,
    is_relative,
    links_of,
    one_line,
    read_document,
    target_of,
)
from embedfield.catalog.entry import Fault, noting, read_item
from embedfield.catalog.field_check import FieldCheck
from embedfield.catalog.items_table import same_items
from embedfield.catalog.shelves import has_raster, items_and_collections
from embedfield.errors import FormatError
from embedfield.formats.item import ASSET, check_version
from embedfield.integrity import absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from embedfield.catalog.mirror import Mirror

# Links of a catalogue to its own parts: they are relative, or it could not be moved.
STRUCTURE = {"root", "parent", "collection", "child", "item"}
KINDS = {"Feature": "ITEM", "Collection": "COLLECTION", "Catalog": "CATALOG"}
REBUILD = "'embedfield catalog rebuild' mends it"
REGISTER = "put it back, or take it out with 'embedfield catalog remove' and register the field again"


def check_catalog_files(
    root: Path,
    *,
    checksums: bool = True,
    progress: Callable[[int, int], None] | None = None,
    mirror: Mirror | None = None,
) -> list[Fault]:
    """Return what is wrong in a catalogue; nothing if it is whole.

    Held to account are its JSON files against the schemas of STAC and of all
    extensions that they name; links, both ways; hrefs, which stay within its
    folder; files against the sizes and digests that items and ``SHA256SUMS``
    have; rasters against their items; the table of items. No network is
    asked: of fields registered at an address the item alone is checked.

    Args:
        root: Folder of the catalogue.
        checksums: False to leave out what reads every byte.
        progress: Told (bytes read, bytes in all) as files are read.
        mirror: Of a catalogue on a network, whose folder `root` is.
    """
    inspection = _Inspection(absolute(root), mirror)
    inspection.walk()
    inspection.look_around()
    sizes = [check.size if checksums and check.at_home else 0 for check in inspection.fields]
    for check, done in zip(inspection.fields, accumulate(sizes), strict=True):
        inspection.note(check.path, check.faults())
        if checksums and check.at_home:
            inspection.note(check.path.parent, check.sums())
            (progress or _nothing)(done, sum(sizes))
    inspection.check_table()
    return inspection.faults


def _nothing(*_: Any) -> None:
    """Hear how far it is, for a caller who does not want to."""


class _Inspection:
    """A walk through a catalogue, and what is noted on the way."""

    def __init__(self, root: Path, mirror: Mirror | None) -> None:
        self.root, self.mirror = root, mirror
        self.faults: list[Fault] = []
        self.fields: list[FieldCheck] = []
        self.seen: set[Path] = set()
        self.read: set[Path] = set()

    def note(self, path: Path, whats: list[str]) -> None:
        """Take note of what is wrong with a file."""
        for what in whats:
            with noting(self.root, path, self.faults):
                raise FormatError(what)

    def walk(self) -> None:
        """Check the catalogue's file, and all that it leads to."""
        self._visit(self.root / CATALOG, None, "Catalog")

    def _visit(self, path: Path, above: Path | None, kind: str | None) -> None:
        """Check a document, and those that it leads to."""
        if path in self.seen:
            return
        self.seen.add(path)
        with noting(self.root, path, self.faults):
            content = _read(path)
            check_version(content)
            if content.get("type") not in ((kind,) if kind else ("Catalog", "Collection")):
                raise FormatError(f"its type is {content.get('type')!r}, and that of what links to it is another")
            self.read.add(path)
            self.note(path, [*schema_faults(content), *self._links(path, content, above)])
            self._go_down(path, content)
            if above and _has_raster(content):
                self._item(path, above)

    def _go_down(self, path: Path, content: dict[str, Any]) -> None:
        """Visit what a document leads to."""
        for rel, kind in (("child", None), ("item", "Feature"), ("emb:model", "Feature")):
            for href in hrefs_of(content, rel):
                target = target_of(path, href)
                if not is_relative(href) or self.root not in target.parents:
                    continue
                if os.path.exists(target):  # noqa: PTH110  Path.exists() raises what may not be looked at
                    self._visit(target, None if rel == "emb:model" else path, kind)
                else:  # named as a link
                    self.seen.add(target)

    def _links(self, path: Path, content: dict[str, Any], above: Path | None) -> Iterator[str]:
        """Yield what is wrong with the links of a document."""
        for link in links_of(content):
            wrong = self._link(path, link["rel"], link["href"])
            if wrong:
                yield f"its link '{link['rel']}' to {one_line(link['href'])} {wrong}"
        wanted = {"root": self.root / CATALOG} if above or content.get("type") == "Catalog" else {}
        if above:
            wanted |= {"parent": above}
        if above and content.get("type") == "Feature" and above.name == COLLECTION:
            wanted |= {"collection": above}
        for rel, target in wanted.items():
            if not any(target_of(path, href) == target for href in hrefs_of(content, rel) if is_relative(href)):
                yield f"it has no link '{rel}' to {target.relative_to(self.root).as_posix()} ({REBUILD})"

    def _link(self, path: Path, rel: str, href: str) -> str:
        """Return what is wrong with a link, in words; nothing if it is sound."""
        if rel == "self":
            return ""
        if not is_relative(href):
            whole = rel in STRUCTURE or not is_address(href) or href.startswith("file:")
            return "leads out of the catalogue: make it relative" if whole else ""
        target = target_of(path, href)
        if self.root not in target.parents:
            return "leads out of the catalogue: put the file into it"
        try:
            return "" if target.is_file() else f"leads nowhere: there is no such file ({REBUILD})"
        except OSError as error:  # in a folder that may not be looked into
            return f"cannot be followed: {error.strerror}"

    def _item(self, path: Path, above: Path) -> None:
        """Check the item of a field, and take note of the field.

        Raises:
            FormatError: If it is none, or in another's place.
        """
        item, entry = read_item(path)
        if entry.id != path.stem or path.parent.name != path.stem:
            raise FormatError(f"its id is {entry.id!r}, and its place is that of another ({REBUILD})")
        if entry.model != above.parent.name:
            raise FormatError(f"its collection is {entry.model!r}, and its folder {above.parent.name} ({REBUILD})")
        self.fields.append(FieldCheck(self.root, path, item, entry, self.mirror))

    def look_around(self) -> None:
        """Check what nothing leads to; of a damaged document it is not known where it led."""
        for path in sorted(self.root.glob(f"[!.]*/{COLLECTION}")):
            self._stray(path, self.root / CATALOG, "the catalogue does not lead to it")
        for path in sorted(self.root.glob("[!.]*/[!.]*/*.json")):
            if path.stem == path.parent.name:
                self._stray(path, path.parent.parent / COLLECTION, "no collection links to it")

    def _stray(self, path: Path, above: Path, what: str) -> None:
        """Check a document in its place, which another should have led to."""
        if path in self.seen:
            return
        if above in self.read or above not in self.seen:
            self.note(path, [f"{what} ({REBUILD})"])
        self._visit(path, above, "Collection" if path.name == COLLECTION else "Feature")

    def check_table(self) -> None:
        """Check that the table has the items that the catalogue leads to."""
        try:
            items, _ = items_and_collections(self.root, read_document(self.root / CATALOG))
        except FormatError:
            return  # named already
        self.note(self.root / ITEMS, [f"{wrong} ({REBUILD})" for wrong in same_items(self.root, items)])


def _read(path: Path) -> dict[str, Any]:
    """Return the object that a file of a catalogue holds.

    Raises:
        FormatError: If it cannot be read, or holds none; with how to mend it.
    """
    try:
        return read_document(path)
    except FormatError as error:
        if isinstance(error.__cause__, OSError):  # it may be sound, and only not be read
            raise
        registered = path.stem == path.parent.name and not has_raster(path.parent)
        raise FormatError(f"{error} ({REGISTER if registered else REBUILD})") from error


def _has_raster(content: dict[str, Any]) -> bool:
    """Return whether a document is the item of a field; others may have items of other things in a catalogue."""
    assets = content.get("assets")
    return content.get("type") == "Feature" and isinstance(assets, dict) and ASSET in assets


def schema_faults(content: dict[str, Any]) -> list[str]:
    """Return what the schemas of STAC and of its extensions refuse in an object, the worst for each schema.

    Args:
        content: An Item, Collection or Catalog.
    """
    kind, version, extensions = content.get("type"), content.get("stac_version"), content.get("stac_extensions", [])
    if not isinstance(kind, str) or kind not in KINDS:
        return [f"its type is {kind!r}: it is no object of STAC"]
    if not isinstance(version, str) or not isinstance(extensions, list):
        return ["its stac_version is no text, or its stac_extensions are no list"]
    core = _schemas().schema_uri_map.get_object_schema_uri(pystac.STACObjectType[KINDS[kind]], version)
    return [wrong for address in (core, *extensions) if (wrong := _refused(content, address))]


@cache
def _schemas() -> Any:
    from embedfield.schemas import validator

    return validator()


@cache
def _schema(address: str) -> Any:
    """Return a schema, made ready once: it is for many objects."""
    from jsonschema.validators import validator_for

    schema = _schemas().schema_cache[address]
    return validator_for(schema)(schema, registry=_schemas().registry)


def _refused(content: dict[str, Any], address: Any) -> str:
    """Return what a schema refuses in an object, in words; nothing if it lets it pass."""
    from jsonschema.exceptions import best_match

    if not isinstance(address, str) or address not in _schemas().schema_cache:
        return f"it names the schema {address!r}, which is not kept here: it cannot be checked"
    try:
        worst = best_match(_schema(address).iter_errors(content))
    except RecursionError:
        return "it is too deep to be checked"
    if worst is None:
        return ""
    return f"{worst.json_path} is not as {address} asks: {one_line(worst.message)}"
