"""Items table: all items of a catalogue as one GeoParquet file beside it, by the stac-geoparquet specification.

A file elsewhere than its items cannot have their relative hrefs: here they
start at the catalogue's folder. The tiles of a field under a ``.vrt`` are left
out, for a column each would be thousands. What is a number in one item and
"nan" in another is a number; what else is of several types is JSON as text.
The same items make the same bytes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pystac

from embedfield.catalog.documents import ITEMS, moved_hrefs, one_line, relative_href, target_of
from embedfield.catalog.entry import BROKEN
from embedfield.formats.item import ASSET
from embedfield.integrity import absolute, placed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pyarrow as pa

MEDIA_TYPE = "application/vnd.apache.parquet"
# Common metadata that are instants, as the specification has them.
INSTANTS = {"datetime", "start_datetime", "end_datetime", "created", "updated", "expires", "published", "unpublished"}
# Numbers that JSON can say only in words.
WORDS = {"nan", "inf", "-inf"}
# An empty table has the columns of this item.
NOTHING: dict[str, Any] = {
    "type": "Feature",
    "stac_version": "1.1.0",
    "stac_extensions": [""],
    "id": "",
    "geometry": {"type": "Point", "coordinates": [0.0, 0.0]},
    "bbox": [0.0, 0.0, 0.0, 0.0],
    "properties": {"datetime": "2000-01-01T00:00:00Z", "created": "2000-01-01T00:00:00Z", "proj:code": ""},
    "links": [{"rel": "", "href": ""}],
    "assets": {ASSET: {"href": "", "type": "", "roles": [""]}},
    "collection": "",
}


def write_items(root: Path, items: Sequence[tuple[Path, dict[str, Any]]], collections: dict[str, Any]) -> None:
    """Write the table of a catalogue's items, whole or not at all.

    Args:
        root: Folder of the catalogue.
        items: Files and contents of its items, each one that `read_item` takes.
        collections: Its collections, by id; the file's metadata have them.
    """
    from stac_geoparquet.arrow import to_parquet

    table = items_table(root, items)
    told = {name: _rooted(content, root / name, root) for name, content in sorted(collections.items())}
    # From the root of the disk: "x:y/…" would be taken for an address.
    placed(root / ITEMS, lambda part: to_parquet(table, absolute(part), collections=told, compression="zstd"))


def items_table(root: Path, items: Sequence[tuple[Path, dict[str, Any]]]) -> pa.Table:
    """Return the items as a table: a row each, by collection and id.

    Args:
        root: As for `write_items`.
        items: As for `write_items`.
    """
    import pyarrow as pa
    from stac_geoparquet.arrow import parse_stac_items_to_arrow

    rooted = [_plain(_rooted(item, path.parent, root)) for path, item in items]
    rows = sorted(rooted, key=lambda item: (item["collection"], item["id"]))
    shapes = [item.pop("geometry") for item in rows]
    even = [row | {"geometry": shape} for row, shape in zip(_even(rows), shapes, strict=True)]
    table = pa.Table.from_batches(list(parse_stac_items_to_arrow(even or [NOTHING])))
    return table if even else table.slice(0, 0)


def same_items(root: Path, items: Sequence[tuple[Path, dict[str, Any]]]) -> list[str]:
    """Return how the table that lies beside a catalogue differs from what it should be, in words; nothing if not.

    Args:
        root: As for `write_items`.
        items: As for `write_items`.
    """
    import pyarrow as pa
    from pyarrow import parquet

    path = root / ITEMS
    if not path.is_file():
        return ["it is missing"]
    try:
        found = parquet.read_table(absolute(path))
    except (pa.ArrowException, OSError, ValueError) as error:
        return [f"it cannot be read: {one_line(error)}"]
    return [] if _shown(found) == _shown(items_table(root, items)) else ["it is not in step with the items"]


def has_item(root: Path, item: dict[str, Any]) -> bool:
    """Return whether the table that lies beside a catalogue has an item, by collection, id and when it was made.

    Args:
        root: As for `write_items`.
        item: What its file holds.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows = parquet.read_table(absolute(root / ITEMS), columns=["collection", "id", "created"]).to_pylist()
        made = pystac.utils.str_to_datetime(item["properties"]["created"])
    except (pa.ArrowException, OSError, *BROKEN):  # either is damaged, or the table not there
        return False
    return {"collection": item.get("collection"), "id": item.get("id"), "created": made} in rows


