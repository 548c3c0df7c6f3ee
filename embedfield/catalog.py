"""Catalogue: a folder of fields, one collection a model, that leads to all of them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pystac
from filelock import FileLock
from pystac.stac_io import DefaultStacIO

from embedfield.errors import FormatError
from embedfield.integrity import MULTIHASH_SHA256, SUMS, multihash, placed, sums_with
from embedfield.stac import EXTENSIONS, item_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from embedfield.formats.stored import StoredField

CATALOG_ID = "embedfield"
# What an item says of the run that the field itself does not.
RUN = ("device", "seconds", "resumed")
# Stands for the folder of a catalogue in the hrefs that pystac works with; no file has it.
ROOT = "catalog://folder/"


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
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".catalog.lock"):
        catalog = _open_catalog(root)
        item = item_of(field, run, created, known)
        collection = _open_collection(catalog, root, field.card.name) or _new_collection(catalog, field, item)
        _enter(collection, item, f"{ROOT}{field.card.name}/{item.id}/{item.id}.json")
        # From the item up: a reader never follows a link to what is not there yet.
        for thing in (item, collection, catalog):
            thing.save_object(include_self_link=False, stac_io=_Folder(root))
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
    with _reading(path, "item", "Build the field again with --overwrite."):
        old = json.loads(path.read_text(encoding="utf-8"))
        ran = old["properties"]["emb:runtime_parameters"]
        run = {name: ran[name] for name in RUN if name in ran}
        created = pystac.utils.str_to_datetime(old["properties"]["created"])
        said = {asset["href"]: _told(asset) for asset in old["assets"].values()}
        known = _still_known(field, said, [f"./{name}" for name in written])
    add_to_catalog(root, field, run, created, known)


def _told(asset: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asset[name] for name in ("file:size", "file:checksum") if name in asset}


def _still_known(field: StoredField, said: dict[str, dict[str, Any]], written: list[str]) -> dict[str, dict[str, Any]]:
    """Return what an item said of files that were not written since, by href."""
    known = {href: told for href, told in said.items() if href not in written}
    before = {href: said.get(href, {}).get("file:checksum") for href in written}
    digests = {href.removeprefix("./"): told and told.removeprefix(MULTIHASH_SHA256) for href, told in before.items()}
    sums = f"./{SUMS}"
    # The list of digests is others' now. But one that was changed before was damaged, and must stay so.
    if known.get(sums, {}).get("file:checksum") == sums_with(field.disk_path.parent, digests):
        del known[sums]
        raster = known.get(f"./{field.disk_path.name}", {})
        if field.disk_path.is_dir():  # its digest is that of the list
            raster["file:checksum"] = multihash(field.disk_path.parent / SUMS)
    return known


def check_catalog(root: Path, model: str) -> None:
    """Refuse a folder where a model's fields could not be entered.

    Raises:
        FormatError: If catalogue or collection is something else, or damaged.
    """
    _open_collection(_open_catalog(root), root, model)


def _enter(collection: pystac.Collection, item: pystac.Item, href: str) -> None:
    """Link an item from its collection, once, and widen the collection's extent."""
    # Links are compared as text: an entry whose file is gone must not stop a new one.
    same = [link for link in collection.get_links("item") if Path(str(link.target)).stem == item.id]
    collection.links = [link for link in collection.links if link not in same]
    collection.add_item(item, set_parent=True)
    item.set_self_href(href)  # after, for pystac moves what it adds to a place of its own choice
    boxes = [*collection.extent.spatial.bboxes, item.bbox or []]
    _state_dimensions(collection, len(item.assets["embeddings"].extra_fields["bands"]))
    crossing = any(west > east for west, _, east, _ in boxes)
    souths, norths = [box[1] for box in boxes], [box[3] for box in boxes]
    west, east = (-180.0, 180.0) if crossing else (min(box[0] for box in boxes), max(box[2] for box in boxes))
    times = [time for interval in collection.extent.temporal.intervals for time in interval if time]
    times.extend([item.datetime] if item.datetime else [])
    collection.extent = pystac.Extent(
        pystac.SpatialExtent([[west, min(souths), east, max(norths)]]),
        pystac.TemporalExtent([[min(times), max(times)]]),
    )


def _state_dimensions(collection: pystac.Collection, dim: int) -> None:
    """Say how long the vectors of a collection are: the extension has one number, and a list where they differ."""
    stated = collection.summaries.get_list("emb:dimensions") or [collection.extra_fields.get("emb:dimensions", dim)]
    dims = sorted({*stated, dim})
    collection.extra_fields["emb:dimensions"] = dims[-1]
    if len(dims) > 1:
        collection.summaries.add("emb:dimensions", dims)