def _shown(table: pa.Table) -> str:
    """Return the rows of a table as text: as numbers, NaN would differ from itself."""
    return json.dumps(table.to_pylist(), sort_keys=True, default=repr)


def _rooted(content: dict[str, Any], folder: Path, root: Path) -> dict[str, Any]:
    """Return an item or collection in a folder with hrefs from the catalogue's folder on."""
    found = moved_hrefs({"assets": {}} | content, lambda href: relative_href(target_of(folder / "_", href), root))
    return found if "assets" in content else {name: told for name, told in found.items() if name != "assets"}


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item without tiles, and with instants that are some."""
    assets = {key: asset for key, asset in item["assets"].items() if ".tiles/" not in asset["href"]}
    told = {name: value for name, value in item["properties"].items() if name != "proj:geometry"}
    instants = {name: _instant(told[name]) for name in INSTANTS & told.keys()}
    return item | {"assets": assets, "properties": told | instants, "bbox": [float(edge) for edge in item["bbox"]]}


def _instant(text: Any) -> str | None:
    try:
        return pystac.utils.datetime_to_str(pystac.utils.str_to_datetime(text))
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None


def _even(values: list[Any]) -> list[Any]:
    """Return the values of a column as values of one type; None where there is none, and for what is empty."""
    kinds = {_kind(value) for value in values if value is not None}
    if kinds == {"object"}:
        return _even_objects(values)
    if kinds == {"list"}:
        return _even_lists(values)
    alike = _alike(kinds, values)
    return [None if value is None else alike(value) for value in values]


def _alike(kinds: set[str], values: list[Any]) -> Callable[[Any], Any]:
    """Return what makes plain values of some kinds values of one type."""
    if kinds == {"flag"}:
        return bool
    if kinds <= {"text", "word"}:
        return _sound
    if kinds == {"number"} and all(value is None or _is_whole(value) for value in values):
        return int
    if "number" in kinds and kinds <= {"number", "word"}:
        return _float
    return lambda value: json.dumps(value, sort_keys=True)


def _is_whole(value: float) -> bool:
    return isinstance(value, int) and abs(value) < 2**63


def _sound(text: str) -> str:
    """Return a text that UTF-8 can write: JSON may escape half a character."""
    return text.encode("utf-8", "replace").decode()


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "word" if value in WORDS else "text"
    kinds = {bool: "flag", int: "number", float: "number", dict: "object", list: "list"}
    return kinds[type(value)]


def _float(value: float | str) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of more than 300 digits
        return float("-inf" if str(value).startswith("-") else "inf")


def _even_objects(values: list[Any]) -> list[Any]:
    names = sorted({name for value in values if value is not None for name in value})
    columns = {name: _even([value.get(name) if value else None for value in values]) for name in names}
    rows: list[dict[str, Any]] = [{} for _ in values]
    for name, column in columns.items():
        for row, value in zip(rows, column, strict=True):
            if value is not None:
                row[_sound(name)] = value
    return [row or None for row in rows]


def _even_lists(values: list[Any]) -> list[Any]:
    # None within a list is left out: it would be no value of the list's type where all are empty objects.
    flat = iter(_even([element for value in values if value is not None for element in value]))
    rows = [None if value is None else [next(flat) for _ in value] for value in values]
    return [None if row is None else [element for element in row if element is not None] for row in rows]