def is_entered(root: Path, field: StoredField) -> bool:
    """Return whether catalogue, collection and item of a stored field all stand, and lead to one another."""
    folder = field.disk_path.parent
    chain = (root / "catalog.json", folder.parent / "collection.json", folder / f"{folder.name}.json")
    return all(_links_to(above, below) for above, below in pairwise((*chain, chain[-2])))


def _links_to(path: Path, target: Path) -> bool:
    """Return whether a STAC file is there and has a link to another."""
    try:
        links = json.loads(path.read_text(encoding="utf-8"))["links"]
        return any((path.parent / link["href"]).resolve() == target.resolve() for link in links)
    except (OSError, ValueError, KeyError, TypeError):  # it is not there, or damaged
        return False


class _Folder(DefaultStacIO):
    """Files of a catalogue, by hrefs that begin at its folder.

    pystac takes hrefs for addresses: of a path with '#', '?' or a backslash in
    it, it would read and write another. So it never sees the folder's own name.
    A file is written under a temporary name and renamed: a reader never sees half of it.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def read_text_from_href(self, href: str) -> str:
        if not href.startswith(ROOT):
            text: str = super().read_text_from_href(href)
            return text
        return (self.root / href.removeprefix(ROOT)).read_text(encoding="utf-8")

    def write_text_to_href(self, href: str, txt: str) -> None:
        path = self.root / href.removeprefix(ROOT)
        path.parent.mkdir(parents=True, exist_ok=True)
        placed(path, lambda part: part.write_text(txt, encoding="utf-8"))


@contextmanager
def _reading(path: Path, kind: str, remedy: str) -> Iterator[None]:
    """Turn the errors of a STAC file that is none into ours.

    Raises:
        FormatError: If there is one.
    """
    try:
        yield
    except (pystac.STACError, pystac.STACTypeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise FormatError(f"{path} is no STAC {kind}: {reason}. {remedy}") from error


def _open_catalog(root: Path) -> pystac.Catalog:
    """Return the catalogue of a folder; a new one, not yet written, if there is none.

    Raises:
        FormatError: If something else has its name.
    """
    path = root / "catalog.json"
    if not path.exists():
        catalog = pystac.Catalog(
            CATALOG_ID,
            "Location encoders evaluated on grids, made with embedfield.",
            catalog_type=pystac.CatalogType.SELF_CONTAINED,
        )
        catalog.set_self_href(f"{ROOT}catalog.json")
        return catalog
    with _reading(path, "catalogue", "Give another folder with --out."):
        catalog = pystac.Catalog.from_file(f"{ROOT}catalog.json", stac_io=_Folder(root))
    # Whatever it was, links that are added are relative: the catalogue may be moved.
    catalog.catalog_type = pystac.CatalogType.SELF_CONTAINED
    return catalog


def _open_collection(catalog: pystac.Catalog, root: Path, model: str) -> pystac.Collection | None:
    """Return the collection of a model; None if it is not there.

    Raises:
        FormatError: If something else has its name.
    """
    same, path = _links_to_model(catalog, model), root / model / "collection.json"
    if not same or not path.exists():
        return None
    with _reading(path, "collection", "Mend or remove it, or write elsewhere with --out."):
        found = same[0].resolve_stac_object(root=catalog).target
        if not isinstance(found, pystac.Collection):
            raise TypeError(f"it is a {type(found).__name__}")
        return found


def _links_to_model(catalog: pystac.Catalog, model: str) -> list[pystac.Link]:
    # Links are compared as text: another model's collection that is gone must not stop this one.
    return [link for link in catalog.get_child_links() if Path(str(link.target)).parent.name == model]


def _new_collection(catalog: pystac.Catalog, field: StoredField, item: pystac.Item) -> pystac.Collection:
    """Return a collection for a model, entered into the catalogue, not yet written."""
    card = field.card
    gone = _links_to_model(catalog, card.name)
    catalog.links = [link for link in catalog.links if link not in gone]
    href = f"{ROOT}{card.name}/collection.json"
    collection = pystac.Collection(
        card.name,
        f"{card.title}. Trained on: {card.training_data}.",
        pystac.Extent(pystac.SpatialExtent([item.bbox or []]), pystac.TemporalExtent([[item.datetime, item.datetime]])),
        title=card.name,
        # STAC has this word for what no SPDX expression says.
        license="other" if card.licence == "none" else card.licence,
        stac_extensions=[EXTENSIONS[-1]],
        extra_fields={"emb:type": "pixel", "emb:dimensions": card.dim, "data_type": card.dtype},
    )
    collection.add_link(pystac.Link("emb:model", card.homepage, title=card.name))
    collection.add_link(pystac.Link("emb:source-data", card.training_url or card.homepage, title=card.training_data))
    catalog.add_child(collection, set_parent=True)
    collection.set_self_href(href)  # after, likewise
    return collection
